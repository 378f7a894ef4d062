// Tandem — Apache-2.0

public import Weights

/// Where a model's numbers come from.
public enum LoadFormat: String, Sendable, Equatable, CaseIterable {
    /// By what the path is: a GGUF file, or a directory with safetensors files.
    case auto
    /// Seeded random numbers; only the model's configuration is read. For measurements without weights.
    case dummy
}

/// A model as it lies on disk: what it is, and where its tensors are.
public struct Checkpoint: Sendable {
    /// The file or directory that was opened; of a directory that holds one GGUF file and no configuration, that file.
    public let path: String
    public let description: DecoderDescription
    public let tensors: any TensorSource
    /// The GGUF file, if the model is one.
    public let gguf: GGUFFile?
    /// What its authors recommend for generating text; nothing, if the model is a GGUF file.
    public let generation: GenerationDefaults

    /// Whether a tokenizer is to be expected with the model: in the GGUF file, or as a `tokenizer.json`.
    public var hasTokenizer: Bool { gguf != nil || ModelPlace.exists(path + "/tokenizer.json") }

    /// Opens a model and checks that all its tensors are there.
    ///
    /// - Parameters:
    ///   - path: a GGUF file, a directory that holds one, or a directory with `config.json` and safetensors files.
    ///   - loadFormat: with `dummy`, a directory needs no more than its `config.json`.
    ///   - ablation: the variant to describe.
    /// - Throws: ``LanguageModelError`` naming the file and what is wrong with it.
    public init(
        path: String, loadFormat: LoadFormat = .auto, ablation: Ablation = .full
    ) throws(LanguageModelError) {
        switch try ModelPlace(path: path) {
        case .file(let path):
            try self.init(file: path, loadFormat: loadFormat, ablation: ablation)
        case .directory(let path):
            try self.init(directory: path, loadFormat: loadFormat, ablation: ablation)
        }
    }

    private init(file path: String, loadFormat: LoadFormat, ablation: Ablation) throws(LanguageModelError) {
        guard loadFormat == .auto else {
            throw LanguageModelError(
                path: path, subject: "load format dummy",
                reason: "it needs a directory with a config.json; a GGUF file has its own numbers")
        }
        let file: GGUFFile
        do {
            file = try GGUFFile(path: path)
        } catch {
            throw LanguageModelError(error)
        }
        self.path = path
        description = try DecoderDescription(gguf: file, ablation: ablation)
        tensors = file
        gguf = file
        generation = GenerationDefaults()
    }

    private init(directory path: String, loadFormat: LoadFormat, ablation: Ablation) throws(LanguageModelError) {
        let configuration = try ModelConfiguration(path: path + "/config.json")
        let generationPath = path + "/generation_config.json"
        generation = try GenerationDefaults(
            path: ModelPlace.exists(generationPath) ? generationPath : nil, configuration: configuration)
        self.path = path
        gguf = nil
        let name = ModelPlace.name(ofDirectory: path)
        switch loadFormat {
        case .auto:
            let model: SafetensorsModel
            do {
                model = try SafetensorsModel(directory: path)
            } catch {
                throw LanguageModelError(error)
            }
            description = try configuration.description(
                name: name, prefix: ModelConfiguration.prefix(in: model), ablation: ablation)
            tensors = model
            try description.validate(against: model)
        case .dummy:
            let model = try configuration.description(name: name, ablation: ablation)
            let type = try configuration.storedType()
            description = model
            do {
                tensors = try DummyTensors(
                    path: configuration.path,
                    shapes: model.roles.map { (model.tensorName($0), model.expectedShape($0)) },
                    type: type)
            } catch {
                throw LanguageModelError(error)
            }
        }
    }
}
