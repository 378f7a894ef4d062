// Tandem — Apache-2.0

extension FigureDrawing {
    private static let barHeight = 17.0

    mutating func draw(_ chart: BarChart) {
        if chart.series.count > 1 {
            legend(chart.series.map { Key(symbol: .bar(slot: $0.slot), name: $0.name) })
        }
        let (count, panelWidth) = columns(of: chart.panels.count, atLeast: 300)
        var next = 0
        while next < chart.panels.count {
            let row = chart.panels[next..<min(next + count, chart.panels.count)]
            let top = y
            var bottom = y
            for (column, panel) in row.enumerated() {
                y = top
                draw(
                    panel, of: chart, left: FigureDrawing.margin + Double(column) * (panelWidth + 26), panelWidth,
                    hasTitles: row.contains { !$0.title.isEmpty })
                bottom = max(bottom, y)
            }
            next += count
            y = bottom + (next < chart.panels.count ? 16 : 0)
        }
    }

    private mutating func draw(
        _ panel: BarChart.Panel, of chart: BarChart, left: Double, _ panelWidth: Double, hasTitles: Bool
    ) {
        if hasTitles {
            svg.label(left, y + 12, TextMeasure.shortened(panel.title, size: 14, width: panelWidth), "f-panel")
            y += 22
        }
        let widest = panel.groups.map { TextMeasure.width($0.name, size: 12) }.max() ?? 0
        // Names stand beside the bars if that leaves these most of the width.
        let isBeside = widest < panelWidth * 0.3
        let plotLeft = left + (isBeside ? widest + 10 : 2)
        let all = chart.panels.flatMap { $0.groups.flatMap(\.bars) }
        let values = all.flatMap { bar -> [Double] in
            guard let value = bar.value else { return [] }
            return [value] + (bar.interval.map { [$0.lowerBound, $0.upperBound] } ?? [])
        }.filter(\.isFinite)
        let room =
            (all.compactMap(\.value).map { TextMeasure.width(chart.value.format.text($0), size: 11) }.max() ?? 0) + 8
        let isSigned = (values.min() ?? 0) < 0
        var axis = chart.value
        axis.scale = .linear
        axis.includesZero = true
        let projection = Projection(
            axis, values: values, from: plotLeft + (isSigned ? room : 0), to: left + panelWidth - room,
            most: max(2, Int((panelWidth - (plotLeft - left)) / 75)), endsOnTicks: false)
        guard let zero = projection.position(0) else { return }
        let nameHeight = isBeside ? 0.0 : 17
        let groupHeight = nameHeight + Double(chart.series.count) * FigureDrawing.barHeight + 11
        let height = Double(panel.groups.count) * groupHeight
        for tick in projection.ticks {
            guard let position = projection.position(tick) else { continue }
            svg.line(position, y, position, y + height, "f-grid")
            svg.label(
                position, y + height + 14, projection.label(tick, axis.format), "f-small f-faint", .middle)
        }
        svg.line(zero, y, zero, y + height, "f-zero")
        for group in panel.groups {
            var top = y + 5
            if isBeside {
                let middle = top + Double(chart.series.count) * FigureDrawing.barHeight / 2
                svg.label(plotLeft - 10, middle + 4, group.name, "", .end)
            } else {
                let name = TextMeasure.shortened(group.name, size: 12, width: panelWidth)
                svg.label(left, top + 11, name, "f-halo")
                top += nameHeight
            }
            for (series, bar) in zip(chart.series, group.bars) {
                draw(bar, series, chart, group.name, projection, zero: zero, top: top)
                top += FigureDrawing.barHeight
            }
            y += groupHeight
        }
        svg.label(
            (plotLeft + left + panelWidth) / 2, y + 30,
            TextMeasure.shortened(axis.label, size: 11, width: panelWidth), "f-small f-faint", .middle)
        y += 34
    }

    private mutating func draw(
        _ bar: BarChart.Bar, _ series: BarChart.Series, _ chart: BarChart, _ group: String, _ projection: Projection,
        zero: Double, top: Double
    ) {
        let middle = top + FigureDrawing.barHeight / 2
        guard let value = bar.value, let end = projection.position(value) else {
            svg.label(zero + 5, middle + 4, "no result", "f-small f-faint f-halo")
            return
        }
        let text = chart.value.format.text(value)
        var tooltip = "\(series.name), \(group): \(text)"
        var (least, greatest) = (min(end, zero), max(end, zero))
        var whisker = ""
        if let interval = bar.interval, let low = projection.position(interval.lowerBound),
            let high = projection.position(interval.upperBound)
        {
            tooltip +=
                " (\(chart.value.format.text(interval.lowerBound)) to \(chart.value.format.text(interval.upperBound)))"
            least = min(least, low)
            greatest = max(greatest, high)
            if high - low > 1 {
                let (up, down) = ((middle - 3.5).px, (middle + 3.5).px)
                whisker = "M\(low.px) \(middle.px)H\(high.px)M\(low.px) \(up)V\(down)M\(high.px) \(up)V\(down)"
            }
        }
        if !bar.note.isEmpty { tooltip += ". \(bar.note)" }
        svg.open("g", [("class", FigureDrawing.style(series.slot))])
        svg.rectangle(
            min(end, zero), top + 1.5, max(abs(end - zero), 1), FigureDrawing.barHeight - 3, "f-bar", radius: 1.5,
            tooltip: tooltip)
        svg.close("g")
        if !whisker.isEmpty { svg.path(whisker, "f-over") }
        if value < 0 {
            svg.label(least - 4, middle + 4, text, "f-small f-halo", .end)
        } else {
            svg.label(greatest + 4, middle + 4, text, "f-small f-halo")
        }
    }
}
