// Tandem — Apache-2.0

public import ArgumentParser

/// Number format of the CPU's matrix products.
public enum CPUComputeSetting: String, Sendable, CaseIterable, ExpressibleByArgument {
    /// What is fastest on this CPU without a loss against the usual implementation.
    case auto
    /// The reference for the others.
    case f32
    case bf16
    case int8
}

/// Where a model's numbers come from.
public enum LoadFormatSetting: String, Sendable, CaseIterable, ExpressibleByArgument {
    /// The model's files.
    case auto
    /// Random numbers; a `config.json` is enough.
    case dummy
}

/// Which parts of a model are computed.
public enum AblationSetting: String, Sendable, CaseIterable, ExpressibleByArgument {
    case full
    case attentionOnly
    case mlpOnly
}

/// How much is logged.
public enum LogLevel: String, Sendable, CaseIterable, ExpressibleByArgument {
    /// Also every HTTP request.
    case debug
    /// Also what goes well, such as an engine that is ready again.
    case info
    /// What goes wrong and is mended.
    case warning
    /// Only what stays wrong.
    case error
}

/// How exchanges are logged, a line each.
public enum AccessLogFormat: String, Sendable, CaseIterable, ExpressibleByArgument {
    case off
    case text
    case json
}

/// Whether engines share an NVIDIA GPU by MPS.
public enum MPSSetting: String, Sendable, CaseIterable, ExpressibleByArgument {
    /// Where there is a GPU, and MPS.
    case auto
    /// With a daemon of our own, or not at all.
    case on
    /// By time slices.
    case off
    /// With a daemon that runs already, and is somebody else's.
    case external
}

/// Host work that engines do in vain, to study what it costs; at most a second each.
public struct HostStallSettings: Sendable, Equatable {
    public var perStep = Duration.zero
    public var perSequence = Duration.zero
    public var perRequest = Duration.zero
    public var perPromptToken = Duration.zero

    /// No stalls unless given.
    public init(
        perStep: Duration = .zero, perSequence: Duration = .zero, perRequest: Duration = .zero,
        perPromptToken: Duration = .zero
    ) {
        self.perStep = perStep
        self.perSequence = perSequence
        self.perRequest = perRequest
        self.perPromptToken = perPromptToken
    }
}

/// All settings of `tandem serve`, checked.
public struct ServeConfiguration: Sendable, Equatable {
    /// What is served, never empty; more than one if a file lists ``ModelSettings``.
    public var models = [ModelSettings()]
    public var host = "127.0.0.1"
    public var port: UInt16 = 8000
    /// Engine i alone is reached at this port + i; null for no such ports.
    public var enginePorts: UInt16?
    /// PEM files with the certificate that clients are shown and its key; null for plain HTTP. Both or neither.
    public var tlsCertificate: String?
    public var tlsKey: String?
    /// Null lets everybody in.
    public var apiKey: String?
    public var shutdownTimeout = Duration.seconds(30)
    /// External engine i listens at this port + i; null for free ones.
    public var enginePortBase: UInt16?
    /// How long an external engine may take until it answers; then it is killed and started again.
    public var engineStartTimeout = Duration.seconds(600)
    public var logLevel = LogLevel.info
    public var accessLog = AccessLogFormat.off
    /// Silence after which an engine's requests go on elsewhere; zero for never, as below.
    public var engineSilenceTimeout = Duration.seconds(2)
    /// Silence after which an engine or the gateway is killed and started again.
    public var heartbeatTimeout = Duration.seconds(10)
    /// Standstill after which an engine with work is killed and started again.
    public var stepTimeout = Duration.seconds(120)
    /// How long a client may leave unread what waits for it.
    public var slowClientTimeout = Duration.seconds(60)
    /// Event loops of the gateway.
    public var gatewayThreads = 1
    public var hostStalls = HostStallSettings()
    public var mps = MPSSetting.auto
    /// Pipe directory of an external MPS daemon; null for the one that CUDA programs find.
    public var mpsDirectory: String?
    /// For tests: engines on CPUs become clients of MPS and fail as CUDA programs do.
    public var faultPort = false
    /// For tests: factor on the times that MPS gets for everything.
    public var mpsTimeScale = 1.0

    /// The defaults.
    public init() {}

