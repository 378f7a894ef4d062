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
    /// The file or directory.
    public let path: String
    public let description: DecoderDescription
    public let tensors: any TensorSource
    /// The GGUF file, if the model is one.
    public let gguf: GGUFFile?

    /// Opens a model and checks that all its tensors are there.
    ///
    /// - Parameters:
    ///   - path: a GGUF file.
    ///   - ablation: the variant to describe.
    /// - Throws: ``LanguageModelError`` naming the file and what is wrong with it.
    public init(path: String, ablation: Ablation = .full) throws(LanguageModelError) {
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
    }
}
