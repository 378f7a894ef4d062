// Tandem — Apache-2.0

import Foundation
import Glibc
import HTTPCore
import JSON
import NIOCore
import Requests
import Routing
import Synchronization
import Testing

@testable import Gateway

/// An engine in memory that generates a token a turn of the event loop, for as long as it is not told to pause.
private final class PacedEngine: Sendable {
    private struct Sequence {
        var outputs: [SequenceOutput]
        var isPaused = false
        /// Outputs that still come after a pause, as of steps in flight.
        var overrun: Int
    }

    private struct State {
        var sequences: [RequestID: Sequence] = [:]
        var started: [EngineRequest] = []
        var pauses = 0
        var resumes = 0
        var cancelled = 0
        var produced = 0
        var producedAtFirstPause: Int?
    }

    private let text: String
    private let overrun: Int
    private let state = Mutex(State())

    init(text: String, overrun: Int = 0) {
        self.text = text
        self.overrun = overrun
    }

    var pauses: Int { state.withLock { $0.pauses } }
    var resumes: Int { state.withLock { $0.resumes } }
    var cancelled: Int { state.withLock { $0.cancelled } }
    var produced: Int { state.withLock { $0.produced } }
    var producedAtFirstPause: Int? { state.withLock { $0.producedAtFirstPause } }
    var started: [EngineRequest] { state.withLock { $0.started } }

    private final class End: Upstream {
        let engine: EngineID
        let resumeCapability = ResumeCapability.tokens
        private let owner: PacedEngine
        private let shard: NIOLoopBound<GatewayShard>

        init(_ owner: PacedEngine, _ engine: EngineID, _ shard: GatewayShard) {
            self.engine = engine
            self.owner = owner
            self.shard = NIOLoopBound(shard, eventLoop: shard.eventLoop)
        }

        func start(_ request: EngineRequest) {
            owner.state.withLock { state in
                state.started.append(request)
                state.sequences[request.id] = Sequence(
                    outputs: MemoryEngine.outputs(request, text: owner.text.ids), overrun: owner.overrun)
            }
            turn(request.id)
        }

        func cancel(_ id: RequestID) {
            owner.state.withLock { state in
                state.sequences[id] = nil
                state.cancelled += 1
            }
        }

        func pause(_ id: RequestID) {
            owner.state.withLock { state in
                state.sequences[id]?.isPaused = true
                state.pauses += 1
                state.producedAtFirstPause = state.producedAtFirstPause ?? state.produced
            }
        }

        func resume(_ id: RequestID) {
            owner.state.withLock { state in
                state.sequences[id]?.isPaused = false
                state.sequences[id]?.overrun = owner.overrun
                state.resumes += 1
            }
            turn(id)
        }

        private func turn(_ id: RequestID) {
            let (owner, shard, engine) = (owner, shard, engine)
            let end = NIOLoopBound(self, eventLoop: shard.eventLoop)
            shard.eventLoop.execute {
                let output: SequenceOutput? = owner.state.withLock { state in
                    guard var sequence = state.sequences[id], !sequence.outputs.isEmpty else { return nil }
                    if sequence.isPaused {
                        guard sequence.overrun > 0 else { return nil }
                        sequence.overrun -= 1
                    }
                    let output = sequence.outputs.removeFirst()
                    state.sequences[id] = sequence
                    state.produced += 1
                    return output
                }
                guard let output else { return }
                shard.value.dispatcher.receive([output], from: engine)
                end.value.turn(id)
            }
        }
    }

    func join(_ bench: MemoryBench, as engine: UInt64) {
        bench.shards.forEachModel { $0.dispatcher.engineAppeared(End(self, EngineID(engine), $0)) }
    }
}

/// A client that reads when it is told to.
private struct SlowSocket {
    private let descriptor: Int32

    init(port: Int) {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var size: Int32 = 4096
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        _ = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    func post(_ path: String, _ body: String) {
        let text =
            "POST \(path) HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
        let bytes = Array(text.utf8)
        _ = write(descriptor, bytes, bytes.count)
    }

    /// Everything up to the end of the connection.
    func readToEnd() async -> String {
        let descriptor = descriptor
        return await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                var bytes: [UInt8] = []
                var buffer = [UInt8](repeating: 0, count: 65536)
                while case let count = read(descriptor, &buffer, buffer.count), count > 0 { bytes += buffer[..<count] }
                close(descriptor)
                continuation.resume(returning: String(decoding: bytes, as: UTF8.self))
            }
        }
    }
}

