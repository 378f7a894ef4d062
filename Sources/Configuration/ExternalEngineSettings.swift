// Tandem — Apache-2.0

/// Which program computes.
public enum EngineSetting: String, Sendable, CaseIterable {
    /// Tandem's own engines.
    case tandem
    case vllm
    case sglang
    case llamaServer = "llama-server"

    /// The command that starts it; null for Tandem's own.
    public var command: String? {
        switch self {
        case .tandem: nil
        case .vllm:
            "vllm serve {model} --host {host} --port {port} --served-model-name {name} "
                + "--gpu-memory-utilization {memory-fraction}"
        case .sglang:
            "python3 -m sglang.launch_server --model-path {model} --host {host} --port {port} "
                + "--served-model-name {name} --mem-fraction-static {free-memory-fraction}"
        case .llamaServer:
            "llama-server --model {model} --host {host} --port {port} --alias {name} --threads {threads}"
        }
    }

    /// Whether it takes files only, and no names of a hub.
    public var needsFile: Bool { self == .llamaServer }
}

/// Engines that are servers of the OpenAI API, started by a command.
public struct ExternalEngineSettings: Sendable, Equatable {
    public var command: CommandTemplate
    /// What the command was made from; null if it was given.
    public var preset: EngineSetting?
    /// Share of a GPU's memory for each engine.
    public var memoryFraction: MemoryFraction
    /// Of a GPU, its number or UUID; null if none was named.
    public var gpu: String?

    /// Whether the command says how much of a GPU's memory an engine may take.
    public var limitsMemory: Bool {
        !command.placeholders.isDisjoint(with: [.memoryFraction, .freeMemoryFraction])
    }

    /// Settings that Tandem's own engines understand, and others do not.
    static let foreignKeys = [
        "tokenizer", "load-format", "ablation", "cpu-compute", "max-model-len", "max-num-seqs",
        "max-num-batched-tokens", "kv-cache-memory", "async-scheduling", "prompt-lookup", "engines-per-process",
    ]

    /// Settings that only have a meaning for engines like these.
    static let ownKeys = ["engine-arguments", "engine-memory-fraction"]

    /// - Returns: null for Tandem's own engines.
    init?(_ layers: SettingLayers, engines: Int) throws(ConfigurationError) {
        let setting = try layers.choice("engine", of: EngineSetting.self)
        var given = layers.given("engine-command")
        if let entry = layers.entry, entry.values["engine"] != nil, entry.values["engine-command"] == nil {
            // What an entry says holds for its model.
            given = nil
        }
        if setting == .tandem, layers.entry?.values["engine-command"] == nil, let found = given {
            // Whichever is said closer to the program counts: flag, environment, file.
            guard let own = layers.rank("engine"), let other = layers.rank("engine-command"), own != other else {
                throw found.error("it says how engines are started, and so does --engine tandem; take one of both")
            }
            // What is said of the command falls with it.
            if own < other { return nil }
        }
        if let given, let setting, setting != .tandem, layers.entry?.values["engine-command"] == nil {
            throw given.error(
                "it says how engines are started, and so does --engine \(setting.rawValue); take one of both")
        }
        guard let given = given ?? setting?.command.map({ GivenSetting(text: $0, source: "--engine") }) else {
            for key in Self.ownKeys {
                guard let needless = layers.given(key), Self.isMeant(key, layers) else { continue }
                throw needless.error("it is for engines of --engine or --engine-command, and neither is given")
            }
            return nil
        }
        preset = layers.given("engine-command") == given ? nil : setting
        command = try Self.command(given, layers)
        gpu = Self.gpu(layers.given("device"))
        let fraction = layers.given("engine-memory-fraction")
        memoryFraction = try Self.fraction(fraction, engines: engines)
        if let fraction, !limitsMemory, Self.isMeant("engine-memory-fraction", layers) {
            throw fraction.error("the command has no {memory-fraction}, so nothing would come of it")
        }
        guard command.placeholders.contains(.port) else {
            throw given.error("it has no {port}: every engine needs a port of its own, which is chosen at its start")
        }
        for key in Self.foreignKeys {
            guard let needless = layers.given(key), Self.isMeant(key, layers) else { continue }
            throw needless.error(
                "it is for Tandem's own engines, and \(command.program) is none; say it in words of its own by "
                    + (preset == nil ? "--engine-command" : "--engine-arguments"))
        }
        guard layers.entry?.aliases.isEmpty != false else {
            throw ConfigurationError(
                source: "\(layers.entry?.place ?? "").aliases",
                reason: "an engine of this kind says itself by which names it is asked for; give it more by its command"
            )
        }
    }

