// Tandem — Apache-2.0

/// Settings of one model that is served, checked.
public struct ModelSettings: Sendable, Equatable {
    /// Name or path; null for the default model.
    public var model: String?
    /// What clients call it and responses carry; null for the model's own name.
    public var servedModelName: String?
    /// Other names that clients may use.
    public var aliases: [String] = []
    /// Path of a `.gguf` file or directory with a tokenizer; null for the model's own.
    public var tokenizer: String?
    public var loadFormat = LoadFormatSetting.auto
    public var ablation = AblationSetting.full
    public var engines = 2
    /// Engines that one process hosts; divides ``engines``.
    public var enginesPerProcess = 1
    /// Compute threads an engine; null for its share of the cores.
    public var threads: Int?
    public var cpuCompute = CPUComputeSetting.auto
    /// Tokens of the longest sequence; null for what the model was made for.
    public var maximumContextLength: Int?
    /// Sequences that an engine runs at once.
    public var maximumSequences = 128
    /// Tokens of one engine step.
    public var maximumBatchedTokens = 512
    /// KV cache of an engine, in bytes; null for a share of the available memory.
    public var keyValueBytes: UInt64?
    public var asynchronousScheduling = false
    /// Most tokens that an engine guesses ahead for a sequence, from what stands in it already; 0 guesses none.
    public var promptLookup = 16
    /// How servers are started that compute in the place of Tandem's own engines; null for the latter.
    public var external: ExternalEngineSettings?
    /// Where a list of models has it: `tandem.yaml: models[1]`; null if flags say what is served.
    public var place: String?

    /// The defaults.
    public init() {}

    /// Keys of an entry in a list of models. All but the last two are also keys of the file itself, whose values hold
    /// for entries that do not say otherwise.
    static let entryKeys = [
        "model", "served-model-name", "tokenizer", "load-format", "ablation", "engines", "engines-per-process",
        "threads",
        "cpu-compute", "max-model-len", "max-num-seqs", "max-num-batched-tokens", "kv-cache-memory", "async-scheduling",
        "prompt-lookup", "engine", "engine-command", "engine-arguments", "engine-memory-fraction", "name", "aliases",
    ]

    /// - Throws: ``ConfigurationError`` that names the place of the first setting that cannot be used.
    init(_ layers: SettingLayers) throws(ConfigurationError) {
        let defaults = ModelSettings()
        place = layers.entry?.place
        model = try layers.text("model")
        servedModelName = try layers.text("served-model-name")
        aliases = layers.entry?.aliases ?? []
        tokenizer = try layers.text("tokenizer")
        loadFormat = try layers.choice("load-format", of: LoadFormatSetting.self) ?? defaults.loadFormat
        ablation = try layers.choice("ablation", of: AblationSetting.self) ?? defaults.ablation
        engines = try layers.integer("engines", in: 1...Self.maximumEngines) ?? defaults.engines
        threads = try layers.integer("threads", in: 1...1024)
        cpuCompute = try layers.choice("cpu-compute", of: CPUComputeSetting.self) ?? defaults.cpuCompute
        maximumContextLength = try layers.integer("max-model-len", in: 1...(1 << 24))
        maximumSequences = try layers.integer("max-num-seqs", in: 1...65536) ?? defaults.maximumSequences
        maximumBatchedTokens =
            try layers.integer("max-num-batched-tokens", in: 1...(1 << 20)) ?? defaults.maximumBatchedTokens
        keyValueBytes = try layers.byteCount("kv-cache-memory")
        asynchronousScheduling = try layers.boolean("async-scheduling") ?? defaults.asynchronousScheduling
        promptLookup = try layers.integer("prompt-lookup", in: 0...64) ?? defaults.promptLookup
        external = try ExternalEngineSettings(layers, engines: engines)
        if external == nil { enginesPerProcess = try Self.enginesPerProcess(layers, engines: engines) }
        if place != nil && model == nil && external == nil {
            throw ConfigurationError(
                source: source(of: "model"), reason: "it is missing: give a model's name, or the path of one")
        }
    }

    private static func enginesPerProcess(_ layers: SettingLayers, engines: Int) throws(ConfigurationError) -> Int {
        guard let given = layers.given("engines-per-process") else { return 1 }
        let number = try layers.integer("engines-per-process", in: 1...maximumEngines) ?? 1
        guard engines.isMultiple(of: number) else {
            let few = (1...engines).filter { engines.isMultiple(of: $0) }.map { "\($0)" }.joined(separator: ", ")
            throw given.error("\(engines) engines cannot be divided among processes of \(number): take one of \(few)")
        }
        return number
    }

    /// Processes of its engines.
    public var processes: Int { engines / max(1, enginesPerProcess) }

    /// Engines of one server.
    static let maximumEngines = 1024

    /// Where a setting is given, or could be: `--threads`, or `tandem.yaml: models[1].threads`.
    public func source(of key: String) -> String {
        place.map { "\($0).\(key)" } ?? "--\(key)"
    }

    /// An error that names a flag, with the place in the list of models in its stead.
    public func located(_ error: ConfigurationError) -> ConfigurationError {
        guard place != nil, error.source.hasPrefix("--") else { return error }
        return ConfigurationError(source: source(of: String(error.source.dropFirst(2))), reason: error.reason)
    }

    /// The names by which clients may ask for the model, its own first.
    ///
    /// - Parameter ownName: what it is called where nothing was given.
    public func names(ownName: String) -> [String] {
        [servedModelName ?? ownName] + aliases
    }

    /// - Parameter models: the models of a server with all names that clients may use.
    /// - Throws: ``ConfigurationError`` if a name stands for two models, or twice for one.
    public static func checkNames(_ models: [(settings: ModelSettings, names: [String])]) throws(ConfigurationError) {
        var owners: [String: ModelSettings] = [:]
        for (settings, names) in models {
            for name in names {
                if let owner = owners[name] {
                    let other = owner == settings ? "itself" : owner.place ?? "another model"
                    throw ConfigurationError(
                        source: settings.source(of: "name"),
                        reason: "\"\(name)\" is already a name of \(other); give each model a name of its own")
                }
                owners[name] = settings
            }
        }
    }
}
