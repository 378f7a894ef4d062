// Tandem — Apache-2.0

import Foundation
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import HTTPCore

@Suite struct StreamTests {
    private static let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

    @Test func streamsInChunksAndKeepsTheConnection() async throws {
        let hooks = Hooks()
        try await TestServer.run(
            hooks: hooks,
            handler: ClosureHandler { _, responder in
                responder.startStream(status: .ok, headers: ["Content-Type": "text/event-stream"])
                responder.write(Array("data: a\n\n".utf8))
                responder.write(ByteBuffer())
                responder.eventLoop.execute {
                    responder.write(Array("data: bc\n\n".utf8))
                    responder.finish()
                    responder.write(Array("data: late\n\n".utf8))
                    responder.finish()
                    responder.respond(status: .ok)
                }
            }
        ) { (server) async throws in
            let client = try await RawClient.connect(to: server.port)
            for _ in 0..<2 {
                try await client.send(Self.get)
                let answer = try await client.receive { $0.hasSuffix("\r\n0\r\n\r\n") }
                #expect(answer.contains("\r\nTransfer-Encoding: chunked\r\n") && !answer.contains("Content-Length"))
                #expect(answer.hasSuffix("\r\n\r\n9\r\ndata: a\n\n\r\na\r\ndata: bc\n\n\r\n0\r\n\r\n"))
                try await client.clear()
            }
        }
        #expect(hooks.entries.map(\.bodyBytes) == [19, 19])
        // Each answer left in two turns of the event loop; the last report may come after the client is content.
        #expect(hooks.writes >= 3)
    }

    @Test func otherThreadsAnswerThroughTheEventLoop() async throws {
        try await TestServer.run(
            handler: ClosureHandler { request, responder in
                TestServer.clientGroup.any().execute {
                    responder.eventLoop.execute { TestServer.echo(request, responder) }
                }
            }
        ) { (server) async throws in
            let client = try await RawClient.connect(to: server.port)
            try await client.send(Self.get)
            #expect(try await client.receive { $0.hasSuffix("GET / - ") }.hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test func noticesAClientThatLeavesBeforeTheFirstByte() async throws {
        let arrived = Signal()
        let gone = Signal()
        let kept = Mutex<HTTPResponder?>(nil)
        let hooks = Hooks()
        try await TestServer.run(
            hooks: hooks,
            handler: ClosureHandler { _, responder in
                responder.onClose {
                    gone.fire()
                }
                kept.withLock { $0 = responder }
                arrived.fire()
            }
        ) { (server) async throws in
            let client = try await RawClient.connect(to: server.port)
            // What is pipelined behind it keeps the server from reading on.
            try await client.send(Self.get)
            client.sendAndForget(
                Array(String(repeating: Self.get, count: ConnectionMachine.maximumPipelinedBytes / 10).utf8))
            try await arrived.wait()
            try await client.close()
            try await gone.wait()
            let responder = try #require(kept.withLock { $0 })
            let late = Signal()
            let isOpen = try await responder.eventLoop.submit {
                // Nothing of this may do anything.
                responder.startStream(status: .ok)
                responder.write([1, 2, 3])
                responder.finish()
                responder.respond(status: .ok)
                responder.onClose { late.fire() }
                return responder.isOpen || responder.isWritable
            }.get()
            #expect(!isOpen && late.firings == 1 && gone.firings == 1)
        }
        #expect(hooks.entries.map(\.status) == [nil] && hooks.entries.map(\.isComplete) == [false])
        #expect(hooks.incidents.isEmpty)
    }

    @Test func noticesAClientThatLeavesInTheMiddleOfAStream() async throws {
        let gone = Signal()
        let kept = Mutex<HTTPResponder?>(nil)
        try await TestServer.run(
            handler: ClosureHandler { _, responder in
                responder.onClose { gone.fire() }
                responder.startStream(status: .ok)
                responder.write([0x61])
                kept.withLock { $0 = responder }
            }
        ) { (server) async throws in
            let client = try await RawClient.connect(to: server.port)
            try await client.send(Self.get)
            _ = try await client.receive { $0.hasSuffix("1\r\na\r\n") }
            try await client.close()
            try await gone.wait()
            kept.withLock { $0 = nil }
        }
    }

    @Test func completeAnswersAreNotReportedAsLeft() async throws {
        let gone = Signal()
        try await TestServer.run(
            handler: ClosureHandler { request, responder in
                responder.onClose { gone.fire() }
                TestServer.echo(request, responder)
                responder.onClose { gone.fire() }
            }
        ) { (server) async throws in
            _ = try await server.exchange("GET / HTTP/1.0\r\n\r\n")
        }
        #expect(gone.firings == 0)
    }

    /// Writes a given number of bytes whenever its client takes some.
    private final class Pump: Sendable {
        private let left: Mutex<Int>
        let mostWaiting = Atomic<Int>(0)
        let backedUp = Signal()
        private let piece: Int

        init(total: Int, piece: Int) {
            left = Mutex(total)
            self.piece = piece
        }

        func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
            responder.startStream(status: .ok)
            // Held until the stream ends, when the server lets go of the closure.
            responder.onWritabilityChange { isWritable in
                if isWritable { self.pump(responder) } else { self.backedUp.fire() }
            }
            pump(responder)
        }

        private func pump(_ responder: HTTPResponder) {
            while responder.isWritable {
                let count = left.withLock { left in
                    let count = min(piece, left)
                    left -= count
                    return count
                }
                guard count > 0 else { return responder.finish() }
                responder.write([UInt8](repeating: 0x61, count: count))
            }
        }

        var remaining: Int { left.withLock { $0 } }
    }

