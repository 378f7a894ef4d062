// Tandem — Apache-2.0

import Foundation
import NIOCore
import NIOEmbedded
import NIOPosix
import Synchronization
import Testing

@testable import HTTPCore

@Suite struct ServerTests {
    @Test func answersAndKeepsTheConnection() async throws {
        let hooks = Hooks()
        try await TestServer.run(hooks: hooks) { (server) async throws in
            let client = try await RawClient.connect(to: server.port)
            try await client.send("GET /a?b=c&d HTTP/1.1\r\nHost: x\r\nX-Request-Id: r1\r\n\r\n")
            let first = try await client.receive { $0.hasSuffix("GET /a b=c&d ") }
            #expect(first.hasPrefix("HTTP/1.1 200 OK\r\nDate: "))
            #expect(first.contains("\r\nContent-Type: text/plain\r\n"))
            #expect(first.contains("\r\nContent-Length: 13\r\n"))
            #expect(!first.contains("Connection:"))
            try await client.clear()
            try await client.send("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
            #expect(try await client.receive { $0.hasSuffix("POST /p - hello") }.hasPrefix("HTTP/1.1 200"))
            #expect(server.connectionCount == 1)
            try await client.clear()
            try await client.send("GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            let last = try await client.receiveUntilClose()
            #expect(last.contains("\r\nConnection: close\r\n"))
        }
        #expect(hooks.entries.map(\.path) == ["/a", "/p", "/last"])
        #expect(hooks.entries.map(\.bodyBytes) == [13, 15, 12])
        #expect(hooks.entries.map(\.requestID) == ["r1", nil, nil])
        #expect(hooks.entries.allSatisfy { $0.status == .ok && $0.isComplete && $0.remoteAddress != nil })
        #expect(hooks.incidents.isEmpty)
    }

    @Test(arguments: MalformedRequest.all) func refuses(_ request: MalformedRequest) async throws {
        let handled = Atomic<Int>(0)
        let hooks = Hooks()
        try await TestServer.run(
            hooks: hooks,
            handler: ClosureHandler { request, responder in
                handled.add(1, ordering: .relaxed)
                TestServer.echo(request, responder)
            },
            { (server) async throws in
                let client = try await RawClient.connect(to: server.port)
                // A request behind it must not be seen either.
                client.sendAndForget(request.bytes + Array("GET /evil HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
                let answer = try await client.receiveUntilClose()
                #expect(answer.hasPrefix("HTTP/1.1 \(request.status) "), "\(answer)")
                #expect(answer.contains("\r\nConnection: close\r\n"))
                #expect(answer.components(separatedBy: "\r\nDate: ").count == 2)
            })
        #expect(handled.load(ordering: .relaxed) == 0)
        #expect(hooks.entries.map(\.status?.code) == [request.status])
    }

    @Test func rendersItsErrorsAsToldTo() async throws {
        var configuration = HTTPServerConfiguration()
        configuration.limits = TestServer.patient
        configuration.errorBody = { status, reason in
            ("application/json", ByteBuffer(string: "{\"code\":\(status.code),\"message\":\"\(reason)\"}"))
        }
        let server = try await HTTPServer.start(
            group: TestServer.serverGroup, listening: .address(host: "127.0.0.1", port: 0),
            configuration: configuration, handler: ClosureHandler(body: TestServer.echo))
        let answer = try await server.exchange("GET / HTTP/1.1\r\n\r\n")
        #expect(answer.contains("\r\nContent-Type: application/json\r\n"))
        #expect(answer.hasSuffix("\r\n\r\n{\"code\":400,\"message\":\"the request has no Host\"}"))
        await server.close()
    }

    @Test func refusesALargeBodyWithoutReadingIt() async throws {
        try await TestServer.run { (server) async throws in
            let length = HTTPLimits().maximumBodyBytes + 1
            let client = try await RawClient.connect(to: server.port)
            try await client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \(length)\r\n\r\n")
            client.sendAndForget([UInt8](repeating: 0x61, count: 4 << 20))
            let answer = try await client.receiveUntilClose()
            #expect(answer.hasPrefix("HTTP/1.1 413 Content Too Large\r\n"))
        }
    }

    /// Whoever may not come in cannot make the server hold what it sends.
    @Test func doesNotWaitForABodyThatNobodyWants() async throws {
        let handler = ClosureHandler { request, responder in
            responder.respond(
                status: .unauthorized, body: Array("no \(request.path) \(request.body.readableBytes)!".utf8))
        }
        for head in [
            "Content-Length: 5000000", "Transfer-Encoding: chunked", "Content-Length: 9\r\nExpect: 100-continue",
        ] {
            try await TestServer.run(handler: handler.wantingNoBody) { (server) async throws in
                let client = try await RawClient.connect(to: server.port)
                try await client.send("POST /a HTTP/1.1\r\nHost: x\r\n\(head)\r\n\r\n")
                let answer = try await client.receiveUntilClose()
                #expect(answer.hasPrefix("HTTP/1.1 401 ") && answer.hasSuffix("\r\n\r\nno /a 0!"))
                #expect(answer.contains("\r\nConnection: close\r\n"))
            }
        }
    }

    @Test func unfinishedBodiesOfAllClientsHaveALimit() async throws {
        var limits = TestServer.patient
        limits.maximumUnfinishedBodyBytes = 300_000
        try await TestServer.run(limits: limits) { (server) async throws in
            let part = [UInt8](repeating: 0x61, count: 200_000)
            func begin(_ count: Int) async throws -> RawClient {
                let client = try await RawClient.connect(to: server.port)
                try await client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \(count)\r\n\r\n")
                return client
            }
            let refused = try await begin(400_001)
            refused.sendAndForget([UInt8](repeating: 0x61, count: 400_000))
            #expect(try await refused.receiveUntilClose().hasPrefix("HTTP/1.1 503 "))
            // Its share is given back.
            let small = try await begin(3)
            try await small.send("abc")
            #expect(try await small.receive { $0.contains("200 OK") }.hasPrefix("HTTP/1.1 200 "))
            let third = try await begin(200_000)
            try await third.send(part)
            #expect(try await third.receive { $0.contains("200 OK") }.hasPrefix("HTTP/1.1 200 "))
        }
    }

    @Test func takesLargeBodies() async throws {
        let body = [UInt8](repeating: 0x61, count: 3 << 20)
        try await TestServer.run(
            handler: ClosureHandler { request, responder in
                let isWhole = request.body == ByteBuffer(bytes: body)
                responder.respond(status: .ok, body: Array("\(isWhole ? "whole" : "broken")!".utf8))
            }
        ) { (server) async throws in
            let client = try await RawClient.connect(to: server.port)
            try await client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.count)\r\n\r\n")
            try await client.send(body)
            #expect(try await client.receive { $0.hasSuffix("!") }.hasSuffix("\r\n\r\nwhole!"))
            try await client.clear()
            try await client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in 0..<3 {
                try await client.send("100000\r\n")
                try await client.send(Array(body[..<(1 << 20)]))
                try await client.send("\r\n")
            }
            try await client.send("0\r\n\r\n")
            #expect(try await client.receive { $0.hasSuffix("!") }.hasSuffix("\r\n\r\nwhole!"))
        }
    }

    @Test func answersPipelinedRequestsInOrder() async throws {
        try await TestServer.run(
            handler: ClosureHandler { request, responder in
                // The earlier the request, the later the answer.
                let delay = request.path == "/1" ? 30 : request.path == "/2" ? 10 : 0
                responder.eventLoop.scheduleTask(in: .milliseconds(Int64(delay))) {
                    TestServer.echo(request, responder)
                }
            }
        ) { (server) async throws in
            let answer = try await server.exchange(
                (1...3).map { "POST /\($0) HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n\($0)" }.joined()
                    + "GET /4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                    + "GET /5 HTTP/1.1\r\nHost: x\r\n\r\n")
            let bodies = answer.components(separatedBy: "\r\n\r\n").dropFirst()
                .map { $0.components(separatedBy: "HTTP/1.1")[0] }
            #expect(bodies == ["POST /1 - 1", "POST /2 - 2", "POST /3 - 3", "GET /4 - "])
        }
    }

    @Test func manyPipelinedRequestsDoNotGrowTheStack() async throws {
        let count = 5000
        try await TestServer.run { (server) async throws in
            let one = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
            let client = try await RawClient.connect(to: server.port)
            let bytes = Array(String(repeating: one, count: count).utf8)
            client.sendAndForget(bytes + Array("GET /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".utf8))
            let answer = try await client.receiveUntilClose()
            #expect(answer.components(separatedBy: "HTTP/1.1 200 OK").count == count + 2)
            #expect(answer.hasSuffix("GET /end - "))
        }
    }

    @Test func headIsAnsweredAsGetWithoutBody() async throws {
        @Sendable func withoutDate(_ text: String) -> String {
            text.components(separatedBy: "\r\n").filter { !$0.hasPrefix("Date: ") }.joined(separator: "\r\n")
        }
        try await TestServer.run(
            handler: ClosureHandler { request, responder in
                if request.path == "/stream" {
                    responder.startStream(status: .ok, headers: ["X": "y"])
                    responder.write(Array("abc".utf8))
                    responder.finish()
                } else {
                    responder.respond(status: .ok, headers: ["X": "y"], body: Array("abc".utf8))
                }
            }
        ) { (server) async throws in
            for path in ["/", "/stream"] {
                let end = "\(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                let get = try await server.exchange("GET " + end)
                let head = try await server.exchange("HEAD " + end)
                #expect(head.hasSuffix("\r\n\r\n"))
                #expect(withoutDate(get).hasPrefix(withoutDate(head)))
                #expect(get.contains("abc") && !head.contains("abc"))
            }
        }
    }

    @Test func tellsTheClientToSendTheBody() async throws {
        try await TestServer.run { (server) async throws in
            let client = try await RawClient.connect(to: server.port)
            try await client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            #expect(try await client.receive { $0.hasSuffix("\r\n\r\n") } == "HTTP/1.1 100 Continue\r\n\r\n")
            try await client.clear()
            try await client.send("ok")
            #expect(try await client.receive { $0.hasSuffix("ok") }.hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test func speaksHTTP10() async throws {
        try await TestServer.run(
            handler: ClosureHandler { request, responder in
                guard request.path == "/stream" else { return TestServer.echo(request, responder) }
                responder.startStream(status: .ok)
                responder.write(Array("abc".utf8))
                responder.write(Array("def".utf8))
                responder.finish()
            }
        ) { (server) async throws in
            let plain = try await server.exchange("GET / HTTP/1.0\r\n\r\n")
            #expect(plain.contains("\r\nConnection: close\r\n") && plain.hasSuffix("GET / - "))
            let stream = try await server.exchange("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            #expect(!stream.contains("chunked") && stream.hasSuffix("\r\n\r\nabcdef"))
            let client = try await RawClient.connect(to: server.port)
            for _ in 0..<2 {
                try await client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                let answer = try await client.receive { $0.hasSuffix("GET / - ") }
                #expect(answer.contains("\r\nConnection: keep-alive\r\n"))
                try await client.clear()
            }
        }
    }

    @Test func closesWhenItsHandlerSaysSo() async throws {
        try await TestServer.run(
            handler: ClosureHandler { _, responder in
                responder.respond(status: .noContent, headers: ["connection": "close"])
            }
        ) { (server) async throws in
            let answer = try await server.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(answer.hasPrefix("HTTP/1.1 204 No Content\r\n"))
            #expect(answer.hasSuffix("\r\nConnection: close\r\n\r\n") && !answer.contains("Content-Length"))
        }
    }

    @Test func timeoutsCloseRealConnections() async throws {
        var limits = HTTPLimits()
        limits.headerTimeout = .milliseconds(60)
        limits.bodySilenceTimeout = .milliseconds(60)
        limits.keepAliveTimeout = .milliseconds(60)
        try await TestServer.run(limits: limits) { (server) async throws in
            // On a busy machine the time may be up before the bytes arrive; the server closes without a word then.
            #expect((try? await server.exchange("")) ?? "" == "")
            func answer(to request: String) async throws -> String {
                while true {
                    if let answer = try? await server.exchange(request), !answer.isEmpty { return answer }
                }
            }
            #expect(try await answer(to: "GET / HT").hasPrefix("HTTP/1.1 408 Request Timeout\r\n"))
            let half = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"
            #expect(try await answer(to: half).hasPrefix("HTTP/1.1 408 Request Timeout\r\n"))
            // Closed for idleness after a whole answer.
            #expect(try await answer(to: "GET / HTTP/1.1\r\nHost: x\r\n\r\n").hasSuffix("GET / - "))
        }
    }

    @Test func turnsAwayMoreConnectionsThanItMayHave() async throws {
        var limits = TestServer.patient
        limits.maximumConnections = 2
        let hooks = Hooks()
        try await TestServer.run(limits: limits, hooks: hooks) { (server) async throws in
            var clients: [RawClient] = []
            for _ in 0..<2 {
                let client = try await RawClient.connect(to: server.port)
                try await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                _ = try await client.receive { $0.hasSuffix("GET / - ") }
                clients.append(client)
            }
            let refused = try await RawClient.connect(to: server.port)
            #expect(try await refused.receiveUntilClose().hasPrefix("HTTP/1.1 503 Service Unavailable\r\n"))
            #expect(hooks.incidents == [.tooManyConnections(limit: 2)])
            #expect(server.connectionCount == 2)
            // A place that becomes free is free.
            try await clients[0].send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            _ = try await clients[0].receiveUntilClose()
            while server.connectionCount > 1 { await Task.yield() }
            #expect(try await server.exchange("GET / HTTP/1.0\r\n\r\n").hasSuffix("GET / - "))
        }
    }

    @Test func whatTheSystemDoesNotAcceptIsTold() throws {
        let incidents = Mutex<[HTTPIncident]>([])
        let channel = EmbeddedChannel(
            handler: AcceptFailures { incident in incidents.withLock { $0.append(incident) } })
        let error = IOError(errnoCode: EMFILE, reason: "accept")
        channel.pipeline.fireErrorCaught(error)
        #expect(incidents.withLock { $0 } == [.acceptFailed(reason: "\(error)")])
        #expect(throws: IOError.self) { try channel.throwIfErrorCaught() }
    }

    @Test func acceptsFromAnInheritedSocketOnAllLoops() async throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(bound == 0 && listen(descriptor, 16) == 0)
        let loops = Mutex<Set<ObjectIdentifier>>([])
        var configuration = HTTPServerConfiguration()
        configuration.limits = TestServer.patient
        let server = try await HTTPServer.start(
            group: TestServer.serverGroup, listening: .fileDescriptor(descriptor), configuration: configuration,
            handler: ClosureHandler { request, responder in
                loops.withLock { _ = $0.insert(ObjectIdentifier(responder.eventLoop)) }
                TestServer.echo(request, responder)
            })
        #expect(server.port ?? 0 > 0)
        // The loops take turns, and other servers of this group take turns with this one.
        for _ in 0..<1000 where loops.withLock({ $0.count }) < 2 {
            #expect(try await server.exchange("GET / HTTP/1.0\r\n\r\n").hasSuffix("GET / - "))
        }
        #expect(loops.withLock { $0.count } == 2)
        await server.close()
    }

    @Test func refusesSocketsThatDoNotListen() async throws {
        let unbound = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { Foundation.close(unbound) }
        for descriptor in [unbound, -1] {
            await #expect(throws: HTTPServerError.self) {
                _ = try await HTTPServer.start(
                    group: TestServer.serverGroup, listening: .fileDescriptor(descriptor),
                    handler: ClosureHandler(body: TestServer.echo))
            }
        }
        try await TestServer.run { (server) async throws in
            await #expect(throws: HTTPServerError.self) {
                _ = try await HTTPServer.start(
                    group: TestServer.serverGroup, listening: .address(host: "127.0.0.1", port: server.port ?? 0),
                    handler: ClosureHandler(body: TestServer.echo))
            }
        }
    }

    @Test func drainsAndCloses() async throws {
        let arrived = Signal()
        let responders = Mutex<[HTTPResponder]>([])
        try await TestServer.run(
            handler: ClosureHandler { request, responder in
                guard request.path == "/slow" else { return TestServer.echo(request, responder) }
                responders.withLock { $0.append(responder) }
                arrived.fire()
            }
        ) { (server) async throws in
            let idle = try await RawClient.connect(to: server.port)
            try await idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            _ = try await idle.receive { $0.hasSuffix("GET / - ") }
            let busy = try await RawClient.connect(to: server.port)
            try await busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            try await arrived.wait()
            async let drained: Void = server.drain()
            #expect(try await idle.receiveUntilClose().hasSuffix("GET / - "))
            await #expect(throws: (any Error).self) { _ = try await RawClient.connect(to: server.port) }
            for responder in responders.withLock({ $0 }) {
                responder.eventLoop.execute { responder.respond(status: .ok, body: Array("done".utf8)) }
            }
            responders.withLock { $0 = [] }
            let answer = try await busy.receiveUntilClose()
            #expect(answer.contains("\r\nConnection: close\r\n") && answer.hasSuffix("done"))
            await drained
            #expect(server.connectionCount == 0)
        }
    }
}
