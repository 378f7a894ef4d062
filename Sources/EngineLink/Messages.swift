// Tandem — Apache-2.0

public import Requests

/// Version of the engine link; both ends must have the same.
public let engineLinkVersion: UInt16 = 8

/// Everything that crosses the link between a gateway (client) and an engine (server), and the status channel between
/// a supervisor and its children. One message is one length-prefixed frame.
public enum LinkMessage: Sendable, Equatable {
    /// Gateway to engine, first frame: what the gateway expects. The engine answers with ``engineHello(_:)`` or with
    /// ``error(_:)`` and closes.
    case clientHello(ClientHello)
    /// Engine to gateway, first frame; also engine to supervisor, when it is ready.
    case engineHello(EngineHello)
    case submit(EngineRequest)
    case cancel(RequestID)
    /// The sequence keeps its KV blocks and is not scheduled until it is resumed.
    case pause(RequestID)
    /// The sequence may generate `credits` more tokens before it pauses by itself; `UInt32.max` is no limit.
    case resume(RequestID, credits: UInt32)
    /// All that one step produced for this connection.
    case stepOutput(StepOutput)
    case statistics(EngineStatistics)
    case error(LinkError)
    /// Supervisor to engine: finish what runs, take nothing new, then exit.
    case drain
    /// Supervisor to gateway: which engines exist.
    case roster(Roster)
    /// Gateway to supervisor: the HTTP port is served.
    case gatewayReady(port: UInt16)
    /// Engine to gateway, engine and gateway to supervisor: a sign of life, whatever there is to say.
    case heartbeat(Heartbeat)
    /// Administrator to supervisor, over its own socket.
    case adminCommand(AdminCommand)
    /// Supervisor to administrator.
    case adminReply(AdminReply)
    /// Gateway to supervisor: how an external engine is.
    case engineReport(ExternalEngineReport)
}

/// What a gateway says first.
public struct ClientHello: Sendable, Equatable {
    public var version: UInt16
    /// The gateway's tokenizer; an engine with another one refuses the link.
    public var tokenizerFingerprint: Digest128
    public var pid: Int32

    public init(version: UInt16 = engineLinkVersion, tokenizerFingerprint: Digest128, pid: Int32) {
        self.version = version
        self.tokenizerFingerprint = tokenizerFingerprint
        self.pid = pid
    }
}

/// What an engine is.
public struct EngineHello: Sendable, Equatable {
    public var version: UInt16
    public var engineIndex: UInt32
    public var pid: Int32
    public var modelName: String
    public var modelFingerprint: Digest128
    public var tokenizerFingerprint: Digest128
    public var vocabularySize: UInt32
    /// Tokens in a KV block.
    public var blockSize: UInt32
    /// Seed of the block hashes.
    public var hashSeed: UInt64
    public var keyValueBlocks: UInt32
    /// Longest sequence, generated tokens included.
    public var maximumContextLength: UInt32
    /// Sequences that run at once.
    public var maximumSequences: UInt32
    /// For people: `cpu (avx512, int8, 1 thread)`.
    public var device: String
    /// What the device says of being shared: ``attached``, ``detached``, or empty if it cannot be asked, as a CPU.
    public var attachProof: String

    /// The device says that the engine is a client of MPS.
    public static let attached = "mps"
    /// The device says that it is none.
    public static let detached = "none"

    /// ``attachProof`` as an answer; null for none.
    public var isAttached: Bool? {
        switch attachProof {
        case Self.attached: true
        case Self.detached: false
        default: nil
        }
    }

    public init(
        version: UInt16 = engineLinkVersion,
        engineIndex: UInt32,
        pid: Int32,
        modelName: String,
        modelFingerprint: Digest128,
        tokenizerFingerprint: Digest128,
        vocabularySize: UInt32,
        blockSize: UInt32,
        hashSeed: UInt64,
        keyValueBlocks: UInt32,
        maximumContextLength: UInt32,
        maximumSequences: UInt32,
        device: String,
        attachProof: String = ""
    ) {
        self.version = version
        self.engineIndex = engineIndex
        self.pid = pid
        self.modelName = modelName
        self.modelFingerprint = modelFingerprint
        self.tokenizerFingerprint = tokenizerFingerprint
        self.vocabularySize = vocabularySize
        self.blockSize = blockSize
        self.hashSeed = hashSeed
        self.keyValueBlocks = keyValueBlocks
        self.maximumContextLength = maximumContextLength
        self.maximumSequences = maximumSequences
        self.device = device
        self.attachProof = attachProof
    }
}

