// Tandem — Apache-2.0

internal import Glibc
public import Grammar
public import LanguageModel
public import Requests

/// What a ``StepLoop`` is told.
public enum StepCommand: Sendable {
    /// Ids are unique among all unfinished sequences of the loop. A request with a grammar comes with that grammar,
    /// compiled for the model's vocabulary.
    case submit(EngineRequest, TokenGrammar? = nil)
    case cancel(RequestID)
    case pause(RequestID)
    case resume(RequestID, credits: UInt32)
    /// Refuses new requests from now on; called on the step thread when the last sequence ended.
    case drain(completion: @Sendable () -> Void)
    /// Fails what is left and ends the thread.
    case stop
}

/// What a ``StepLoop`` calls, always on its own thread.
public struct StepLoopHandlers: Sendable {
    /// All outputs of a step in one call. It should return soon: the device may wait meanwhile.
    public var report: @Sendable (StepReport) -> Void
    /// The device is gone. All sequences were reported as failed before, and new ones will be; none if the error concerns
    /// all engines, which end at once.
    public var fatal: @Sendable (ExecutorError) -> Void

    public init(
        report: @escaping @Sendable (StepReport) -> Void,
        fatal: @escaping @Sendable (ExecutorError) -> Void
    ) {
        self.report = report
        self.fatal = fatal
    }
}

/// How a ``StepLoop`` runs.
public struct StepLoopOptions: Sendable, Equatable {
    /// Shortest time between two statistics while the engine works.
    public var statisticsIntervalNanoseconds: UInt64
    /// How often a call that asks to be retried is repeated before its step is given up.
    public var maximumRetries: Int
    /// Host work that is added for a study.
    public var stalls: HostStalls

    public init(
        statisticsIntervalNanoseconds: UInt64 = 250_000_000, maximumRetries: Int = 3, stalls: HostStalls = HostStalls()
    ) {
        self.statisticsIntervalNanoseconds = statisticsIntervalNanoseconds
        self.maximumRetries = maximumRetries
        self.stalls = stalls
    }
}

/// What a ``StepLoop`` found when it prepared its executor.
public struct StepLoopDescription: Sendable, Equatable {
    public var capabilities: ExecutorCapabilities
    /// KV blocks for all groups together.
    public var blockCount: Int
    /// See ``Scheduler/maximumSequenceLength``.
    public var maximumSequenceLength: Int
    /// Whether steps are planned one ahead: as asked for, if the executor can.
    public var asynchronous: Bool
}

/// One thread that owns a scheduler and an executor and runs steps while there is work; it sleeps otherwise.
///
/// A sequence yields outputs until one with a finish reason, and exactly one such: also after a cancel, a refusal or a
/// failure of the device. The thread runs until ``stop()``.
public final class StepLoop: Sendable {
    private let inbox: CommandInbox<StepCommand>
    private let ended: CommandInbox<Void>
    public let description: StepLoopDescription
    /// Whether the thread gets anywhere.
    public let progress: StepProgress

    /// Starts the thread and prepares the executor on it.
    ///
    /// - Parameters:
    ///   - executor: handed over; all its methods are called on the step thread.
    ///   - keyValueBytes: memory for keys and values, in bytes.
    ///   - now: a monotonic clock in nanoseconds, for statistics and stalls.
    /// - Throws: what the executor's `prepare` threw, or ``ExecutorError/Kind/unsupported`` if no sequence fits.
    public init(
        executor: sending any StepExecutor,
        configuration: SchedulerConfiguration,
        keyValueBytes: Int,
        groups: [KeyValueGroup],
        options: StepLoopOptions = StepLoopOptions(),
        now: @escaping @Sendable () -> UInt64,
        handlers: StepLoopHandlers
    ) throws(ExecutorError) {
        let inbox = CommandInbox<StepCommand>()
        let ended = CommandInbox<Void>()
        let started = CommandInbox<Result<StepLoopDescription, ExecutorError>>()
        self.inbox = inbox
        self.ended = ended
        let progress = StepProgress()
        self.progress = progress
        let start = ThreadStart(
            executor: executor, configuration: configuration, keyValueBytes: keyValueBytes, groups: groups,
            options: options, progress: progress, now: now, handlers: handlers, inbox: inbox, ended: ended,
            started: started)
        guard start.spawn() else {
            throw ExecutorError(kind: .retry, message: "the step thread could not be started: too many threads")
        }
        var outcome: [Result<StepLoopDescription, ExecutorError>] = []
        started.receive(into: &outcome, wait: true)
        description = try outcome[0].get()
    }