    /// Whether a setting is meant for this model: what stands beside a list may be meant for others.
    private static func isMeant(_ key: String, _ layers: SettingLayers) -> Bool {
        layers.entry.map { $0.values[key] != nil } ?? true
    }

    private static func command(
        _ given: GivenSetting, _ layers: SettingLayers
    ) throws(ConfigurationError) -> CommandTemplate {
        var source = given
        do throws(CommandTemplateError) {
            var command = try CommandTemplate(given.text)
            if let more = layers.given("engine-arguments") {
                source = more
                try command.append(more.text)
            }
            return command
        } catch {
            throw source.error("\(error)")
        }
    }

    private static func gpu(_ device: GivenSetting?) -> String? {
        guard let device, device.text.hasPrefix("cuda:") else { return nil }
        return String(device.text.dropFirst("cuda:".count))
    }

    private static func fraction(_ given: GivenSetting?, engines: Int) throws(ConfigurationError) -> MemoryFraction {
        guard let given else { return MemoryFraction(total: 0.9, engines: engines) ?? .none }
        guard let total = Double(given.text), total > 0, total <= 1 else {
            throw given.error("\"\(given.text)\" is no share such as 0.9, above 0 and at most 1")
        }
        guard let fraction = MemoryFraction(total: total, engines: engines) else {
            throw given.error("\(given.text) is too little for \(engines) engines: raise it or lower --engines")
        }
        return fraction
    }
}

/// The part of a device's memory that each of several equal engines gets.
public struct MemoryFraction: Sendable, Equatable, CustomStringConvertible {
    /// Of the whole, rounded down: all engines together never get more than was asked for.
    public let tenThousandths: Int
    public let engines: Int

    static let none = MemoryFraction(tenThousandths: 0, engines: 1)

    private init(tenThousandths: Int, engines: Int) {
        self.tenThousandths = tenThousandths
        self.engines = engines
    }

    /// - Parameter total: share of all engines together, above 0 and at most 1.
    /// - Returns: null if nothing is left for an engine.
    public init?(total: Double, engines: Int) {
        // What people write with four digits is not always a number of the machine.
        let parts = Int((total * 10_000 + 1e-6).rounded(.down)) / max(1, engines)
        guard parts > 0 else { return nil }
        self.init(tenThousandths: parts, engines: max(1, engines))
    }

    /// Of all engines together.
    public var totalTenThousandths: Int { tenThousandths * engines }

    /// `0.45`.
    public var description: String { Self.text(tenThousandths) }

    /// The same part as a share of what is left while other engines have theirs: for programs that count so.
    public func ofFree(running: Int) -> String {
        let free = 10_000 - tenThousandths * min(max(0, running), engines - 1)
        return Self.text(tenThousandths * 10_000 / max(tenThousandths, free))
    }

    private static func text(_ tenThousandths: Int) -> String {
        var digits = String(tenThousandths)
        digits = String(repeating: "0", count: max(0, 5 - digits.count)) + digits
        var fraction = digits.suffix(4)
        while fraction.hasSuffix("0") && fraction.count > 1 { fraction = fraction.dropLast() }
        return "\(digits.dropLast(4)).\(fraction)"
    }
}
