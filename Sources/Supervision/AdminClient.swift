// Tandem — Apache-2.0

public import EngineLink
internal import Glibc
internal import Processes

/// Asks a running supervisor, over one connection.
public struct AdminClient: ~Copyable {
    /// Why there is no answer.
    public struct Problem: Error, Sendable, Equatable, CustomStringConvertible {
        public var description: String
    }

    private let descriptor: Int32
    private let path: String
    private let patience: Duration
    private var reader = LinkFrameReader(maximumFrameBytes: 16 << 20)

    /// - Parameters:
    ///   - directory: the supervisor's run directory.
    ///   - patience: how long an answer may take; a supervisor that runs answers at once.
    public init(directory: String, patience: Duration = .seconds(10)) throws(Problem) {
        path = "\(directory)/\(AdminSocket.name)"
        self.patience = patience
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else {
            throw Problem(description: "cannot create a socket: \(String(cString: strerror(errno)))")
        }
        // How long it waits where many others wait, too; zero would be for ever.
        let (seconds, attoseconds) = max(patience, .milliseconds(1)).components
        var limit = timeval(tv_sec: Int(seconds), tv_usec: Int(attoseconds / 1_000_000_000_000))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        guard UnixSocket.use(path, { connect(descriptor, $0, $1) }) == 0 else {
            let code = errno
            close(descriptor)
            let reason =
                switch code {
                case ENOENT, ECONNREFUSED: "no server runs there"
                case EAGAIN: "the server does not answer"
                default: String(cString: strerror(code))
                }
            throw Problem(description: "\(path): \(reason)")
        }
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// Sends a command and waits for the answer.
    public mutating func ask(_ command: AdminCommand) throws(Problem) -> AdminReply {
        // It fits any socket's buffer: whoever has read the commands before takes it whole.
        let frame = LinkCodec.frame(.adminCommand(command))
        guard send(descriptor, frame, frame.count, Int32(MSG_NOSIGNAL)) == frame.count else {
            // It may have said why before it closed.
            _ = try? receive(until: .now + .milliseconds(100))
            throw Problem(description: "\(path): the server closed the connection")
        }
        return try receive(until: .now + patience)
    }

    private mutating func receive(until deadline: ContinuousClock.Instant) throws(Problem) -> AdminReply {
        var buffer = [UInt8](repeating: 0, count: 16384)
        while true {
            do throws(LinkError) {
                switch try reader.next() {
                case .adminReply(let reply): return reply
                case .error(let error): throw error
                case nil: break
                default: throw LinkError(code: .malformed, message: "what answers there is no supervisor")
                }
            } catch {
                throw Problem(description: "\(path): \(error.message)")
            }
            let left = deadline - .now
            guard left > .zero else {
                throw Problem(description: "\(path): no answer within \(patience.components.seconds) s")
            }
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let milliseconds = left.components.seconds * 1000 + left.components.attoseconds / 1_000_000_000_000_000
            guard poll(&entry, 1, Int32(clamping: milliseconds + 1)) > 0 else { continue }
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0 && (errno == EINTR || errno == EAGAIN) { continue }
            guard count > 0 else { throw Problem(description: "\(path): the server closed the connection") }
            reader.append(Array(buffer[..<count]))
        }
    }
}

/// A supervisor that runs on this machine.
public struct RunningSupervisor: Sendable, Equatable {
    /// Its run directory.
    public var directory: String
    /// As the directory says.
    public var pid: Int32

    /// All of this user, for root all there are, by their run directories: where the environment has them, in /tmp, and
    /// where the systemd unit has them.
    public static func all(environment: [String: String]) -> [RunningSupervisor] {
        var bases = [RunDirectory.base(environment: environment)]
        for base in ["/tmp", "/run/tandem"] where !bases.contains(base) { bases.append(base) }
        return bases.flatMap { all(in: $0) }
    }

    static func all(in base: String) -> [RunningSupervisor] {
        RunDirectory.all(in: base, isAnyones: geteuid() == 0).filter { isAlive($0.path) }
            .map { RunningSupervisor(directory: $0.path, pid: $0.pid) }.sorted { $0.pid < $1.pid }
    }

    /// Whether somebody listens there. The directory's lock says the same, but only to those who try to take it, and
    /// while they have it a supervisor could not.
    private static func isAlive(_ directory: String) -> Bool {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        // One that is too busy to accept lives, too.
        return UnixSocket.use("\(directory)/\(AdminSocket.name)") { connect(descriptor, $0, $1) } == 0
            || errno == EAGAIN
    }
}
