// Tandem — Apache-2.0

public import CPUExecutor
public import EngineLink
import Glibc
public import Grammar
public import InferenceEngine
public import LanguageModel
public import NIOCore
import NIOPosix
public import Requests
import Weights

/// One engine process.
public struct EngineHostOptions: Sendable {
    /// Which of its group's engines this is.
    public var index: UInt32 = 0
    /// A GGUF file or a directory.
    public var modelPath: String
    public var loadFormat = LoadFormat.auto
    public var ablation = Ablation.full
    /// A GGUF file or a directory with the tokenizer that gateways use; `nil` if it is the model's own.
    public var tokenizerPath: String?
    /// What the model is called; `nil` takes the name in the file.
    public var modelName: String?
    public var device = EngineDevice.cpu
    public var compute: CPUCompute = .int8
    public var threads = 1
    /// Cores for the threads; `nil` leaves it to the system.
    public var cpus: [Int]?
    /// Added to the compute threads' niceness.
    public var niceIncrement: Int32 = 0
    /// The largest instruction set to use: 0 portable, 1 AVX2, 2 AVX-512; `nil` for the best there is.
    public var instructionSet: Int?
    /// How long an idle compute thread polls before it sleeps, in nanoseconds; `nil` for the executor's default.
    public var spinNanoseconds: UInt64?
    /// A memory file in which the engines of a machine share packed weights; `nil` keeps them private.
    public var weightsDescriptor: Int32?
    /// A socket to the supervisor, handed over; `nil` if there is none.
    public var statusDescriptor: Int32?
    public var address: LinkAddress
    public var maximumSequences = 64
    public var maximumTokensPerStep = 512
    /// Sequences that may wait; more are refused. A gateway bounds what it sends, so this is for many gateways at once.
    public var maximumWaiting = 8192
    /// Longest sequence, in tokens; `nil`, or more than the model was made for, takes the model's.
    public var contextLength: Int?
    /// Memory for keys and values, in bytes.
    public var keyValueBytes: Int
    /// Whether steps are planned one ahead.
    public var asynchronous = true
    /// Most tokens that are guessed ahead for a sequence; 0 guesses none.
    public var draftTokens = 0
    /// Seed of the block hashes; the engines of a group have the same.
    public var hashSeed: UInt64 = 0
    /// `nil` computes it from the file with ``TokenizerFingerprint``; a gateway must come to the same.
    public var tokenizerFingerprint: Digest128?
    /// How long sequences may run on after a drain began.
    public var drainTimeout: TimeAmount = .seconds(30)
    /// Makes the vocabulary for grammars of a model with so many tokens; `nil` refuses requests that have one.
    public var vocabulary: (@Sendable (Int) throws -> TokenVocabulary)?
    /// Host work that is added for a study.
    public var stalls = HostStalls()
    /// For tests: directory of an MPS daemon whose client the engine becomes, to fail as a CUDA program does; `nil` for
    /// none.
    public var faultPortDirectory: String?

    public init(modelPath: String, address: LinkAddress, keyValueBytes: Int) {
        self.modelPath = modelPath
        self.address = address
        self.keyValueBytes = keyValueBytes
    }
}

/// The body of an engine process.
public enum EngineHost {
    /// Serves until the engine is told to end, its device or its supervisor is gone. SIGTERM and SIGINT begin a drain;
    /// the second one ends the engine at once.
    ///
    /// Blocks the calling thread, which should be the process's first. The device may still compute when this returns:
    /// exit with the result's raw value, and do nothing else before.
    public static func run(_ options: EngineHostOptions) -> EngineExit {
        _ = signal(SIGPIPE, SIG_IGN)
        let log: @Sendable (String) -> Void = { writeLine("engine \(options.index): \($0)") }
        let eventLoop = MultiThreadedEventLoopGroup(numberOfThreads: 1).next()
        let service: EngineService
        do throws(EngineHostError) {
            let faultPort = try attach(options)
            service = try start(
                options, on: eventLoop,
                attachProof: options.faultPortDirectory == nil
                    ? "" : faultPort == nil ? EngineHello.detached : EngineHello.attached, log: log)
            if let faultPort { try watch(faultPort, for: service) }
            try SignalPipe.install([SIGTERM, SIGINT], on: eventLoop) { service.terminate() }
        } catch {
            log(error.message)
            return error.isPermanent ? .misconfigured : .startFailed
        }
        let exit = (try? service.ended.wait()) ?? .abandoned
        switch exit {
        case .drained: service.shutdown()
        case .deviceFailed: try? service.closeLink().wait()
        // At once: the server takes no new clients before all of its old ones are gone.
        case .deviceFault: break
        case .startFailed, .abandoned, .supervisorGone, .misconfigured: break
        }
        return exit
    }

