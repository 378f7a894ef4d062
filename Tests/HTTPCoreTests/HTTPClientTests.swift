// Tandem — Apache-2.0

import Glibc
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import HTTPCore

/// Puts what came of a request into words.
private final class Collector: HTTPResponseReceiver {
    private let result: EventLoopPromise<String>
    private var text = ""

    init(_ result: EventLoopPromise<String>) {
        self.result = result
    }

    func received(_ head: HTTPResponseHead) { text += "\(head.status.code) " }
    func received(_ body: ByteBuffer) { text += String(buffer: body) }
    func ended() { result.succeed(text) }
    func failed(_ error: HTTPClientError) { result.succeed(text + "\(error.kind)") }
}

/// Answers the first bytes that come, and ends the connection.
private final class Ending: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let isReset: Bool

    init(isReset: Bool) { self.isReset = isReset }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let answer = ByteBuffer(string: "HTTP/1.1 200 OK\r\n\r\nhalf")
        let channel = context.channel
        context.writeAndFlush(wrapOutboundOut(answer)).assumeIsolated().whenSuccess {
            if self.isReset {
                let linger = linger(l_onoff: 1, l_linger: 0)
                _ = (channel as? any SocketOptionProvider)?.setSoLinger(linger)
            }
            channel.close(promise: nil)
        }
    }
}

/// A client on an event loop of the tests.
private struct Bench {
    let loop = TestServer.clientGroup.any()
    let client: NIOLoopBoundBox<HTTPClient>

    init(port: Int, limits: HTTPClientLimits = HTTPClientLimits()) {
        client = .makeBoxSendingValue(
            HTTPClient(
                endpoint: HTTPEndpoint(host: "127.0.0.1", port: port, prefix: "/p"), eventLoop: loop, limits: limits),
            eventLoop: loop)
    }

    /// What comes of a request; `then` may do something with it as soon as it is sent.
    func ask(
        _ target: String, method: HTTPMethod = .post, body: String = "",
        then: @escaping @Sendable (HTTPClientExchange) -> Void = { _ in }
    ) async throws -> String {
        let (loop, client) = (loop, client)
        return try await loop.flatSubmit {
            let result = loop.makePromise(of: String.self)
            let request = HTTPClientRequest(
                method: method, target: target, headers: ["A": "b", "Host": "no"], body: ByteBuffer(string: body))
            then(client.value.send(request, to: Collector(result)))
            return result.futureResult
        }.get()
    }

    func openConnections() async throws -> Int {
        let client = client
        return try await loop.submit { client.value.openConnections }.get()
    }

    func shutdown() async throws {
        let client = client
        try await loop.submit { client.value.shutdown() }.get()
    }
}

@Suite struct HTTPClientTests {
    @Test func requestsShareAConnection() async throws {
        try await TestServer.run { server async throws in
            let bench = Bench(port: server.port ?? 0)
            #expect(try await bench.ask("/x?y", body: "abc") == "200 POST /p/x y abc")
            #expect(try await bench.ask("/x", method: .head) == "200 ")
            let long = String(repeating: "z", count: 300_000)
            #expect(try await bench.ask("/x", body: long) == "200 POST /p/x - \(long)")
            #expect(try await bench.ask("/x", method: .get) == "200 GET /p/x - ")
            #expect(try await bench.openConnections() == 1 && server.connectionCount == 1)
            async let first = bench.ask("/1")
            async let second = bench.ask("/2")
            #expect(try await [first, second] == ["200 POST /p/1 - ", "200 POST /p/2 - "])
            #expect(try await bench.openConnections() <= 2)
            try await bench.shutdown()
        }
    }

    @Test func streamsComeWhole() async throws {
        let handler = ClosureHandler { _, responder in
            responder.startStream(status: .ok)
            for index in 0..<100 { responder.write(Array("\(index),".utf8)) }
            responder.finish()
        }
        try await TestServer.run(handler: handler) { server async throws in
            let bench = Bench(port: server.port ?? 0)
            #expect(try await bench.ask("/") == "200 " + (0..<100).map { "\($0)," }.joined())
            try await bench.shutdown()
        }
    }

