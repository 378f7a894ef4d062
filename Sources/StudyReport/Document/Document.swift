// Tandem — Apache-2.0

/// A report: what is said and shown, not how it looks. ``html()`` and ``markdown()`` write it.
public struct Document: Sendable, Equatable {
    public struct Table: Sendable, Equatable {
        public struct Column: Sendable, Equatable {
            public var title: String
            /// Numbers stand at the right.
            public var isNumeric: Bool
            /// Names that are not broken where there is room.
            public var isName: Bool

            public init(_ title: String, isNumeric: Bool = false, isName: Bool = false) {
                self.title = title
                self.isNumeric = isNumeric
                self.isName = isName
            }
        }

        public var columns: [Column]
        public var rows: [[Prose]]

        public init(columns: [Column], rows: [[Prose]]) {
            self.columns = columns
            self.rows = rows
        }
    }

    public enum Block: Sendable, Equatable {
        /// Levels 2 and 3; an empty anchor for none.
        case heading(Int, String, anchor: String)
        case paragraph(Prose)
        case list([Prose])
        case table(Table)
        case figure(Figure)
        /// Something to know before reading on.
        case note(Prose)
        /// What is folded away until it is asked for.
        indirect case details(String, [Block])
    }

    public var title: String
    /// What stands beneath the title.
    public var lead: Prose
    public var blocks: [Block]

    public init(title: String, lead: Prose, blocks: [Block]) {
        self.title = title
        self.lead = lead
        self.blocks = blocks
    }

    /// All figures in their order.
    public var figures: [Figure] {
        func figures(_ blocks: [Block]) -> [Figure] {
            blocks.flatMap { block -> [Figure] in
                switch block {
                case .figure(let figure): [figure]
                case .details(_, let blocks): figures(blocks)
                default: []
                }
            }
        }
        return figures(blocks)
    }
}
