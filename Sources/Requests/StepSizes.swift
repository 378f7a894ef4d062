// Tandem — Apache-2.0

/// How many tokens steps computed, since an engine's start: a histogram.
public struct StepSizes: Sendable, Equatable {
    /// Largest sizes of the buckets, ascending; one more bucket is above all of them. The bounds of vLLM's
    /// `iteration_tokens_total`.
    public static let bounds = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384]

    /// Steps a bucket, not cumulated.
    public private(set) var counts: [UInt64]
    /// Tokens of all steps.
    public private(set) var tokens: UInt64

    public init() {
        counts = Array(repeating: 0, count: Self.bounds.count + 1)
        tokens = 0
    }

    /// - Returns: `nil` if there is not one count a bucket.
    public init?(counts: [UInt64], tokens: UInt64) {
        guard counts.count == Self.bounds.count + 1 else { return nil }
        self.counts = counts
        self.tokens = tokens
    }

    /// Counts one step.
    public mutating func add(tokens count: Int) {
        let bucket = Self.bounds.firstIndex { count <= $0 } ?? Self.bounds.count
        counts[bucket] &+= 1
        tokens &+= UInt64(max(0, count))
    }
}
