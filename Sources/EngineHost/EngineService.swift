// Tandem — Apache-2.0

public import EngineLink
import Glibc
public import Grammar
public import InferenceEngine
public import LanguageModel
public import NIOCore
public import Requests

/// What an engine serves and where, apart from the executor.
public struct EngineServiceOptions: Sendable {
    /// Which of its group's engines this is.
    public var index: UInt32
    public var modelName: String
    public var tokenizerFingerprint: Digest128
    public var vocabularySize: Int
    /// Limits, model fingerprint and hash seed.
    public var scheduler: SchedulerConfiguration
    /// Memory for keys and values, in bytes.
    public var keyValueBytes: Int
    public var groups: [KeyValueGroup]
    public var address: LinkAddress
    public var link = EngineLinkServer.Limits()
    /// How long sequences may run on after a drain began.
    public var drainTimeout: TimeAmount
    /// Makes the vocabulary for grammars of a model with so many tokens; called once, on a thread of its own, when the
    /// first request with a grammar comes. `nil` refuses such requests.
    public var vocabulary: (@Sendable (Int) throws -> TokenVocabulary)?
    /// Host work that is added for a study.
    public var stalls = HostStalls()
    /// Whether a few tokens are computed before anybody is told that the engine serves.
    public var probesDevice = false
    /// How long that may take before the device counts as hung; `nil` for ever.
    public var probeTimeout: Duration?
    /// What the device says of being shared; see ``EngineHello/attachProof``.
    public var attachProof = ""

    public init(
        index: UInt32,
        modelName: String,
        tokenizerFingerprint: Digest128,
        vocabularySize: Int,
        scheduler: SchedulerConfiguration,
        keyValueBytes: Int,
        groups: [KeyValueGroup],
        address: LinkAddress,
        drainTimeout: TimeAmount = .seconds(30)
    ) {
        self.index = index
        self.modelName = modelName
        self.tokenizerFingerprint = tokenizerFingerprint
        self.vocabularySize = vocabularySize
        self.scheduler = scheduler
        self.keyValueBytes = keyValueBytes
        self.groups = groups
        self.address = address
        self.drainTimeout = drainTimeout
    }
}

/// One engine: a step loop behind a link server, with any executor.
///
/// What it knows of requests lives on one event loop; the step thread hands over each step's outputs with one hop. It
/// runs until ``ended`` has a value: after a drain, when the device or the supervisor is gone, or when a drain takes too
/// long.
public final class EngineService: Sendable {
    /// Why the service ended. It is still to be shut down then.
    public var ended: EventLoopFuture<EngineExit> { end.futureResult }
    /// Where the link listens.
    public let address: LinkAddress
    /// What gateways and the supervisor are told.
    public let hello: EngineHello

    let eventLoop: any EventLoop
    private let end: EventLoopPromise<EngineExit>
    private let loop: StepLoop
    private let server: EngineLinkServer
    private let core: NIOLoopBoundBox<EngineCore?>

    /// Prepares the executor on its own thread and listens. Blocks meanwhile, so it must not be called on an event loop.
    ///
    /// - Parameters:
    ///   - executor: handed over to the step thread.
    ///   - eventLoop: where connections and request bookkeeping live.
    ///   - now: a monotonic clock in nanoseconds.
    ///   - log: takes one line for people; may be called on any thread.
    public static func start(
        executor: sending any StepExecutor,
        options: EngineServiceOptions,
        on eventLoop: any EventLoop,
        now: @escaping @Sendable () -> UInt64,
        log: @escaping @Sendable (String) -> Void
    ) throws(EngineHostError) -> EngineService {
        let box = NIOLoopBoundBox.makeEmptyBox(valueType: EngineCore.self, eventLoop: eventLoop)
        let probe = DeviceProbe(eventLoop: eventLoop, vocabularySize: options.vocabularySize)
        let handlers = StepLoopHandlers { report in
            eventLoop.execute {
                // Until there is a core, all that runs is the probe.
                if let core = box.value { core.deliver(report) } else { probe.deliver(report) }
            }
        } fatal: { error in
            eventLoop.execute {
                if let core = box.value { core.deviceFailed(error) } else { probe.deviceFailed(error) }
            }
        }
        let loop: StepLoop
        do {
            loop = try StepLoop(
                executor: executor,
                configuration: options.scheduler,
                keyValueBytes: options.keyValueBytes,
                groups: options.groups,
                options: StepLoopOptions(stalls: options.stalls),
                now: now,
                handlers: handlers
            )
        } catch {
            throw EngineHostError(
                message: "cannot prepare the device: \(error.message)",
                isPermanent: error.kind == .unsupported,
                concernsAll: error.concernsAll
            )
        }
        do {
            let probed =
                options.probesDevice
                ? try probe.run(on: loop, timeout: options.probeTimeout) : SchedulerCounters()
            return try start(loop, probed, box, options, on: eventLoop, log: log)
        } catch {
            loop.stop()
            // A device that hangs lets nobody wait for its thread, which ends with the process.
            if !probe.hasTimedOut { loop.join() }
            let found = error as? EngineHostError
            throw EngineHostError(message: found?.message ?? "\(error)", concernsAll: found?.concernsAll == true)
        }
    }