    /// Keys of a configuration file beside `models`; each is also a flag and, as `TANDEM_…`, an environment variable.
    public static let keys = [
        "model", "tokenizer", "load-format", "ablation",
        "host", "port", "engine-ports", "tls-certificate", "tls-key", "engines", "threads", "device", "cpu-compute",
        "mps", "mps-directory",
        "max-model-len",
        "max-num-seqs",
        "max-num-batched-tokens", "kv-cache-memory", "async-scheduling", "prompt-lookup", "served-model-name",
        "engine", "engine-command", "engine-arguments", "engine-memory-fraction", "engine-port-base",
        "engine-start-timeout",
        "api-key",
        "shutdown-timeout", "log-level", "access-log", "engine-silence-timeout", "heartbeat-timeout",
        "step-timeout", "slow-client-timeout", "gateway-threads", "host-stall-per-step", "host-stall-per-sequence",
        "host-stall-per-request", "host-stall-per-prompt-token",
    ]

    /// Merges flags, environment and file.
    ///
    /// - Throws: ``ConfigurationError`` that names the place of the first setting that cannot be used.
    init(flags: [String: String], environment: [String: String]) throws(ConfigurationError) {
        var layers = SettingLayers(flags: flags, environment: environment, file: nil)
        if let path = try layers.text("config") {
            layers.file = try ConfigurationFile(path: path, keys: Self.keys, entryKeys: ModelSettings.entryKeys)
        }
        try self.init(layers)
    }

    init(_ layers: SettingLayers) throws(ConfigurationError) {
        let defaults = ServeConfiguration()
        models = try Self.models(layers)
        host = try layers.text("host") ?? defaults.host
        port = UInt16(try layers.integer("port", in: 0...65535) ?? Int(defaults.port))
        enginePorts = try layers.integer("engine-ports", in: 1...65535).map { UInt16($0) }
        (tlsCertificate, tlsKey) = (try layers.text("tls-certificate"), try layers.text("tls-key"))
        try Self.checkPair("tls-certificate", "tls-key", layers)
        apiKey = try layers.text("api-key")
        shutdownTimeout = try layers.duration("shutdown-timeout") ?? defaults.shutdownTimeout
        logLevel = try layers.choice("log-level", of: LogLevel.self) ?? defaults.logLevel
        accessLog = try layers.choice("access-log", of: AccessLogFormat.self) ?? defaults.accessLog
        engineSilenceTimeout = try layers.duration("engine-silence-timeout") ?? defaults.engineSilenceTimeout
        heartbeatTimeout = try layers.duration("heartbeat-timeout") ?? defaults.heartbeatTimeout
        stepTimeout = try layers.duration("step-timeout") ?? defaults.stepTimeout
        slowClientTimeout = try layers.duration("slow-client-timeout") ?? defaults.slowClientTimeout
        try Self.checkTimeouts(layers)
        gatewayThreads = try layers.integer("gateway-threads", in: 1...256) ?? defaults.gatewayThreads
        hostStalls = HostStallSettings(
            perStep: try Self.stall("host-stall-per-step", layers),
            perSequence: try Self.stall("host-stall-per-sequence", layers),
            perRequest: try Self.stall("host-stall-per-request", layers),
            perPromptToken: try Self.stall("host-stall-per-prompt-token", layers))
        try takeExternal(layers)
        try Self.checkDevice(layers.given("device"), isExternal: models.allSatisfy { $0.external != nil })
        try takeMPS(layers)
    }

    private static func models(_ layers: SettingLayers) throws(ConfigurationError) -> [ModelSettings] {
        guard let entries = layers.file?.models else { return [try ModelSettings(layers)] }
        // Neither can hold for all of several models.
        for key in ["model", "served-model-name"] {
            guard let given = layers.given(key) else { continue }
            throw ConfigurationError(
                source: layers.flags["model"] == nil || key != "model" ? given.source : "MODEL",
                reason:
                    "\(layers.file?.name ?? "the file") lists the `models:` that are served; take this setting away, "
                    + "or the list")
        }
        var models: [ModelSettings] = []
        for entry in entries {
            var layers = layers
            layers.entry = entry
            models.append(try ModelSettings(layers))
        }
        try ModelSettings.checkNames(models.map { ($0, ($0.servedModelName.map { [$0] } ?? []) + $0.aliases) })
        let engines = models.reduce(0) { $0 + $1.engines }
        guard engines <= ModelSettings.maximumEngines else {
            throw ConfigurationError(
                source: "\(layers.file?.name ?? ""): models",
                reason: "they have \(engines) engines together; the limit is \(ModelSettings.maximumEngines)")
        }
        return models
    }

