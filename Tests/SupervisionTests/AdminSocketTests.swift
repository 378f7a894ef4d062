// Tandem — Apache-2.0

import EngineLink
import Foundation
import Glibc
import Processes
import Testing

@testable import Supervision

/// A socket in a directory of its own, and clients in the same thread.
private final class SocketFixture {
    let directory: String
    var socket: AdminSocket
    var now = Duration.zero

    init() throws {
        directory = NSTemporaryDirectory() + "/tandem-test-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        socket = try AdminSocket(path: directory + "/" + AdminSocket.name)
    }

    deinit {
        socket.close()
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// One turn of the poll loop, which does not wait.
    func turn() -> [(command: AdminCommand, connection: Int)] {
        var entries = socket.pollEntries(at: now)
        poll(&entries, nfds_t(entries.count), 0)
        return socket.exchange(entries, at: now)
    }

    /// Turns until commands come; what was sent to a Unix socket is there at once.
    func commands() -> [(command: AdminCommand, connection: Int)] {
        (0..<20).flatMap { _ in turn() }
    }

    func connect() throws -> Int32 {
        let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        try #require(
            UnixSocket.use(directory + "/" + AdminSocket.name) { Glibc.connect(descriptor, $0, $1) } == 0)
        return descriptor
    }

    func send(_ bytes: [UInt8], to descriptor: Int32) {
        _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }

    /// Messages that were sent to a client, and whether its connection was closed.
    func received(_ descriptor: Int32) throws -> (messages: [LinkMessage], isClosed: Bool) {
        var reader = LinkFrameReader()
        var buffer = [UInt8](repeating: 0, count: 65536)
        var messages: [LinkMessage] = []
        var isClosed = false
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0 && errno == EAGAIN { break }
            guard count > 0 else {
                isClosed = true
                break
            }
            reader.append(Array(buffer[..<count]))
            while let message = try reader.next() { messages.append(message) }
        }
        return (messages, isClosed)
    }
}

