// Tandem — Apache-2.0

import CPUExecutor
import Configuration
import ModelStore

/// One model that is to be served: found, opened and checked.
struct ServeModel {
    var settings: ModelSettings
    var choice: ModelChoice
    /// Names that clients may use; the first is the one that responses carry.
    var names: [String]
    /// For what follows from the model's description; the supervisor holds no weights.
    var file: ModelFile
    var compute: CPUCompute
    /// Index of its first engine, among those of all models.
    var firstEngine = 0

    /// Finds a model, fetches it if needed, and opens it.
    ///
    /// - Throws: what is wrong with the model or its settings, with its place if a file lists several.
    init(_ settings: ModelSettings) throws {
        do {
            try self.init(finding: settings)
        } catch let error as ConfigurationError {
            throw settings.located(error)
        } catch {
            guard let place = settings.place else { throw error }
            throw ConfigurationError(source: place, reason: "\(error)")
        }
    }

    private init(finding settings: ModelSettings) throws {
        let found = try ModelFile.resolve(settings.model)
        self.settings = settings
        choice = ModelChoice(
            path: found.path, loadFormat: settings.loadFormat, ablation: settings.ablation,
            tokenizer: settings.tokenizer)
        names = settings.names(ownName: found.name)
        file = try ModelFile(choice, maximumContextLength: settings.maximumContextLength)
        try file.checkTokenizer()
        compute = settings.cpuCompute.compute(for: file)
    }

    /// Arguments of its engines, but those that are the same for all models.
    ///
    /// - Parameters:
    ///   - keyValueBytes: of each engine.
    ///   - simulatedModel: whose times a simulated GPU shows; null for its own.
    func engineArguments(keyValueBytes: UInt64, simulatedModel: String? = nil) -> [String] {
        choice.arguments + [
            "--served-model-name", names[0], "--max-model-len", "\(file.contextLength)",
            "--cpu-compute", compute.rawValue, "--max-num-seqs", "\(settings.maximumSequences)",
            "--max-num-batched-tokens", "\(settings.maximumBatchedTokens)",
            "--kv-cache-memory", "\(keyValueBytes)", "--prompt-lookup", "\(settings.promptLookup)",
        ] + (settings.asynchronousScheduling ? ["--async-scheduling"] : [])
            + (simulatedModel.map { ["--simulated-model", $0] } ?? [])
    }

    /// What the gateway is told of it.
    var gatewayModel: GatewayModel {
        GatewayModel(
            choice: choice, names: names, contextLength: file.contextLength, engines: settings.engines,
            firstEngine: firstEngine)
    }
}