    private static func start(
        _ loop: StepLoop,
        _ probed: SchedulerCounters,
        _ box: NIOLoopBoundBox<EngineCore?>,
        _ options: EngineServiceOptions,
        on eventLoop: any EventLoop,
        log: @escaping @Sendable (String) -> Void
    ) throws -> EngineService {
        let hello = EngineHello(
            engineIndex: options.index,
            pid: getpid(),
            modelName: options.modelName,
            modelFingerprint: options.scheduler.modelFingerprint,
            tokenizerFingerprint: options.tokenizerFingerprint,
            vocabularySize: UInt32(clamping: options.vocabularySize),
            blockSize: UInt32(clamping: options.scheduler.blockSize),
            hashSeed: options.scheduler.hashSeed,
            keyValueBlocks: UInt32(clamping: loop.description.blockCount),
            maximumContextLength: UInt32(clamping: loop.description.maximumSequenceLength),
            maximumSequences: UInt32(clamping: options.scheduler.slots),
            device: loop.description.capabilities.device,
            attachProof: options.attachProof
        )
        let rules = RequestRules(
            vocabularySize: options.vocabularySize,
            contextLength: loop.description.maximumSequenceLength
        )
        let end = eventLoop.makePromise(of: EngineExit.self)
        let link = LinkDelegate(box: box)
        let totalBlocks = hello.keyValueBlocks
        do {
            let server = try eventLoop.flatSubmit {
                EngineLinkServer.start(
                    at: options.address,
                    hello: hello,
                    limits: options.link,
                    on: eventLoop,
                    delegate: link
                ).map { server in
                    // On the event loop, before the first connection can be accepted.
                    box.value = EngineCore(
                        loop: loop,
                        server: server,
                        rules: rules,
                        grammars: GrammarCompiler(
                            eventLoop: eventLoop, vocabularySize: options.vocabularySize,
                            makeVocabulary: options.vocabulary),
                        statistics: EngineStatistics(totalBlocks: totalBlocks),
                        probed: probed,
                        eventLoop: eventLoop,
                        drainTimeout: options.drainTimeout,
                        end: end,
                        log: log
                    )
                    box.value?.startHeartbeats()
                    return server
                }
            }.wait()
            return EngineService(
                address: server.address,
                hello: hello,
                eventLoop: eventLoop,
                end: end,
                loop: loop,
                server: server,
                core: box
            )
        } catch {
            end.fail(error)
            throw error
        }
    }

    private init(
        address: LinkAddress,
        hello: EngineHello,
        eventLoop: any EventLoop,
        end: EventLoopPromise<EngineExit>,
        loop: StepLoop,
        server: EngineLinkServer,
        core: NIOLoopBoundBox<EngineCore?>
    ) {
        self.address = address
        self.hello = hello
        self.eventLoop = eventLoop
        self.end = end
        self.loop = loop
        self.server = server
        self.core = core
    }

    /// Takes each sign of life from now on; called on the engine's event loop.
    func onHeartbeat(_ body: @escaping @Sendable (Heartbeat) -> Void) {
        eventLoop.execute { [core] in core.value?.onHeartbeat = body }
    }

    /// Takes what the process's supervisor says, or its end.
    func supervisor(_ event: StatusChannel.Event) {
        eventLoop.execute { [core] in core.value?.supervisor(event) }
    }

    /// Ends the engine because of what happened to its device; every request goes on elsewhere.
    public func deviceFaulted(_ message: String, concernsAll: Bool) {
        eventLoop.execute { [core] in core.value?.deviceFaulted(message, concernsAll: concernsAll) }
    }

    /// What a termination signal asks for: the first time to drain, the second time to end at once.
    public func terminate() {
        eventLoop.execute { [core] in core.value?.terminate() }
    }

    /// Sends what gateways are still owed and closes their connections.
    public func closeLink() -> EventLoopFuture<Void> {
        server.close()
    }

    /// Closes the link, ends the step thread and frees the device. Blocks until the device has finished what it runs:
    /// a process that cannot wait so long exits instead.
    public func shutdown() {
        try? closeLink().wait()
        loop.stop()
        loop.join()
        let end = end
        eventLoop.execute { [core] in
            core.value?.stop()
            core.value = nil
            // Nobody may be left waiting for an end that has come.
            end.succeed(.abandoned)
        }
    }
}

/// Takes what the link server reports to the core; both are on the same event loop.
private final class LinkDelegate: EngineLinkServerDelegate {
    private let box: NIOLoopBoundBox<EngineCore?>

    init(box: NIOLoopBoundBox<EngineCore?>) {
        self.box = box
    }

    func linkOpened(_ connection: LinkConnectionID, hello: ClientHello) {
        box.value?.opened(connection)
    }

    func linkReceived(_ message: LinkMessage, from connection: LinkConnectionID) {
        box.value?.received(message, from: connection)
    }

    func linkClosed(_ connection: LinkConnectionID, reason: LinkError?) {
        box.value?.closed(connection, reason)
    }
}
