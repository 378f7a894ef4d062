// Tandem — Apache-2.0

public import Requests

/// What one step produced; reused, ``removeAll()`` keeps the capacity.
public struct StepResult: Sendable {
    public var step: UInt64 = 0
    /// One entry for each row of the plan that asked for an output, in the plan's order.
    public var rows: [RowResult] = []
    /// Likeliest tokens of sampled positions, flat; see ``RowResult/top``.
    public var top: [TokenLogProbability] = []
    /// Tokens that were chosen behind guesses, flat; see ``RowResult/further``.
    public var further: [SampledToken] = []
    /// Log-probabilities of prompt tokens, flat; see ``RowResult/prompt``.
    public var prompt: [PromptLogProbability] = []
    /// Likeliest tokens of prompt positions, flat; see ``PromptLogProbability/top``.
    public var promptTop: [TokenLogProbability] = []
    /// Pooled vectors, flat; see ``RowResult/pooled``.
    public var pooled: [Float] = []
    /// Log-probabilities of labels, flat; see ``RowResult/labels``.
    public var labels: [Float] = []

    public init() {}

    /// Empties the result and keeps its memory.
    public mutating func removeAll() {
        rows.removeAll(keepingCapacity: true)
        top.removeAll(keepingCapacity: true)
        further.removeAll(keepingCapacity: true)
        prompt.removeAll(keepingCapacity: true)
        promptTop.removeAll(keepingCapacity: true)
        pooled.removeAll(keepingCapacity: true)
        labels.removeAll(keepingCapacity: true)
    }
}

/// The outputs of one row.
public struct RowResult: Sendable, Equatable {
    public var slot: SlotIndex
    /// The sampled token, if the row asked for one.
    public var token: TokenID?
    /// Its log-probability under the model; 0 if log-probabilities were not asked for.
    public var logProbability: Float
    /// Entries of ``StepResult/top``.
    public var top: Range<Int>
    /// Entries of ``StepResult/further``, one for each of the row's guesses.
    public var further: Range<Int>
    /// Entries of ``StepResult/prompt``, one for each target, in order of position.
    public var prompt: Range<Int>
    /// The row's vector in ``StepResult/pooled``; empty unless it was asked for.
    public var pooled: Range<Int>
    /// Entries of ``StepResult/labels``, in the order of the plan's labels.
    public var labels: Range<Int>

    public init(
        slot: SlotIndex,
        token: TokenID? = nil,
        logProbability: Float = 0,
        top: Range<Int> = 0..<0,
        further: Range<Int> = 0..<0,
        prompt: Range<Int> = 0..<0,
        pooled: Range<Int> = 0..<0,
        labels: Range<Int> = 0..<0
    ) {
        self.slot = slot
        self.token = token
        self.logProbability = logProbability
        self.top = top
        self.further = further
        self.prompt = prompt
        self.pooled = pooled
        self.labels = labels
    }
}

/// A token that was chosen behind a guess.
public struct SampledToken: Sendable, Equatable {
    public var token: TokenID
    /// 0 if log-probabilities were not asked for.
    public var logProbability: Float
    /// Entries of ``StepResult/top``.
    public var top: Range<Int>

    public init(token: TokenID, logProbability: Float = 0, top: Range<Int> = 0..<0) {
        self.token = token
        self.logProbability = logProbability
        self.top = top
    }
}

/// Log-probability of one prompt token.
public struct PromptLogProbability: Sendable, Equatable {
    public var chosen: TokenLogProbability
    /// Entries of ``StepResult/promptTop``.
    public var top: Range<Int>
    /// Place of the token among all by probability, from 1; 0 if the executor does not count.
    public var rank: Int32

    public init(chosen: TokenLogProbability, top: Range<Int>, rank: Int32 = 0) {
        self.chosen = chosen
        self.top = top
        self.rank = rank
    }
}
