// Tandem — Apache-2.0

internal import Glibc
public import MPS
import Synchronization

/// That engines are clients of an MPS daemon.
public struct SharingConfiguration: Sendable {
    /// Daemon, programs, device and limits.
    public var mps: MPSController.Configuration
    /// The lock of our daemon's directory; null if the daemon is somebody else's.
    public var ownership: MPSOwnership?
    /// Limits and priority of all engines; the directory and the token are filled in.
    public var client: ClientEnvironment
    /// Of single engines, by index; those that it has no place for get what ``client`` says.
    public var limits: [ClientLimits] = []
    /// Where the GPU is plugged in, if that is known; see ``DeviceCores``.
    public var busID: String?

    public init(mps: MPSController.Configuration, ownership: MPSOwnership?, client: ClientEnvironment) {
        self.mps = mps
        self.ownership = ownership
        self.client = client
    }
}

/// The effects of sharing a device: an ``MPSController`` on a thread of its own, whose requests become events of the
/// supervisor's loop.
final class DeviceSharing {
    /// Readable when there are ``events()``.
    let descriptor: Int32
    private let writer: Int32
    private let configuration: SharingConfiguration
    private let controller: MPSController
    private let inbox = Inbox()
    private var thread: pthread_t?
    /// Of engines that run, what proves that they are clients.
    private var proofs: [Int: AttachProof.Engine] = [:]
    private var tokens: [Int: String] = [:]

    private final class Inbox: Sendable {
        let requests = Mutex<[Message]>([])
    }

    private enum Message: Sendable {
        case request(MPSController.Request)
        case ended
    }

    init(_ configuration: SharingConfiguration) throws(SupervisionError) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw .system(operation: "create", subject: "a pipe", errno: errno) }
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        descriptor = ends[0]
        writer = ends[1]
        self.configuration = configuration
        do throws(MPSError) {
            controller = try MPSController(configuration.mps) { [inbox, writer] in
                Self.post(.request($0), to: inbox, writer)
            }
        } catch {
            close(ends[0])
            close(ends[1])
            throw .sharing(error)
        }
    }

    deinit {
        close(descriptor)
        close(writer)
    }

    private static func post(_ message: Message, to inbox: Inbox, _ writer: Int32) {
        inbox.requests.withLock { $0.append(message) }
        var byte: UInt8 = 1
        // A full pipe wakes the reader just as well.
        _ = write(writer, &byte, 1)
    }

    /// Starts the daemon, or looks for it.
    func start() throws(SupervisionError) {
        let run = Run(controller: controller) { [inbox, writer] in Self.post(.ended, to: inbox, writer) }
        let context = Unmanaged.passRetained(run)
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { pointer in
                pointer.map { Unmanaged<Run>.fromOpaque($0).takeRetainedValue() }?.body()
                return nil
            }, context.toOpaque())
        guard code == 0 else {
            context.release()
            throw .system(operation: "start", subject: "a thread for MPS", errno: code)
        }
        self.thread = thread
    }

    private final class Run: Sendable {
        let controller: MPSController
        let completion: @Sendable () -> Void

        init(controller: MPSController, completion: @escaping @Sendable () -> Void) {
            self.controller = controller
            self.completion = completion
        }

        func body() {
            controller.run()
            completion()
        }
    }

    /// As it is now.
    var status: MPSController.Status { controller.status }

    /// What single engines are limited to, for people.
    var limits: String { ClientLimits.text(configuration.limits) }

    /// The environment of an engine that is about to start.
    func environment(ofEngine engine: Int, over surroundings: [String: String]) -> [String: String] {
        let limits = configuration.limits
        var client = configuration.client.limited(to: limits.indices.contains(engine) ? limits[engine] : nil)
        client.token = (0..<4).map { _ in String(UInt32.random(in: 0 ... .max), radix: 36) }.joined()
        tokens[engine] = client.token
        return client.variables(over: surroundings)
    }

    /// Remembers what an engine's device says of itself.
    func says(_ engine: Int, attached: Bool?) { proofs[engine]?.saysAttached = attached }

    func tell(_ notice: SharingNotice) {
        switch notice {
        case .started(let engine, let pid):
            // One that ended already is reported as ended next.
            guard let process = ProcessTable().identity(of: pid) else { return }
            proofs[engine] = AttachProof.Engine(process: process, token: tokens[engine] ?? "")
            controller.engineStarted(engine, process: process)
        case .ended(let engine):
            proofs[engine] = nil
            controller.engineEnded(engine)
        case .fault(let engine): controller.engineFault(engine)
        case .stuck(let engine): controller.engineStuck(engine)
        case .prove(let engine):
            guard let proof = proofs[engine] else { return }
            controller.prove(engine, proof: proof)
        case .stop: controller.stop()
        }
    }

    /// What was reported since the last call, in order; a text is a line for people.
    func events() -> [(event: SharingEvent?, line: String?)] {
        var bytes = [UInt8](repeating: 0, count: 64)
        while read(descriptor, &bytes, bytes.count) > 0 {}
        let messages = inbox.requests.withLock { requests in
            defer { requests = [] }
            return requests
        }
        return messages.map { message in
            switch message {
            case .ended: (.ended, nil)
            case .request(.hold): (.hold, nil)
            case .request(.admit): (.admit, nil)
            case .request(.killEngine(let engine)): (.kill(engine: engine), nil)
            case .request(.proved(let engine, let verdict)):
                (.proved(engine: engine, failure: verdict == .attached ? nil : verdict.description), nil)
            case .request(.failed): (.failed, nil)
            case .request(.log(let text)): (nil, text)
            }
        }
    }

    /// Waits for the thread, after ``SharingEvent/ended``.
    func join() {
        if let thread { pthread_join(thread, nil) }
        thread = nil
    }
}
