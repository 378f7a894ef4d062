// Tandem — Apache-2.0

import EngineLink
import JSON
import NIOCore
import Requests
import Synchronization
import Testing

@testable import LoadGenerator

/// An engine that answers a batch when all of its part is there: every sequence a token a step.
private final class BatchEngine: EngineLinkServerDelegate {
    enum Kind: Sendable {
        case answers, refuses, leaves, silent
    }

    private struct State {
        var server: EngineLinkServer?
        var waiting: [EngineRequest] = []
        var seen: [EngineRequest] = []
    }

    private let state = Mutex(State())
    private let kind: Kind
    private let part: Int
    /// Succeeds when a part of a batch has come.
    let reached = LoadRunTests.group.any().makePromise(of: Void.self)

    init(_ kind: Kind, part: Int) {
        self.kind = kind
        self.part = part
    }

    deinit { reached.succeed(()) }

    var seen: [EngineRequest] { state.withLock { $0.seen } }
    var server: EngineLinkServer? { state.withLock { $0.server } }

    func start() async throws -> LinkAddress {
        let hello = EngineHello(
            engineIndex: 0, pid: 0, modelName: "m", modelFingerprint: BatchTests.fingerprint,
            tokenizerFingerprint: BatchTests.fingerprint, vocabularySize: 100, blockSize: 16, hashSeed: 0,
            keyValueBlocks: 100, maximumContextLength: 100, maximumSequences: 100, device: "none")
        let server = try await EngineLinkServer.start(
            at: .tcp(host: "127.0.0.1", port: 0), hello: hello, on: LoadRunTests.group.any(), delegate: self
        ).get()
        state.withLock { $0.server = server }
        return server.address
    }

    func linkOpened(_ connection: LinkConnectionID, hello: ClientHello) {}
    func linkClosed(_ connection: LinkConnectionID, reason: LinkError?) {}

    func linkReceived(_ message: LinkMessage, from connection: LinkConnectionID) {
        guard case .submit(let request) = message else { return }
        let batch: [EngineRequest] = state.withLock { state in
            state.seen.append(request)
            state.waiting.append(request)
            guard state.waiting.count == part else { return [] }
            defer { state.waiting = [] }
            return state.waiting
        }
        guard !batch.isEmpty, let server else { return }
        reached.succeed(())
        switch kind {
        case .silent: break
        case .leaves: server.disconnect(connection, LinkError(code: .connection, message: "bye"))
        case .refuses:
            let failure = RequestFailure(kind: .overloaded, message: "full")
            send(server, connection, 1, batch.map { SequenceOutput(id: $0.id, finish: .failed, failure: failure) })
        case .answers:
            for step in 1...(batch.map(\.maximumNewTokens).max() ?? 1) {
                let outputs = batch.filter { $0.maximumNewTokens >= step }.map { request in
                    SequenceOutput(
                        id: request.id, tokens: [TokenID(step)],
                        finish: request.maximumNewTokens == step ? .length : nil)
                }
                send(server, connection, step, outputs)
            }
        }
    }

    private func send(
        _ server: EngineLinkServer, _ connection: LinkConnectionID, _ step: Int, _ outputs: [SequenceOutput]
    ) {
        server.send(.stepOutput(StepOutput(step: UInt64(step), outputs: outputs)), to: connection)
    }
}

@Suite struct BatchTests {
    static let fingerprint = Digest128(high: 1, low: 2)

    private func plan(_ links: [LinkAddress], fingerprint: Digest128 = fingerprint, size: Int = 6) -> BatchPlan {
        BatchPlan(
            links: links, fingerprint: fingerprint, vocabulary: [3, 5, 7], size: size, batches: 2,
            inputTokens: .fixed(9), outputTokens: .uniform(2...4), seed: 1)
    }

    private func run(_ engines: [BatchEngine], during: (LoadRun) async throws -> Void = { _ in })
        async throws -> (plan: BatchPlan, outcome: LoadOutcome)
    {
        var links: [LinkAddress] = []
        for engine in engines { links.append(try await engine.start()) }
        let plan = plan(links)
        let run = LoadRun(plan, on: LoadRunTests.group.any())
        try await during(run)
        let outcome = try await run.result.get()
        for engine in engines { try await engine.server?.close().get() }
        return (plan, outcome)
    }

