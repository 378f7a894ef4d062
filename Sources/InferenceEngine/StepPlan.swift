// Tandem — Apache-2.0

public import Requests

/// A stable place of one running sequence in an executor's buffers: its block tables, sampling state and last token
/// live under this index from the step that adds it to the step that removes it.
public typealias SlotIndex = Int32

/// Index of a KV block in an executor's pool, which all KV groups share: at any time a block holds keys and values of one
/// group's layers.
public typealias KVBlockID = Int32

/// Everything an executor needs to run one step: a value made by the scheduler, with all tokens of all rows flat in
/// one array. A plan is reused; ``removeAll()`` keeps the capacity, so that a steady state allocates nothing.
public struct StepPlan: Sendable {
    /// Counts from 1; a step's number also names the tokens it samples, see ``TokenSource/sampled(step:)``.
    public var step: UInt64 = 0
    /// Slots whose sequences ended or were preempted; applied before ``addedSlots``.
    public var removedSlots: [SlotIndex] = []
    public var addedSlots: [SlotAddition] = []
    /// Changes to the slots' block tables, applied after slots were added.
    public var blockTableUpdates: [BlockTableUpdate] = []
    /// Block ids of all ``blockTableUpdates``, flat.
    public var blockIDs: [KVBlockID] = []
    /// Blocks to copy before any row runs.
    public var blockCopies: [BlockCopy] = []
    /// One row a scheduled sequence; a slot has at most one row in a step.
    public var rows: [StepRow] = []
    /// Input tokens of all rows, flat.
    public var tokens: [TokenID] = []
    /// Labels of all rows, flat; see ``RowOutput/labelCount``.
    public var labels: [TokenID] = []
    /// Positions whose input is an embedding (an image, for example) instead of a token.
    public var embeddingSpans: [EmbeddingSpan] = []
    /// Positions that attend to each other in both directions.
    public var bidirectionalSpans: [BidirectionalSpan] = []

    public init() {}

    /// Empties the plan and keeps its memory.
    public mutating func removeAll() {
        removedSlots.removeAll(keepingCapacity: true)
        addedSlots.removeAll(keepingCapacity: true)
        blockTableUpdates.removeAll(keepingCapacity: true)
        blockIDs.removeAll(keepingCapacity: true)
        blockCopies.removeAll(keepingCapacity: true)
        rows.removeAll(keepingCapacity: true)
        tokens.removeAll(keepingCapacity: true)
        labels.removeAll(keepingCapacity: true)
        embeddingSpans.removeAll(keepingCapacity: true)
        bidirectionalSpans.removeAll(keepingCapacity: true)
    }
}

/// A sequence that takes a slot.
public struct SlotAddition: Sendable, Equatable {
    public var slot: SlotIndex
    public var sampling: SamplingParameters
    /// `nil` if nothing but ``sampling``'s temperature and filters touches the logits.
    public var adjustments: LogitAdjustments?

    public init(slot: SlotIndex, sampling: SamplingParameters, adjustments: LogitAdjustments? = nil) {
        self.slot = slot
        self.sampling = sampling
        self.adjustments = adjustments
    }
}

/// What changes a slot's logits before a token is chosen, beside temperature and filters, in this order: tokens that
/// must not be chosen yet, biases, and the penalties of ``SamplingParameters``. Reported log-probabilities are those
/// before.
public struct LogitAdjustments: Sendable, Equatable {
    /// Position of the first token that is generated.
    public var promptCount: Int
    /// At positions before ``promptCount`` plus this, none of ``stopTokens`` is chosen.
    public var minimumNewTokens: Int
    public var stopTokens: [TokenID]
    public var biases: [TokenBias]
    /// All tokens of the sequence so far, if they bear on penalties, else empty. The executor counts on from there.
    public var history: [TokenID]

    public init(
        promptCount: Int, minimumNewTokens: Int = 0, stopTokens: [TokenID] = [], biases: [TokenBias] = [],
        history: [TokenID] = []
    ) {
        self.promptCount = promptCount
        self.minimumNewTokens = minimumNewTokens
        self.stopTokens = stopTokens
        self.biases = biases
        self.history = history
    }
}

/// Writes a run of block ids into one slot's block table of one KV group.
///
/// In a group with a window `w`, a row that starts at position `p` sees no key before `p - w + 1`. Table entries that lie
/// wholly before that are never read: their blocks may hold something else by then, and a sequence that starts from the
/// prefix cache is never told of them.
public struct BlockTableUpdate: Sendable, Equatable {
    public var slot: SlotIndex
    /// Index of the KV group.
    public var group: Int32
    /// First entry of the slot's table that is written; entry `i` covers positions `i * blockSize ..< (i + 1) * blockSize`.
    public var firstEntry: Int32
    /// Where the run starts in ``StepPlan/blockIDs``.
    public var offset: Int32
    public var count: Int32

