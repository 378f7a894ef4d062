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

/// One process of one or several engines, which are alike.
public struct EngineHostOptions: Sendable {
    /// Which of all engines the first one of this process is; the others follow it.
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
    /// Of each engine.
    public var threads = 1
    /// Cores for the threads; `nil` leaves it to the system.
    public var cpus: [Int]?
    /// Cores for the threads of each engine, where several divide the process's; engines beyond the last take ``cpus``.
    public var cpusOfEngines: [[Int]] = []
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
    /// Where each engine's link listens, one at least; they say how many engines the process hosts.
    public var addresses: [LinkAddress]
    public var maximumSequences = 64
    public var maximumTokensPerStep = 512
    /// Sequences that may wait; more are refused. A gateway bounds what it sends, so this is for many gateways at once.
    public var maximumWaiting = 8192
    /// Longest sequence, in tokens; `nil`, or more than the model was made for, takes the model's.
    public var contextLength: Int?
    /// Memory of each engine for keys and values, in bytes.
    public var keyValueBytes: Int
    /// How long the first step may take before the device counts as hung; `nil` for ever.
    public var probeTimeout: Duration?
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

    public init(modelPath: String, addresses: [LinkAddress], keyValueBytes: Int) {
        self.modelPath = modelPath
        self.addresses = addresses
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
        let group = MultiThreadedEventLoopGroup(numberOfThreads: max(1, options.addresses.count))
        let process: EngineProcess
        do throws(EngineHostError) {
            let faultPort = try attach(options)
            process = try start(
                options, on: group,
                attachProof: options.faultPortDirectory == nil
                    ? "" : faultPort == nil ? EngineHello.detached : EngineHello.attached
            ) { index, line in writeLine("engine \(index): \(line)") }
            if let faultPort { try watch(faultPort, for: process) }
            try SignalPipe.install([SIGTERM, SIGINT], on: group.next()) { process.terminate() }
        } catch {
            log(error.message)
            return error.exit
        }
        let exit = (try? process.ended.wait()) ?? .abandoned
        switch exit {
        case .drained: process.shutdown()
        case .deviceFailed: process.closeLinks()
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

    private static func watch(_ port: FaultPort, for process: EngineProcess) throws(EngineHostError) {
        let isWatched = port.watch { code, concernsAll in
            process.deviceFaulted("CUDA error \(code) on its device", concernsAll: concernsAll)
        }
        guard isWatched else { throw EngineHostError(message: "a thread for the fault port could not be started") }
    }

    /// Opens the model, loads it into executors of its device and serves it; see ``EngineProcess``.
    ///
    /// Blocks while the weights are packed.
    ///
    /// - Parameters:
    ///   - group: event loops, which the engines take in turn.
    ///   - attachProof: what is said of the device being shared; empty for what the executor says.
    ///   - log: takes an engine and one line for people; may be called on any thread.
    public static func start(
        _ options: EngineHostOptions,
        on group: any EventLoopGroup,
        attachProof: String = "",
        log: @escaping @Sendable (UInt32, String) -> Void
    ) throws(EngineHostError) -> EngineProcess {
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
        var services: [EngineService] = []
        do {
            var factory = ExecutorFactory(options, for: checkpoint)
            for (engine, address) in options.addresses.enumerated() {
                let index = options.index &+ UInt32(clamping: engine)
                services.append(
                    try start(
                        engine, at: address, options, &factory, tokenizerFingerprint, on: group.next(),
                        attachProof: attachProof, log: { log(index, $0) }))
            }
            return try EngineProcess(services, statusDescriptor: options.statusDescriptor)
        } catch {
            for service in services { service.shutdown() }
            throw error
        }
    }

    /// Starts one engine of the process.
    private static func start(
        _ engine: Int,
        at address: LinkAddress,
        _ options: EngineHostOptions,
        _ factory: inout ExecutorFactory,
        _ tokenizerFingerprint: Digest128,
        on eventLoop: any EventLoop,
        attachProof: String,
        log: @escaping @Sendable (String) -> Void
    ) throws(EngineHostError) -> EngineService {
        let model = factory.checkpoint.description
        let (executor, traits) = try factory.make(engine, log: log)
        var serviceOptions = EngineServiceOptions(
            index: options.index &+ UInt32(clamping: engine),
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
            address: address,
            drainTimeout: options.drainTimeout
        )
        serviceOptions.vocabulary = options.vocabulary
        serviceOptions.stalls = options.stalls
        serviceOptions.probesDevice = true
        serviceOptions.probeTimeout = options.probeTimeout
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
