// Tandem — Apache-2.0

extension Figure {
    /// Widths for which figures are laid out; a page shows the one that fits, and scales it.
    public enum Layout: String, Sendable, CaseIterable {
        /// For telephones.
        case narrow
        case wide

        /// Pixels.
        public var width: Double {
            switch self {
            case .narrow: 360
            case .wide: 760
            }
        }
    }

    /// The figure as one `svg` element.
    ///
    /// - Parameter isAlone: whether it brings its own colours and ground, as a file does; within a page that has
    ///   ``Palette/properties`` and ``Palette/rules`` it does without.
    public func svg(_ layout: Layout, isAlone: Bool = true) -> String {
        var drawing = FigureDrawing(figure: self, width: layout.width)
        drawing.header()
        switch content {
        case .lines(let chart): drawing.draw(chart)
        case .bars(let chart): drawing.draw(chart)
        case .heatMap(let map): drawing.draw(map)
        }
        let height = drawing.y + FigureDrawing.margin
        let name = "\(identifier)-\(layout.rawValue)"
        var svg = SVGWriter()
        svg.open(
            "svg",
            [
                ("xmlns", "http://www.w3.org/2000/svg"), ("class", "f"), ("width", layout.width.px),
                ("height", height.px), ("viewBox", "0 0 \(layout.width.px) \(height.px)"), ("role", "img"),
                ("aria-labelledby", "\(name)-title \(name)-description"),
            ])
        svg.raw("<title id=\"\(MarkupText.escaped(name))-title\">\(MarkupText.escaped(title))</title>")
        svg.raw("<desc id=\"\(MarkupText.escaped(name))-description\">\(MarkupText.escaped(description))</desc>")
        if isAlone {
            svg.raw("<style>\(Palette.properties)\(Palette.rules)</style>")
            svg.rectangle(0, 0, layout.width, height, "f-back")
        }
        svg.raw(drawing.svg.text)
        svg.close("svg")
        return svg.text
    }

    /// What the figure shows, for those who hear it.
    var description: String {
        let kinds = provenances.map { "\($0.kind.rawValue): \($0.place)" }.joined(separator: "; ")
        return "\(caption) (\(kinds)). \(contentDescription)"
    }

    private var contentDescription: String {
        switch content {
        case .lines(let chart):
            chart.panels.map { panel in
                let series = panel.series.map { series in
                    let values = series.points.map { point in
                        "\(chart.x.format.text(point.x)): \(point.y.map { chart.y.format.text($0) } ?? "no result")"
                    }
                    return "\(series.name): \(values.joined(separator: ", "))."
                }
                return ([panel.title] + series).filter { !$0.isEmpty }.joined(separator: " ")
            }.joined(separator: " ")
        case .bars(let chart):
            chart.panels.flatMap { panel in
                panel.groups.map { group in
                    let values = zip(chart.series, group.bars).map { series, bar in
                        "\(series.name) \(bar.value.map { chart.value.format.text($0) } ?? "no result")"
                    }
                    return "\(panel.title) \(group.name): \(values.joined(separator: ", "))."
                }
            }.joined(separator: " ")
        case .heatMap(let map):
            map.panels.flatMap { panel in
                zip(map.rows, panel.cells).map { row, cells in
                    let values = zip(map.columns, cells).map { column, cell in
                        "\(column): \(cell.value.map { map.format.text($0) } ?? "no result")"
                    }
                    return "\(panel.title) \(row): \(values.joined(separator: ", "))."
                }
            }.joined(separator: " ")
        }
    }
}

/// A figure on its way to SVG, from the top down.
struct FigureDrawing {
    static let margin = 14.0

    /// An entry of a legend.
    struct Key {
        enum Symbol {
            case line(slot: Int, isBroken: Bool)
            case mark(slot: Int)
            case bar(slot: Int)
            case edge(isBroken: Bool)
            case reference
        }

        var symbol: Symbol
        var name: String
    }

    let figure: Figure
    let width: Double
    var svg = SVGWriter()
    /// Where the next thing begins.
    var y = FigureDrawing.margin

    init(figure: Figure, width: Double) {
        self.figure = figure
        self.width = width
    }

    /// Pixels between the margins.
    var inner: Double { width - 2 * FigureDrawing.margin }
    var isNarrow: Bool { width < 560 }

