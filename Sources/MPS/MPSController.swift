// Tandem — Apache-2.0

internal import CTandemSystem
internal import Glibc
import Synchronization

/// Keeps MPS working on one GPU: carries out what an ``MPSMachine`` decides.
///
/// ``run()`` blocks; give it a thread that lives as long as the daemon shall. Engines belong to the caller: it tells of
/// their beginning and end, and is asked to kill them.
public final class MPSController: Sendable {
    /// What the controller needs to know.
    public struct Configuration: Sendable {
        public var directories: MPSDirectories
        public var programs: MPSPrograms
        /// Of this process.
        public var environment: [String: String]
        /// UUID of the GPU; null for whatever the machine has.
        public var device: String?
        public var ownership: DaemonOwnership
        public var version: ControlProtocol
        public var limits: MPSMachine.Limits
        /// Longest time for a query.
        public var queryLimit = Duration.seconds(3)
        /// Size from which on logs are cut.
        public var logLimit = 1 << 20

        public init(
            directories: MPSDirectories, programs: MPSPrograms, environment: [String: String], device: String? = nil,
            ownership: DaemonOwnership = .own, version: ControlProtocol = .version2,
            limits: MPSMachine.Limits = MPSMachine.Limits()
        ) {
            self.directories = directories
            self.programs = programs
            self.environment = environment
            self.device = device
            self.ownership = ownership
            self.version = version
            self.limits = limits
        }
    }

    /// What the caller is asked to do, on the controller's thread; it must not block.
    public enum Request: Sendable, Equatable {
        /// SIGKILL; its end is to be reported as always.
        case killEngine(Int)
        /// No more requests to engines of this GPU, and no new engines.
        case hold
        case admit
        /// What ``MPSController/prove(_:proof:)`` found out.
        case proved(engine: Int, AttachProof.Verdict)
        /// Given up for a while: many restarts did not help.
        case failed
        case log(String)
    }

    /// What there is to see.
    public struct Status: Sendable, Equatable {
        public var phase = MPSPhase.absent
        public var rung: RecoveryRung?
        public var counts: [RecoveryRung: Int] = [:]
        public var isAdmitting = false
        /// Process of the daemon, if it is ours.
        public var daemon: Int32?
        public var servers: [Int32] = []
        /// As of the last answer.
        public var clients: [Int32] = []
    }

    private struct Shared {
        var events: [MPSEvent] = []
        var engines: [Int: ProcessIdentity] = [:]
        var proofs: [Int: AttachProof.Engine] = [:]
        var status = Status()
        var isStopping = false
    }

    private let configuration: Configuration
    private let request: @Sendable (Request) -> Void
    private let shared = Mutex(Shared())
    private let wake: Pipe

    /// - Parameter request: gets what the caller shall do.
    public init(_ configuration: Configuration, request: @escaping @Sendable (Request) -> Void) throws(MPSError) {
        self.configuration = configuration
        self.request = request
        guard let wake = Pipe() else { throw .system(operation: "create", subject: "a pipe", errno: errno) }
        _ = fcntl(wake.reader, F_SETFL, O_NONBLOCK)
        _ = fcntl(wake.writer, F_SETFL, O_NONBLOCK)
        self.wake = wake
    }

    deinit {
        close(wake.reader)
        close(wake.writer)
    }

    /// As it is now.
    public var status: Status { shared.withLock { $0.status } }

    /// Tells of an engine's process.
    public func engineStarted(_ engine: Int, process: ProcessIdentity) {
        shared.withLock { $0.engines[engine] = process }
        tell(.engineStarted(engine))
    }

    /// Its process has ended.
    public func engineEnded(_ engine: Int) {
        shared.withLock { $0.proofs[engine] = nil }
        tell(.engineEnded(engine))
    }

    /// Finds out whether an engine is a client of the daemon; answered by ``Request/proved(engine:_:)``, unless the
    /// engine ends before.
    public func prove(_ engine: Int, proof: AttachProof.Engine) {
        shared.withLock { $0.proofs[engine] = proof }
        awaken()
    }

    /// It makes no progress while others do.
    public func engineStuck(_ engine: Int) { tell(.engineStuck(engine)) }

    /// It reported one of the errors that all engines of the GPU share.
    public func engineFault(_ engine: Int) { tell(.engineFault(engine)) }

    /// Ends daemon and ``run()``.
    public func stop() {
        shared.withLock { $0.isStopping = true }
        tell(.stop)
    }

    private func tell(_ event: MPSEvent) {
        shared.withLock { $0.events.append(event) }
        awaken()
    }

    private func awaken() {
        var byte: UInt8 = 1
        _ = write(wake.writer, &byte, 1)
    }

    /// Works until ``stop()``.
    public func run() {
        var worker = MPSWorker(configuration, request: request)
        worker.handle(.begin, engines: [:])
        publish(worker.status)
        while true {
            let (events, engines, proofs, isStopping) = shared.withLock { shared in
                defer { shared.events = [] }
                return (shared.events, shared.engines, shared.proofs, shared.isStopping)
            }
            for event in events { worker.handle(event, engines: engines) }
            worker.turn(engines: engines)
            let judged = worker.prove(proofs, engines: engines)
            shared.withLock { shared in
                // An engine that ended and came again meanwhile has another proof to give.
                for (engine, _) in judged where shared.proofs[engine] == proofs[engine] { shared.proofs[engine] = nil }
            }
            for (engine, verdict) in judged { request(.proved(engine: engine, verdict)) }
            publish(worker.status)
            if isStopping && worker.status.phase == .absent { return }
            guard shared.withLock({ $0.events.isEmpty }) else { continue }
            var entries = [wake.reader, worker.daemonHandle].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            _ = poll(&entries, 2, worker.pause.wholeMilliseconds)
            var bytes = [UInt8](repeating: 0, count: 64)
            while read(wake.reader, &bytes, bytes.count) > 0 {}
        }
    }

    private func publish(_ status: Status) {
        shared.withLock { $0.status = status }
    }
}
