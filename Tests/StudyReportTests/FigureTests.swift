// Tandem — Apache-2.0

import JSON
import Testing

@testable import StudyReport

@Suite struct FigureTests {
    static let provenance = Provenance(kind: .simulated, device: "NVIDIA H100", date: "2026-11-26")

    static func lines(spread: LineChart.Spread = .bars, name: String = "qwen2.5-0.5b") -> Figure {
        let panels = ["equal total", "equal per engine"].map { title in
            LineChart.Panel(
                title: title,
                series: [
                    Series(
                        name: name, slot: 0,
                        points: [128, 512, 2048].map { Point(x: $0, y: 0.5 - $0 / 8192, interval: 0.1...0.6) }),
                    Series(
                        name: "qwen2.5-7b", slot: 3, isBroken: true,
                        points: [
                            Point(x: 128, y: 0.1), Point(x: 512, y: nil, note: "does not fit"), Point(x: 2048, y: -0.3),
                        ]),
                ])
        }
        return Figure(
            identifier: "F1-gain", title: "Decode: gain", caption: "Gain over one engine.", provenances: [provenance],
            content: .lines(
                LineChart(
                    x: Axis(label: "context, tokens", scale: .binaryLogarithmic, format: .tokens),
                    y: Axis(label: "gain", format: .signedPercent), panels: panels,
                    references: [
                        .init(.horizontal(0.1), label: "10 %"), .init(.vertical(1024), label: "here"),
                        .init(.diagonal, label: "equal"),
                    ], spread: spread)))
    }

    static let bars = Figure(
        identifier: "bars", title: "Bars", caption: "Gains.", provenances: [provenance],
        content: .bars(
            BarChart(
                value: Axis(label: "gain", format: .signedPercent),
                series: [.init(name: "async", slot: 0), .init(name: "two engines, MPS", slot: 1)],
                panels: [
                    .init(groups: [
                        .init(name: "host 1 ms", bars: [.init(value: 0.33, interval: 0.3...0.4), .init(value: -0.2)]),
                        .init(name: "host 20 µs a sequence", bars: [.init(value: nil), .init(value: 0.02)]),
                    ])
                ])))

    static let map = Figure(
        identifier: "map", title: "Map", caption: "Gains.", provenances: [provenance],
        content: .heatMap(
            HeatMap(
                columnLabel: "context", columns: ["128", "512", "2k"], rows: ["0.5b", "7b"], valueLabel: "gain",
                format: .signedPercent,
                panels: [
                    .init(cells: [
                        [.init(value: 0.5), .init(value: 0.2, detail: "±1"), .init(value: 0.05)],
                        [.init(value: 0.1), .init(value: -0.1), .init(value: nil, note: "does not fit")],
                    ])
                ], thresholds: [.init(0, label: "loss"), .init(0.1, label: "10 %")])))

    static var all: [Figure] { [lines(), lines(spread: .band), bars, map] }

    /// Every figure is well-formed in both layouts, says what it is and where its numbers are from, and is heard too.
    @Test(arguments: all, Figure.Layout.allCases)
    func drawing(figure: Figure, layout: Figure.Layout) {
        let svg = figure.svg(layout)
        let check = MarkupCheck(svg)
        #expect(check.problem == nil)
        #expect(svg.contains(">SIMULATED</text>"))
        #expect(svg.contains("2026-11-26"))
        #expect(svg.contains("role=\"img\""))
        #expect(svg.contains("<desc id=\"\(figure.identifier)-\(layout.rawValue)-description\">"))
        #expect(svg.contains("no result"))
        #expect(svg.contains("prefers-color-scheme:dark"))
        #expect(!svg.contains("NaN") && !svg.contains("<script") && !svg.contains("nan"))
        #expect(!figure.svg(layout, isAlone: false).contains("<style>"))
    }

