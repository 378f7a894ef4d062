// Tandem — Apache-2.0

internal import EngineLink
internal import Glibc
internal import Processes

/// The Unix socket on which a supervisor takes commands. Nothing in it blocks, and whatever comes in costs a bounded
/// number of connections and bytes.
struct AdminSocket {
    /// Name in the run directory.
    static let name = "admin.sock"
    /// Connections at once; one more takes the place of the one that said nothing for the longest.
    static let maximumConnections = 16
    /// How long a connection may be open without a whole command.
    static let idleLimit = Duration.seconds(30)
    /// A command takes 13 bytes.
    static let maximumFrameBytes = 1024
    /// Answers that nobody reads; beyond that a connection is given up.
    static let maximumUnsentBytes = 1 << 20
    /// How long nobody is let in when the process has no descriptors left.
    static let pause = Duration.seconds(1)

    private struct Connection {
        var number: Int
        var descriptor: Int32
        var reader = LinkFrameReader(maximumFrameBytes: AdminSocket.maximumFrameBytes)
        var unsent: [UInt8] = []
        /// Commands that are not answered yet.
        var open = 0
        /// When it was opened, or last sent a whole command.
        var activeAt: Duration
        /// Nothing more is read: it is closed when all is sent.
        var isEnding = false
    }

    private var descriptor: Int32
    private var connections: [Connection] = []
    private var nextNumber = 0
    private var pausedUntil: Duration?

    /// - Parameter path: of a file that does not exist; its directory is to be the user's alone.
    init(path: String) throws(SupervisionError) {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        descriptor = socket(AF_UNIX, type, 0)
        guard descriptor >= 0 else { throw .system(operation: "create the socket", subject: path, errno: errno) }
        // The file is made with the socket's own mode; nobody has it open to all for a moment.
        _ = fchmod(descriptor, 0o600)
        guard UnixSocket.use(path, { bind(descriptor, $0, $1) }) == 0, listen(descriptor, 128) == 0 else {
            let code = errno
            Glibc.close(descriptor)
            throw .system(operation: "listen on", subject: path, errno: code)
        }
        // Where the kernel does not take it from the socket.
        _ = chmod(path, 0o600)
    }

    mutating func close() {
        for connection in connections { Glibc.close(connection.descriptor) }
        connections = []
        if descriptor >= 0 {
            // A child that is just being made has it too, until it is another program.
            _ = shutdown(descriptor, Int32(SHUT_RDWR))
            Glibc.close(descriptor)
        }
        descriptor = -1
    }

    // MARK: - The poll loop

    /// What to wait for: the listener first, then a value a connection.
    func pollEntries(at now: Duration) -> [pollfd] {
        let isPaused = pausedUntil.map { now < $0 } ?? false
        return [pollfd(fd: isPaused ? -1 : descriptor, events: Int16(POLLIN), revents: 0)]
            + connections.map { connection in
                let input = connection.isEnding ? 0 : Int16(POLLIN)
                let output = connection.unsent.isEmpty ? 0 : Int16(POLLOUT)
                return pollfd(fd: connection.descriptor, events: input | output, revents: 0)
            }
    }

    /// When ``exchange(_:at:)`` has something to do even if nothing comes.
    var nextDeadline: Duration? {
        (connections.map { $0.activeAt + Self.idleLimit } + [pausedUntil].compactMap { $0 }).min()
    }

    /// Reads, writes, opens and closes what the entries say, as ``pollEntries(at:)`` made them.
    ///
    /// - Returns: commands; each is to be answered.
    mutating func exchange(_ entries: [pollfd], at now: Duration) -> [(command: AdminCommand, connection: Int)] {
        var commands: [(command: AdminCommand, connection: Int)] = []
        for (entry, index) in zip(entries.dropFirst(), connections.indices) where entry.revents != 0 {
            Self.flush(&connections[index])
            if connections[index].isEnding {
                // The other end is gone altogether.
                if entry.revents & Int16(POLLHUP | POLLERR) != 0 { connections[index].unsent = [] }
            } else {
                commands += Self.receive(&connections[index], at: now)
            }
        }
        for index in connections.indices where connections[index].activeAt + Self.idleLimit <= now {
            Self.abandon(&connections[index])
        }
        closeEnded()
        if let pausedUntil, pausedUntil <= now { self.pausedUntil = nil }
        if let listener = entries.first, listener.revents != 0 { acceptAll(at: now) }
        return commands
    }