/// Outputs of one engine step for the sequences of one connection.
public struct StepOutput: Sendable, Equatable {
    public var step: UInt64
    public var outputs: [SequenceOutput]

    public init(step: UInt64, outputs: [SequenceOutput]) {
        self.step = step
        self.outputs = outputs
    }
}

/// An engine's state, sent a few times a second while it changes.
public struct EngineStatistics: Sendable, Equatable {
    /// Steps finished since start: a device that hangs shows as a counter that stands still while requests run.
    public var steps: UInt64
    public var runningSequences: UInt32
    public var waitingSequences: UInt32
    public var usedBlocks: UInt32
    public var totalBlocks: UInt32
    public var promptTokens: UInt64
    public var generatedTokens: UInt64
    public var cachedPromptTokens: UInt64
    public var preemptions: UInt64
    /// Tokens that were guessed ahead, and those of them that were right.
    public var draftedTokens: UInt64
    public var acceptedTokens: UInt64
    public var stepSizes: StepSizes
    public var times: EngineTimes
    /// Prefix blocks that became available and that went away since the last frame.
    public var storedBlocks: [BlockHash]
    public var evictedBlocks: [BlockHash]

    public init(
        steps: UInt64 = 0,
        runningSequences: UInt32 = 0,
        waitingSequences: UInt32 = 0,
        usedBlocks: UInt32 = 0,
        totalBlocks: UInt32 = 0,
        promptTokens: UInt64 = 0,
        generatedTokens: UInt64 = 0,
        cachedPromptTokens: UInt64 = 0,
        preemptions: UInt64 = 0,
        draftedTokens: UInt64 = 0,
        acceptedTokens: UInt64 = 0,
        stepSizes: StepSizes = StepSizes(),
        times: EngineTimes = EngineTimes(),
        storedBlocks: [BlockHash] = [],
        evictedBlocks: [BlockHash] = []
    ) {
        self.steps = steps
        self.runningSequences = runningSequences
        self.waitingSequences = waitingSequences
        self.usedBlocks = usedBlocks
        self.totalBlocks = totalBlocks
        self.promptTokens = promptTokens
        self.generatedTokens = generatedTokens
        self.cachedPromptTokens = cachedPromptTokens
        self.preemptions = preemptions
        self.draftedTokens = draftedTokens
        self.acceptedTokens = acceptedTokens
        self.stepSizes = stepSizes
        self.times = times
        self.storedBlocks = storedBlocks
        self.evictedBlocks = evictedBlocks
    }
}

/// A sign of life of a process's event loop, sent at a fixed period: silence means that the process is frozen, that it
/// hangs, or that the way to it is cut.
public struct Heartbeat: Sendable, Equatable {
    /// How often an engine sends one, to gateways and to its supervisor.
    public static let periodMilliseconds: Int64 = 250

    /// Grows whenever what computes gets anywhere, by no particular amount.
    public var progress: UInt64
    /// Whether ``progress`` has to grow: there is something to compute.
    public var isWorking: Bool

    public init(progress: UInt64 = 0, isWorking: Bool = false) {
        self.progress = progress
        self.isWorking = isWorking
    }
}

/// What a gateway found out about an external engine, which has no link of its own to its supervisor.
public struct ExternalEngineReport: Sendable, Equatable {
    public enum Finding: UInt8, Sendable {
        /// It is not known to compute.
        case doubt = 0
        /// It answered a request that has to be computed.
        case computes = 1
        /// It gets nothing new, and has finished what it had.
        case idle = 2
    }

    public var engineIndex: UInt32
    /// Of the process that was asked; a report about another than the one that runs is late.
    public var pid: Int32
    public var finding: Finding
    /// Of one that computes the name of its model, of one in doubt the reason.
    public var detail: String

    public init(engineIndex: UInt32, pid: Int32, finding: Finding, detail: String = "") {
        self.engineIndex = engineIndex
        self.pid = pid
        self.finding = finding
        self.detail = detail
    }
}

/// Why an end of the link refuses or closes it.
public struct LinkError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Code: UInt8, Sendable {
        /// The other end speaks another version of the link.
        case version = 1
        /// The other end has another model or tokenizer.
        case fingerprint = 2
        /// A frame could not be understood.
        case malformed = 3
        /// A frame is longer than the limit.
        case tooLong = 4
        /// The connection could not be made or broke.
        case connection = 5
    }

    public var code: Code
    public var message: String

    public init(code: Code, message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}
