// Tandem — Apache-2.0

extension FigureDrawing {
    mutating func draw(_ chart: LineChart) {
        legend(keys(of: chart))
        let (count, panelWidth) = columns(of: chart.panels.count, atLeast: 225)
        let height = isNarrow ? 210.0 : count == 1 ? 290 : 235
        let frame = LineFrame(chart: chart, width: panelWidth, height: height)
        var next = 0
        while next < chart.panels.count {
            let row = chart.panels[next..<min(next + count, chart.panels.count)]
            let hasTitles = row.contains { !$0.title.isEmpty }
            for (column, panel) in row.enumerated() {
                draw(
                    panel, of: chart, frame, left: FigureDrawing.margin + Double(column) * (panelWidth + 26), hasTitles)
            }
            next += count
            y += (hasTitles ? 20 : 0) + 22 + height + 38 + (next < chart.panels.count ? 14 : 0)
        }
        y -= 6
    }

    private func keys(of chart: LineChart) -> [Key] {
        var keys: [Key] = []
        var seen: Set<String> = []
        for series in chart.panels.flatMap(\.series) where seen.insert(series.name).inserted {
            let symbol: Key.Symbol =
                chart.isJoined ? .line(slot: series.slot, isBroken: series.isBroken) : .mark(slot: series.slot)
            keys.append(Key(symbol: symbol, name: series.name))
        }
        for reference in chart.references where reference.position == .diagonal {
            keys.append(Key(symbol: .reference, name: reference.label))
        }
        return keys.count == 1 && chart.references.isEmpty && keys[0].name.isEmpty ? [] : keys
    }

    private mutating func draw(
        _ panel: LineChart.Panel, of chart: LineChart, _ frame: LineFrame, left: Double, _ hasTitles: Bool
    ) {
        var top = y
        if hasTitles {
            svg.label(left, top + 12, TextMeasure.shortened(panel.title, size: 14, width: frame.width), "f-panel")
            top += 20
        }
        svg.label(left, top + 10, chart.y.label, "f-small f-faint")
        top += 22
        let (x, y) = frame.projections(left: left, top: top)
        grid(chart, x, y, frame, left: left, top: top)
        for reference in chart.references {
            draw(reference, chart, x, y, frame, left: left, top: top)
        }
        let hasResult = panel.series.contains { $0.points.contains { $0.y != nil } }
        if !hasResult {
            svg.label(left + frame.axis + frame.plotWidth / 2, top + frame.height / 2, "no result", "f-faint", .middle)
        }
        for series in panel.series { intervals(series, chart, x, y) }
        for series in panel.series { draw(series, chart, x, y, bottom: top + frame.height) }
    }

    private mutating func grid(
        _ chart: LineChart, _ x: Projection, _ y: Projection, _ frame: LineFrame, left: Double, top: Double
    ) {
        let (plotLeft, plotRight) = (left + frame.axis, left + frame.width)
        for tick in y.ticks {
            guard let position = y.position(tick) else { continue }
            let isZero = chart.y.scale == .linear && abs(tick) < y.tickStep * 1e-6
            svg.line(plotLeft, position, plotRight, position, isZero ? "f-zero" : "f-grid")
            let text = y.label(tick, chart.y.format)
            svg.label(plotLeft - 7, position + 4, text, "f-small f-faint", .end)
        }
        var free = -Double.infinity
        for tick in x.ticks {
            guard let position = x.position(tick) else { continue }
            svg.line(position, top + frame.height, position, top + frame.height + 4, "f-zero")
            let text = x.label(tick, chart.x.format)
            let half = TextMeasure.width(text, size: 11) / 2
            guard position - half > free else { continue }
            free = position + half + 5
            svg.label(position, top + frame.height + 16, text, "f-small f-faint", .middle)
        }
        svg.line(plotLeft, top + frame.height, plotRight, top + frame.height, "f-grid")
        svg.label(
            plotLeft + frame.plotWidth / 2, top + frame.height + 32,
            TextMeasure.shortened(chart.x.label, size: 11, width: frame.plotWidth), "f-small f-faint", .middle)
    }

    private mutating func draw(
        _ reference: LineChart.Reference, _ chart: LineChart, _ x: Projection, _ y: Projection, _ frame: LineFrame,
        left: Double, top: Double
    ) {
        let (plotLeft, plotRight) = (left + frame.axis, left + frame.width)
        switch reference.position {
        case .horizontal(let value):
            guard value >= y.low, value <= y.high, let position = y.position(value) else { return }
            svg.line(plotLeft, position, plotRight, position, "f-reference")
            svg.label(plotRight - 2, position - 4, reference.label, "f-small f-faint f-halo", .end)
        case .vertical(let value):
            guard value >= x.low, value <= x.high, let position = x.position(value) else { return }
            svg.line(position, top, position, top + frame.height, "f-reference")
            let isRight = position + 8 + TextMeasure.width(reference.label, size: 11) > plotRight
            svg.label(
                position + (isRight ? -5 : 5), top + 10, reference.label, "f-small f-faint f-halo",
                isRight ? .end : .start)
        case .diagonal:
            let (low, high) = (max(x.low, y.low), min(x.high, y.high))
            guard low < high, let x1 = x.position(low), let x2 = x.position(high), let y1 = y.position(low),
                let y2 = y.position(high)
            else { return }
            svg.line(x1, y1, x2, y2, "f-reference")
        }
    }

