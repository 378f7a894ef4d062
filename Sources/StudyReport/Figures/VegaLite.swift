// Tandem — Apache-2.0

internal import JSON

extension Figure {
    /// The figure as a Vega-Lite 5 specification with its data, for those who want to draw it themselves.
    public func vegaLite() -> [UInt8] {
        let provenance = provenances.map { provenance -> VegaSpecification in
            [
                "kind": VegaSpecification(provenance.kind.rawValue), "device": VegaSpecification(provenance.device),
                "date": VegaSpecification(provenance.date),
            ]
        }
        let subtitle = provenances.map { "\($0.mark) \($0.place)" }.joined(separator: "; ")
        let head: VegaSpecification = [
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "title": ["text": VegaSpecification(title), "subtitle": VegaSpecification(subtitle)],
            "description": VegaSpecification(caption),
            "usermeta": ["tandem": ["provenance": VegaSpecification(provenance)]],
        ]
        let body =
            switch content {
            case .lines(let chart): chart.vega()
            case .bars(let chart): chart.vega()
            case .heatMap(let map): map.vega()
            }
        var writer = JSONWriter()
        writer.value(head.with(body).json)
        return writer.bytes + [UInt8(ascii: "\n")]
    }

    /// A view, once or once for each panel.
    fileprivate static func vega(
        panels: [String], values: [VegaSpecification], layers: [VegaSpecification], width: Int, height: Int
    ) -> VegaSpecification {
        let data: VegaSpecification = ["data": ["values": VegaSpecification(values)]]
        let view: VegaSpecification = [
            "width": VegaSpecification(width), "height": VegaSpecification(height), "layer": VegaSpecification(layers),
        ]
        guard panels.count > 1 else { return data.with(view) }
        return data.with([
            "facet": .field("panel", "nominal", ["sort": VegaSpecification(panels), "title": nil]),
            "columns": 2, "spec": view,
        ])
    }

    /// Series by colour, those of the light palette.
    fileprivate static func vega(series: [(name: String, slot: Int)]) -> VegaSpecification {
        let colors = series.map { Palette.lightSeries[FigureDrawing.wrapped($0.slot)] }
        return .field(
            "series", "nominal",
            [
                "title": nil,
                "scale": ["domain": VegaSpecification(series.map(\.name)), "range": VegaSpecification(colors)],
            ])
    }
}

extension ValueFormat {
    /// In the notation of d3.
    fileprivate var vega: VegaSpecification {
        switch self {
        case .number: "~s"
        case .percent: ".0%"
        case .signedPercent: "+.0%"
        case .tokens: "d"
        }
    }
}

extension Axis {
    fileprivate func vega(values: [Double]) -> VegaSpecification {
        var axis: VegaSpecification = ["format": format.vega]
        let scale: VegaSpecification
        switch self.scale {
        case .linear: scale = ["zero": VegaSpecification(includesZero)]
        case .logarithmic: scale = ["type": "log", "nice": false]
        case .binaryLogarithmic:
            scale = ["type": "log", "base": 2, "nice": false]
            let distinct = Array(Set(values)).sorted()
            if distinct.count <= 12 {
                axis = axis.with(["values": VegaSpecification(distinct.map { VegaSpecification($0) })])
            }
        }
        return ["title": VegaSpecification(label), "scale": scale, "axis": axis]
    }
}

extension LineChart {
    fileprivate func vega() -> VegaSpecification {
        var values: [VegaSpecification] = []
        for panel in panels {
            for series in panel.series {
                for (order, point) in series.points.enumerated() {
                    values.append([
                        "panel": VegaSpecification(panel.title), "series": VegaSpecification(series.name),
                        "order": VegaSpecification(order), "x": VegaSpecification(point.x),
                        "y": VegaSpecification(point.y), "low": VegaSpecification(point.interval?.lowerBound),
                        "high": VegaSpecification(point.interval?.upperBound), "note": VegaSpecification(point.note),
                    ])
                }
            }
        }
        var seen: Set<String> = []
        let all = panels.flatMap(\.series).filter { seen.insert($0.name).inserted }
        let color = Figure.vega(series: all.map { ($0.name, $0.slot) })
        let points = panels.flatMap { $0.series.flatMap(\.points) }
        let xField = VegaSpecification.field("x", "quantitative", x.vega(values: points.map(\.x)))
        let yAxis = y.vega(values: points.compactMap(\.y))
        let interval: VegaSpecification = [
            "mark": spread == .band ? ["type": "area", "opacity": 0.18] : "rule",
            "encoding": [
                "x": xField, "y": .field("low", "quantitative", yAxis), "y2": ["field": "high"], "color": color,
            ],
        ]
        var encoding: VegaSpecification = ["x": xField, "y": .field("y", "quantitative", yAxis), "color": color]
        if isJoined {
            encoding = encoding.with(["order": .field("order", "quantitative")])
            let dashes = all.map { $0.isBroken ? [7, 5] : [1, 0] as VegaSpecification }
            if all.contains(where: \.isBroken) {
                encoding = encoding.with([
                    "strokeDash": .field(
                        "series", "nominal",
                        [
                            "legend": nil,
                            "scale": [
                                "domain": VegaSpecification(all.map(\.name)), "range": VegaSpecification(dashes),
                            ],
                        ])
                ])
            }
        } else {
            encoding = encoding.with([
                "shape": .field(
                    "series", "nominal", ["title": nil, "scale": ["domain": VegaSpecification(all.map(\.name))]])
            ])
        }
        let marks: VegaSpecification = [
            "mark": isJoined ? ["type": "line", "point": true] : ["type": "point", "filled": true, "size": 60],
            "encoding": encoding,
        ]
        return Figure.vega(
            panels: panels.map(\.title), values: values,
            layers: [interval, marks] + references.map { vega($0, points) }, width: 340, height: 240)
    }