    /// Takes commands in order; never blocks for long.
    public func send(_ commands: some Collection<StepCommand>) { inbox.send(commands) }

    public func submit(_ request: EngineRequest) { inbox.send(CollectionOfOne(.submit(request))) }
    public func cancel(_ id: RequestID) { inbox.send(CollectionOfOne(.cancel(id))) }
    public func pause(_ id: RequestID) { inbox.send(CollectionOfOne(.pause(id))) }
    public func resume(_ id: RequestID, credits: UInt32) {
        inbox.send(CollectionOfOne(.resume(id, credits: credits)))
    }
    public func drain(completion: @escaping @Sendable () -> Void) {
        inbox.send(CollectionOfOne(.drain(completion: completion)))
    }

    /// Ends the thread after the steps in flight; what is left of sequences is reported as failed. Call once;
    /// commands sent later get no answer.
    public func stop() { inbox.send(CollectionOfOne(.stop)) }

    /// Waits until the thread has ended after ``stop()``. Call at most once, and not on the step thread.
    public func join() {
        var nothing: [Void] = []
        ended.receive(into: &nothing, wait: true)
    }
}

/// Names the calling thread for `top` and debuggers; a failure is of no consequence.
private func nameThread(_ name: String) {
    // `pthread_setname_np` is not visible from Swift, the kernel's file is.
    let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
    guard file >= 0 else { return }
    _ = write(file, name, name.utf8.count)
    close(file)
}

/// Everything the step thread takes with it when it starts.
///
/// `@unchecked Sendable`: the executor was sent to the initialiser, and only the new thread uses it afterwards.
private final class ThreadStart: @unchecked Sendable {
    private let executor: any StepExecutor
    private let configuration: SchedulerConfiguration
    private let keyValueBytes: Int
    private let groups: [KeyValueGroup]
    private let options: StepLoopOptions
    private let progress: StepProgress
    private let now: @Sendable () -> UInt64
    private let handlers: StepLoopHandlers
    private let inbox: CommandInbox<StepCommand>
    private let ended: CommandInbox<Void>
    private let started: CommandInbox<Result<StepLoopDescription, ExecutorError>>

    init(
        executor: sending any StepExecutor,
        configuration: SchedulerConfiguration,
        keyValueBytes: Int,
        groups: [KeyValueGroup],
        options: StepLoopOptions,
        progress: StepProgress,
        now: @escaping @Sendable () -> UInt64,
        handlers: StepLoopHandlers,
        inbox: CommandInbox<StepCommand>,
        ended: CommandInbox<Void>,
        started: CommandInbox<Result<StepLoopDescription, ExecutorError>>
    ) {
        self.executor = executor
        self.configuration = configuration
        self.keyValueBytes = keyValueBytes
        self.groups = groups
        self.options = options
        self.progress = progress
        self.now = now
        self.handlers = handlers
        self.inbox = inbox
        self.ended = ended
        self.started = started
    }

    /// - Returns: `false` if the system has no thread to give.
    func spawn() -> Bool {
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(self)
        let status = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                nameThread("engine-step")
                Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            }, argument.toOpaque())
        guard status == 0 else {
            argument.release()
            return false
        }
        pthread_detach(thread)
        return true
    }

    private func run() {
        defer { ended.send(CollectionOfOne(())) }
        let worker: StepWorker
        do throws(ExecutorError) {
            worker = try StepWorker(
                executor: executor, configuration: configuration, keyValueBytes: keyValueBytes, groups: groups,
                options: options, progress: progress, now: now, handlers: handlers)
        } catch {
            executor.shutdown()
            started.send(CollectionOfOne(.failure(error)))
            return
        }
        started.send(CollectionOfOne(.success(worker.description)))
        worker.run(inbox)
    }
}
