// Tandem — Apache-2.0

extension MemoryPlan {
    /// What people are told of a model beside the numbers of a plan.
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
    ///
    /// - Parameter notes: a value a model, in the order of ``models``.
    public func table(_ notes: [Notes]) -> String {
        let pairs = Array(zip(models, notes))
        let isOne = pairs.count == 1
        var rows: [[String]] = [["", "an engine", "in sum", ""]]
        for (model, notes) in pairs {
            if !isOne {
                rows.append([model.name, "", "", "\(Self.text(engines: model.engines)), \(Self.length(notes))"])
            }
            rows += Self.rows(model, notes).map { isOne ? $0 : ["  " + $0[0]] + $0.dropFirst() }
        }
        rows.append([
            "processes", ByteCountText.text(Self.engineProcessBytes), ByteCountText.text(processes),
            "estimate, with the gateway",
        ])
        rows.append([
            "total", "", ByteCountText.text(totalBytes),
            "of \(ByteCountText.text(availableBytes)) available; "
                + "\(ByteCountText.text(Self.margin(of: availableBytes))) are kept free",
        ])
        let title = pairs.first.flatMap { isOne ? ", \(Self.length($1))" : nil } ?? " of \(pairs.count) models"
        return "Memory for \(Self.text(engines: engines))\(title):\n\n" + Self.text(of: rows) + "\n"
    }

    private static func text(engines: Int) -> String { engines == 1 ? "1 engine" : "\(engines) engines" }

    private static func length(_ notes: Notes) -> String { "sequences of up to \(notes.contextLength) tokens" }

    private static func rows(_ model: Model, _ notes: Notes) -> [[String]] {
        func row(_ name: String, _ each: UInt64, _ sum: UInt64, _ note: String) -> [String] {
            [name, ByteCountText.text(each), ByteCountText.text(sum), note]
        }
        func all(_ each: UInt64) -> UInt64 { product(each, model.engines) }
        let engine = model.engine
        return [
            row("weights", engine.weights, engine.weights, "\(notes.mode), one copy for all engines"),
            row(
                "KV cache", model.keyValueBytes, all(model.keyValueBytes),
                "\(notes.blocks) blocks of \(notes.blockTokens) tokens: \(notes.tokens) tokens an engine"),
            row("workspaces", engine.workspaces, all(engine.workspaces), "intermediate numbers of a step"),
            row("tables", engine.tables, all(engine.tables), "KV blocks, rotary embedding"),
        ]
    }

    private var processes: UInt64 {
        Self.sum(Self.product(Self.engineProcessBytes, engines), otherBytes)
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
