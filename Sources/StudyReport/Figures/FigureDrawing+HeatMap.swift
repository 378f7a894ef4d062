// Tandem — Apache-2.0

extension FigureDrawing {
    mutating func draw(_ map: HeatMap) {
        let scale = HeatScale(map)
        legend(map, scale)
        let widest = (map.rows.map { TextMeasure.width($0, size: 12) }.max() ?? 0) + 10
        // Names of rows stand beside them if that leaves the cells most of the width, otherwise above.
        func labels(_ width: Double) -> Double { widest < width * 0.36 ? widest : 0 }
        func fitting(_ width: Double) -> HeatText {
            HeatText(map, cellWidth: (width - labels(width)) / Double(max(1, map.columns.count)))
        }
        // Panels stand beside one another if their numbers fit in full size.
        var (count, panelWidth) = columns(of: map.panels.count, atLeast: 300)
        if count > 1, fitting(panelWidth).size < 12 { (count, panelWidth) = (1, inner) }
        let text = fitting(panelWidth)
        let rowLabels = labels(panelWidth)
        let rowHeight = (text.hasDetail ? 42.0 : 32) + (rowLabels == 0 ? 17 : 0)
        var next = 0
        while next < map.panels.count {
            let row = map.panels[next..<min(next + count, map.panels.count)]
            let hasTitles = row.contains { !$0.title.isEmpty }
            for (column, panel) in row.enumerated() {
                draw(
                    panel, of: map, scale, text, left: FigureDrawing.margin + Double(column) * (panelWidth + 26),
                    labels: rowLabels, rowHeight: rowHeight, hasTitles)
            }
            next += count
            y += (hasTitles ? 22 : 0) + 36 + rowHeight * Double(map.rows.count) + (next < map.panels.count ? 18 : 0)
        }
    }

    /// The colours from least to greatest, and the lines between cells.
    private mutating func legend(_ map: HeatMap, _ scale: HeatScale) {
        let left = FigureDrawing.margin
        var x = left
        svg.label(x, y + 12, map.valueLabel, "f-faint")
        x += TextMeasure.width(map.valueLabel, size: 12) + 10
        let low = map.format.text(-scale.full)
        let high = map.format.text(scale.full)
        let (lowWidth, highWidth) = (TextMeasure.width(low, size: 11), TextMeasure.width(high, size: 11))
        if x + lowWidth + highWidth + 9 * 16 + 16 > left + inner {
            x = left
            y += 20
        }
        svg.label(x, y + 12, low, "f-small f-faint")
        x += lowWidth + 6
        for step in -4...4 {
            let (style, opacity) = scale.style(Double(step) / 4 * scale.full)
            svg.rectangle(x, y + 2, 16, 12, style, opacity: opacity)
            x += 16
        }
        svg.label(x + 6, y + 12, high, "f-small f-faint")
        y += 21
        let keys = map.thresholds.prefix(2).enumerated().map { index, threshold in
            Key(symbol: .edge(isBroken: index > 0), name: threshold.label)
        }
        if keys.isEmpty { y += 6 } else { legend(Array(keys)) }
    }

    private mutating func draw(
        _ panel: HeatMap.Panel, of map: HeatMap, _ scale: HeatScale, _ text: HeatText, left: Double, labels: Double,
        rowHeight: Double, _ hasTitles: Bool
    ) {
        var top = y
        let gridLeft = left + labels
        if hasTitles {
            svg.label(
                left, top + 12,
                TextMeasure.shortened(
                    panel.title, size: 14, width: labels + text.cellWidth * Double(map.columns.count)),
                "f-panel")
            top += 22
        }
        svg.label(gridLeft, top + 10, map.columnLabel, "f-small f-faint")
        top += 16
        for (column, name) in map.columns.enumerated() {
            svg.label(
                gridLeft + (Double(column) + 0.5) * text.cellWidth, top + 12,
                TextMeasure.shortened(name, size: 11, width: text.cellWidth), "f-small f-faint", .middle)
        }
        top += 20
        for (row, cells) in panel.cells.prefix(map.rows.count).enumerated() {
            var cellTop = top + Double(row) * rowHeight
            var cellHeight = rowHeight
            if labels > 0 {
                svg.label(gridLeft - 8, cellTop + rowHeight / 2 + 4, map.rows[row], "", .end)
            } else {
                svg.label(gridLeft + 1, cellTop + 13, map.rows[row])
                cellTop += 17
                cellHeight -= 17
            }
            for (column, cell) in cells.prefix(map.columns.count).enumerated() {
                draw(
                    cell, of: map, scale, text, "\(map.rows[row]), \(map.columnLabel) \(map.columns[column])",
                    left: gridLeft + Double(column) * text.cellWidth, top: cellTop, rowHeight: cellHeight)
            }
        }
        for (index, threshold) in map.thresholds.prefix(2).enumerated() {
            let path = edges(
                panel.cells, crossing: threshold.value, left: gridLeft, top: top, cellWidth: text.cellWidth,
                rowHeight: rowHeight, gap: labels > 0 ? 0 : 17)
            if !path.isEmpty { svg.path(path, index > 0 ? "f-edge f-dash" : "f-edge") }
        }
    }

