// Tandem — Apache-2.0

/// How many tokens a step may have so that it takes no longer than a target, learnt from the steps that ran.
///
/// A value without a clock: whoever measures steps tells it. Steps that are too long shrink the limit to what they say
/// would have fitted, by half at most; steps in time let it grow to what they say would fit, by half at most. A short
/// step says little about long ones (much of its time does not depend on tokens), so it never shrinks the limit.
public struct TokenBudget: Sendable, Equatable {
    /// The longest a step should take.
    public let targetNanoseconds: UInt64
    /// The limit never leaves this range.
    public let range: ClosedRange<Int>
    /// Most tokens of the next step.
    public private(set) var limit: Int

    /// - Parameter range: the limit starts at its upper end; the lower end is at least 1.
    public init(targetNanoseconds: UInt64, range: ClosedRange<Int>) {
        self.targetNanoseconds = targetNanoseconds
        self.range = range
        limit = range.upperBound
    }

    /// Learns from a step that ran.
    public mutating func stepTook(nanoseconds: UInt64, tokens: Int) {
        guard nanoseconds > 0, tokens > 0 else { return }
        // The tokens of a step of the same speed that takes just the target time.
        let fitting = Double(tokens) * Double(targetNanoseconds) / Double(nanoseconds)
        let old = Double(limit)
        let new =
            nanoseconds <= targetNanoseconds
            ? max(old, min(fitting, old * 1.5 + 1))
            : min(old, max(fitting, old / 2))
        limit = Int(min(max(new, Double(range.lowerBound)), Double(range.upperBound)))
    }
}
