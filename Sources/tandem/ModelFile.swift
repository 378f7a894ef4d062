// Tandem — Apache-2.0

import ArgumentParser
import CPUExecutor
import Configuration
import JSON
import LanguageModel
import ModelStore
import Tokenization
import Weights

/// Which model is opened, and how.
struct ModelChoice {
    /// A GGUF file or a directory.
    var path: String
    var loadFormat = LoadFormat.auto
    var ablation = Ablation.full
    /// Where the tokenizer is; null for the model's own.
    var tokenizer: String?

    init(
        path: String, loadFormat: LoadFormatSetting = .auto, ablation: AblationSetting = .full, tokenizer: String? = nil
    ) {
        self.path = path
        self.loadFormat = loadFormat.format
        self.ablation = ablation.ablation
        self.tokenizer = tokenizer
    }

    /// The flags that make this choice in a child process.
    var arguments: [String] {
        ["--model", path, "--load-format", loadFormat.rawValue, "--ablation", ablation.rawValue]
            + (tokenizer.map { ["--tokenizer", $0] } ?? [])
    }
}

/// The flags of a process that opens a model.
struct ModelChoiceFlags: ParsableArguments {
    @Option var model: String
    @Option var loadFormat: LoadFormatSetting = .auto
    @Option var ablation: AblationSetting = .full
    @Option var tokenizer: String?

    var choice: ModelChoice {
        ModelChoice(path: model, loadFormat: loadFormat, ablation: ablation, tokenizer: tokenizer)
    }
}

/// An opened model and what follows from its description and the settings.
struct ModelFile {
    var checkpoint: Checkpoint
    /// Tokens of the longest sequence.
    var contextLength: Int
    private var tokenizerPath: String?

    var description: DecoderDescription { checkpoint.description }
    var tensors: any TensorSource { checkpoint.tensors }

    /// - Parameter maximumContextLength: what was asked for; null for the model's own limit.
    init(_ choice: ModelChoice, maximumContextLength: Int?) throws {
        checkpoint = try Checkpoint(path: choice.path, loadFormat: choice.loadFormat, ablation: choice.ablation)
        tokenizerPath = choice.tokenizer
        let own = checkpoint.description.contextLength
        if let maximumContextLength, maximumContextLength > own {
            throw ConfigurationError(
                source: "--max-model-len",
                reason: "\(maximumContextLength) tokens are more than the \(own) this model was made for")
        }
        contextLength = maximumContextLength ?? own
    }

    /// - Throws: `ConfigurationError` naming the remedy if the model has no tokenizer and none was given.
    func checkTokenizer() throws {
        guard tokenizerPath == nil, !checkpoint.hasTokenizer else { return }
        throw ConfigurationError(
            source: "--tokenizer",
            reason: "\(checkpoint.path) has no tokenizer.json; give the path of a .gguf file, or of a directory with a "
                + "tokenizer.json")
    }

    /// The model's tokenizer, or that which was given.
    func tokenizer() throws -> Tokenizer {
        try checkTokenizer()
        if let tokenizerPath { return try Tokenizer(path: tokenizerPath) }
        if let gguf = checkpoint.gguf { return try Tokenizer(gguf: gguf) }
        return try Tokenizer(directory: checkpoint.path)
    }

    /// Finds a model, fetches it if needed and shows the progress of that.
    ///
    /// - Parameters:
    ///   - update: whether a hub is asked for changes of a model that is here.
    ///   - check: refuses what cannot be served, before it is fetched.
    static func resolve(
        _ nameOrPath: String?, update: Bool = false, check: ModelCheck = .families
    ) throws -> ResolvedModel {
        let wanted = nameOrPath ?? ModelCatalogue.defaultModelName
        var progress = PullProgress(name: wanted, isTerminal: PullProgress.standardErrorIsTerminal)
        var store = ModelStore()
        store.check = check
        do {
            return try store.resolve(wanted, update: update) { progress.report($0) }
        } catch {
            progress.reportInterruption()
            throw error
        }
    }
}

extension ModelCheck {
    /// Refuses what no family of ours is.
    static let families = ModelCheck(
        configuration: { bytes in
            do {
                guard let json = try JSONParser.parse(bytes).object else { return "config.json is no JSON object" }
                _ = try ModelConfiguration(json: json, path: "config.json").description(name: "")
                return nil
            } catch {
                return "\(error)"
            }
        },
        ggufArchitecture: { architecture in
            let supported = DecoderDescription.supportedArchitectures
            if supported.contains(architecture) { return nil }
            return "architecture \"\(architecture)\" is not supported; supported: \(supported.joined(separator: ", "))"
        },
        ggufName: { name in
            // Publishers call a file by most of its weights' format: Q3_K_M is Q3_K, with some of Q5_K.
            let words = name.uppercased().split { "-.".contains($0) }.filter { $0 != "GGUF" }
            let formats = ["Q1_", "Q2_", "Q3_", "IQ1_", "IQ2_", "IQ3_", "IQ4_", "TQ1_", "TQ2_", "MXFP4", "NVFP4"]
            guard let label = words.last, formats.contains(where: label.hasPrefix) else { return nil }
            if TensorType.all.contains(where: { label.hasPrefix($0.name) }) { return nil }
            let supported = TensorType.all.map(\.name).joined(separator: ", ")
            return "\(name) has numbers of the format \(label), which is not supported; supported: \(supported)"
        })
}

extension CPUComputeSetting {
    /// The arithmetic that is used for a model.
    func compute(for file: ModelFile) -> CPUCompute {
        switch self {
        case .auto: CPUCompute.best(for: file.tensors)
        case .int8: .int8
        case .bf16: .bf16
        case .f32: .f32
        }
    }
}

extension LoadFormatSetting {
    var format: LoadFormat {
        switch self {
        case .auto: .auto
        case .dummy: .dummy
        }
    }
}

extension AblationSetting {
    var ablation: Ablation {
        switch self {
        case .full: .full
        case .attentionOnly: .attentionOnly
        case .mlpOnly: .mlpOnly
        }
    }
}