    private mutating func draw(
        _ cell: HeatMap.Cell, of map: HeatMap, _ scale: HeatScale, _ text: HeatText, _ place: String, left: Double,
        top: Double, rowHeight: Double
    ) {
        let middle = left + text.cellWidth / 2
        guard let value = cell.value, value.isFinite else {
            let tooltip = "\(place): no result. \(cell.note)"
            svg.rectangle(left + 1, top + 1, text.cellWidth - 2, rowHeight - 2, "f-empty", radius: 3, tooltip: tooltip)
            svg.label(middle, top + rowHeight / 2 + 4, "–", "f-faint", .middle)
            return
        }
        let (style, opacity) = scale.style(value)
        var tooltip = "\(place): \(map.format.text(value))"
        for addition in [cell.detail, cell.note] where !addition.isEmpty { tooltip += ". \(addition)" }
        svg.rectangle(
            left + 1, top + 1, text.cellWidth - 2, rowHeight - 2, style, radius: 3, opacity: opacity, tooltip: tooltip)
        let number = text.number(value)
        let size = text.size < 12 ? " f-size-\(Int(text.size))" : ""
        if text.hasDetail, !cell.detail.isEmpty {
            svg.label(middle, top + rowHeight / 2 - 1, number, "f-strong" + size, .middle)
            svg.label(middle, top + rowHeight / 2 + 13, cell.detail, "f-size-10", .middle)
        } else {
            svg.label(middle, top + rowHeight / 2 + 4, number, "f-strong" + size, .middle)
        }
    }

    /// Borders between cells on either side of a value.
    private func edges(
        _ cells: [[HeatMap.Cell]], crossing threshold: Double, left: Double, top: Double, cellWidth: Double,
        rowHeight: Double, gap: Double
    ) -> String {
        func side(_ row: Int, _ column: Int) -> Bool? {
            guard cells.indices.contains(row), cells[row].indices.contains(column) else { return nil }
            return cells[row][column].value.map { $0 >= threshold }
        }
        var path = ""
        for row in cells.indices {
            for column in cells[row].indices {
                guard let own = side(row, column) else { continue }
                let (x, y) = (left + Double(column + 1) * cellWidth, top + Double(row) * rowHeight)
                if let right = side(row, column + 1), right != own {
                    path += "M\(x.px) \((y + gap).px)v\((rowHeight - gap).px)"
                }
                if let below = side(row + 1, column), below != own {
                    path += "M\((x - cellWidth).px) \((y + rowHeight).px)h\(cellWidth.px)"
                }
            }
        }
        return path
    }
}

/// Colours on both sides of zero.
private struct HeatScale {
    let full: Double

    init(_ map: HeatMap) {
        let values = map.panels.flatMap { $0.cells.flatMap { $0.compactMap(\.value) } }.filter(\.isFinite)
        let greatest = max(values.map(abs).max() ?? 0, map.fullScale ?? 0)
        full = greatest > 0 ? greatest : 1
    }

    func style(_ value: Double) -> (class: String, opacity: Double) {
        let share = min(abs(value) / full, 1)
        return (value < 0 ? "f-down" : "f-up", 0.05 + 0.75 * share)
    }
}

/// How numbers are written so that all fit.
private struct HeatText {
    let cellWidth: Double
    let size: Double
    let hasDetail: Bool
    private let format: ValueFormat
    private let hasUnit: Bool

    init(_ map: HeatMap, cellWidth: Double) {
        self.cellWidth = cellWidth
        format = map.format
        let cells = map.panels.flatMap { $0.cells.flatMap { $0 } }
        func widest(_ hasUnit: Bool, _ size: Double) -> Double {
            cells.compactMap(\.value).map {
                TextMeasure.width(HeatText.number($0, map.format, hasUnit), size: size, isBold: true)
            }.max() ?? 0
        }
        let choices: [(Bool, Double)] = [(true, 12), (true, 11), (false, 12), (false, 11), (false, 10), (false, 9)]
        let chosen = choices.first { widest($0.0, $0.1) <= cellWidth - 5 } ?? (false, 9)
        (hasUnit, size) = chosen
        hasDetail =
            cells.contains { !$0.detail.isEmpty }
            && cells.allSatisfy { TextMeasure.width($0.detail, size: 10) <= cellWidth - 5 }
    }

    func number(_ value: Double) -> String { HeatText.number(value, format, hasUnit) }

    /// Without its unit, which the legend has too, where that does not fit.
    private static func number(_ value: Double, _ format: ValueFormat, _ hasUnit: Bool) -> String {
        let text = format.text(value)
        return hasUnit || !text.hasSuffix("\u{A0}%") ? text : String(text.dropLast(2))
    }
}
