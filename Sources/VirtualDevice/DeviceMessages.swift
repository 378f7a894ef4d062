// Tandem — Apache-2.0

/// Version of the protocol between a virtual device and its clients; both are of one program.
public let virtualDeviceVersion: UInt16 = 1

/// What a client tells a virtual device.
public enum ClientMessage: Sendable, Equatable {
    /// The first of all.
    case hello(ClientHello)
    /// Takes memory for weights, which follow from the model, and for keys and values. Once.
    case allocate(keyValueBytes: UInt64)
    /// Puts a step behind those before it.
    case submit(step: UInt64, work: StepWork)
}

/// What a step computes, for the model of its time. Whoever has prompts of several lengths gives the mean.
public struct StepWork: Sendable, Equatable {
    /// Sequences that get a token each.
    public var decoding: Double
    /// Keys that such a token sees.
    public var context: Double
    /// Pieces of prompts.
    public var prompts: Double
    /// Tokens of a piece.
    public var promptLength: Double

    public init(decoding: Double = 0, context: Double = 0, prompts: Double = 0, promptLength: Double = 0) {
        self.decoding = decoding
        self.context = context
        self.prompts = prompts
        self.promptLength = promptLength
    }
}

/// Who a client is.
public struct ClientHello: Sendable, Equatable {
    public var pid: Int32
    /// Number of the engine, by which people know it.
    public var engine: UInt32
    /// Share of the multiprocessors that it may use, in percent.
    public var percent: UInt8
    public var model: ClientModel

    public init(pid: Int32, engine: UInt32, percent: UInt8 = 100, model: ClientModel) {
        self.pid = pid
        self.engine = engine
        self.percent = percent
        self.model = model
    }
}

/// What a virtual device tells a client.
public enum DeviceMessage: Sendable, Equatable {
    /// Answers a hello.
    case welcome(DeviceWelcome)
    /// Answers an allocation: bytes of the device's memory that are still free.
    case granted(freeBytes: UInt64)
    case done(StepDone)
    /// An error, also in answer to a hello or an allocation. Nothing that the client has in flight will be done.
    case failed(DeviceFailure)
}

/// The device as a client sees it.
public struct DeviceWelcome: Sendable, Equatable {
    /// The name by which the GPU is asked for: `h100`.
    public var name: String
    public var memoryBytes: UInt64
    /// Whether kernels of several clients run at once, rather than in time slices.
    public var usesMPS: Bool

    public init(name: String, memoryBytes: UInt64, usesMPS: Bool) {
        self.name = name
        self.memoryBytes = memoryBytes
        self.usesMPS = usesMPS
    }
}

/// A step that is done; times are nanoseconds of the simulated GPU.
public struct StepDone: Sendable, Equatable {
    public var step: UInt64
    public var attention: UInt64
    public var mlp: UInt64
    public var rest: UInt64

    public init(step: UInt64, attention: UInt64, mlp: UInt64, rest: UInt64) {
        self.step = step
        self.attention = attention
        self.mlp = mlp
        self.rest = rest
    }
}

/// An error as CUDA would report it.
public struct DeviceFailure: Sendable, Equatable {
    /// CUDA's number.
    public var code: UInt16
    /// Whether all clients of the device have it.
    public var concernsAll: Bool
    /// What failed, and what helps.
    public var message: String

    public init(code: UInt16, concernsAll: Bool = false, message: String) {
        self.code = code
        self.concernsAll = concernsAll
        self.message = message
    }

    /// CUDA's numbers, as far as they are played.
    public enum Code {
        public static let invalidValue: UInt16 = 1
        public static let outOfMemory: UInt16 = 2
        public static let illegalAddress: UInt16 = 700
        public static let connectionFailed: UInt16 = 805
        public static let serverNotReady: UInt16 = 807
        public static let tooManyClients: UInt16 = 808
        public static let clientTerminated: UInt16 = 810
    }
}

/// What a virtual device tells its supervisor.
public enum DeviceNotice: Sendable, Equatable {
    /// How it is: once when it listens, and every second from then on.
    case report(DeviceReport)
    /// The work of an engine's client is gone; answers ``DeviceOrder/drop(engine:)``.
    case dropped(engine: UInt32)
}

/// What a supervisor tells a virtual device.
public enum DeviceOrder: Sendable, Equatable {
    /// Drop what an engine's client has in flight, and the client with it.
    case drop(engine: UInt32)
}

/// How a virtual device is.
public struct DeviceReport: Sendable, Equatable {
    public var clients: UInt32
    public var memoryBytes: UInt64
    public var usedBytes: UInt64
    /// Steps that were done since the start.
    public var steps: UInt64
    /// How late steps were done of late, in millionths of what they took; see ``LagMeter``.
    public var lagMillionths: UInt32
    public var isLate: Bool
    /// Whether newcomers are refused because of a fatal fault.
    public var isFaulted: Bool

    public init(
        clients: UInt32 = 0, memoryBytes: UInt64 = 0, usedBytes: UInt64 = 0, steps: UInt64 = 0,
        lagMillionths: UInt32 = 0, isLate: Bool = false, isFaulted: Bool = false
    ) {
        self.clients = clients
        self.memoryBytes = memoryBytes
        self.usedBytes = usedBytes
        self.steps = steps
        self.lagMillionths = lagMillionths
        self.isLate = isLate
        self.isFaulted = isFaulted
    }
}
