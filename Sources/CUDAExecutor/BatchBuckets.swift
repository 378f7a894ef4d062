// Tandem — Apache-2.0

/// Sizes of steps for which things are kept: graphs for steps that only decode, algorithms of matrix products for all.
enum BatchBuckets {
    /// Rows of steps that are replayed as graphs; a step is filled up to the next size.
    static let graphs = [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]

    /// The graph for so many rows; `nil` if there are too many.
    static func graph(rows: Int) -> Int? { graphs.first { $0 >= rows } }

    /// Rows with which the products of a step of `tokens` tokens are computed: few enough sizes that choosing an
    /// algorithm for each costs little, close enough that filling up costs little.
    static func productRows(tokens: Int) -> Int {
        switch tokens {
        case ...8: BatchBuckets.graphs.first { $0 >= tokens } ?? 8
        case ...64: roundedUp(tokens, to: 8)
        case ...256: roundedUp(tokens, to: 32)
        case ...1024: roundedUp(tokens, to: 64)
        default: roundedUp(tokens, to: 256)
        }
    }
}
