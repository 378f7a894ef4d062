// Tandem — Apache-2.0

public import LanguageModel

/// Runs steps on a device. Implemented once a device, and by nothing else.
///
/// The caller is one thread (the step loop). `submit` returns at once; the device works through submitted steps in
/// order. Synchronous scheduling asks for the result of a step before it plans the next one; asynchronous scheduling
/// stays one step ahead, using ``TokenSource/sampled(step:)`` for tokens it has not seen. At most
/// ``ExecutorCapabilities/maximumStepsInFlight`` steps may be submitted whose results were not taken.
///
/// The calls of one step are: `submit`, `sample`, `result`. Rows that nothing constrains are sampled as soon as their
/// logits are there; `sample` hands over the masks of the others.
public protocol StepExecutor: AnyObject {
    var capabilities: ExecutorCapabilities { get }

    /// Gives a counter to advance within steps that may take long. Called once, before anything else.
    func report(to progress: StepProgress)

    /// Allocates buffers and the KV blocks. Called once, before the first step.
    ///
    /// - Parameters:
    ///   - limits: what plans may contain at most.
    ///   - groups: the model's KV groups, of equally many layers; block tables are kept a group and slot, the blocks are
    ///     one pool, in which each block can hold ``ExecutorLimits/blockSize`` tokens of any group's layers.
    /// - Returns: how many blocks there are.
    func prepare(limits: ExecutorLimits, groups: [KeyValueGroup]) throws(ExecutorError) -> PreparedExecutor

    /// Starts a step. The plan is read before the call returns or kept by value.
    func submit(_ plan: StepPlan) throws(ExecutorError) -> StepTicket

    /// Lets the step sample; rows of slots in `masks` only among permitted tokens. Constrained rows wait for this call;
    /// those whose slot has no mask, because nobody wants their token any more, are free.
    ///
    /// - Parameter masks: `nil` when there are none.
    func sample(_ ticket: StepTicket, masks: TokenMasks?) throws(ExecutorError)

    /// Waits for a step and takes its outputs. Tickets are redeemed in the order of submission; an error that does not
    /// ask for a retry redeems the ticket too, and the step's outputs are lost.
    ///
    /// - Parameter result: emptied, then filled; nothing is allocated once its arrays have grown.
    func result(of ticket: StepTicket, into result: inout StepResult) throws(ExecutorError)

    /// Time spent by component since the last call.
    func profile() -> StepProfile

    /// Stops the device's threads and frees its memory. Nothing is called afterwards.
    func shutdown()
}

extension StepExecutor {
    public func report(to progress: StepProgress) {}
}

/// Names a submitted step.
public struct StepTicket: Sendable, Equatable {
    public var step: UInt64

    public init(step: UInt64) {
        self.step = step
    }
}

/// What an executor can do; asking for more is an ``ExecutorError`` of kind ``ExecutorError/Kind/unsupported``.
public struct ExecutorCapabilities: Sendable, Equatable {
    /// For people: `cpu (avx512, int8, 2 threads)`.
    public var device: String
    /// Submitted steps whose results were not taken yet; 2 permits asynchronous scheduling.
    public var maximumStepsInFlight: Int
    public var masks: Bool
    public var pooling: Bool
    public var embeddingSpans: Bool
    public var bidirectionalSpans: Bool
    /// Whether a row's bits are the same in any batch and with any chunking.
    public var rowInvariant: Bool

    public init(
        device: String,
        maximumStepsInFlight: Int,
        masks: Bool = false,
        pooling: Bool = false,
        embeddingSpans: Bool = false,
        bidirectionalSpans: Bool = false,
        rowInvariant: Bool
    ) {
        self.device = device
        self.maximumStepsInFlight = maximumStepsInFlight
        self.masks = masks
        self.pooling = pooling
        self.embeddingSpans = embeddingSpans
        self.bidirectionalSpans = bidirectionalSpans
        self.rowInvariant = rowInvariant
    }
}

/// The largest plans an executor will see.
public struct ExecutorLimits: Sendable, Equatable {
    /// Slots, that is, sequences that run at once.
    public var slots: Int
    /// Tokens of all rows of a step.
    public var tokensPerStep: Int
    /// Tokens of one sequence, generated ones included.
    public var contextLength: Int
    /// Tokens in a KV block.
    public var blockSize: Int
    /// Memory for keys and values of all groups, in bytes.
    public var keyValueBytes: Int

    public init(slots: Int, tokensPerStep: Int, contextLength: Int, blockSize: Int = 16, keyValueBytes: Int) {
        self.slots = slots
        self.tokensPerStep = tokensPerStep
        self.contextLength = contextLength
        self.blockSize = blockSize
        self.keyValueBytes = keyValueBytes
    }
}

/// What ``StepExecutor/prepare(limits:groups:)`` allocated.
public struct PreparedExecutor: Sendable, Equatable {
    /// KV blocks for all groups together; valid ids are `0 ..< blockCount`.
    public var blockCount: Int

    public init(blockCount: Int) {
        self.blockCount = blockCount
    }
}

/// Which tokens constrained rows may sample.
public struct TokenMasks: Sendable, Equatable {
    /// Slots with a mask.
    public var slots: [SlotIndex]
    /// `wordsPerSlot` words for each slot, in the order of ``slots``; bit `t % 32` of word `t / 32` permits token `t`.
    public var words: [UInt32]
    public var wordsPerSlot: Int

    public init(slots: [SlotIndex], words: [UInt32], wordsPerSlot: Int) {
        self.slots = slots
        self.words = words
        self.wordsPerSlot = wordsPerSlot
    }
}

/// Where steps spent their time, in nanoseconds of the device.
public struct StepProfile: Sendable, Equatable {
    public var steps: UInt64
    public var attention: UInt64
    public var mlp: UInt64
    /// Projections, norms, head and sampling.
    public var rest: UInt64

    public init(steps: UInt64 = 0, attention: UInt64 = 0, mlp: UInt64 = 0, rest: UInt64 = 0) {
        self.steps = steps
        self.attention = attention
        self.mlp = mlp
        self.rest = rest
    }
}

/// Why an executor could not do what it was asked.
public struct ExecutorError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Kind: Sendable {
        /// The device is gone; the engine must end and be started again.
        case fatal
        /// Memory did not suffice; nothing changed.
        case outOfMemory
        /// A passing fault; the same call may succeed later, nothing changed.
        case retry
        /// The device cannot do this; see ``ExecutorCapabilities``.
        case unsupported
    }

    public var kind: Kind
    /// What failed and what to do about it.
    public var message: String
    /// Of a fatal one: whether all engines on the device have it, as those under MPS have one client's fault.
    public var concernsAll: Bool

    public init(kind: Kind, message: String, concernsAll: Bool = false) {
        self.kind = kind
        self.message = message
        self.concernsAll = concernsAll
    }

    public var description: String { message }
}