@Suite(.timeLimit(.minutes(10))) struct SlowClientTests {
    private static let count = 480
    private static let text = String(repeating: "abcdefgh", count: count / 8)
    /// Some 700 bytes an event, so that the answer is far more than what may wait.
    private static let body = #"{"model":"toy","prompt":"x","max_tokens":480,"stream":true,"logprobs":5}"#

    private func until(_ condition: () -> Bool) async {
        while !condition() { await Task.yield() }
    }

    /// The texts of the events of a completion stream.
    private func texts(_ answer: String) throws -> [String] {
        let payloads = answer.components(separatedBy: "data: ").dropFirst().compactMap {
            $0.components(separatedBy: "\n").first
        }
        #expect(payloads.last == "[DONE]")
        return try payloads.dropLast().flatMap { payload in
            try TestModel.json(payload)["choices"].array?.compactMap { $0["text"].string } ?? []
        }
    }

    @Test func aClientThatDoesNotReadPausesItsSequenceAndGetsAllOfItLater() async throws {
        let engine = PacedEngine(text: Self.text, overrun: 2)
        try await MemoryBench.run(
            [], configure: { $0.slowClientTimeout = .hours(1) }, limits: { $0.responseStallTimeout = .hours(1) }
        ) { bench in
            engine.join(bench, as: 1)
            let slow = SlowSocket(port: bench.client.port)
            slow.post("/v1/completions", Self.body)
            await until { engine.pauses > 0 }
            // Others are served meanwhile, however often the event loop turns.
            for _ in 0..<20 {
                let answer = try await bench.post("/v1/completions", #"{"model":"toy","prompt":"y","max_tokens":4}"#)
                #expect(answer.status == 200)
            }
            let paused = engine.produced - 80
            #expect(paused < Self.count, "it was generated to the end")
            let answer = await slow.readToEnd()
            let texts = try texts(answer)
            #expect(texts.joined() == Self.text)
            // No event was merged with another.
            #expect(texts.count == Self.count)
            #expect(engine.resumes > 0 && engine.cancelled == 0)
        }
    }

    @Test func aClientThatNeverReadsLosesItsRequest() async throws {
        let engine = PacedEngine(text: Self.text)
        try await MemoryBench.run([], configure: { $0.slowClientTimeout = .milliseconds(200) }) { bench in
            engine.join(bench, as: 1)
            let slow = SlowSocket(port: bench.client.port)
            slow.post("/v1/completions", Self.body)
            await until { engine.cancelled > 0 }
            #expect(engine.produced < Self.count)
            let metrics = try await bench.get("/metrics")
            #expect(metrics.body.contains(#"tandem_slow_clients_total{model_name="toy"} 1"#))
            #expect(metrics.body.contains(#"tandem_gateway_unfinished_sequences{model_name="toy"} 0"#))
            let answer = await slow.readToEnd()
            #expect(!answer.contains("[DONE]"))
        }
    }

    @Test func whatWaitsForASlowClientIsNotGivenTwiceWhenItsEngineIsLost() async throws {
        let first = PacedEngine(text: Self.text, overrun: 5)
        let second = PacedEngine(text: Self.text)
        try await MemoryBench.run(
            [], configure: { $0.slowClientTimeout = .hours(1) }, limits: { $0.responseStallTimeout = .hours(1) }
        ) { bench in
            first.join(bench, as: 1)
            let slow = SlowSocket(port: bench.client.port)
            slow.post("/v1/completions", Self.body)
            // What comes after the pause waits as tokens.
            await until { first.producedAtFirstPause.map { first.produced == $0 + 5 } ?? false }
            second.join(bench, as: 2)
            bench.shards.forEachModel { $0.dispatcher.engineLost(EngineID(1), reason: "killed") }
            await until { second.started.count == 1 }
            #expect(second.started[0].resumeOffset <= first.produced)
            let answer = await slow.readToEnd()
            let texts = try texts(answer)
            #expect(texts.joined() == Self.text)
            #expect(texts.count == Self.count)
        }
    }
}