    private static func stall(_ key: String, _ layers: SettingLayers) throws(ConfigurationError) -> Duration {
        guard let stall = try layers.duration(key) else { return .zero }
        guard stall <= .seconds(1) else {
            throw layers.given(key)?.error("a stall is at most a second")
                ?? ConfigurationError(source: key, reason: "a stall is at most a second")
        }
        return stall
    }

    private static func checkPair(
        _ first: String, _ second: String, _ layers: SettingLayers
    ) throws(ConfigurationError) {
        for (key, other) in [(first, second), (second, first)] {
            guard let given = layers.given(key), layers.given(other) == nil else { continue }
            throw given.error("give \(other), too: TLS needs a certificate and its key")
        }
    }

    /// Less than this is the ordinary unevenness of a busy machine.
    private static let leastSilence = Duration.milliseconds(500)

    private static func checkTimeouts(_ layers: SettingLayers) throws(ConfigurationError) {
        for key in ["engine-silence-timeout", "heartbeat-timeout", "step-timeout"] {
            guard let given = try layers.duration(key), given > .zero, given < leastSilence else { continue }
            throw layers.given(key)?.error("at least 500ms, or 0 for never")
                ?? ConfigurationError(source: key, reason: "at least 500ms, or 0 for never")
        }
        guard let given = try layers.duration("slow-client-timeout"), given < .seconds(1) else { return }
        throw layers.given("slow-client-timeout")?.error("at least 1s")
            ?? ConfigurationError(source: "slow-client-timeout", reason: "at least 1s")
    }

    private static func checkDevice(_ setting: GivenSetting?, isExternal: Bool) throws(ConfigurationError) {
        guard let setting else { return }
        let kind = setting.text.split(separator: ":", omittingEmptySubsequences: false).first.map(String.init) ?? ""
        switch kind {
        case "auto" where setting.text == "auto", "cpu" where setting.text == "cpu":
            return
        case "cuda" where isExternal:
            let gpu = setting.text.dropFirst("cuda:".count)
            guard !gpu.isEmpty, !gpu.contains(where: { $0.isWhitespace || $0 == "," }) else {
                throw setting.error("name one GPU: cuda:0, or cuda:UUID")
            }
        case "cuda", "simulated":
            throw setting.error(
                "\"\(setting.text)\": this version computes on the CPU only; use cpu, or auto, which takes it")
        default:
            throw setting.error("\"\(setting.text)\" is no device; use auto or cpu")
        }
    }

    /// The GPU on which all engines are, by index or UUID; null if they are not all on one.
    public var sharedGPU: String? {
        let gpus = Set(models.map { $0.external?.gpu })
        return gpus.count == 1 ? gpus.first ?? nil : nil
    }

    private mutating func takeMPS(_ layers: SettingLayers) throws(ConfigurationError) {
        mps = try layers.choice("mps", of: MPSSetting.self) ?? mps
        faultPort = try layers.boolean("fault-port") ?? faultPort
        mpsDirectory = try layers.text("mps-directory")
        if let scale = layers.given("mps-time-scale") {
            guard let factor = Double(scale.text), factor >= 0.01, factor <= 100 else {
                throw scale.error("\"\(scale.text)\" is no factor from 0.01 to 100")
            }
            mpsTimeScale = factor
        }
        if let given = layers.given("mps"), mps == .on || mps == .external, !faultPort, sharedGPU == nil {
            throw given.error(
                "\"\(given.text)\" needs engines on one NVIDIA GPU: this version's own compute on the CPU only, external "
                    + "ones are put on a GPU by --device cuda:…, all on the same")
        }
        guard let given = layers.given("mps-directory") else { return }
        guard mps == .external else { throw given.error("only with --mps external") }
        guard given.text.hasPrefix("/") else { throw given.error("\"\(given.text)\" is no absolute path") }
    }
}
