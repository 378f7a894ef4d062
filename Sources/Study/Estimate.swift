// Tandem — Apache-2.0

internal import Glibc

/// A number with the interval that repetitions leave it.
public struct Estimate: Sendable, Equatable {
    public var value: Double
    /// Between which it lies in 95 of 100 resamplings; both are the value if there was one repetition.
    public var low: Double
    public var high: Double
    /// Repetitions behind it.
    public var count: Int

    public init(value: Double, low: Double, high: Double, count: Int) {
        self.value = value
        self.low = low
        self.high = high
        self.count = count
    }

    /// An exact number.
    public init(_ value: Double) { self.init(value: value, low: value, high: value, count: 1) }
}

/// Percentile bootstrap: repetitions are drawn with replacement, and the same way each time.
public struct Bootstrap: Sendable {
    /// How many times they are drawn.
    public var resamplings: Int
    public var seed: UInt64
    /// Share of the resamplings that the interval holds.
    public var confidence: Double

    public init(resamplings: Int = 2000, seed: UInt64 = 1, confidence: Double = 0.95) {
        self.resamplings = resamplings
        self.seed = seed
        self.confidence = confidence
    }

    /// A statistic of `count` repetitions, with its interval.
    ///
    /// - Parameters:
    ///   - count: repetitions, one of each arm that belong together.
    ///   - statistic: of the repetitions with these numbers, some more than once; not finite for none.
    /// - Returns: null without repetitions, or if the statistic of them all does not exist.
    public func estimate(count: Int, _ statistic: (_ repetitions: [Int]) -> Double) -> Estimate? {
        guard count > 0 else { return nil }
        let value = statistic(Array(0..<count))
        guard value.isFinite else { return nil }
        guard count > 1 else { return Estimate(value) }
        var random = SplitMix(seed: seed)
        var drawn: [Double] = []
        drawn.reserveCapacity(resamplings)
        var chosen = [Int](repeating: 0, count: count)
        for _ in 0..<resamplings {
            for index in chosen.indices { chosen[index] = Int(random.next() % UInt64(count)) }
            let found = statistic(chosen)
            if found.isFinite { drawn.append(found) }
        }
        drawn.sort()
        guard !drawn.isEmpty else { return Estimate(value) }
        let tail = (1 - confidence) / 2
        return Estimate(
            value: value, low: min(value, Self.quantile(drawn, tail)), high: max(value, Self.quantile(drawn, 1 - tail)),
            count: count)
    }

    /// Between neighbours on the straight line.
    static func quantile(_ sorted: [Double], _ share: Double) -> Double {
        let position = share * Double(sorted.count - 1)
        let below = Int(position)
        let above = min(below + 1, sorted.count - 1)
        return sorted[below] + (sorted[above] - sorted[below]) * (position - Double(below))
    }
}

/// Random numbers that a seed repeats (SplitMix64).
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// A number that nothing relates to its neighbours'.
    static func mixed(_ number: UInt64) -> UInt64 {
        var random = SplitMix(seed: number)
        return random.next()
    }

    /// Uniform above 0, up to 1.
    mutating func uniform() -> Double { Double((next() >> 11) + 1) * 0x1p-53 }

    /// Exponential with a mean of 1.
    mutating func exponential() -> Double { -log(uniform()) }
}
