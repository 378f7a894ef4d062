// Tandem — Apache-2.0

/// Why a sequence ended.
public enum FinishReason: UInt8, Sendable, Equatable {
    /// A stop token was generated (or, in the gateway, a stop string was found).
    case stop = 1
    /// ``EngineRequest/maximumNewTokens`` or the context length was reached.
    case length = 2
    /// The request was cancelled.
    case cancelled = 3
    /// The engine failed; see ``RequestFailure``.
    case failed = 4
    /// The text is whole by its grammar, and nothing can follow; unlike ``stop``, the last token belongs to it.
    case complete = 5
}

/// A token and the natural logarithm of its probability under the model, before temperature and filters.
public struct TokenLogProbability: Sendable, Equatable {
    public var token: TokenID
    public var logProbability: Float

    public init(token: TokenID, logProbability: Float) {
        self.token = token
        self.logProbability = logProbability
    }
}

/// Log-probabilities at one position of a sequence.
public struct PositionLogProbabilities: Sendable, Equatable {
    /// The token that stands there.
    public var chosen: TokenLogProbability
    /// The likeliest tokens, descending (ties: lower id first), as many as were asked for. If the chosen token is among
    /// them it carries the identical float.
    public var top: [TokenLogProbability]
    /// Place of the chosen token among all by probability, from 1; 0 if it was not counted. Engines count it for tokens of
    /// prompts.
    public var rank: Int32

    public init(chosen: TokenLogProbability, top: [TokenLogProbability], rank: Int32 = 0) {
        self.chosen = chosen
        self.top = top
        self.rank = rank
    }
}

/// Why an engine refused or gave up a sequence.
public struct RequestFailure: Error, Sendable, Equatable {
    public enum Kind: UInt8, Sendable {
        /// The request can never run here: it needs more context or KV blocks than the engine has.
        case doesNotFit = 1
        /// A value is out of range or not supported by this engine.
        case invalid = 2
        /// The engine's queue is full.
        case overloaded = 3
        /// The engine failed while it ran, and serves on.
        case engine = 4
        /// The engine is about to end, by itself or because its device failed, and takes no new requests.
        case draining = 5
    }

    public var kind: Kind
    /// What is wrong, with the numbers, and what to change.
    public var message: String

    public init(kind: Kind, message: String) {
        self.kind = kind
        self.message = message
    }
}

/// What was asked of a prompt as a whole.
public struct PromptScore: Sendable, Equatable {
    /// Log-probabilities of ``EngineRequest/labelTokens`` as the next token, in their order.
    public var labels: [Float]
    /// The vector that ``EngineRequest/pooling`` asked for, of the model's hidden size; not normalised.
    public var pooled: [Float]

    public init(labels: [Float] = [], pooled: [Float] = []) {
        self.labels = labels
        self.pooled = pooled
    }
}

/// What one engine step produced for one sequence.
public struct SequenceOutput: Sendable, Equatable {
    public var id: RequestID
    /// New tokens, in order; at most one a step unless a step speculates.
    public var tokens: OutputTokens
    /// One entry a new token if log-probabilities were asked for, else empty.
    public var logProbabilities: [PositionLogProbabilities]
    /// Prompt log-probabilities that became known in this step, in order of position; the first prompt token has none.
    public var promptLogProbabilities: [PositionLogProbabilities]
    /// Set in the last output of a sequence that asked for a vector or for labels.
    public var score: PromptScore?
    /// Set in the last output of a sequence.
    public var finish: FinishReason?
    /// Set when ``finish`` is ``FinishReason/failed``.
    public var failure: RequestFailure?
    /// How many prompt tokens came from the prefix cache; set in the first output of a sequence.
    public var cachedPromptTokens: Int?
    /// Microseconds from the step that first computed something of the sequence to this output; set together with
    /// ``cachedPromptTokens``, if the engine has computed something and has a clock.
    public var prefillMicroseconds: UInt32?

    public init(
        id: RequestID,
        tokens: some Sequence<TokenID> = OutputTokens(),
        logProbabilities: [PositionLogProbabilities] = [],
        promptLogProbabilities: [PositionLogProbabilities] = [],
        score: PromptScore? = nil,
        finish: FinishReason? = nil,
        failure: RequestFailure? = nil,
        cachedPromptTokens: Int? = nil,
        prefillMicroseconds: UInt32? = nil
    ) {
        self.id = id
        self.tokens = OutputTokens(tokens)
        self.logProbabilities = logProbabilities
        self.promptLogProbabilities = promptLogProbabilities
        self.score = score
        self.finish = finish
        self.failure = failure
        self.cachedPromptTokens = cachedPromptTokens
        self.prefillMicroseconds = prefillMicroseconds
    }
}

/// Token counts of a request, as clients are billed for them.
public struct Usage: Sendable, Equatable {
    public var promptTokens: Int
    public var completionTokens: Int
    public var cachedPromptTokens: Int

    public init(promptTokens: Int = 0, completionTokens: Int = 0, cachedPromptTokens: Int = 0) {
        self.promptTokens = promptTokens
        self.completionTokens = completionTokens
        self.cachedPromptTokens = cachedPromptTokens
    }

    public var totalTokens: Int { promptTokens + completionTokens }
}