    private func vega(_ reference: Reference, _ points: [Point]) -> VegaSpecification {
        func rule(_ encoding: VegaSpecification) -> VegaSpecification {
            [
                "data": ["values": [["label": VegaSpecification(reference.label)]]],
                "mark": ["type": "rule", "strokeDash": [5, 4], "color": "#5b6570"], "encoding": encoding,
            ]
        }
        switch reference.position {
        case .horizontal(let value): return rule(["y": ["datum": VegaSpecification(value)]])
        case .vertical(let value): return rule(["x": ["datum": VegaSpecification(value)]])
        case .diagonal:
            let both = points.flatMap { point in point.y.map { [point.x, $0] } ?? [] }
            let ends = [both.min() ?? 0, both.max() ?? 1].map { end -> VegaSpecification in
                ["x": VegaSpecification(end), "y": VegaSpecification(end)]
            }
            return [
                "data": ["values": VegaSpecification(ends)],
                "mark": ["type": "line", "strokeDash": [5, 4], "color": "#5b6570"],
                "encoding": ["x": .field("x", "quantitative"), "y": .field("y", "quantitative")],
            ]
        }
    }
}

extension BarChart {
    fileprivate func vega() -> VegaSpecification {
        var values: [VegaSpecification] = []
        for panel in panels {
            for group in panel.groups {
                for (series, bar) in zip(series, group.bars) {
                    values.append([
                        "panel": VegaSpecification(panel.title), "group": VegaSpecification(group.name),
                        "series": VegaSpecification(series.name), "value": VegaSpecification(bar.value),
                        "low": VegaSpecification(bar.interval?.lowerBound),
                        "high": VegaSpecification(bar.interval?.upperBound), "note": VegaSpecification(bar.note),
                    ])
                }
            }
        }
        var seen: Set<String> = []
        let groups = panels.flatMap(\.groups).map(\.name).filter { seen.insert($0).inserted }
        let place: VegaSpecification = [
            "y": .field("group", "nominal", ["sort": VegaSpecification(groups), "title": nil]),
            "yOffset": .field("series", "nominal", ["sort": VegaSpecification(series.map(\.name))]),
        ]
        let axis = value.vega(values: [])
        let bars: VegaSpecification = [
            "mark": "bar",
            "encoding": place.with([
                "x": .field("value", "quantitative", axis),
                "color": Figure.vega(series: series.map { ($0.name, $0.slot) }),
            ]),
        ]
        let intervals: VegaSpecification = [
            "mark": "rule",
            "encoding": place.with(["x": .field("low", "quantitative", axis), "x2": ["field": "high"]]),
        ]
        return Figure.vega(
            panels: panels.map(\.title), values: values, layers: [bars, intervals], width: 320,
            height: max(1, groups.count) * max(1, series.count) * 18)
    }
}

extension HeatMap {
    fileprivate func vega() -> VegaSpecification {
        var values: [VegaSpecification] = []
        for panel in panels {
            for (row, cells) in zip(rows, panel.cells) {
                for (column, cell) in zip(columns, cells) {
                    values.append([
                        "panel": VegaSpecification(panel.title), "row": VegaSpecification(row),
                        "column": VegaSpecification(column), "value": VegaSpecification(cell.value),
                        "detail": VegaSpecification(cell.detail), "note": VegaSpecification(cell.note),
                    ])
                }
            }
        }
        let place: VegaSpecification = [
            "x": .field(
                "column", "ordinal", ["sort": VegaSpecification(columns), "title": VegaSpecification(columnLabel)]),
            "y": .field("row", "ordinal", ["sort": VegaSpecification(rows), "title": nil]),
        ]
        let cells: VegaSpecification = [
            "mark": "rect",
            "encoding": place.with([
                "color": .field(
                    "value", "quantitative",
                    [
                        "title": VegaSpecification(valueLabel),
                        "scale": ["range": ["#e07b1e", "#f6f7f9", "#2f6fde"], "domainMid": 0],
                    ])
            ]),
        ]
        let numbers: VegaSpecification = [
            "mark": ["type": "text", "color": "#1b2128"],
            "encoding": place.with(["text": .field("value", "quantitative", ["format": format.vega])]),
        ]
        return Figure.vega(
            panels: panels.map(\.title), values: values, layers: [cells, numbers], width: columns.count * 52,
            height: rows.count * 32)
    }
}