    @Test func slowReaderHoldsTheStreamBack() async throws {
        let total = 24 << 20
        let pump = Pump(total: total, piece: 1000)
        try await TestServer.run(handler: ClosureHandler { pump.handle($0, $1) }) { (server) async throws in
            let client = try await RawClient.connect(to: server.port, autoRead: false)
            try await client.send("GET / HTTP/1.0\r\n\r\n")
            try await pump.backedUp.wait()
            // The kernel's buffers hold a few megabytes; the rest has not even been made.
            #expect(pump.remaining > total / 4)
            try await client.setAutoRead(true)
            let answer = try await client.receiveUntilClose()
            #expect(answer.utf8.count - (answer.components(separatedBy: "\r\n\r\n")[0].utf8.count + 4) == total)
            #expect(pump.remaining == 0)
        }
    }

    @Test func writerThatMindsNothingIsCut() async throws {
        let hooks = Hooks()
        var limits = TestServer.patient
        limits.maximumOutboundBytes = 200_000
        let gone = Signal()
        try await TestServer.run(
            limits: limits, hooks: hooks,
            handler: ClosureHandler { _, responder in
                responder.onClose { gone.fire() }
                responder.startStream(status: .ok)
                // More than the system holds for a client that does not read.
                responder.write([UInt8](repeating: 0x61, count: 64 << 20))
                // In a later turn it is known that nothing is taken.
                responder.eventLoop.execute {
                    for _ in 0..<1000 { responder.write([UInt8](repeating: 0x61, count: 1000)) }
                }
            }
        ) { (server) async throws in
            let client = try await RawClient.connect(to: server.port, autoRead: false)
            try await client.send(Self.get)
            try await gone.wait()
        }
        #expect(hooks.incidents.count == 1)
        guard case .outboundOverflow(path: "/", requestID: nil, let waiting)? = hooks.incidents.first else {
            Issue.record("\(hooks.incidents)")
            return
        }
        #expect(waiting > 200_000)
    }

    /// It had no turn in which to notice that the client takes nothing.
    @Test func whatIsWrittenInOneTurnComesWhole() async throws {
        let hooks = Hooks()
        let pieces = [3 << 20, 100, 2 << 20, 7, 2 << 20]
        try await TestServer.run(
            hooks: hooks,
            handler: ClosureHandler { _, responder in
                responder.startStream(status: .ok)
                for count in pieces { responder.write([UInt8](repeating: 0x61, count: count)) }
                responder.finish()
            }
        ) { (server) async throws in
            let answer = try await server.exchange("GET / HTTP/1.0\r\n\r\n")
            #expect(answer.utf8.reversed().prefix { $0 == 0x61 }.count == pieces.reduce(0, +))
        }
        #expect(hooks.incidents.isEmpty)
    }

