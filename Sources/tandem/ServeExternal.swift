// Tandem — Apache-2.0

import Configuration
import DeviceMonitor
import ModelStore
import Supervision

/// One model that is to be served by engines which a command starts.
struct ServeExternal {
    var settings: ModelSettings
    /// What clients are told; the engines may say another.
    var name: String
    var engine: ExternalEngine

    /// Finds the program, and the model if the program takes files only.
    ///
    /// - Throws: what is wrong with the program or the model, with its place if a file lists several.
    init(_ settings: ModelSettings, _ external: ExternalEngineSettings, environment: [String: String]) throws {
        self.settings = settings
        let source = external.preset == nil ? "engine-command" : "engine"
        let command = external.command
        let executable: String
        do {
            executable = try ExternalEngine.executable(command.program, path: environment["PATH"])
        } catch {
            throw ConfigurationError(source: settings.source(of: source), reason: "\(error)")
        }
        let model = try Self.model(settings, external)
        if command.placeholders.contains(.model), model.path == nil {
            throw ConfigurationError(
                source: settings.source(of: source),
                reason: "it needs a model: tandem serve MODEL, a name or a path that \(command.program) understands")
        }
        name = settings.servedModelName ?? model.name ?? Self.last(of: command.program)
        let gpu = try external.gpu.map { (gpu) throws(ConfigurationError) in try Self.visible(gpu, environment) }
        let values = Values(
            engines: settings.engines, gpu: gpu ?? "0", memory: external.memoryFraction,
            model: model.path ?? "", name: name)
        engine = ExternalEngine(
            executable: executable, name: external.preset?.rawValue ?? Self.last(of: command.program),
            environment: Self.environment(environment, gpu: gpu)
        ) { start in
            let filled = command.command { values.text(of: $0, start) }
            return ExternalEngine.Command(words: filled.words, variables: filled.variables)
        }
    }

    /// What is the same for all engines.
    private struct Values {
        var engines: Int
        var gpu: String
        var memory: MemoryFraction
        var model: String
        var name: String

        func text(of placeholder: CommandTemplate.Placeholder, _ start: ExternalEngine.Start) -> String {
            switch placeholder {
            case .port: "\(start.port)"
            case .host: "127.0.0.1"
            case .gpu: gpu
            case .memoryFraction: "\(memory)"
            case .freeMemoryFraction: memory.ofFree(running: start.running)
            case .index: "\(start.index)"
            case .engines: "\(engines)"
            case .threads: "\(start.threads)"
            case .model: model
            case .name: name
            }
        }
    }

    private static func model(
        _ settings: ModelSettings, _ external: ExternalEngineSettings
    ) throws -> (name: String?, path: String?) {
        // Others find names of a hub by themselves.
        guard external.preset?.needsFile == true else {
            return (settings.model.map(modelName), settings.model)
        }
        do {
            let found = try ModelFile.resolve(settings.model, check: ModelCheck.none)
            return (found.name, found.path)
        } catch {
            guard let place = settings.place else { throw error }
            throw ConfigurationError(source: place, reason: "\(error)")
        }
    }

    /// Of a path its last part; the name of a hub stays as it is.
    private static func modelName(_ model: String) -> String {
        guard model.hasPrefix("/") || model.hasPrefix(".") || model.hasSuffix(".gguf") else { return model }
        let last = last(of: model)
        return last.hasSuffix(".gguf") ? String(last.dropLast(5)) : last
    }

    private static func last(of path: String) -> String {
        path.split(separator: "/").last.map(String.init) ?? path
    }

    /// The environment without what is meant for this server: an engine may be another Tandem.
    private static func environment(_ environment: [String: String], gpu: String?) -> [String: String] {
        let own = Set(ServeConfiguration.keys.map { ServeConfiguration.variable(for: $0) } + ["TANDEM_CONFIG"])
        var passed = environment.filter { !own.contains($0.key) }
        if let gpu { passed["CUDA_VISIBLE_DEVICES"] = gpu }
        return passed
    }

    /// What is called so: as for engines of Tandem, an index counts among the GPUs that this process may use.
    private static func visible(_ gpu: String, _ environment: [String: String]) throws(ConfigurationError) -> String {
        let visible = (environment["CUDA_VISIBLE_DEVICES"] ?? "").split(separator: ",")
        if let index = Int(gpu), !visible.isEmpty, !visible.indices.contains(index) {
            throw ConfigurationError(
                source: "--device", reason: "cuda:\(index) is not among the \(visible.count) of CUDA_VISIBLE_DEVICES")
        }
        return switch ManagedSource.device(gpu, environment) {
        case .index(let index): "\(index)"
        case .uuid(let uuid): uuid
        }
    }
}
