// Tandem — Apache-2.0

internal import Glibc

/// What follows from measurements, as pure functions.
public enum StudyStatistics {
    /// Gain of an arm over another one as a share of the latter's throughput: the ratio of both means, less 1. Values
    /// with the same place belong to the same repetition, and are drawn together.
    ///
    /// - Returns: null if there are no pairs.
    public static func gain(of arm: [Double], over baseline: [Double], bootstrap: Bootstrap = Bootstrap()) -> Estimate?
    {
        bootstrap.estimate(count: min(arm.count, baseline.count)) { repetitions in
            let numerator = repetitions.reduce(0) { $0 + arm[$1] }
            let denominator = repetitions.reduce(0) { $0 + baseline[$1] }
            return denominator > 0 ? numerator / denominator - 1 : .nan
        }
    }

    /// The mean of values, one a repetition.
    public static func mean(_ values: [Double], bootstrap: Bootstrap = Bootstrap()) -> Estimate? {
        bootstrap.estimate(count: values.count) { repetitions in
            repetitions.reduce(0) { $0 + values[$1] } / Double(repetitions.count)
        }
    }

    /// What the whole model should gain by both formulas.
    ///
    /// - Parameters: one value a repetition: throughput of the ablated models, of the arm and of the baseline, and one
    ///   engine's seconds of a step in attention and MLP of the whole model.
    public static func expectedGain(
        attention: (arm: [Double], baseline: [Double]), feedForward: (arm: [Double], baseline: [Double]),
        attentionSeconds: [Double], feedForwardSeconds: [Double], bootstrap: Bootstrap = Bootstrap()
    ) -> ExpectedGain? {
        let counts = [
            attention.arm.count, attention.baseline.count, feedForward.arm.count, feedForward.baseline.count,
            attentionSeconds.count, feedForwardSeconds.count,
        ]
        let count = counts.min() ?? 0
        func ratio(_ arm: [Double], _ baseline: [Double], _ repetitions: [Int]) -> Double {
            repetitions.reduce(0) { $0 + arm[$1] } / repetitions.reduce(0) { $0 + baseline[$1] } - 1
        }
        func share(_ repetitions: [Int]) -> Double {
            let inAttention = repetitions.reduce(0) { $0 + attentionSeconds[$1] }
            let inFeedForward = repetitions.reduce(0) { $0 + feedForwardSeconds[$1] }
            return inAttention / (inAttention + inFeedForward)
        }
        func estimate(_ formula: (Double, Double, Double) -> Double) -> Estimate? {
            bootstrap.estimate(count: count) { repetitions in
                formula(
                    share(repetitions), ratio(attention.arm, attention.baseline, repetitions),
                    ratio(feedForward.arm, feedForward.baseline, repetitions))
            }
        }
        guard
            let mean = estimate({ ExpectedGain.weightedMean(share: $0, attention: $1, feedForward: $2) }),
            let added = estimate({ ExpectedGain.timesAdded(share: $0, attention: $1, feedForward: $2) }),
            let share = bootstrap.estimate(count: count, share)
        else { return nil }
        return ExpectedGain(weightedMean: mean, timesAdded: added, attentionShare: share)
    }

    /// Where a value goes below a threshold for the first time, and what it is before and after does not matter.
    ///
    /// - Parameter points: context and value, in any order.
    /// - Returns: null without points.
    public static func crossover(_ points: [(context: Double, value: Double)], below threshold: Double) -> Crossover? {
        let points = points.sorted { $0.context < $1.context }
        guard let first = points.first else { return nil }
        if first.value < threshold { return .below }
        for (left, right) in zip(points, points.dropFirst()) where right.value < threshold {
            let share = (left.value - threshold) / (left.value - right.value)
            return .at(exp2(log2(left.context) + share * (log2(right.context) - log2(left.context))))
        }
        return .above
    }

    /// A least-squares line over the logarithm of the context.
    ///
    /// - Returns: null with fewer than three points.
    public static func logLinearFit(_ points: [(context: Double, value: Double)]) -> LogLinearFit? {
        guard points.count >= 3 else { return nil }
        let x = points.map { log2($0.context) }
        let y = points.map(\.value)
        let count = Double(points.count)
        let meanX = x.reduce(0, +) / count
        let meanY = y.reduce(0, +) / count
        let covariance = zip(x, y).reduce(0) { $0 + ($1.0 - meanX) * ($1.1 - meanY) }
        let varianceX = x.reduce(0) { $0 + ($1 - meanX) * ($1 - meanX) }
        let varianceY = y.reduce(0) { $0 + ($1 - meanY) * ($1 - meanY) }
        guard varianceX > 0 else { return nil }
        return LogLinearFit(
            slopePerDoubling: covariance / varianceX,
            determination: varianceY > 0 ? covariance * covariance / (varianceX * varianceY) : 1)
    }

    /// Whether a sweep of loads goes far enough to say where it misses a latency; else the highest throughput that keeps
    /// it is at least that of the highest load.
    public static func reaches(_ latency: Double, _ sweep: [(throughput: Double, latency: Double)]) -> Bool {
        sweep.contains { $0.latency > latency }
    }

    /// The highest throughput that keeps a latency, along a sweep of loads: on the straight line between the last load
    /// that keeps it and the next one. Loads above the first that misses it do not count.
    ///
    /// - Parameter sweep: throughput and latency by load, lowest load first.
    /// - Returns: not a number if even the lowest load misses it.
    public static func throughput(
        within latency: Double, _ sweep: [(throughput: Double, latency: Double)]
    ) -> Double {
        guard let first = sweep.first, first.latency <= latency else { return .nan }
        var best = first.throughput
        for (left, right) in zip(sweep, sweep.dropFirst()) {
            if right.latency <= latency {
                best = max(best, right.throughput)
                continue
            }
            let share = (latency - left.latency) / (right.latency - left.latency)
            return max(best, left.throughput + share * (right.throughput - left.throughput))
        }
        return best
    }
}