    /// Each value has a mark with its numbers, and each missing one says why.
    @Test func tooltips() {
        let svg = Self.lines().svg(.wide)
        #expect(svg.components(of: "<title>qwen2.5-0.5b, context, tokens").count == 7)
        #expect(svg.components(of: "(+10\u{A0}% to +60\u{A0}%)").count == 7)
        #expect(svg.components(of: "512: no result. does not fit").count == 3)
        let bars = Self.bars.svg(.wide)
        #expect(bars.contains("async, host 1 ms: +33\u{A0}% (+30\u{A0}% to +40\u{A0}%)"))
        #expect(bars.contains(">\u{2212}20\u{A0}%</text>"))
        let map = Self.map.svg(.wide)
        #expect(map.contains("7b, context 2k: no result. does not fit"))
    }

    /// A line has a gap where a value is missing, and its interval is drawn as asked.
    @Test func gapsAndIntervals() {
        let bars = Self.lines().svg(.wide)
        #expect(bars.components(of: "class=\"f-line f-broken\"").count == 4)
        let broken = bars.components(of: "<path d=\"").filter { $0.hasPrefix("M") && $0.contains("f-line f-broken") }
        #expect(broken.allSatisfy { $0.prefix { $0 != "\"" }.filter { $0 == "M" }.count == 2 })
        #expect(bars.contains("f-whisker") && !bars.contains("\"f-band\""))
        #expect(Self.lines(spread: .band).svg(.wide).contains("\"f-band\""))
    }

    /// The border between cells on either side of a threshold: three edges at zero, of which one is missing beside a
    /// cell without a result.
    @Test func thresholds() throws {
        let svg = Self.map.svg(.wide)
        let path = try #require(svg.components(of: "<path d=\"").last { $0.contains("\"f-edge\"") })
        #expect(path.prefix { $0 != "\"" }.filter { $0 == "M" }.count == 2)
        let ten = try #require(svg.components(of: "<path d=\"").last { $0.contains("\"f-edge f-dash\"") })
        #expect(ten.prefix { $0 != "\"" }.filter { $0 == "M" }.count == 3)
    }

    /// No text leaves the picture, by the widths of a wide font.
    @Test(arguments: all, Figure.Layout.allCases)
    func textsStayInside(figure: Figure, layout: Figure.Layout) throws {
        for part in figure.svg(layout).components(of: "<text x=\"").dropFirst() {
            let x = try #require(Double(part.prefix { $0 != "\"" }))
            let head = part.prefix { $0 != ">" }
            let text = part.drop { $0 != ">" }.dropFirst().prefix { $0 != "<" }
            let size =
                head.contains("f-title")
                ? 16.0
                : head.contains("f-panel") ? 13 : head.contains("f-badge") ? 10.5 : head.contains("f-small") ? 11 : 12
            let width = TextMeasure.width(String(text), size: size)
            let left = head.contains("\"end\"") ? x - width : head.contains("\"middle\"") ? x - width / 2 : x
            #expect(left >= -1 && left + width <= layout.width + 1, "\(text)")
        }
    }

    /// Whatever names and values are, nothing of them becomes markup.
    @Test func hostileContent() {
        let name = "<script>alert(1)</script>\" onload=\"x\u{0}\u{FFFE}]]>"
        var figure = Self.lines(name: name)
        figure.title = name + String(repeating: "w", count: 400)
        figure.caption = name
        figure.provenances = [Provenance(kind: .measured, device: name + name, date: name)]
        for layout in Figure.Layout.allCases {
            let check = MarkupCheck(figure.svg(layout))
            #expect(check.problem == nil)
            #expect(check.names["script"] == nil)
        }
        guard case .lines(var chart) = figure.content else { return }
        chart.panels = [
            .init(series: [
                Series(
                    name: "x", slot: -9,
                    points: [
                        Point(x: .nan, y: .infinity), Point(x: -1, y: 1e300),
                        Point(x: 1, y: .nan, interval: -1e308...1e308),
                    ])
            ])
        ]
        figure.content = .lines(chart)
        #expect(MarkupCheck(figure.svg(.narrow)).problem == nil)
        #expect((try? JSONParser.parse(figure.vegaLite())) != nil)
        figure.content = .lines(LineChart(x: chart.x, y: chart.y, panels: []))
        #expect(MarkupCheck(figure.svg(.wide)).problem == nil)
        figure.content = .heatMap(
            HeatMap(columnLabel: "", columns: [], rows: [], valueLabel: "", format: .number, panels: [.init(cells: [])])
        )
        #expect(MarkupCheck(figure.svg(.wide)).problem == nil)
        figure.content = .bars(BarChart(value: chart.y, series: [], panels: [.init(groups: [])]))
        #expect(MarkupCheck(figure.svg(.wide)).problem == nil)
    }