    private static func attach(_ options: EngineHostOptions) throws(EngineHostError) -> FaultPort? {
        guard let directory = options.faultPortDirectory else { return nil }
        do {
            return try FaultPort(pipeDirectory: directory)
        } catch {
            guard case .refused(let code) = error else { return nil }
            let remedy =
                code == 808 || code == 809
                ? ": it has as many clients as it can have; lower --engines, or end others" : ""
            throw EngineHostError(message: "the MPS server refuses the engine with CUDA error \(code)\(remedy)")
        }
    }

    private static func watch(_ port: FaultPort, for service: EngineService) throws(EngineHostError) {
        let isWatched = port.watch { code, concernsAll in
            service.deviceFaulted("CUDA error \(code) on its device", concernsAll: concernsAll)
        }
        guard isWatched else { throw EngineHostError(message: "a thread for the fault port could not be started") }
    }

    /// Opens the model, loads it into an executor of its device and serves it; see ``EngineService``.
    ///
    /// Blocks while the weights are packed.
    public static func start(
        _ options: EngineHostOptions,
        on eventLoop: any EventLoop,
        attachProof: String = "",
        log: @escaping @Sendable (String) -> Void
    ) throws(EngineHostError) -> EngineService {
        let checkpoint: Checkpoint
        do {
            checkpoint = try Checkpoint(
                path: options.modelPath, loadFormat: options.loadFormat, ablation: options.ablation)
        } catch {
            throw EngineHostError(message: "\(error)", isPermanent: true)
        }
        let tokenizerFingerprint: Digest128
        do {
            tokenizerFingerprint =
                try options.tokenizerFingerprint
                ?? TokenizerFingerprint.of(checkpoint, tokenizerPath: options.tokenizerPath)
        } catch {
            throw EngineHostError(message: "\(error)", isPermanent: true)
        }
        let model = checkpoint.description
        let (executor, traits) = try ExecutorFactory.make(options, for: checkpoint, log: log)
        var serviceOptions = EngineServiceOptions(
            index: options.index,
            modelName: options.modelName ?? model.name,
            tokenizerFingerprint: tokenizerFingerprint,
            vocabularySize: model.vocabularySize,
            scheduler: SchedulerConfiguration(
                slots: options.maximumSequences,
                tokensPerStep: options.maximumTokensPerStep,
                contextLength: min(options.contextLength ?? model.contextLength, model.contextLength),
                maximumWaiting: options.maximumWaiting,
                vocabularySize: model.vocabularySize,
                asynchronous: options.asynchronous,
                draftTokens: options.draftTokens,
                modelFingerprint: traits.modelFingerprint,
                hashSeed: options.hashSeed
            ),
            keyValueBytes: options.keyValueBytes,
            groups: traits.groups,
            address: options.address,
            statusDescriptor: options.statusDescriptor,
            drainTimeout: options.drainTimeout
        )
        serviceOptions.vocabulary = options.vocabulary
        serviceOptions.stalls = options.stalls
        serviceOptions.probesDevice = true
        serviceOptions.attachProof = attachProof.isEmpty ? traits.attachProof : attachProof
        let service = try EngineService.start(
            executor: executor,
            options: serviceOptions,
            on: eventLoop,
            now: monotonicNanoseconds,
            log: log
        )
        let isWatched = traits.weights?.watch {
            service.deviceFaulted("the process that holds the engine's weights is gone", concernsAll: false)
        }
        if isWatched == false { log("no thread can be had to watch the process that holds the weights") }
        return service
    }

    @Sendable static func monotonicNanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000 &+ UInt64(truncatingIfNeeded: time.tv_nsec)
    }

    /// One write, so that lines of several processes do not mix.
    private static func writeLine(_ text: String) {
        let line = Array("\(text)\n".utf8)
        _ = write(STDERR_FILENO, line, line.count)
    }
}