    /// Answers a command. A connection that is gone meanwhile gets nothing.
    mutating func answer(_ reply: AdminReply, to number: Int) {
        guard let index = connections.firstIndex(where: { $0.number == number }) else { return }
        connections[index].open -= 1
        Self.send(.adminReply(reply), on: &connections[index])
        closeEnded()
    }

    // MARK: - Connections

    private mutating func acceptAll(at now: Duration) {
        for _ in 0..<Self.maximumConnections {
            let accepted = accept(descriptor, nil, nil)
            guard accepted >= 0 else {
                switch errno {
                case EAGAIN, EINTR, ECONNABORTED: break
                default: pausedUntil = now + Self.pause
                }
                return
            }
            _ = fcntl(accepted, F_SETFD, FD_CLOEXEC)
            _ = fcntl(accepted, F_SETFL, O_NONBLOCK)
            if connections.count >= Self.maximumConnections,
                let idle = connections.indices.min(by: { connections[$0].activeAt < connections[$1].activeAt })
            {
                Glibc.close(connections[idle].descriptor)
                connections.remove(at: idle)
            }
            var connection = Connection(number: nextNumber, descriptor: accepted, activeAt: now)
            nextNumber += 1
            let peer = PeerCredentials(of: accepted)
            if let peer, peer.user == geteuid() || peer.user == 0 {
                connections.append(connection)
            } else {
                let who = peer.map { "user \($0.user)" } ?? "an unknown user"
                Self.send(
                    .error(LinkError(code: .connection, message: "\(who) may not administer this server")),
                    on: &connection)
                Glibc.close(accepted)
            }
        }
    }

    private mutating func closeEnded() {
        for connection in connections
        where connection.isEnding && connection.open <= 0 && connection.unsent.isEmpty {
            Glibc.close(connection.descriptor)
        }
        connections.removeAll { $0.isEnding && $0.open <= 0 && $0.unsent.isEmpty }
    }

    /// Closes it as soon as somebody looks.
    private static func abandon(_ connection: inout Connection) {
        connection.isEnding = true
        connection.open = 0
        connection.unsent = []
    }

    private static func receive(
        _ connection: inout Connection, at now: Duration
    ) -> [(command: AdminCommand, connection: Int)] {
        var commands: [(command: AdminCommand, connection: Int)] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = read(connection.descriptor, &buffer, buffer.count)
        if count < 0 && (errno == EAGAIN || errno == EINTR) { return [] }
        guard count > 0 else {
            if count < 0 { abandon(&connection) }
            connection.isEnding = true
            return []
        }
        connection.reader.append(Array(buffer[..<count]))
        do throws(LinkError) {
            while let message = try connection.reader.next() {
                guard case .adminCommand(let command) = message else {
                    throw LinkError(code: .malformed, message: "this socket takes commands of administrators only")
                }
                connection.activeAt = now
                connection.open += 1
                commands.append((command, connection.number))
            }
        } catch {
            send(.error(error), on: &connection)
            connection.isEnding = true
        }
        return commands
    }

    private static func send(_ message: LinkMessage, on connection: inout Connection) {
        connection.unsent += LinkCodec.frame(message)
        flush(&connection)
        if connection.unsent.count > maximumUnsentBytes { abandon(&connection) }
    }

    private static func flush(_ connection: inout Connection) {
        while !connection.unsent.isEmpty {
            let count = Glibc.send(
                connection.descriptor, connection.unsent, connection.unsent.count, Int32(MSG_NOSIGNAL))
            if count < 0 && errno == EINTR { continue }
            if count < 0 && errno == EAGAIN { return }
            guard count > 0 else { return abandon(&connection) }
            connection.unsent.removeFirst(count)
        }
    }
}

/// Who is at the other end of a Unix socket.
struct PeerCredentials {
    var process: Int32
    var user: UInt32

    /// Null if the kernel does not say.
    init?(of descriptor: Int32) {
        // `struct ucred` of unix(7): process, user, group.
        var credentials: (Int32, UInt32, UInt32) = (0, .max, .max)
        var length = socklen_t(MemoryLayout.size(ofValue: credentials))
        guard getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 else { return nil }
        (process, user, _) = credentials
    }
}
