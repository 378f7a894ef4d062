// Tandem — Apache-2.0

import CPUExecutor
import Configuration
import LanguageModel
import ModelStore
import Weights

/// An opened model and what follows from its description and the settings.
struct ModelFile {
    var gguf: GGUFFile
    var description: DecoderDescription
    /// Tokens of the longest sequence.
    var contextLength: Int

    /// - Parameter maximumContextLength: what was asked for; null for the model's own limit.
    init(path: String, maximumContextLength: Int?) throws {
        gguf = try GGUFFile(path: path)
        description = try DecoderDescription(gguf: gguf)
        let own = description.contextLength
        if let maximumContextLength, maximumContextLength > own {
            throw ConfigurationError(
                source: "--max-model-len",
                reason: "\(maximumContextLength) tokens are more than the \(own) this model was made for")
        }
        contextLength = maximumContextLength ?? own
    }

    /// KV bytes of one token.
    func keyValueBytesPerToken(_ compute: CPUCompute) -> UInt64 {
        UInt64(max(1, description.kvBytesPerToken(elementBytes: compute.keyValueElementBytes)))
    }

    /// Finds a model, fetches it if needed and shows the progress of that.
    static func resolve(_ nameOrPath: String?) throws -> ResolvedModel {
        let wanted = nameOrPath ?? ModelCatalogue.defaultModelName
        var progress = PullProgress(name: wanted, isTerminal: PullProgress.standardErrorIsTerminal)
        do {
            return try ModelStore().resolve(wanted) { progress.report($0) }
        } catch {
            progress.reportInterruption()
            throw error
        }
    }
}

extension CPUComputeSetting {
    /// The arithmetic that is used for a model.
    func compute(for file: ModelFile) -> CPUCompute {
        switch self {
        case .auto: CPUCompute.best(for: file.gguf)
        case .int8: .int8
        case .bf16: .bf16
        case .f32: .f32
        }
    }
}
