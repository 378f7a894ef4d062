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

/// Whether the engines of a model on a GPU share its weights.
public enum GPUWeightsSetting: String, Sendable, CaseIterable, ExpressibleByArgument {
    /// As ``ServeConfiguration/sharesGPUWeightsByDefault`` says.
    case auto
    /// One copy, in a process of its own; private ones where that does not work.
    case shared
    /// The same, and that process is a client of MPS as the engines are: for drivers that want it so.
    case sharedByMPS = "shared-by-mps"
    /// A copy for each engine process.
    case `private`
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

/// What computes.
public enum ServeDevice: Sendable, Equatable {
    /// The first NVIDIA GPU that can be used, else the CPU.
    case automatic
    case cpu
    /// An NVIDIA GPU, by index or UUID.
    case cuda(String)
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
    /// Web pages that may call the server from a browser: `*`, or origins.
    public var allowedOrigins: [String] = []
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
    /// What Tandem's own engines compute on, if nothing is simulated.
    public var device = ServeDevice.automatic
    /// Part of a GPU's memory that Tandem's own engines on it take together.
    public var gpuMemoryFraction = 0.9
    /// Whether Tandem's own engines on a GPU share one copy of a model's weights.
    public var gpuWeights = GPUWeightsSetting.auto
    /// What ``GPUWeightsSetting/auto`` means. Not before it was tried on a card; see docs/gpu-weights.md.
    public static let sharesGPUWeightsByDefault = false
    /// Whether there is one copy of a model's weights on the GPU.
    public var sharesGPUWeights: Bool {
        switch gpuWeights {
        case .auto: Self.sharesGPUWeightsByDefault
        case .shared, .sharedByMPS: true
        case .private: false
        }
    }
    /// Whether a row has the same bits in any batch on a GPU, which is slower.
    public var isDeterministic = false
    /// How soon a GPU takes up each engine's work beside that of others of its process; empty for no difference.
    public var gpuEnginePriorities: [GPUEnginePriority] = []
    public var gpuPartition = GPUPartitionSetting.none
    /// The GPU that is simulated for Tandem's own engines, by the name that stands after `simulated:`; null for CPUs.
    public var simulatedGPU: String?
    /// The model whose times and bytes are simulated; null for the one that is served.
    public var simulatedModel: String?
    public var mps = MPSSetting.auto
    /// Pipe directory of an external MPS daemon; null for the one that CUDA programs find.
    public var mpsDirectory: String?
    /// What engines may have of the GPU that they share by MPS.
    public var mpsLimits = MPSLimitSettings()
    /// For tests: engines on CPUs become clients of MPS and fail as CUDA programs do.
    public var faultPort = false
    /// For tests: factor on the times that MPS gets for everything.
    public var mpsTimeScale = 1.0

    /// The defaults.
    public init() {}