    @Test func clientThatTakesNothingIsCut() async throws {
        let hooks = Hooks()
        let gone = Signal()
        var limits = TestServer.patient
        limits.responseStallTimeout = .milliseconds(80)
        let pump = Pump(total: 1 << 30, piece: 16_384)
        try await TestServer.run(
            limits: limits, hooks: hooks,
            handler: ClosureHandler { request, responder in
                responder.onClose { gone.fire() }
                pump.handle(request, responder)
            }
        ) { (server) async throws in
            let client = try await RawClient.connect(to: server.port, autoRead: false)
            try await client.send(Self.get)
            try await gone.wait()
        }
        guard case .responseStalled(path: "/", requestID: nil, let waiting)? = hooks.incidents.first else {
            Issue.record("\(hooks.incidents)")
            return
        }
        #expect(waiting > 0 && waiting < limits.maximumOutboundBytes)
    }

    @Test func droppedResponderIsAnsweredWith500() async throws {
        let hooks = Hooks()
        try await TestServer.run(
            hooks: hooks,
            handler: ClosureHandler { request, responder in
                if request.path != "/" { TestServer.echo(request, responder) }
            }
        ) { (server) async throws in
            let client = try await RawClient.connect(to: server.port)
            try await client.send("POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: r\r\n\r\n")
            let answer = try await client.receive { $0.hasSuffix("request\n") }
            #expect(answer.hasPrefix("HTTP/1.1 500 Internal Server Error\r\n"))
            try await client.clear()
            try await client.send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(try await client.receive { $0.hasSuffix("GET /next - ") }.hasPrefix("HTTP/1.1 200"))
        }
        #expect(hooks.incidents == [.unanswered(method: .post, path: "/", requestID: "r")])
    }

    @Test func droppedStreamIsCut() async throws {
        let hooks = Hooks()
        try await TestServer.run(
            hooks: hooks,
            handler: ClosureHandler { _, responder in
                responder.startStream(status: .ok)
                responder.write([0x61])
                responder.requestID = "mine"
            }
        ) { (server) async throws in
            let answer = try await server.exchange(Self.get)
            #expect(!answer.hasSuffix("0\r\n\r\n"))
        }
        #expect(hooks.incidents == [.abandonedStream(method: .get, path: "/", requestID: "mine")])
        #expect(hooks.entries.map(\.isComplete) == [false] && hooks.entries.map(\.requestID) == ["mine"])
    }

    /// When it is let go at last, the event loop may be gone.
    @Test func aResponderThatOutlivesItsConnectionOwesNothing() async throws {
        let kept = Mutex<HTTPResponder?>(nil)
        let gone = Signal()
        try await TestServer.run(
            handler: ClosureHandler { _, responder in
                kept.withLock { $0 = responder }
                responder.onClose { gone.fire() }
                responder.startStream(status: .ok)
                responder.write([0x61])
            }
        ) { (server) async throws in
            let client = try await RawClient.connect(to: server.port)
            try await client.send(Self.get)
            _ = try await client.receive { $0.hasSuffix("a\r\n") }
            #expect(kept.withLock { $0?.isOwed } == true)
            try await client.close()
            try await gone.wait()
        }
        #expect(kept.withLock { $0?.isOwed } == false)
    }

    @Test func abortCutsTheStreamWithoutCallingBack() async throws {
        let gone = Signal()
        try await TestServer.run(
            handler: ClosureHandler { _, responder in
                responder.onClose { gone.fire() }
                responder.startStream(status: .ok)
                responder.abort()
            }
        ) { (server) async throws in
            #expect(try await server.exchange(Self.get) == "")
        }
        #expect(gone.firings == 0)
    }
}
