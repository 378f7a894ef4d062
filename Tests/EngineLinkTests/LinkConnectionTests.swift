// Tandem — Apache-2.0

import EngineLink
import Foundation
import NIOCore
import NIOPosix
import Requests
import Synchronization
import TestSupport
import Testing

/// Server events in order, for tests to await.
private final class RecordingDelegate: EngineLinkServerDelegate {
    enum Event: Equatable {
        case opened(LinkConnectionID, ClientHello)
        case received(LinkMessage, LinkConnectionID)
        case closed(LinkConnectionID, LinkError?)
    }

    let events = Inbox<Event>()

    func linkOpened(_ connection: LinkConnectionID, hello: ClientHello) {
        events.put(.opened(connection, hello))
    }

    func linkReceived(_ message: LinkMessage, from connection: LinkConnectionID) {
        events.put(.received(message, connection))
    }

    func linkClosed(_ connection: LinkConnectionID, reason: LinkError?) {
        events.put(.closed(connection, reason))
    }
}

/// A directory of its own for each test.
private func withSocketPath<Result>(_ body: (String) async throws -> Result) async throws -> Result {
    let directory = NSTemporaryDirectory() + "tandem-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    return try await body(directory + "/engine.sock")
}

private let tokenizer = Digest128(high: 1, low: 2)
private let engineHello = EngineHello(
    engineIndex: 3,
    pid: 4,
    modelName: "toy",
    modelFingerprint: Digest128(high: 5, low: 6),
    tokenizerFingerprint: tokenizer,
    vocabularySize: 100,
    blockSize: 16,
    hashSeed: 7,
    keyValueBlocks: 8,
    maximumContextLength: 9,
    maximumSequences: 10,
    device: "test"
)
private let clientHello = ClientHello(tokenizerFingerprint: tokenizer, pid: 11)

/// Limits for tests of anything but time: other tests may keep this one waiting for a long while.
private let patient = {
    var limits = EngineLinkServer.Limits()
    limits.handshakeTimeout = .minutes(10)
    return limits
}()

/// A running server with what it heard.
private struct Server {
    let server: EngineLinkServer
    let delegate = RecordingDelegate()
    var events: Inbox<RecordingDelegate.Event> { delegate.events }

    init(at address: LinkAddress, limits: EngineLinkServer.Limits = patient) async throws {
        server = try await EngineLinkServer.start(
            at: address,
            hello: engineHello,
            limits: limits,
            on: MultiThreadedEventLoopGroup.singleton.next(),
            delegate: delegate
        ).get()
    }

    func opened() async throws -> LinkConnectionID {
        let event = await events.next()
        guard case .opened(let connection, _) = event else {
            throw LinkError(code: .connection, message: "not opened: \(String(describing: event))")
        }
        return connection
    }
}

/// A client with what it heard.
private struct Client {
    let client: EngineLinkClient
    let events = Inbox<EngineLinkClient.Event>()

    init(
        at address: LinkAddress,
        hello: ClientHello = clientHello,
        timeout: TimeAmount = .minutes(10)
    ) {
        client = EngineLinkClient.connect(
            to: address,
            hello: hello,
            timeout: timeout,
            on: MultiThreadedEventLoopGroup.singleton.next()
        ) { [events] event in
            events.put(event)
            if case .closed = event { events.finish() }
        }
    }

    func closed() async -> LinkError? {
        guard case .closed(let error) = await events.next() else { return nil }
        return error
    }
}

