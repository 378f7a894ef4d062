// Tandem — Apache-2.0

/// The engines of one model.
public struct SupervisedModel: Sendable {
    /// For people, and for the example that is printed.
    public var name: String
    /// Arguments of each of its engine processes; the supervisor adds `--index`, a `--link` for each engine,
    /// `--threads`, `--cores`, `--status-fd` and `--weights-fd`.
    public var engineArguments: [String]
    public var engines: Int
    /// Engines that a process hosts.
    public var enginesPerProcess: Int
    /// Compute threads an engine; null for its share of the usable cores.
    public var threads: Int?
    /// Bytes that each engine may take for itself; null if nothing was planned, and nothing is watched then.
    public var plannedBytes: UInt64?
    /// Whether its engines keep weights in the memory of a GPU.
    public var computesOnGPU = false
    /// Arguments of the process that holds the weights of its engines in a GPU's memory; null if there is none.
    public var weightsArguments: [String]?
    /// Whether that process is a client of MPS as the engines are, and ends with a fault of theirs.
    public var weightsAreClientOfMPS = false
    /// How they are started if they are none of Tandem's own; null if they are.
    public var external: ExternalEngine?

    public init(
        name: String, engineArguments: [String], engines: Int, threads: Int? = nil, plannedBytes: UInt64? = nil,
        enginesPerProcess: Int = 1
    ) {
        self.enginesPerProcess = enginesPerProcess
        self.plannedBytes = plannedBytes
        self.name = name
        self.engineArguments = engineArguments
        self.engines = engines
        self.threads = threads
    }
}

/// What a supervisor runs.
public struct SupervisorConfiguration: Sendable {
    /// Program of all children.
    public var executable = "/proc/self/exe"
    /// First word of their command lines, as `ps` shows them.
    public var processName = "tandem"
    /// Engines count through from the first model's on, in this order.
    public var models: [SupervisedModel]
    /// Arguments of the gateway; the supervisor adds `--listen-fd`, `--engine-listen-fd` for each engine with a
    /// port of its own, and `--status-fd`.
    public var gatewayArguments: [String]
    /// Environment of all children.
    public var environment: [String: String]
    /// What the gateway's environment has besides, such as keys that a command line would show.
    public var gatewayEnvironment: [String: String] = [:]
    public var host: String
    public var port: UInt16
    /// Engine i is reached alone at this port + i; null for no such ports.
    public var enginePorts: UInt16?
    /// How long open requests may take to finish after a signal asked to stop.
    public var shutdownTimeout = Duration.seconds(30)
    /// When children that hang are killed.
    public var hangLimits = HangLimits()
    /// External engine i listens at this port + i; null for free ones.
    public var externalPortBase: UInt16?
    /// How long an external engine may take from its start until it computes.
    public var externalStartTimeout = Duration.seconds(600)
    /// Whether nothing else in this process has children: then it takes care of what they leave behind.
    public var adoptsOrphans = false
    /// How engines share a GPU; null if they do not.
    public var sharing: SharingConfiguration?
    /// The GPU that is simulated for Tandem's own engines; null if none is. There is no other sharing then.
    public var simulatedDevice: SimulatedDeviceConfiguration?
    public var requiresKey = false
    /// Whether that key is what a shell has in `TANDEM_API_KEY`, as far as is known.
    public var keyIsInEnvironment = true
    /// The file with the certificate that clients are shown, as the gateway's arguments have it, if they have to speak
    /// TLS.
    public var certificate: String?
    /// Of the program, for administrators.
    public var version = ""
    var memoryWatch = MemoryWatch.Settings()
    /// When the program started, for the time until ready.
    public var startedAt = ContinuousClock.now
    /// Where the directory of sockets is made; null chooses by the environment.
    public var runDirectoryBase: String?
    /// Takes the announcement and lines about children; standard output and standard error by default.
    public var output: @Sendable (SupervisorOutput) -> Void = { $0.print() }

    public init(
        models: [SupervisedModel],
        gatewayArguments: [String],
        environment: [String: String],
        host: String,
        port: UInt16
    ) {
        self.models = models
        self.gatewayArguments = gatewayArguments
        self.environment = environment
        self.host = host
        self.port = port
    }
}

/// What a supervisor says to people.
public enum SupervisorOutput: Sendable, Equatable {
    /// Printed once, when the first request can be answered.
    case announcement(String)
    case line(Severity, String)

    /// How much a line matters.
    public enum Severity: Int, Sendable, Comparable {
        /// Things go as they should.
        case info
        /// Something went wrong and is being mended.
        case warning
        /// Something stays wrong.
        case error

        public static func < (first: Severity, second: Severity) -> Bool { first.rawValue < second.rawValue }
    }

    /// Whether it is to be printed if lines below `least` are not; the announcement always is.
    public func isPrinted(from least: Severity) -> Bool {
        switch self {
        case .announcement: true
        case .line(let severity, _): severity >= least
        }
    }
}