    /// Colours differ enough from their ground: 3:1 for marks, 4.5:1 for text (WCAG 2.1, 1.4.3 and 1.4.11).
    @Test(arguments: [Palette.light, Palette.dark])
    func contrast(palette: String) throws {
        var colors: [Substring: Double] = [:]
        for entry in palette.split(separator: ";") {
            let parts = entry.split(separator: ":")
            colors[parts[0]] = try Self.luminance(parts[1])
        }
        let back = try #require(colors["--f-back"])
        func contrast(_ name: String) throws -> Double {
            let other = try #require(colors[Substring(name)])
            return (max(back, other) + 0.05) / (min(back, other) + 0.05)
        }
        for slot in 0..<Palette.count { #expect(try contrast("--f-\(slot)") >= 3) }
        for text in ["text", "faint", "measured", "simulated", "derived"] {
            #expect(try contrast("--f-\(text)") >= 4.5)
        }
    }

    private static func luminance(_ color: Substring) throws -> Double {
        var digits = color.dropFirst()
        if digits.count == 3 { digits = Substring(digits.map { "\($0)\($0)" }.joined()) }
        let value = try #require(Int(digits, radix: 16))
        let channels = [value >> 16, value >> 8 & 255, value & 255].map { channel -> Double in
            let share = Double(channel) / 255
            return share <= 0.04045 ? share / 12.92 : exponent(of: (share + 0.055) / 1.055)
        }
        return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
    }

    /// To the power of 2.4, by the fifth root of the twelfth power.
    private static func exponent(of value: Double) -> Double {
        var root = 1.0
        let power = (0..<12).reduce(1.0) { product, _ in product * value }
        for _ in 0..<200 {
            root -= (root * root * root * root * root - power) / max(5 * root * root * root * root, 1e-30)
        }
        return root
    }
}

@Suite struct VegaLiteTests {
    private static func specification(_ figure: Figure) throws -> JSONObject {
        try #require(try JSONParser.parse(figure.vegaLite()).object)
    }

    @Test func lines() throws {
        let top = try Self.specification(FigureTests.lines())
        #expect(top["$schema"]?.string == "https://vega.github.io/schema/vega-lite/v5.json")
        #expect(top["data"]?.object?["values"]?.array?.count == 12)
        #expect(top["facet"]?.object?["field"]?.string == "panel")
        let layers = try #require(top["spec"]?.object?["layer"]?.array)
        #expect(layers.count == 5)
        #expect(layers[0].object?["mark"]?.string == "rule")
        #expect(layers[1].object?["mark"]?.object?["type"]?.string == "line")
        let x = layers[1].object?["encoding"]?.object?["x"]?.object
        #expect(x?["scale"]?.object?["base"]?.integer == 2)
        #expect(top["usermeta"]?.object?["tandem"]?.object?["provenance"]?.array?.count == 1)
        let values = try #require(top["data"]?.object?["values"]?.array)
        #expect(values.filter { $0.object?["y"]?.isNull == true }.count == 2)
    }

    @Test func others() throws {
        let bars = try Self.specification(FigureTests.bars)
        #expect(bars["data"]?.object?["values"]?.array?.count == 4)
        #expect(bars["layer"]?.array?.first?.object?["mark"]?.string == "bar")
        let map = try Self.specification(FigureTests.map)
        #expect(map["data"]?.object?["values"]?.array?.count == 6)
        #expect(map["layer"]?.array?.first?.object?["mark"]?.string == "rect")
    }
}

extension StringProtocol where SubSequence == Substring {
    /// The parts between occurrences of a text, as Foundation has it.
    func components(of separator: String) -> [String] {
        var parts: [String] = []
        var rest = self[...]
        while let range = rest.firstRange(of: separator) {
            parts.append(String(rest[..<range.lowerBound]))
            rest = rest[range.upperBound...]
        }
        return parts + [String(rest)]
    }
}
