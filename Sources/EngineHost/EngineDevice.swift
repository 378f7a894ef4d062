// Tandem — Apache-2.0

import CPUExecutor
import InferenceEngine
import LanguageModel
import Requests

/// What computes an engine's steps.
public enum EngineDevice: Sendable {
    /// CPU cores, as the engine's options say.
    case cpu
}

/// What an engine knows of its model because of the executor that runs it.
struct ExecutorTraits: Sendable {
    /// Digest of the model as it runs there; block hashes depend on it.
    var modelFingerprint: Digest128
    /// Layers whose keys and values are kept alike.
    var groups: [KeyValueGroup]
}

/// The one place where an engine's executor is chosen.
enum ExecutorFactory {
    /// Makes the executor of the options' device for a model.
    static func make(
        _ options: EngineHostOptions, for checkpoint: Checkpoint
    ) throws(EngineHostError) -> (executor: any StepExecutor, traits: ExecutorTraits) {
        do throws(ExecutorError) {
            switch options.device {
            case .cpu: return try cpu(options, checkpoint)
            }
        } catch {
            throw EngineHostError(message: error.message, isPermanent: error.kind == .unsupported)
        }
    }

    private static func cpu(
        _ options: EngineHostOptions, _ checkpoint: Checkpoint
    ) throws(ExecutorError) -> (executor: any StepExecutor, traits: ExecutorTraits) {
        var settings = CPUExecutor.Options(
            compute: options.compute,
            threads: options.threads,
            weightsDescriptor: options.weightsDescriptor,
            cpus: options.cpus,
            niceIncrement: options.niceIncrement,
            instructionSet: options.instructionSet
        )
        if let spin = options.spinNanoseconds { settings.spinNanoseconds = spin }
        let model = checkpoint.description
        let executor = try CPUExecutor(model: model, file: checkpoint.tensors, options: settings)
        return (executor, ExecutorTraits(modelFingerprint: executor.modelFingerprint, groups: model.kvGroups))
    }
}
