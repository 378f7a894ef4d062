// Tandem — Apache-2.0

/// What an administrator asks of a running supervisor. Each is answered by one ``AdminReply``, in order.
public enum AdminCommand: Sendable, Equatable {
    case status
    /// The engine finishes what it has, takes nothing new and stays up. Forced even if nobody else serves its model.
    case drain(engine: UInt32, isForced: Bool)
    /// A drained engine serves again.
    case resume(engine: UInt32)
    /// The engine finishes what it has, ends, and is started again.
    case restart(engine: UInt32, isForced: Bool)
    /// The same of all engines, one after the other.
    case restartAll(isForced: Bool)
}

/// What a supervisor answers.
public enum AdminReply: Sendable, Equatable {
    case status(SupervisorStatus)
    /// What happens now, for people: the work has begun, ``AdminCommand/status`` tells how it goes.
    case accepted(String)
    /// Why nothing happens, and what helps.
    case refused(String)
}

/// All that a supervisor knows of itself, its children and what they share. Times are milliseconds.
public struct SupervisorStatus: Sendable, Equatable {
    /// Version of the program.
    public var version: String
    public var pid: Int32
    public var uptime: UInt64
    /// Where clients reach it.
    public var host: String
    public var port: UInt16
    /// Whether they have to speak TLS.
    public var isSecure: Bool
    public var runDirectory: String
    /// Whether a signal has asked it to end.
    public var isStopping: Bool
    public var gateway: ChildStatus
    public var engines: [EngineStatus]
    /// The rolling restart that runs, or the last one.
    public var rollingRestart: RollingRestartStatus?
    /// Of a GPU that the engines share by MPS.
    public var sharing: SharingStatus?
    /// Of a GPU that is simulated for the engines.
    public var simulatedDevice: SimulatedDeviceStatus?

    public init(
        version: String, pid: Int32, uptime: UInt64 = 0, host: String, port: UInt16, isSecure: Bool = false,
        runDirectory: String, isStopping: Bool = false, gateway: ChildStatus, engines: [EngineStatus] = [],
        rollingRestart: RollingRestartStatus? = nil, sharing: SharingStatus? = nil,
        simulatedDevice: SimulatedDeviceStatus? = nil
    ) {
        self.version = version
        self.pid = pid
        self.uptime = uptime
        self.host = host
        self.port = port
        self.isSecure = isSecure
        self.runDirectory = runDirectory
        self.isStopping = isStopping
        self.gateway = gateway
        self.engines = engines
        self.rollingRestart = rollingRestart
        self.sharing = sharing
        self.simulatedDevice = simulatedDevice
    }
}

/// A process under supervision.
public struct ChildStatus: Sendable, Equatable {
    public enum State: UInt8, Sendable, CaseIterable {
        /// Its process runs and does not serve yet.
        case starting = 1
        case ready = 2
        /// It takes nothing new and finishes what it has.
        case draining = 3
        /// It has nothing to do any more and gets nothing.
        case drained = 4
        /// It finishes what it has, ends, and is started again.
        case ending = 5
        /// It was killed because it hung, or did not end in time.
        case killed = 6
        /// It ended, and is started again after a pause.
        case waiting = 7
        /// The same, of one that died too often in a row.
        case failed = 8
        /// It is not started any more: the server ends.
        case down = 9
    }

    public var state: State
    /// 0 if there is no process.
    public var pid: Int32
    /// Since the process was started; nil if there is none.
    public var uptime: UInt64?
    /// How often it was started again.
    public var restarts: UInt32
    /// Deaths since it last ran well; what was asked for is none.
    public var deathsInARow: UInt32
    /// How its last run ended; empty if it never did.
    public var lastExit: String
    /// Until it is started again; nil if that is not planned.
    public var nextAttempt: UInt64?

    public init(
        state: State, pid: Int32 = 0, uptime: UInt64? = nil, restarts: UInt32 = 0, deathsInARow: UInt32 = 0,
        lastExit: String = "", nextAttempt: UInt64? = nil
    ) {
        self.state = state
        self.pid = pid
        self.uptime = uptime
        self.restarts = restarts
        self.deathsInARow = deathsInARow
        self.lastExit = lastExit
        self.nextAttempt = nextAttempt
    }
}

/// One engine.
public struct EngineStatus: Sendable, Equatable {
    public var index: UInt32
    public var model: String
    /// Which of the engine processes it is in, counted from 0: engines of one are started, and fail, together.
    public var processIndex: UInt32
    /// The process.
    public var process: ChildStatus
    /// CPU numbers that it may use; empty for all.
    public var cores: [Int32]
    /// What it said of its device; empty before it served first.
    public var device: String
    /// Of the process; nothing is known of engines but the first of a process.
    public var memory: MemoryStatus