@Suite(.timeLimit(.minutes(10))) struct LinkConnectionTests {
    @Test func messagesGoBothWaysInOrder() async throws {
        try await withSocketPath { path in
            let server = try await Server(at: .unix(path: path))
            let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
            #expect(mode == 0o600)
            let client = Client(at: .unix(path: path))
            #expect(await client.events.next() == .opened(engineHello))
            let connection = try await server.opened()

            var generator = SeededGenerator(seed: 1)
            let requests = (0..<50).map { _ in LinkMessage.submit(generator.engineRequest()) }
            for request in requests { client.client.send(request) }
            client.client.send(.cancel(1))
            for request in requests { #expect(await server.events.next() == .received(request, connection)) }
            #expect(await server.events.next() == .received(.cancel(1), connection))

            let outputs = (0..<50).map { step in
                LinkMessage.stepOutput(StepOutput(step: step, outputs: [generator.sequenceOutput()]))
            }
            server.server.send(outputs.map { (connection, $0) })
            for output in outputs { #expect(await client.events.next() == .message(output)) }

            client.client.close()
            #expect(await client.closed()?.code == .connection)
            #expect(await server.events.next() == .closed(connection, nil))
            try await server.server.close().get()
            #expect(!FileManager.default.fileExists(atPath: path))
        }
    }

    @Test func oneBatchServesSeveralGatewaysOverTCP() async throws {
        let server = try await Server(at: .tcp(host: "127.0.0.1", port: 0))
        guard case .tcp(_, let port) = server.server.address else { return }
        #expect(port != 0)
        let first = Client(at: server.server.address)
        _ = await first.events.next()
        let firstConnection = try await server.opened()
        let second = Client(at: server.server.address)
        _ = await second.events.next()
        let secondConnection = try await server.opened()
        #expect(firstConnection != secondConnection)
        let output = { (step: UInt64) in LinkMessage.stepOutput(StepOutput(step: step, outputs: [])) }
        server.server.send([(firstConnection, output(1)), (secondConnection, output(2)), (firstConnection, output(3))])
        server.server.broadcast(.statistics(EngineStatistics(steps: 4)))
        #expect(await first.events.next() == .message(output(1)))
        #expect(await first.events.next() == .message(output(3)))
        #expect(await second.events.next() == .message(output(2)))
        #expect(await second.events.next() == .message(.statistics(EngineStatistics(steps: 4))))
        try await server.server.close().get()
        #expect(await first.events.next() == .message(.statistics(EngineStatistics(steps: 4))))
        #expect(await first.closed()?.code == .connection)
        #expect(await second.closed()?.code == .connection)
    }

    @Test func anotherTokenizerIsRefusedWithBothFingerprints() async throws {
        try await withSocketPath { path in
            let server = try await Server(at: .unix(path: path))
            let other = Digest128(high: 0xAB, low: 0xCD)
            let client = Client(at: .unix(path: path), hello: ClientHello(tokenizerFingerprint: other, pid: 1))
            let error = await client.closed()
            #expect(error?.code == .fingerprint)
            #expect(error?.message.contains(other.description) == true)
            #expect(error?.message.contains(tokenizer.description) == true)
            try await server.server.close().get()
        }
    }

    @Test func anotherVersionIsRefusedWithBothVersions() async throws {
        try await withSocketPath { path in
            let server = try await Server(at: .unix(path: path))
            let client = Client(
                at: .unix(path: path),
                hello: ClientHello(version: 77, tokenizerFingerprint: tokenizer, pid: 1)
            )
            let error = await client.closed()
            #expect(error?.code == .version)
            #expect(error?.message.contains("version 77, this end \(engineLinkVersion)") == true)
            try await server.server.close().get()
        }
    }

    /// Raw bytes in, the server's parting error out.
    private func answer(to bytes: [UInt8], path: String) async throws -> LinkError? {
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(unixDomainSocketPath: path) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                }
            }
        return try await channel.executeThenClose { inbound, outbound in
            if !bytes.isEmpty { try await outbound.write(ByteBuffer(bytes: bytes)) }
            var reader = LinkFrameReader()
            var last: LinkMessage?
            for try await piece in inbound {
                reader.append(piece)
                while let message = try reader.next() { last = message }
            }
            guard case .error(let error) = last else { return nil }
            return error
        }
    }

    @Test func malformedFramesCloseOnlyTheirConnection() async throws {
        try await withSocketPath { path in
            let server = try await Server(at: .unix(path: path))
            let good = Client(at: .unix(path: path))
            _ = await good.events.next()
            let goodConnection = try await server.opened()
            let hello = LinkCodec.frame(.clientHello(clientHello))

            #expect(try await answer(to: Array("GET / HTTP/1.1\r\n\r\n".utf8), path: path)?.code == .tooLong)
            #expect(try await answer(to: [1, 0, 0, 0, 200], path: path)?.code == .malformed)
            #expect(try await answer(to: LinkCodec.frame(.cancel(1)), path: path)?.code == .malformed)
            // After a hello: a broken frame, and one that a gateway may not send.
            for bytes in [[2, 0, 0, 0, 4, 9], LinkCodec.frame(.drain)] {
                #expect(try await answer(to: hello + bytes, path: path)?.code == .malformed)
                let connection = try await server.opened()
                guard case .closed(connection, let reason) = await server.events.next() else {
                    Issue.record("the connection did not close")
                    return
                }
                #expect(reason?.code == .malformed)
            }

            good.client.send(.cancel(5))
            #expect(await server.events.next() == .received(.cancel(5), goodConnection))
            try await server.server.close().get()
        }
    }

    @Test func silentConnectionIsClosed() async throws {
        try await withSocketPath { path in
            var limits = EngineLinkServer.Limits()
            limits.handshakeTimeout = .milliseconds(20)
            let server = try await Server(at: .unix(path: path), limits: limits)
            #expect(try await answer(to: [], path: path)?.message.contains("no hello within") == true)
            try await server.server.close().get()
        }
    }

    @Test func gatewayThatDoesNotReadIsDisconnected() async throws {
        try await withSocketPath { path in
            var limits = patient
            limits.backlogBytes = 1 << 20
            limits.stallTime = .zero
            let server = try await Server(at: .unix(path: path), limits: limits)
            let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .channelOption(.autoRead, value: false)
                .connect(unixDomainSocketPath: path).get()
            try await channel.writeAndFlush(ByteBuffer(bytes: LinkCodec.frame(.clientHello(clientHello))))
            let connection = try await server.opened()
            let tokens = [TokenID](repeating: 1, count: 100_000)
            for step in 0..<20 {
                let output = StepOutput(step: UInt64(step), outputs: [SequenceOutput(id: 1, tokens: tokens)])
                server.server.send(.stepOutput(output), to: connection)
            }
            guard case .closed(connection, let reason) = await server.events.next() else {
                Issue.record("the connection did not close")
                return
            }
            #expect(reason?.message.contains("does not read") == true)
            // It may have noticed by itself.
            try? await channel.close().get()
            try await server.server.close().get()
        }
    }

    /// All sequences of another engine, for example, come in one turn.
    @Test func aBurstAboveTheLimitIsTaken() async throws {
        try await withSocketPath { path in
            var limits = patient
            limits.backlogBytes = 1 << 20
            let server = try await Server(at: .unix(path: path), limits: limits)
            let client = Client(at: .unix(path: path))
            let connection = try await server.opened()
            guard case .opened? = await client.events.next() else {
                Issue.record("the link did not open")
                return
            }
            let tokens = [TokenID](repeating: 1, count: 1 << 20)
            server.server.send(
                .stepOutput(StepOutput(step: 1, outputs: [SequenceOutput(id: 1, tokens: tokens)])), to: connection)
            guard case .message(.stepOutput(let output))? = await client.events.next() else {
                Issue.record("the message did not arrive")
                return
            }
            #expect(output.outputs.first?.tokens.count == tokens.count)
            client.client.close()
            try await server.server.close().get()
        }
    }

    @Test func failureToConnectIsOneClosedEvent() async throws {
        try await withSocketPath { path in
            let client = Client(at: .unix(path: path))
            let error = await client.closed()
            #expect(error?.code == .connection)
            #expect(error?.message.contains(path) == true)
            #expect(await client.events.next() == nil)
        }
    }

    /// A Unix socket that is not there fails at once; whoever asked must have the link in hand before it hears of it.
    @Test func nothingIsReportedWithinTheCallToConnect() async throws {
        try await withSocketPath { path in
            let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
            let count = Atomic(0)
            let closed = eventLoop.makePromise(of: Void.self)
            let within = try await eventLoop.submit {
                _ = EngineLinkClient.connect(
                    to: .unix(path: path), hello: ClientHello(tokenizerFingerprint: .init(high: 1, low: 2), pid: 1),
                    on: eventLoop
                ) { _ in
                    count.add(1, ordering: .relaxed)
                    closed.succeed()
                }
                return count.load(ordering: .relaxed)
            }.get()
            #expect(within == 0)
            try await closed.futureResult.get()
        }
    }

    @Test func engineThatSaysNothingTimesOut() async throws {
        try await withSocketPath { path in
            let silent = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .bind(unixDomainSocketPath: path).get()
            let client = Client(at: .unix(path: path), timeout: .milliseconds(20))
            #expect(await client.closed()?.message.contains("no hello from the engine within") == true)
            try await silent.close().get()
        }
    }

    @Test func closingAtOnceIsReportedOnce() async throws {
        try await withSocketPath { path in
            // An engine that never says hello: the link cannot open before it is closed.
            let silent = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .bind(unixDomainSocketPath: path).get()
            let client = Client(at: .unix(path: path))
            client.client.close()
            client.client.close()
            #expect(await client.closed()?.message.contains("closed by this end") == true)
            #expect(await client.events.next() == nil)
            try await silent.close().get()
        }
    }

    @Test func staleSocketIsReplacedAndAFileIsNot() async throws {
        try await withSocketPath { path in
            // A socket file without a listener, as a killed engine leaves it.
            let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            try withUnixAddress(path) { address, length in
                #expect(bind(descriptor, address, length) == 0)
            }
            close(descriptor)
            #expect(FileManager.default.fileExists(atPath: path))
            let server = try await Server(at: .unix(path: path))
            try await server.server.close().get()

            try Data("precious".utf8).write(to: URL(fileURLWithPath: path))
            await #expect(throws: LinkError.self) { try await Server(at: .unix(path: path)) }
            #expect(try String(contentsOfFile: path, encoding: .utf8) == "precious")
        }
    }

    private func withUnixAddress(
        _ path: String,
        _ body: (UnsafePointer<sockaddr>, socklen_t) throws -> Void
    ) throws {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        try withUnsafePointer(to: address) { pointer in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                try body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }
}
