// Tandem — Apache-2.0

/// How the next token of one sequence is chosen.
///
/// A plain value: whoever builds it has checked the ranges (`Gateway` answers 400 otherwise, `EngineHost` fails the
/// request).
public struct SamplingParameters: Sendable, Equatable {
    /// Divides the logits before softmax; 0 means greedy: the token with the largest logit, the lowest id on a tie.
    public var temperature: Float
    /// Only the `topK` likeliest tokens take part; 0 turns it off.
    public var topK: Int32
    /// Only the smallest set of likeliest tokens whose probabilities reach `topP` takes part; in `(0, 1]`.
    public var topP: Float
    /// Only tokens at least `minP` times as likely as the likeliest take part; in `[0, 1]`.
    public var minP: Float
    /// Logits of tokens that stand in the prompt or were generated are divided by it where positive and multiplied where
    /// negative; positive, 1 turns it off.
    public var repetitionPenalty: Float
    /// Taken from a token's logit for each time that it was generated.
    public var frequencyPenalty: Float
    /// Taken from a token's logit if it was generated at all.
    public var presencePenalty: Float
    /// Key of the counter-based random numbers, together with the choice index and the position.
    public var seed: UInt64
    /// Which of a request's `n` choices this sequence is.
    public var choiceIndex: UInt32

    public init(
        temperature: Float = 0,
        topK: Int32 = 0,
        topP: Float = 1,
        minP: Float = 0,
        repetitionPenalty: Float = 1,
        frequencyPenalty: Float = 0,
        presencePenalty: Float = 0,
        seed: UInt64 = 0,
        choiceIndex: UInt32 = 0
    ) {
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
        self.repetitionPenalty = repetitionPenalty
        self.frequencyPenalty = frequencyPenalty
        self.presencePenalty = presencePenalty
        self.seed = seed
        self.choiceIndex = choiceIndex
    }

    /// Whether no random number is drawn.
    public var isGreedy: Bool { temperature == 0 }

    /// Whether the choice of a token depends on which ones stand before it, beyond what the model makes of them.
    public var isPenalised: Bool { repetitionPenalty != 1 || frequencyPenalty != 0 || presencePenalty != 0 }
}

/// Random numbers that depend on nothing but their key: a request that moves to another engine, is preempted or is
/// batched differently makes the same choices.
public enum CounterRandom {
    /// A uniform number in `[0, 1)` with 53 random bits.
    ///
    /// - Parameters:
    ///   - seed: the request's seed.
    ///   - choiceIndex: which of the request's choices.
    ///   - position: index in the sequence (prompt first) of the token that is chosen.
    public static func uniform(seed: UInt64, choiceIndex: UInt32, position: Int) -> Double {
        var word = StableHash.mix(seed &+ 0x9E37_79B9_7F4A_7C15)
        word = StableHash.mix(word ^ (UInt64(choiceIndex) &* 0xD6E8_FEB8_6659_FD93))
        word = StableHash.mix(word ^ (UInt64(truncatingIfNeeded: position) &* 0xA076_1D64_78BD_642F))
        return Double(word >> 11) * 0x1p-53
    }
}
