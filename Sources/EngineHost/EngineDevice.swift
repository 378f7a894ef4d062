// Tandem — Apache-2.0

import CPUExecutor
import CUDADriver
public import CUDAExecutor
import EngineLink
import Glibc
import InferenceEngine
public import LanguageModel
import Requests
import SimulatedExecutor
import VirtualDevice

/// What computes an engine's steps.
public enum EngineDevice: Sendable {
    /// CPU cores, as the engine's options say.
    case cpu
    /// A GPU that is simulated by the virtual device at a socket. Its times and bytes are those of another model if
    /// one is given; tokens are numbers of the served model's vocabulary either way.
    case simulated(socket: String, timedModel: DecoderDescription?)
    /// An NVIDIA GPU.
    case cuda(EngineGPU)
}

/// A GPU and how an engine uses it.
public struct EngineGPU: Sendable {
    /// Index, or UUID.
    public var selector: String
    /// The same bits for a row in any batch; slower.
    public var isDeterministic = false
    /// Engines on this GPU, this one included: each takes its part of the memory.
    public var engines = 1
    /// Part of the GPU's memory for all of them.
    public var memoryFraction = 0.9
    /// How the engines of this process divide it among themselves.
    public var priorities: [EnginePriority] = []
    public var partition = GPUPartition.none
    /// Where libraries and compiled kernels are looked for.
    public var environment: [String: String]

    public init(selector: String, environment: [String: String]) {
        self.selector = selector
        self.environment = environment
    }
}

/// What an engine knows of its model because of the executor that runs it.
struct ExecutorTraits: Sendable {
    /// Digest of the model as it runs there; block hashes depend on it.
    var modelFingerprint: Digest128
    /// Layers whose keys and values are kept alike.
    var groups: [KeyValueGroup]
    /// What the device says of being shared; see `EngineHello.attachProof`.
    var attachProof = ""
}

/// The one place where the executors of a process's engines are chosen.
struct ExecutorFactory {
    let checkpoint: Checkpoint
    private let options: EngineHostOptions
    /// What the first engine of a process made and the others use.
    private var shared: (model: SharedModel, traits: ExecutorTraits)?

    init(_ options: EngineHostOptions, for checkpoint: Checkpoint) {
        self.options = options
        self.checkpoint = checkpoint
    }

    /// Makes the executor of the options' device for one of the process's engines.
    mutating func make(
        _ engine: Int, log: @escaping @Sendable (String) -> Void
    ) throws(EngineHostError) -> sending (executor: any StepExecutor, traits: ExecutorTraits) {
        do throws(ExecutorError) {
            switch options.device {
            case .cpu: return try Self.cpu(engine, options, checkpoint)
            case .simulated(let socket, let timed):
                return try Self.simulated(engine, options, timed ?? checkpoint.description, checkpoint, socket: socket)
            case .cuda(let gpu): return try cuda(engine, gpu, log)
            }
        } catch {
            throw EngineHostError(
                message: error.message, isPermanent: error.kind == .unsupported, concernsAll: error.concernsAll)
        }
    }

    private static func cpu(
        _ engine: Int, _ options: EngineHostOptions, _ checkpoint: Checkpoint
    ) throws(ExecutorError) -> (executor: any StepExecutor, traits: ExecutorTraits) {
        var settings = CPUExecutor.Options(
            compute: options.compute,
            threads: options.threads,
            weightsDescriptor: options.weightsDescriptor,
            cpus: options.cpusOfEngines.indices.contains(engine) ? options.cpusOfEngines[engine] : options.cpus,
            niceIncrement: options.niceIncrement,
            instructionSet: options.instructionSet
        )
        if let spin = options.spinNanoseconds { settings.spinNanoseconds = spin }
        let model = checkpoint.description
        let executor = try CPUExecutor(model: model, file: checkpoint.tensors, options: settings)
        return (executor, ExecutorTraits(modelFingerprint: executor.modelFingerprint, groups: model.kvGroups))
    }

    private static func simulated(
        _ engine: Int, _ options: EngineHostOptions, _ timed: DecoderDescription, _ checkpoint: Checkpoint,
        socket: String
    ) throws(ExecutorError) -> (executor: any StepExecutor, traits: ExecutorTraits) {
        let connection: DeviceConnection
        do throws(DeviceProtocolError) {
            connection = try DeviceConnection(path: socket)
        } catch {
            throw ExecutorError(kind: .fatal, message: error.description)
        }
        let model = checkpoint.description
        let executor = try SimulatedExecutor(
            timed: timed,
            options: SimulatedExecutor.Options(
                engine: options.index &+ UInt32(clamping: engine), pid: getpid(), vocabularySize: model.vocabularySize,
                vectorSize: model.hiddenSize),
            link: connection)
        return (executor, ExecutorTraits(modelFingerprint: executor.modelFingerprint, groups: timed.kvGroups))
    }

    private mutating func cuda(
        _ engine: Int, _ gpu: EngineGPU, _ log: @escaping @Sendable (String) -> Void
    ) throws(ExecutorError) -> sending (executor: any StepExecutor, traits: ExecutorTraits) {
        guard let selector = CUDADeviceSelector(gpu.selector) else {
            throw ExecutorError(
                kind: .unsupported, message: "cuda:\(gpu.selector) is no GPU; name its index or its UUID")
        }
        var settings = CUDAExecutor.Options(device: selector, environment: gpu.environment)
        settings.isDeterministic = gpu.isDeterministic
        settings.engines = gpu.engines
        settings.memoryFraction = gpu.memoryFraction
        settings.process = ProcessShare(
            engines: options.addresses.count, place: engine, priorities: gpu.priorities, partition: gpu.partition)
        settings.report = log
        if let shared { return (try CUDAExecutor(beside: shared.model, options: settings), shared.traits) }
        let model = checkpoint.description
        let executor = try CUDAExecutor(model: model, file: checkpoint.tensors, options: settings)
        let fingerprint = ModelFingerprint.model(
            weights: ModelFingerprint.weights(model: model, file: checkpoint.tensors), ablation: model.ablation)
        var traits = ExecutorTraits(modelFingerprint: fingerprint, groups: model.kvGroups)
        // A daemon that is named and not there is no error to CUDA: the engine runs on without it.
        if gpu.environment["CUDA_MPS_PIPE_DIRECTORY"] != nil || executor.usesMPS {
            traits.attachProof = executor.usesMPS ? EngineHello.attached : EngineHello.detached
        }
        shared = (executor.shared, traits)
        return (executor, traits)
    }
}
