// Tandem — Apache-2.0

extension MemoryPlan {
    /// What people are told beside the numbers of a plan.
    public struct Notes: Sendable, Equatable {
        /// How weights are stored, such as `int8`.
        public var mode: String
        /// Tokens of the longest sequence.
        public var contextLength: Int
        /// Blocks of one engine's KV cache, all groups together.
        public var blocks: Int
        /// Tokens in a block.
        public var blockTokens: Int
        /// Tokens that one engine's KV cache holds.
        public var tokens: Int

        public init(mode: String, contextLength: Int, blocks: Int, blockTokens: Int, tokens: Int) {
            self.mode = mode
            self.contextLength = contextLength
            self.blocks = blocks
            self.blockTokens = blockTokens
            self.tokens = tokens
        }
    }

    /// The plan as a table of plain text.
    public func table(_ notes: Notes) -> String {
        let keyValues = Self.product(keyValueBytes, engines)
        var rows = [
            Row("weights", engine.weights, engine.weights, "\(notes.mode), one copy for all engines"),
            Row(
                "KV cache", keyValueBytes, keyValues,
                "\(notes.blocks) blocks of \(notes.blockTokens) tokens: \(notes.tokens) tokens an engine"),
            Row(
                "workspaces", engine.workspaces, Self.product(engine.workspaces, engines),
                "intermediate numbers of a step"),
            Row("tables", engine.tables, Self.product(engine.tables, engines), "KV blocks, rotary embedding"),
            Row("processes", Self.engineProcessBytes, processes, "estimate, with the gateway"),
        ].map(\.cells)
        rows.append([
            "total", "", ByteCountText.text(totalBytes),
            "of \(ByteCountText.text(availableBytes)) available; "
                + "\(ByteCountText.text(Self.margin(of: availableBytes))) are kept free",
        ])
        let title = engines == 1 ? "1 engine" : "\(engines) engines"
        return "Memory for \(title), sequences of up to \(notes.contextLength) tokens:\n\n"
            + Self.text(of: [["", "an engine", "in sum", ""]] + rows) + "\n"
    }

    private var processes: UInt64 {
        Self.sum(Self.product(Self.engineProcessBytes, engines), Self.otherProcessBytes)
    }

    private struct Row {
        var cells: [String]

        init(_ name: String, _ each: UInt64, _ sum: UInt64, _ note: String) {
            cells = [name, ByteCountText.text(each), ByteCountText.text(sum), note]
        }
    }

    /// Names on the left, numbers to the right, notes as they are.
    private static func text(of rows: [[String]]) -> String {
        let widths = (0..<3).map { column in rows.map { $0[column].count }.max() ?? 0 }
        func spaces(_ count: Int) -> String { String(repeating: " ", count: max(0, count)) }
        return rows.map { row in
            var line = "  " + row[0] + spaces(widths[0] - row[0].count)
            for column in 1...2 { line += spaces(2 + widths[column] - row[column].count) + row[column] }
            return row[3].isEmpty ? line + "\n" : line + "  " + row[3] + "\n"
        }.joined()
    }
}