    /// Title, caption and the marks that say where the numbers come from.
    mutating func header() {
        let left = FigureDrawing.margin
        for line in TextMeasure.wrapped(figure.title, size: 16, width: inner, isBold: true) {
            svg.label(left, y + 15, line, "f-title")
            y += 21
        }
        y += 1
        for line in TextMeasure.wrapped(figure.caption, size: 12, width: inner) {
            svg.label(left, y + 11, line, "f-faint")
            y += 16
        }
        y += 6
        var x = left
        for provenance in figure.provenances {
            let mark =
                TextMeasure.width(provenance.mark, size: 10.5, isBold: true)
                + 0.6 * Double(provenance.mark.count) + 14
            let place = TextMeasure.shortened(provenance.place, size: 11, width: inner - mark - 8)
            let total = mark + 7 + TextMeasure.width(place, size: 11)
            if x > left, x + total > left + inner {
                x = left
                y += 23
            }
            svg.open("g", [("class", "f-\(provenance.kind.rawValue)")])
            svg.rectangle(x + 0.5, y + 0.5, mark - 1, 17, "f-badge", radius: 4)
            svg.label(x + mark / 2, y + 12.8, provenance.mark, "f-badge-text", .middle)
            svg.close("g")
            svg.label(x + mark + 7, y + 12.8, place, "f-small f-faint")
            x += total + 18
        }
        y += figure.provenances.isEmpty ? 0 : 28
    }

    /// Entries beside one another, in as many rows as they need.
    mutating func legend(_ keys: [Key]) {
        guard !keys.isEmpty else { return }
        let left = FigureDrawing.margin
        var x = left
        for key in keys {
            let symbol =
                switch key.symbol {
                case .line, .edge, .reference: 24.0
                case .mark, .bar: 14.0
                }
            let name = TextMeasure.shortened(key.name, size: 12, width: inner - symbol - 6)
            let total = symbol + 6 + TextMeasure.width(name, size: 12)
            if x > left, x + total > left + inner {
                x = left
                y += 19
            }
            let middle = y + 8
            switch key.symbol {
            case .line(let slot, let isBroken):
                svg.open("g", [("class", FigureDrawing.style(slot))])
                svg.line(x, middle, x + 24, middle, isBroken ? "f-line f-broken" : "f-line")
                mark(slot, x + 12, middle)
                svg.close("g")
            case .mark(let slot):
                svg.open("g", [("class", FigureDrawing.style(slot))])
                mark(slot, x + 7, middle)
                svg.close("g")
            case .bar(let slot):
                svg.open("g", [("class", FigureDrawing.style(slot))])
                svg.rectangle(x, middle - 5.5, 14, 11, "f-bar", radius: 2)
                svg.close("g")
            case .edge(let isBroken): svg.line(x + 1, middle, x + 23, middle, isBroken ? "f-edge f-dash" : "f-edge")
            case .reference: svg.line(x, middle, x + 24, middle, "f-reference")
            }
            svg.label(x + symbol + 6, y + 12.3, name)
            x += total + 16
        }
        y += 27
    }

    /// Places for panels, row by row: how many stand beside one another, and how wide each is.
    func columns(of panels: Int, atLeast: Double, gap: Double = 26) -> (count: Int, width: Double) {
        for count in [3, 2] where panels >= count && !(count == 3 && panels == 4) {
            let width = (inner - gap * Double(count - 1)) / Double(count)
            if width >= atLeast { return (count, width) }
        }
        return (1, inner)
    }

    /// The shape of a series.
    mutating func mark(_ slot: Int, _ x: Double, _ y: Double, tooltip: String = "") {
        let r = 4.2
        func polygon(_ points: [(Double, Double)]) -> String {
            points.map { "\((x + $0.0 * r).px),\((y + $0.1 * r).px)" }.joined(separator: " ")
        }
        switch FigureDrawing.wrapped(slot) {
        case 0: svg.element("circle", [("cx", x.px), ("cy", y.px), ("r", r.px), ("class", "f-mark")], tooltip: tooltip)
        case 1: svg.rectangle(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8, "f-mark", tooltip: tooltip)
        case 2: shape(polygon([(0, -1.2), (1.15, 0.85), (-1.15, 0.85)]), tooltip)
        case 3: shape(polygon([(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)]), tooltip)
        case 4: shape(polygon([(0, 1.2), (1.15, -0.85), (-1.15, -0.85)]), tooltip)
        case 5:
            let (a, b) = (0.45, 1.15)
            shape(
                polygon([
                    (-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a),
                    (-a, -a),
                ]), tooltip)
        case 6: shape(polygon([(0, -1.25), (1.2, -0.35), (0.75, 1.05), (-0.75, 1.05), (-1.2, -0.35)]), tooltip)
        default: shape(polygon([(-1.3, -0.6), (0, -1.2), (1.3, -0.6), (1.3, 0.6), (0, 1.2), (-1.3, 0.6)]), tooltip)
        }
    }

    private mutating func shape(_ points: String, _ tooltip: String) {
        svg.element("polygon", [("points", points), ("class", "f-mark")], tooltip: tooltip)
    }

    static func style(_ slot: Int) -> String { "f-s\(wrapped(slot))" }

    static func wrapped(_ slot: Int) -> Int { ((slot % Palette.count) + Palette.count) % Palette.count }
}
