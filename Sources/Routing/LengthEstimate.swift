// Tandem — Apache-2.0

/// How many tokens sequences really generate, learned from those that ended, by how many they were allowed.
///
/// Clients that name no limit are allowed all of the context and use little of it: their limit says nothing of what
/// they cost.
struct LengthEstimate: Sendable {
    /// Means of sequences by the power of two that their limit lies under.
    private var means: [Double]

    init() {
        means = Array(repeating: Self.first, count: Int.bitWidth + 1)
    }

    /// Expected before anything was learned.
    private static let first: Double = 128
    /// What one sequence counts of the mean: it follows some 30 of them.
    private static let weight = 1.0 / 32

    private static func bucket(_ limit: Int) -> Int { Int.bitWidth - max(0, limit).leadingZeroBitCount }

    /// What a sequence that may generate `limit` tokens is expected to generate.
    func tokens(limit: Int) -> Int {
        min(max(0, limit), max(1, Int(means[Self.bucket(limit)].rounded())))
    }

    /// A sequence that was allowed `limit` tokens ended after `count`.
    mutating func learn(limit: Int, count: Int) {
        // Far more than any context: nothing that somebody made up can overflow.
        let count = Double(min(max(0, count), 1 << 30))
        means[Self.bucket(limit)] += (count - means[Self.bucket(limit)]) * Self.weight
    }
}
