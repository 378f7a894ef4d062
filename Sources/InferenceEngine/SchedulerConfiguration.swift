// Tandem — Apache-2.0

public import Requests

/// What a ``Scheduler`` may use and how it decides.
public struct SchedulerConfiguration: Sendable, Equatable {
    /// Sequences that run at once.
    public var slots: Int
    /// Tokens of all rows of a step.
    public var tokensPerStep: Int
    /// How long a step may take in which sequences generate: it gets no more prompt tokens than seem to fit, but at least
    /// a block's worth. `nil` limits nothing. It has no effect until ``Scheduler/firstStepTook(nanoseconds:)`` is called.
    public var targetStepNanoseconds: UInt64?
    /// Longest sequence, generated tokens included. What the KV blocks can hold may be less; see
    /// ``Scheduler/maximumSequenceLength``.
    public var contextLength: Int
    /// Tokens in a KV block.
    public var blockSize: Int
    /// Requests that wait beside those that run; one more is refused as overload.
    public var maximumWaiting: Int
    /// Token ids must be below; `nil` leaves them unchecked.
    public var vocabularySize: Int?
    /// Whether steps are planned one ahead, with placeholders for tokens that are still being sampled.
    public var asynchronous: Bool
    /// Whether full blocks are shared between sequences with equal prefixes.
    public var prefixCaching: Bool
    /// Most tokens that are guessed ahead for one sequence, from what stands in it already; 0 guesses none. It changes
    /// how soon tokens come, not which.
    public var draftTokens: Int
    /// No tokens are guessed that would make a step longer than this: with many sequences a step has no time to spare.
    public var draftStepTokens: Int
    /// Fingerprint of the weights, for block hashes.
    public var modelFingerprint: Digest128
    /// Seed of the block hashes.
    public var hashSeed: UInt64

    public init(
        slots: Int,
        tokensPerStep: Int,
        targetStepNanoseconds: UInt64? = 250_000_000,
        contextLength: Int,
        blockSize: Int = 16,
        maximumWaiting: Int = 1024,
        vocabularySize: Int? = nil,
        asynchronous: Bool = true,
        prefixCaching: Bool = true,
        draftTokens: Int = 0,
        draftStepTokens: Int = 32,
        modelFingerprint: Digest128 = Digest128(high: 0, low: 0),
        hashSeed: UInt64 = 0
    ) {
        self.slots = slots
        self.tokensPerStep = tokensPerStep
        self.targetStepNanoseconds = targetStepNanoseconds
        self.contextLength = contextLength
        self.blockSize = blockSize
        self.maximumWaiting = maximumWaiting
        self.vocabularySize = vocabularySize
        self.asynchronous = asynchronous
        self.prefixCaching = prefixCaching
        self.draftTokens = draftTokens
        self.draftStepTokens = draftStepTokens
        self.modelFingerprint = modelFingerprint
        self.hashSeed = hashSeed
    }
}

/// Counts of a ``Scheduler`` since it was made, and its present state.
public struct SchedulerCounters: Sendable, Equatable {
    /// Steps whose results were taken.
    public var steps: UInt64 = 0
    /// Sequences that hold a slot.
    public var runningSequences = 0
    /// Sequences without a slot: new, preempted or paused.
    public var waitingSequences = 0
    public var usedBlocks = 0
    public var totalBlocks = 0
    /// Prompt tokens of all sequences that were started, cached ones included.
    public var promptTokens: UInt64 = 0
    public var generatedTokens: UInt64 = 0
    /// Prompt tokens that came from the prefix cache.
    public var cachedPromptTokens: UInt64 = 0
    public var preemptions: UInt64 = 0
    /// Tokens that were guessed ahead, and those of them that were right.
    public var draftedTokens: UInt64 = 0
    public var acceptedTokens: UInt64 = 0
    /// What steps computed whose results were taken, guessed tokens included.
    public var stepSizes = StepSizes()

    public init() {}
}
