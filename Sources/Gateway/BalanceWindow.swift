// Tandem — Apache-2.0

/// How evenly engines generate tokens, over about a minute.
///
/// Fed whenever somebody asks, so that nothing is done when nobody does; then the window is as long as the questions are
/// apart.
struct BalanceWindow: Sendable {
    private struct Sample {
        var time: Double
        /// Tokens that each engine has generated since its first sample, over its restarts.
        var tokens: [Int: UInt64]
    }

    /// In seconds.
    static let length = 60.0
    /// Samples that are closer to each other, in seconds, are not kept.
    private static let resolution = 1.0

    private var samples: [Sample] = []
    private var latest: [Int: UInt64] = [:]
    private var sums: [Int: UInt64] = [:]

    /// Takes the counters of all engines.
    ///
    /// - Parameters:
    ///   - counters: tokens since each engine's start, by its index; one that restarts counts from 0 again.
    ///   - now: seconds since any fixed instant.
    /// - Returns: tokens of the busiest engine over the mean of all; `nil` if none generated anything.
    mutating func add(_ counters: [Int: UInt64], at now: Double) -> Double? {
        for (engine, count) in counters {
            if let before = latest[engine] {
                sums[engine, default: 0] += count >= before ? count - before : count
            } else {
                sums[engine] = 0
            }
        }
        latest = counters
        sums = sums.filter { counters[$0.key] != nil }
        // The newest that is old enough stays the beginning, so that scrapes a minute apart have one.
        if let beginning = samples.lastIndex(where: { now - $0.time >= Self.length }) {
            samples.removeFirst(beginning)
        }
        let beginning = samples.first
        if samples.last.map({ now - $0.time >= Self.resolution }) ?? true {
            samples.append(Sample(time: now, tokens: sums))
        }
        guard let beginning else { return nil }
        let increases = sums.map { $0.value - min($0.value, beginning.tokens[$0.key] ?? 0) }
        let total = increases.reduce(0, +)
        guard let most = increases.max(), total > 0 else { return nil }
        return Double(most) * Double(increases.count) / Double(total)
    }
}