    /// A server that sends an answer whose length it does not tell, and then ends the connection.
    private func answerUntilTheEnd(reset: Bool) async throws -> String {
        let server = try await ServerBootstrap(group: TestServer.serverGroup)
            .childChannelInitializer { channel in
                channel.pipeline.addHandler(Ending(isReset: reset))
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let answer = try await Bench(port: server.localAddress?.port ?? 0).ask("/")
        try await server.close()
        return answer
    }

    @Test func onlyTheServerEndsAnAnswer() async throws {
        #expect(try await answerUntilTheEnd(reset: false) == "200 half")
        // Whether the half is read before the reset is seen, the system decides.
        #expect(try await answerUntilTheEnd(reset: true).hasSuffix("cut"))
    }

    /// The channel reads all that is there when the server ends the connection, and says so, whatever it was told.
    @Test func whatComesWhilePausedWaitsAndSoDoesTheEnd() async throws {
        let body = String(repeating: "0123456789", count: 2_000)
        let handler = ClosureHandler { _, responder in
            responder.respond(status: .ok, headers: ["Connection": "close"], body: ByteBuffer(string: body))
        }
        let hooks = Hooks()
        try await TestServer.run(hooks: hooks, handler: handler) { server async throws in
            let bench = Bench(port: server.port ?? 0)
            let exchange = bench.loop.makePromise(of: NIOLoopBound<HTTPClientExchange>.self)
            let loop = bench.loop
            async let answer = bench.ask("/") { sent in
                sent.pause()
                exchange.succeed(NIOLoopBound(sent, eventLoop: loop))
            }
            let paused = try await exchange.futureResult.get()
            while hooks.entries.isEmpty { await Task.yield() }
            while try await bench.openConnections() > 0 { await Task.yield() }
            try await loop.submit {
                #expect(!paused.value.isOver)
                paused.value.resume()
                // Nothing comes within the call.
                #expect(!paused.value.isOver)
            }.get()
            #expect(try await answer == "200 " + body)
            try await bench.shutdown()
        }
    }

    @Test func withoutTrustNothingIsSent() async throws {
        let endpoint = HTTPEndpoint(host: "127.0.0.1", port: 1, isSecure: true)
        let loop = TestServer.clientGroup.any()
        let answer = try await loop.flatSubmit {
            let result = loop.makePromise(of: String.self)
            HTTPClient(endpoint: endpoint, eventLoop: loop).send(
                HTTPClientRequest(method: .get, target: "/"), to: Collector(result))
            return result.futureResult
        }.get()
        #expect(answer == "unreachable")
    }

    @Test func nobodyListens() async throws {
        // Taken, so that nobody else listens there, and not listened on.
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, size) == 0 && getsockname(descriptor, $0, &size) == 0
            }
        }
        try #require(isBound)
        #expect(try await Bench(port: Int(UInt16(bigEndian: address.sin_port))).ask("/") == "unreachable")
    }

    @Test func silenceIsTimed() async throws {
        let left = Signal()
        let held = Mutex<[HTTPResponder]>([])
        let handler = ClosureHandler { request, responder in
            if request.path == "/p/half" {
                responder.startStream(status: .ok)
                responder.write(Array("half ".utf8))
            }
            responder.onClose { left.fire() }
            held.withLock { $0.append(responder) }
        }
        var limits = HTTPClientLimits()
        limits.firstByteTimeout = .milliseconds(50)
        try await TestServer.run(handler: handler) { [limits] server async throws in
            let bench = Bench(port: server.port ?? 0, limits: limits)
            #expect(try await bench.ask("/none") == "silent")
            // The server sees that nobody waits any more.
            try await left.wait()
            var limits = limits
            limits.firstByteTimeout = .minutes(10)
            limits.silenceTimeout = .milliseconds(50)
            #expect(try await Bench(port: server.port ?? 0, limits: limits).ask("/half") == "200 half silent")
        }
    }

    @Test func aCancelledRequestEndsAtTheServer() async throws {
        let (arrived, left) = (Signal(), Signal())
        let held = Mutex<[HTTPResponder]>([])
        let handler = ClosureHandler { _, responder in
            responder.onClose { left.fire() }
            held.withLock { $0.append(responder) }
            arrived.fire()
        }
        try await TestServer.run(handler: handler) { server async throws in
            let bench = Bench(port: server.port ?? 0)
            let (loop, client) = (bench.loop, bench.client)
            let exchange = try await loop.submit {
                let result = loop.makePromise(of: String.self)
                let exchange = client.value.send(
                    HTTPClientRequest(method: .get, target: "/"), to: Collector(result))
                // It never comes.
                result.succeed("")
                return NIOLoopBound(exchange, eventLoop: loop)
            }.get()
            try await arrived.wait()
            try await loop.submit { exchange.value.cancel() }.get()
            try await left.wait()
            #expect(held.withLock { $0.count } == 1)
        }
    }

    /// The connection ends between two requests, without the client's knowledge or with it.
    @Test func aConnectionThatWasClosedIsReplaced() async throws {
        let handler = ClosureHandler { request, responder in
            TestServer.echo(request, responder)
        }
        var limits = TestServer.patient
        limits.keepAliveTimeout = .milliseconds(1)
        try await TestServer.run(limits: limits, handler: handler) { server async throws in
            let bench = Bench(port: server.port ?? 0)
            for index in 0..<20 {
                let answer = try await bench.ask("/\(index)")
                #expect(answer == "200 POST /p/\(index) - ")
            }
            try await bench.shutdown()
        }
    }
}