    /// Keys of a configuration file beside `models`; each is also a flag and, as `TANDEM_…`, an environment variable.
    public static let keys = [
        "model", "tokenizer", "load-format", "ablation",
        "host", "port", "engine-ports", "tls-certificate", "tls-key", "engines", "engines-per-process", "threads",
        "device", "simulated-model", "cpu-compute", "gpu-memory-fraction", "gpu-weights", "gpu-engine-priority",
        "gpu-partition", "deterministic", "mps", "mps-directory", "mps-thread-percentage", "mps-client-priority",
        "max-model-len", "max-num-seqs",
        "max-num-batched-tokens", "kv-cache-memory", "async-scheduling", "prompt-lookup", "served-model-name",
        "engine", "engine-command", "engine-arguments", "engine-memory-fraction", "engine-port-base",
        "engine-start-timeout",
        "api-key", "allowed-origins",
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
        if let origins = layers.given("allowed-origins") {
            allowedOrigins = try OriginList.origins(origins.text, source: origins.source)
        }
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
        try takeDevice(layers)
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

    private mutating func takeDevice(_ layers: SettingLayers) throws(ConfigurationError) {
        let isExternal = models.allSatisfy { $0.external != nil }
        if let setting = layers.given("device") { try takeDevice(setting, isExternal: isExternal) }
        isDeterministic = try layers.boolean("deterministic") ?? isDeterministic
        if let given = layers.given("gpu-memory-fraction") {
            guard let fraction = Double(given.text), fraction > 0, fraction <= 1 else {
                throw given.error("\"\(given.text)\" is no share such as 0.9, above 0 and at most 1")
            }
            gpuMemoryFraction = fraction
        }
        try takeProcessSettings(layers)
        gpuWeights = try layers.choice("gpu-weights", of: GPUWeightsSetting.self) ?? gpuWeights
        if gpuWeights == .shared || gpuWeights == .sharedByMPS, let given = layers.given("gpu-weights") {
            switch device {
            case .cuda where simulatedGPU == nil: break
            case .automatic where simulatedGPU == nil && !isExternal: break
            default: throw given.error("\"\(given.text)\" is for Tandem's own engines on a GPU: --device cuda:INDEX")
            }
        }
        simulatedModel = try layers.text("simulated-model")
        guard let given = layers.given("simulated-model"), simulatedGPU == nil else { return }
        throw given.error("only with --device simulated:NAME")
    }

    private mutating func takeDevice(_ setting: GivenSetting, isExternal: Bool) throws(ConfigurationError) {
        let kind = setting.text.split(separator: ":", omittingEmptySubsequences: false).first.map(String.init) ?? ""
        switch kind {
        case "auto" where setting.text == "auto":
            return
        case "cpu" where setting.text == "cpu":
            device = .cpu
        case "cuda" where isExternal:
            let gpu = setting.text.dropFirst("cuda:".count)
            guard !gpu.isEmpty, !gpu.contains(where: { $0.isWhitespace || $0 == "," }) else {
                throw setting.error("name one GPU: cuda:0, or cuda:UUID")
            }
        case "simulated":
            let name = setting.text.dropFirst("simulated:".count)
            guard !name.isEmpty else { throw setting.error("name the GPU: simulated:h100") }
            guard models.allSatisfy({ $0.external == nil }) else {
                throw setting.error("\"\(setting.text)\" is for Tandem's own engines; take --engine and its kin away")
            }
            simulatedGPU = String(name)
        case "cuda" where models.allSatisfy({ $0.external == nil }):
            let gpu = String(setting.text.dropFirst("cuda:".count))
            guard Int(gpu).map({ $0 >= 0 }) ?? (gpu.hasPrefix("GPU-") || gpu.hasPrefix("MIG-")) else {
                throw setting.error("name one GPU: cuda:0, or cuda:GPU-… as nvidia-smi -L lists it")
            }
            device = .cuda(gpu)
        case "cuda":
            throw setting.error(
                "\"\(setting.text)\": some models have engines of Tandem's own and some have external ones; a GPU is for "
                    + "all of one kind")
        default:
            throw setting.error(
                "\"\(setting.text)\" is no device; use auto, cpu, cuda:INDEX, cuda:UUID or simulated:NAME")
        }
    }

    /// The GPU on which all engines are, by index or UUID; null if they are not all on one.
    public var sharedGPU: String? {
        if case .cuda(let gpu) = device { return gpu }
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
        if let given = layers.given("mps"), mps == .external, simulatedGPU != nil {
            throw given.error("a simulated GPU has a simulated MPS server of its own; use auto, on or off")
        }
        if let given = layers.given("fault-port"), simulatedGPU != nil {
            throw given.error("a simulated GPU fails by tandem admin device")
        }
        if let given = layers.given("mps"), mps == .on || mps == .external, !faultPort, sharedGPU == nil,
            simulatedGPU == nil
        {
            throw given.error(
                "\"\(given.text)\" needs engines on one NVIDIA GPU: name it with --device cuda:…")
        }
        mpsLimits = try MPSLimitSettings(layers, processes: models.reduce(0) { $0 + $1.processes })
        if !mpsLimits.isEmpty {
            if simulatedGPU != nil {
                throw mpsLimits.error(
                    "a simulated GPU takes shares from tandem admin device share ENGINE PERCENT while it runs")
            }
            if mps == .off {
                throw mpsLimits.error("it limits clients of MPS, and --mps is off: use auto, on or external")
            }
            if device == .cpu, !faultPort {
                throw mpsLimits.error("it limits clients of MPS, and engines on CPUs are none")
            }
        }
        guard let given = layers.given("mps-directory") else { return }
        guard mps == .external else { throw given.error("only with --mps external") }
        guard given.text.hasPrefix("/") else { throw given.error("\"\(given.text)\" is no absolute path") }
    }
}