    /// Intervals lie beneath all lines.
    private mutating func intervals(_ series: Series, _ chart: LineChart, _ x: Projection, _ y: Projection) {
        svg.open("g", [("class", FigureDrawing.style(series.slot))])
        defer { svg.close("g") }
        let ends = series.points.compactMap { point -> (x: Double, low: Double, high: Double)? in
            guard point.y != nil, let interval = point.interval, let position = x.position(point.x),
                let low = y.position(interval.lowerBound), let high = y.position(interval.upperBound)
            else { return nil }
            return (position, low, high)
        }
        switch chart.spread {
        case .band:
            guard ends.count > 1 else { return }
            let upper = ends.map { "\($0.x.px) \($0.high.px)" }
            let lower = ends.reversed().map { "\($0.x.px) \($0.low.px)" }
            svg.path("M" + (upper + lower).joined(separator: "L") + "Z", "f-band")
        case .bars:
            for end in ends where end.low - end.high > 1 {
                let (left, right) = ((end.x - 4).px, (end.x + 4).px)
                svg.path(
                    "M\(end.x.px) \(end.low.px)V\(end.high.px)M\(left) \(end.low.px)H\(right)M\(left) \(end.high.px)H\(right)",
                    "f-whisker")
            }
        }
    }

    private mutating func draw(
        _ series: Series, _ chart: LineChart, _ x: Projection, _ y: Projection, bottom: Double
    ) {
        svg.open("g", [("class", FigureDrawing.style(series.slot))])
        defer { svg.close("g") }
        if chart.isJoined {
            var path = ""
            var isOpen = false
            for point in series.points {
                guard let value = point.y, let px = x.position(point.x), let py = y.position(value) else {
                    isOpen = false
                    continue
                }
                path += (isOpen ? "L" : "M") + "\(px.px) \(py.px)"
                isOpen = true
            }
            if !path.isEmpty { svg.path(path, series.isBroken ? "f-line f-broken" : "f-line") }
        }
        for point in series.points {
            guard let px = x.position(point.x) else { continue }
            let place = "\(series.name), \(chart.x.label) \(chart.x.format.text(point.x))"
            guard let value = point.y, let py = y.position(value) else {
                let (cx, cy) = (px + Double(FigureDrawing.wrapped(series.slot)) * 6 - 9, bottom - 6)
                svg.open("g")
                svg.raw("<title>\(MarkupText.escaped("\(place): no result. \(point.note)"))</title>")
                svg.path(
                    "M\((cx - 3).px) \((cy - 3).px)L\((cx + 3).px) \((cy + 3).px)M\((cx - 3).px) \((cy + 3).px)"
                        + "L\((cx + 3).px) \((cy - 3).px)", "f-whisker")
                svg.close("g")
                continue
            }
            var tooltip = "\(place): \(chart.y.format.text(value))"
            if let interval = point.interval {
                tooltip +=
                    " (\(chart.y.format.text(interval.lowerBound)) to \(chart.y.format.text(interval.upperBound)))"
            }
            if !point.note.isEmpty { tooltip += ". \(point.note)" }
            mark(series.slot, px, py, tooltip: tooltip)
        }
    }
}

/// What all panels of a line chart have in common.
private struct LineFrame {
    let chart: LineChart
    let width: Double
    let height: Double
    /// Pixels for the labels of the vertical axis.
    let axis: Double
    private let xValues: [Double]
    private let yValues: [Double]

    init(chart: LineChart, width: Double, height: Double) {
        self.chart = chart
        self.width = width
        self.height = height
        let points = chart.panels.flatMap { $0.series.flatMap(\.points) }
        var xValues = points.map(\.x)
        var yValues = points.flatMap { point -> [Double] in
            guard let value = point.y else { return [] }
            return [value] + (point.interval.map { [$0.lowerBound, $0.upperBound] } ?? [])
        }
        for reference in chart.references {
            switch reference.position {
            case .vertical(let value): xValues.append(value)
            case .horizontal(let value): yValues.append(value)
            case .diagonal: break
            }
        }
        self.xValues = xValues
        self.yValues = yValues
        let y = Projection(chart.y, values: yValues, from: height, to: 0, most: LineFrame.rows(height))
        let widest = y.ticks.map { TextMeasure.width(y.label($0, chart.y.format), size: 11) }.max() ?? 0
        axis = (widest + 9).rounded(.up)
    }

    var plotWidth: Double { width - axis }

    func projections(left: Double, top: Double) -> (x: Projection, y: Projection) {
        let x = Projection(
            chart.x, values: xValues, from: left + axis + 14, to: left + width - 14,
            most: max(2, Int(plotWidth / (chart.x.scale == .linear ? 64 : 42))),
            endsOnTicks: false)
        let y = Projection(chart.y, values: yValues, from: top + height, to: top, most: LineFrame.rows(height))
        return (x, y)
    }

    private static func rows(_ height: Double) -> Int { Int(height / 42) }
}
