// Tandem — Apache-2.0

/// What the whole model should gain, from what its parts gain alone and how long one engine spends in each.
public struct ExpectedGain: Sendable, Equatable {
    /// The article's: gains weighted by shares of time, f·a + (1 - f)·m.
    public var weightedMean: Estimate
    /// Times added, 1 / (f / (1 + a) + (1 - f) / (1 + m)) - 1: never above the other.
    public var timesAdded: Estimate
    /// Share of attention in the time of attention and MLP, f.
    public var attentionShare: Estimate

    public init(weightedMean: Estimate, timesAdded: Estimate, attentionShare: Estimate) {
        self.weightedMean = weightedMean
        self.timesAdded = timesAdded
        self.attentionShare = attentionShare
    }

    /// - Parameters:
    ///   - share: of attention, of one engine's time, 0 to 1.
    ///   - attention: gain of the model without MLP, as a share of one engine's throughput.
    ///   - feedForward: gain of the model without attention.
    public static func weightedMean(share: Double, attention: Double, feedForward: Double) -> Double {
        share * attention + (1 - share) * feedForward
    }

    /// As ``weightedMean(share:attention:feedForward:)``; not finite if a part comes to a standstill.
    public static func timesAdded(share: Double, attention: Double, feedForward: Double) -> Double {
        guard attention > -1, feedForward > -1 else { return .nan }
        return 1 / (share / (1 + attention) + (1 - share) / (1 + feedForward)) - 1
    }
}

/// Where a gain that falls with context goes below a threshold.
public enum Crossover: Sendable, Equatable {
    /// Already at the smallest context.
    case below
    /// At no context that was measured.
    case above
    /// Between two contexts: on the straight line between them, over the logarithm of the context.
    case at(Double)
}

/// A straight line through points over the logarithm of the context.
public struct LogLinearFit: Sendable, Equatable {
    /// Change of the value when the context doubles.
    public var slopePerDoubling: Double
    /// Share of the variance that the line explains, 0 to 1.
    public var determination: Double

    public init(slopePerDoubling: Double, determination: Double) {
        self.slopePerDoubling = slopePerDoubling
        self.determination = determination
    }
}
