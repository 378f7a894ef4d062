// Tandem — Apache-2.0

/// Values as horizontal bars, one row each, of plain characters.
public struct BarChart: Sendable, Equatable {
    /// A bar, what stands before it and what after it.
    public struct Row: Sendable, Equatable {
        public var label: String
        public var value: Double
        public var note: String
        public var style: TextStyle

        public init(label: String, value: Double, note: String, style: TextStyle = .accent) {
            self.label = label
            self.value = value
            self.note = note
            self.style = style
        }
    }

    public var rows: [Row]

    public init(rows: [Row]) { self.rows = rows }

    /// The longest bar belongs to the largest value; negative ones have none.
    ///
    /// - Parameters:
    ///   - columns: width of a line.
    ///   - indent: spaces before each label.
    public func lines(columns: Int, indent: Int = 0, glyphs: TerminalGlyphs) -> [StyledLine] {
        let labels = rows.map(\.label.count).max() ?? 0
        let notes = rows.map(\.note.count).max() ?? 0
        let width = min(max(8, columns - indent - labels - notes - 4), 60)
        let most = rows.map(\.value).max() ?? 0
        return rows.map { row in
            var line = StyledLine(String(repeating: " ", count: indent) + row.label)
            line.pad(to: indent + labels + 2)
            let bar = glyphs.bar(most > 0 ? row.value / most : 0, width: width)
            line.add(bar.filled, row.style)
            line.pad(to: indent + labels + 2 + width + 2)
            line.add(row.note)
            return line.cut(to: columns, mark: glyphs.ellipsis)
        }
    }
}