    public init(
        index: UInt32, model: String, processIndex: UInt32, process: ChildStatus, cores: [Int32] = [],
        device: String = "", memory: MemoryStatus = MemoryStatus()
    ) {
        self.index = index
        self.model = model
        self.processIndex = processIndex
        self.process = process
        self.cores = cores
        self.device = device
        self.memory = memory
    }
}

/// Memory that a process has to itself, in bytes: weights that engines share are not in it.
public struct MemoryStatus: Sendable, Equatable {
    /// What it holds; nil if it was not read yet.
    public var now: UInt64?
    /// The most that was read of this process.
    public var highWater: UInt64?
    /// What was planned; nil if nothing was.
    public var plan: UInt64?
    /// Whether it has held clearly more than planned for some time.
    public var isAbovePlan: Bool

    public init(now: UInt64? = nil, highWater: UInt64? = nil, plan: UInt64? = nil, isAbovePlan: Bool = false) {
        self.now = now
        self.highWater = highWater
        self.plan = plan
        self.isAbovePlan = isAbovePlan
    }
}

/// How a rolling restart goes, or went.
public struct RollingRestartStatus: Sendable, Equatable {
    public enum State: UInt8, Sendable, CaseIterable {
        case running = 1
        /// All engines were restarted and serve.
        case done = 2
        /// It stopped; the rest was left alone.
        case stopped = 3
    }

    public var state: State
    /// Engines that were restarted and serve again.
    public var restarted: [UInt32]
    /// The one whose turn it is, or at which it stopped.
    public var current: UInt32?
    /// Those whose turn comes, or would have come.
    public var pending: [UInt32]
    /// What it waits for, or why it stopped; for people.
    public var detail: String

    public init(
        state: State, restarted: [UInt32] = [], current: UInt32? = nil, pending: [UInt32] = [], detail: String = ""
    ) {
        self.state = state
        self.restarted = restarted
        self.current = current
        self.pending = pending
        self.detail = detail
    }
}

/// A GPU that one process simulates for all engines.
public struct SimulatedDeviceStatus: Sendable, Equatable {
    /// `h100`.
    public var name: String
    /// How engines share it: `MPS`, `time slices`.
    public var sharing: String
    /// What it is doing, for people.
    public var phase: String
    /// 0 if its process does not run.
    public var pid: Int32
    public var restarts: UInt32
    public var clients: UInt32
    public var memoryBytes: UInt64
    public var usedBytes: UInt64
    /// Since its process was started.
    public var steps: UInt64
    /// How late steps were reported of late, in millionths of what they took.
    public var lagMillionths: UInt32
    /// Whether that is so much that speeds are not those of the simulated GPU.
    public var isLate: Bool

    public init(
        name: String, sharing: String, phase: String, pid: Int32 = 0, restarts: UInt32 = 0, clients: UInt32 = 0,
        memoryBytes: UInt64 = 0, usedBytes: UInt64 = 0, steps: UInt64 = 0, lagMillionths: UInt32 = 0,
        isLate: Bool = false
    ) {
        self.name = name
        self.sharing = sharing
        self.phase = phase
        self.pid = pid
        self.restarts = restarts
        self.clients = clients
        self.memoryBytes = memoryBytes
        self.usedBytes = usedBytes
        self.steps = steps
        self.lagMillionths = lagMillionths
        self.isLate = isLate
    }
}

/// A GPU that engines share by MPS.
public struct SharingStatus: Sendable, Equatable {
    /// How often a step of the recovery ladder was taken.
    public struct Rung: Sendable, Equatable {
        public var name: String
        public var count: UInt32

        public init(name: String, count: UInt32) {
            self.name = name
            self.count = count
        }
    }

    /// What it is doing, for people.
    public var phase: String
    /// The control daemon; 0 if there is none.
    public var daemonPid: Int32
    public var serverPids: [Int32]
    /// Clients of all servers; nil if that is not known.
    public var clients: UInt32?
    public var rungs: [Rung]

    public init(
        phase: String, daemonPid: Int32 = 0, serverPids: [Int32] = [], clients: UInt32? = nil, rungs: [Rung] = []
    ) {
        self.phase = phase
        self.daemonPid = daemonPid
        self.serverPids = serverPids
        self.clients = clients
        self.rungs = rungs
    }
}