    @Test func batchesAreShared() async throws {
        let engines = [BatchEngine(.answers, part: 3), BatchEngine(.answers, part: 3)]
        let (plan, outcome) = try await run(engines)
        #expect(outcome.records.map(\.index) == Array(0..<12))
        #expect(outcome.records.allSatisfy { $0.outcome == .complete && $0.promptTokens == 9 })
        #expect(outcome.records.map(\.completionTokens) == (0..<12).map { plan.request($0).maximumNewTokens })
        #expect(outcome.batches.count == 2 && outcome.fault == nil && !outcome.isStopped)
        let lengths = (0..<12).map { plan.request($0).maximumNewTokens }
        #expect(outcome.batches.map(\.tokens) == [lengths[..<6].reduce(0, +), lengths[6...].reduce(0, +)])
        #expect(outcome.batches.allSatisfy { $0.submitted <= $0.prefilled && $0.prefilled <= $0.ended })
        for batch in outcome.batches {
            #expect(batch.firstEnded <= batch.ended && batch.tokensTogether < batch.tokens)
            #expect(batch.firstEnded > batch.prefilled || batch.decodeRate == nil)
        }
        let seen = engines.flatMap(\.seen)
        #expect(engines.map(\.seen.count) == [6, 6] && Set(seen.map(\.cacheSalt)).count == 12)
        #expect(seen.allSatisfy { $0.stopTokens.isEmpty && Set($0.tokens).isSubset(of: [3, 5, 7]) })
    }

    @Test func refusalsFail() async throws {
        let (_, outcome) = try await run([BatchEngine(.answers, part: 3), BatchEngine(.refuses, part: 3)])
        #expect(outcome.records.count { $0.outcome == .complete } == 6)
        let failure = RequestRecord.Outcome.failed(reason: "refused or given up by the engine", detail: "full")
        #expect(outcome.records.count { $0.outcome == failure } == 6)
    }

    @Test func aLostEngineEndsTheRun() async throws {
        let (_, outcome) = try await run([BatchEngine(.silent, part: 3), BatchEngine(.leaves, part: 3)])
        #expect(outcome.isStopped && outcome.batches.isEmpty && outcome.records.count == 6)
        #expect(outcome.records.count { $0.outcome == .unfinished } == 3)
        let settings = BenchmarkSettings(pace: "", workload: "", url: "", model: "", seed: 1)
        let result = BenchmarkResult(outcome, settings: settings)
        #expect(result.failed == 3 && result.failures.map(\.reason) == ["link lost"])
    }

    @Test func aStoppedRunEnds() async throws {
        let engine = BatchEngine(.silent, part: 6)
        let (_, outcome) = try await run([engine]) { run in
            try await engine.reached.futureResult.get()
            run.stop()
        }
        #expect(outcome.isStopped && outcome.records.allSatisfy { $0.outcome == .unfinished })
        #expect(outcome.records.count == 6)
    }

    @Test func anotherTokenizerIsAFault() async throws {
        let engine = BatchEngine(.silent, part: 6)
        let address = try await engine.start()
        let plan = plan([address], fingerprint: Digest128(high: 9, low: 9))
        let outcome = try await LoadRun(plan, on: LoadRunTests.group.any()).result.get()
        try await engine.server?.close().get()
        #expect(outcome.fault != nil && outcome.records.isEmpty)
    }

    @Test func batchesAreWritten() throws {
        var outcome = LoadOutcome()
        outcome.batches = [
            BatchTiming(
                submitted: 0, prefilled: 500_000_000, firstEnded: 1_500_000_000, ended: 1_600_000_000, tokens: 50,
                tokensTogether: 40)
        ]
        outcome.nanoseconds = 1_500_000_000
        let settings = BenchmarkSettings(pace: "p", workload: "w", url: "u", model: "m", seed: 1)
        let result = BenchmarkResult(outcome, settings: settings)
        let document = try JSONParser.parse(result.json(date: "d", version: "v", isDetailed: false)).object
        let batch = document?["batches"]?.array?.first?.object
        #expect(batch?["prefill_s"]?.number == 0.5 && batch?["decode_throughput"]?.number == 40)
        #expect(result.table.contains("decode tok/s") && result.table.contains("40.0"))
    }
}