    public init(slot: SlotIndex, group: Int32, firstEntry: Int32, offset: Int32, count: Int32) {
        self.slot = slot
        self.group = group
        self.firstEntry = firstEntry
        self.offset = offset
        self.count = count
    }
}

/// Copies the keys and values of one block, of whatever group it is.
public struct BlockCopy: Sendable, Equatable {
    public var source: KVBlockID
    public var destination: KVBlockID

    public init(source: KVBlockID, destination: KVBlockID) {
        self.source = source
        self.destination = destination
    }
}

/// Where a row's first input token comes from.
public enum TokenSource: Sendable, Equatable {
    /// From ``StepPlan/tokens``.
    case given
    /// It is the token that this slot sampled in an earlier step, which the scheduler may not know yet; the entry in
    /// ``StepPlan/tokens`` is a placeholder.
    case sampled(step: UInt64)
}

/// One sequence's part of a step: a chunk of its prompt, or its last token.
public struct StepRow: Sendable, Equatable {
    public var slot: SlotIndex
    /// Where the row's tokens start in ``StepPlan/tokens``.
    public var tokenOffset: Int32
    /// At least 1.
    public var tokenCount: Int32
    /// Position in the sequence of the row's first token; the keys and values before it that the row sees are in the KV
    /// cache.
    public var startPosition: Int32
    public var firstToken: TokenSource
    public var output: RowOutput

    public init(
        slot: SlotIndex,
        tokenOffset: Int32,
        tokenCount: Int32,
        startPosition: Int32,
        firstToken: TokenSource = .given,
        output: RowOutput = RowOutput()
    ) {
        self.slot = slot
        self.tokenOffset = tokenOffset
        self.tokenCount = tokenCount
        self.startPosition = startPosition
        self.firstToken = firstToken
        self.output = output
    }
}

/// What a row asks for beside keys and values.
public struct RowOutput: Sendable, Equatable {
    /// Choose the token that follows the row's last one, by the slot's ``SamplingParameters``.
    public var sample: Bool
    /// How many of the row's last tokens are guesses: a token is chosen behind each of them, and behind the token before
    /// the first. The next row of the slot gives its tokens.
    public var draftCount: Int32
    /// The token is chosen among those of a mask, which ``StepExecutor/sample(_:masks:)`` brings.
    public var isConstrained: Bool
    /// How many of the likeliest tokens to report with the sampled one; `nil` reports no log-probabilities at all.
    public var logProbabilities: Int?
    /// Report log-probabilities of the prompt tokens that follow each of the row's tokens, with so many of the
    /// likeliest.
    public var promptLogProbabilities: Int?
    /// The prompt token after the row's last one, if the prompt goes on: the last target of
    /// ``promptLogProbabilities``.
    public var nextPromptToken: TokenID?
    /// How the sequence's hidden states become a vector. With ``Pooling/mean`` every row of the sequence has it: they are
    /// summed up by slot.
    public var pooling: Pooling?
    /// The row is the sequence's last, so its vector is to be reported.
    public var reportsPooled: Bool
    /// How many labels, from ``labelOffset`` on in ``StepPlan/labels``, to report the log-probabilities of, each as the
    /// token after the row's last one.
    public var labelCount: Int32
    public var labelOffset: Int32

    public init(
        sample: Bool = false,
        draftCount: Int32 = 0,
        isConstrained: Bool = false,
        logProbabilities: Int? = nil,
        promptLogProbabilities: Int? = nil,
        nextPromptToken: TokenID? = nil,
        pooling: Pooling? = nil,
        reportsPooled: Bool = false,
        labelCount: Int32 = 0,
        labelOffset: Int32 = 0
    ) {
        self.sample = sample
        self.draftCount = draftCount
        self.isConstrained = isConstrained
        self.logProbabilities = logProbabilities
        self.promptLogProbabilities = promptLogProbabilities
        self.nextPromptToken = nextPromptToken
        self.pooling = pooling
        self.reportsPooled = reportsPooled
        self.labelCount = labelCount
        self.labelOffset = labelOffset
    }

    /// Whether the row has an entry in ``StepResult/rows``.
    public var expectsResult: Bool { sample || promptLogProbabilities != nil || reportsPooled || labelCount > 0 }
}

/// Positions of one slot whose inputs are rows of an embedding buffer.
public struct EmbeddingSpan: Sendable, Equatable {
    public var slot: SlotIndex
    /// First position in the sequence.
    public var position: Int32
    public var count: Int32
    /// Names the buffer that was handed to the executor before.
    public var buffer: UInt64

    public init(slot: SlotIndex, position: Int32, count: Int32, buffer: UInt64) {
        self.slot = slot
        self.position = position
        self.count = count
        self.buffer = buffer
    }
}

/// Positions of one slot that see each other regardless of order.
public struct BidirectionalSpan: Sendable, Equatable {
    public var slot: SlotIndex
    public var position: Int32
    public var count: Int32

    public init(slot: SlotIndex, position: Int32, count: Int32) {
        self.slot = slot
        self.position = position
        self.count = count
    }
}