@Suite struct AdminSocketTests {
    @Test func theFileIsTheUsersAlone() throws {
        let fixture = try SocketFixture()
        var status = stat()
        #expect(lstat(fixture.directory + "/" + AdminSocket.name, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
        #expect(throws: SupervisionError.self) {
            try AdminSocket(path: fixture.directory + "/" + AdminSocket.name)
        }
        #expect(throws: SupervisionError.self) { try AdminSocket(path: "/tmp/" + String(repeating: "x", count: 200)) }
    }

    @Test func commandsAreAnsweredInOrder() throws {
        let fixture = try SocketFixture()
        let client = try fixture.connect()
        defer { close(client) }
        let commands: [AdminCommand] = [.status, .drain(engine: 1, isForced: true), .resume(engine: 1)]
        fixture.send(commands.flatMap { LinkCodec.frame(.adminCommand($0)) }, to: client)
        let received = fixture.commands()
        #expect(received.map(\.command) == commands)
        for (index, (_, connection)) in received.enumerated() {
            fixture.socket.answer(.accepted("\(index)"), to: connection)
        }
        let answers = try fixture.received(client)
        #expect(answers.messages == (0..<3).map { .adminReply(.accepted("\($0)")) })
        #expect(!answers.isClosed)
    }

    @Test func aCommandMayComeBytewiseAndItsSenderMayStopSending() throws {
        let fixture = try SocketFixture()
        let client = try fixture.connect()
        defer { close(client) }
        var received: [(command: AdminCommand, connection: Int)] = []
        for byte in LinkCodec.frame(.adminCommand(.restart(engine: 3, isForced: false))) {
            #expect(received.isEmpty)
            fixture.send([byte], to: client)
            received += fixture.commands()
        }
        #expect(received.map(\.command) == [.restart(engine: 3, isForced: false)])
        shutdown(client, Int32(SHUT_WR))
        #expect(fixture.commands().isEmpty)
        for (_, connection) in received { fixture.socket.answer(.refused("no"), to: connection) }
        let answers = try fixture.received(client)
        #expect(answers.messages == [.adminReply(.refused("no"))] && answers.isClosed)
    }

    @Test func rubbishIsAnsweredWithAnErrorAndClosed() throws {
        let fixture = try SocketFixture()
        var other = LinkCodec.frame(.adminCommand(.status))
        other[5] &+= 1
        let cases: [([UInt8], LinkError.Code)] = [
            (Array("GET / HTTP/1.1\r\n\r\n".utf8), .tooLong), ([1, 0, 0, 0, 99], .malformed),
            ([0, 0, 0, 0], .malformed), ([0xFF, 0xFF, 0xFF, 0xFF], .tooLong),
            (LinkCodec.frame(.drain), .malformed), (other, .version),
        ]
        for (bytes, code) in cases {
            let client = try fixture.connect()
            defer { close(client) }
            fixture.send(bytes + LinkCodec.frame(.adminCommand(.status)), to: client)
            #expect(fixture.commands().isEmpty)
            let answers = try fixture.received(client)
            guard case .error(let error) = answers.messages.first else {
                Issue.record("no error for \(bytes)")
                continue
            }
            #expect(error.code == code && answers.messages.count == 1 && answers.isClosed)
        }
        #expect(fixture.socket.pollEntries(at: .zero).count == 1)
    }

    @Test func connectionsAreBoundedAndTheNewestGetsIn() throws {
        let fixture = try SocketFixture()
        var clients: [Int32] = []
        defer { for client in clients { close(client) } }
        for index in 0..<100 {
            fixture.now = .milliseconds(index)
            clients.append(try fixture.connect())
            fixture.send([1, 2, 3], to: try #require(clients.last))
            _ = fixture.turn()
            _ = fixture.turn()
        }
        #expect(fixture.socket.pollEntries(at: .zero).count == 1 + AdminSocket.maximumConnections)
        let last = try fixture.connect()
        clients.append(last)
        fixture.send(LinkCodec.frame(.adminCommand(.status)), to: last)
        #expect(fixture.commands().map(\.command) == [.status])
        #expect(try fixture.received(clients[0]).isClosed)
    }

    @Test func whoSaysNothingIsClosed() throws {
        let fixture = try SocketFixture()
        #expect(fixture.socket.nextDeadline == nil)
        let idle = try fixture.connect()
        let busy = try fixture.connect()
        defer {
            close(idle)
            close(busy)
        }
        _ = fixture.commands()
        #expect(fixture.socket.nextDeadline == AdminSocket.idleLimit)
        fixture.now = .seconds(20)
        // Bytes that are no command are no sign of life.
        fixture.send([13], to: idle)
        fixture.send(LinkCodec.frame(.adminCommand(.status)), to: busy)
        for (_, connection) in fixture.commands() { fixture.socket.answer(.accepted(""), to: connection) }
        fixture.now = AdminSocket.idleLimit
        _ = fixture.commands()
        #expect(try fixture.received(idle).isClosed)
        #expect(try !fixture.received(busy).isClosed)
        #expect(fixture.socket.nextDeadline == .seconds(20) + AdminSocket.idleLimit)
    }

    @Test func whoDoesNotReadIsGivenUp() throws {
        let fixture = try SocketFixture()
        let client = try fixture.connect()
        defer { close(client) }
        fixture.send(LinkCodec.frame(.adminCommand(.status)), to: client)
        let connection = try #require(fixture.commands().first?.connection)
        let text = String(repeating: "x", count: 100_000)
        for _ in 0..<100 { fixture.socket.answer(.accepted(text), to: connection) }
        #expect(fixture.socket.pollEntries(at: .zero).count == 1)
    }

    @Test func whoLeavesIsForgotten() throws {
        let fixture = try SocketFixture()
        let client = try fixture.connect()
        fixture.send(LinkCodec.frame(.adminCommand(.status)), to: client)
        let connection = try #require(fixture.commands().first?.connection)
        close(client)
        _ = fixture.commands()
        fixture.socket.answer(.accepted(""), to: connection)
        fixture.socket.answer(.accepted(""), to: connection)
        fixture.socket.answer(.accepted(""), to: 99)
        #expect(fixture.socket.pollEntries(at: .zero).count == 1)
    }

    @Test func theKernelTellsWhoIsThere() throws {
        var ends: [Int32] = [-1, -1]
        #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        let peer = try #require(PeerCredentials(of: ends[0]))
        #expect(peer.process == getpid() && peer.user == geteuid())
        #expect(PeerCredentials(of: -1) == nil)
        for end in ends { close(end) }
    }

    @Test func clientsSayWhatIsWrong() throws {
        let base = NSTemporaryDirectory() + "/tandem-test-" + UUID().uuidString.prefix(8)
        #expect(throws: AdminClient.Problem(description: "\(base)/admin.sock: no server runs there")) {
            _ = try AdminClient(directory: base)
        }
        let long = "/tmp/" + String(repeating: "x", count: 200)
        let problem = #expect(throws: AdminClient.Problem.self) { _ = try AdminClient(directory: long) }
        #expect(problem?.description.contains("name too long") == true)
        // Somebody listens and never answers.
        let fixture = try SocketFixture()
        var client = try AdminClient(directory: fixture.directory, patience: .zero)
        let silence = #expect(throws: AdminClient.Problem.self) { try client.ask(.status) }
        #expect(silence?.description.hasSuffix("no answer within 0 s") == true)
    }

    @Test func runningServersAreFoundAndRemainsAreNot() throws {
        let base = NSTemporaryDirectory() + "/tandem-test-" + UUID().uuidString.prefix(8)
        defer { try? FileManager.default.removeItem(atPath: base) }
        #expect(RunningSupervisor.all(in: base) == [])
        let uid = getuid()
        for name in ["tandem-\(uid)-20", "tandem-\(uid)-10", "tandem-\(uid)-30", "tandem-\(uid)-x", "other"] {
            try FileManager.default.createDirectory(
                atPath: base + "/" + name, withIntermediateDirectories: true)
        }
        try FileManager.default.createSymbolicLink(
            atPath: base + "/tandem-\(uid)-5", withDestinationPath: base + "/tandem-\(uid)-10")
        var first = try AdminSocket(path: base + "/tandem-\(uid)-20/" + AdminSocket.name)
        var second = try AdminSocket(path: base + "/tandem-\(uid)-10/" + AdminSocket.name)
        #expect(
            RunningSupervisor.all(in: base)
                == [10, 20].map {
                    RunningSupervisor(directory: "\(base)/tandem-\(uid)-\($0)", pid: $0)
                })
        // What belongs to another user is root's to see; whoever lies about it is nobody's.
        #expect(
            RunDirectory.all(in: base, isAnyones: true).map(\.pid).sorted()
                == RunDirectory.all(in: base).map(\.pid).sorted())
        try FileManager.default.createDirectory(
            atPath: base + "/tandem-\(uid &+ 1)-40", withIntermediateDirectories: true)
        #expect(!RunDirectory.all(in: base, isAnyones: true).contains { $0.pid == 40 })
        if uid == 0 {
            #expect(chown(base + "/tandem-1-40", 1, 1) == 0)
            #expect(RunDirectory.all(in: base, isAnyones: true).contains { $0.pid == 40 })
            #expect(!RunDirectory.all(in: base).contains { $0.pid == 40 })
        }
        // What a dead one leaves is a file on which nobody listens.
        first.close()
        #expect(RunningSupervisor.all(in: base).map(\.pid) == [10])
        second.close()
        #expect(RunningSupervisor.all(in: base) == [])
    }
}
