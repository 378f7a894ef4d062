// Tandem — Apache-2.0

import EngineLink
import HTTPCore
import InferenceEngine
import JSON
import LanguageModel
import NIOCore
import NIOEmbedded
import Requests
import Routing
import TestSupport
import Testing

@testable import Gateway

/// Records what it is asked.
private final class RecordingUpstream: Upstream {
    let engine: EngineID
    let resumeCapability = ResumeCapability.tokens
    let prefixKnowledge = PrefixKnowledge.told
    var started: [RequestID] = []

    init(_ engine: UInt64) { self.engine = EngineID(engine) }

    func start(_ request: EngineRequest) { started.append(request.id) }
    func cancel(_ id: RequestID) {}
    func pause(_ id: RequestID) {}
    func resume(_ id: RequestID) {}
}

private final class PromptOwner: SequenceOwner {
    let prompt: [TokenID]
    let session: UInt64?
    let isPaused = false

    init(_ prompt: [TokenID], session: UInt64? = nil) {
        self.prompt = prompt
        self.session = session
    }

    func work(choice: Int, id: RequestID) -> EngineRequest {
        EngineRequest(id: id, tokens: prompt, maximumNewTokens: 8)
    }

    func maySubmitAgain(choice: Int) -> Bool { true }
    func receive(choice: Int, output: SequenceOutput) {}
    func fail(choice: Int, error: APIError) {}
}

@Suite struct RoutingWiringTests {
    private let model = Digest128(high: 1, low: 2)
    private let blockSize = 16

    private var hello: EngineHello {
        EngineHello(
            engineIndex: 0, pid: 1, modelName: "m", modelFingerprint: model,
            tokenizerFingerprint: Digest128(high: 0, low: 0), vocabularySize: 97, blockSize: UInt32(blockSize),
            hashSeed: 9, keyValueBlocks: 64, maximumContextLength: 256, maximumSequences: 4, device: "none")
    }

    private func tokens(_ count: Int, seed: UInt64 = 1) -> [TokenID] {
        var generator = SeededGenerator(seed: seed)
        return (0..<count).map { _ in .random(in: 0..<97, using: &generator) }
    }

    /// Runs requests in a scheduler.
    ///
    /// - Returns: what it says that it has stored.
    private func stored(_ requests: [EngineRequest]) throws -> Set<BlockHash> {
        let configuration = SchedulerConfiguration(
            slots: 4, tokensPerStep: 64, contextLength: 256, blockSize: blockSize, vocabularySize: 97,
            modelFingerprint: model, hashSeed: 9)
        let executor = MockExecutor(model: MockModel(vocabularySize: 97, period: nil), blockCount: 64)
        let groups = [KeyValueGroup(layers: [0], window: nil)]
        let prepared = try executor.prepare(
            limits: ExecutorLimits(
                slots: 4, tokensPerStep: 64, contextLength: 256, blockSize: blockSize, keyValueBytes: 0),
            groups: groups)
        var scheduler = try Scheduler(configuration: configuration, groups: groups, prepared: prepared)
        for request in requests { try scheduler.add(request) }
        var plan = StepPlan()
        var result = StepResult()
        var outputs: [SequenceOutput] = []
        while scheduler.schedule(into: &plan) {
            let ticket = try executor.submit(plan)
            try executor.sample(ticket, masks: nil)
            try executor.result(of: ticket, into: &result)
            try scheduler.finish(result, into: &outputs)
        }
        #expect(outputs.count { $0.finish != nil } == requests.count)
        return Set(scheduler.takePrefixChanges().stored)
    }

    @Test(arguments: ["", "salt"]) func blocksAreThoseThatEnginesStore(salt: String) throws {
        let blocks = PromptBlocks(hello)
        for count in [1, 15, 16, 17, 100, 200] {
            let request = EngineRequest(id: 1, tokens: tokens(count), maximumNewTokens: 1, cacheSalt: salt)
            let hints = blocks.hints(for: request)
            #expect(hints.blockSize == (hints.prefix.isEmpty ? 0 : 16))
            // The last token is always computed, so the last block is of no use if it ends the prompt.
            #expect(hints.prefix.count == (count - 1) / 16)
            #expect(try stored([request]).isSuperset(of: hints.prefix))
            #expect(try stored([request]).count == count / 16)
        }
        let salted = EngineRequest(id: 1, tokens: tokens(40), maximumNewTokens: 1, cacheSalt: salt + "x")
        let other = EngineRequest(id: 1, tokens: tokens(40), maximumNewTokens: 1, cacheSalt: salt)
        #expect(Set(blocks.hints(for: salted).prefix).isDisjoint(with: blocks.hints(for: other).prefix))
    }

    @Test func whatMustBeComputedWholeHasNoPrefix() {
        let blocks = PromptBlocks(hello)
        var request = EngineRequest(id: 1, tokens: tokens(40), maximumNewTokens: 1, promptLogProbabilities: 0)
        #expect(blocks.hints(for: request).prefix.isEmpty)
        request.resumeOffset = 3
        #expect(blocks.hints(for: request).prefix.count == 2)
        request = EngineRequest(id: 1, tokens: tokens(40), maximumNewTokens: 0, pooling: .mean)
        #expect(blocks.hints(for: request).prefix.isEmpty)
        request.pooling = .last
        #expect(blocks.hints(for: request).prefix.count == 2)
        request.tokens = []
        #expect(blocks.hints(for: request).prefix.isEmpty)
        var broken = hello
        broken.blockSize = 0
        #expect(PromptBlocks(broken).hints(for: EngineRequest(id: 1, tokens: [1], maximumNewTokens: 1)).prefix.isEmpty)
    }

    private func dispatcher(_ upstreams: [RecordingUpstream], _ metrics: GatewayMetrics) -> SequenceDispatcher {
        let dispatcher = SequenceDispatcher(eventLoop: EmbeddedEventLoop(), metrics: metrics)
        let blocks = PromptBlocks(hello)
        dispatcher.hints = { blocks.hints(for: $0) }
        for upstream in upstreams { dispatcher.engineAppeared(upstream) }
        return dispatcher
    }

    @Test func promptsFindTheirPrefixAndColdOnesTheLeastLoaded() throws {
        let upstreams = [RecordingUpstream(1), RecordingUpstream(2)]
        let instruments = GatewayInstruments(models: ["m"])
        let dispatcher = dispatcher(upstreams, instruments.models[0])
        let shared = tokens(600)
        func run(_ prompt: [TokenID]) -> EngineID? {
            let id = dispatcher.start(owner: PromptOwner(prompt), choice: 0)
            let upstream = upstreams.first { $0.started.last == id }
            if let upstream {
                dispatcher.receive([SequenceOutput(id: id, tokens: [5], finish: .length)], from: upstream.engine)
            }
            return upstream?.engine
        }
        let first = try #require(run(shared + tokens(20, seed: 2)))
        dispatcher.prefixesChanged(
            stored: PromptBlocks(hello).hints(for: EngineRequest(id: 1, tokens: shared, maximumNewTokens: 1)).prefix,
            evicted: [], on: first)
        for seed in UInt64(3)..<20 { #expect(run(shared + tokens(20, seed: seed)) == first) }
        // Elsewhere while that engine is busy.
        _ = dispatcher.start(owner: PromptOwner(shared + tokens(20, seed: 50)), choice: 0)
        for seed in UInt64(60)..<65 { #expect(run(tokens(100, seed: seed)) != first) }
        let text = String(decoding: instruments.exposition(), as: UTF8.self)
        #expect(text.contains(#"tandem_router_decisions_total{model_name="m",reason="prefix"} 18"#), "\(text)")
        #expect(text.contains(#"tandem_router_decisions_total{model_name="m",reason="load"} 6"#))
        #expect(text.contains(#"tandem_router_prefix_tokens_total{model_name="m"} \#(18 * 592)"#))
    }

    @Test func documentsOfOneQueryStayTogetherWhileThatPays() {
        let upstreams = [RecordingUpstream(1), RecordingUpstream(2)]
        let dispatcher = dispatcher(upstreams, GatewayMetrics(modelName: "m"))
        let query = tokens(160)
        for seed in UInt64(1)...2 {
            _ = dispatcher.start(owner: PromptOwner(query + tokens(10, seed: seed)), choice: 0)
        }
        // The second engine is free, and computing the query once more is as quick as waiting.
        #expect(upstreams.map(\.started.count) == [1, 1])
        for seed in UInt64(3)...40 {
            _ = dispatcher.start(owner: PromptOwner(query + tokens(10, seed: seed)), choice: 0)
        }
        // Only the two first cost the whole query.
        #expect(dispatcher.views.reduce(0) { $0 + $1.outstandingTokens } == 2 * 178 + 38 * 18)
    }

    @Test func sessionsGoWhereTheyWere() {
        let upstreams = [RecordingUpstream(1), RecordingUpstream(2)]
        let dispatcher = dispatcher(upstreams, GatewayMetrics(modelName: "m"))
        for _ in 0..<6 { _ = dispatcher.start(owner: PromptOwner(tokens(10), session: 7), choice: 0) }
        #expect(Set(upstreams.map(\.started.count)) == [0, 6])
    }

    @Test func aSessionIsNamedByHeaderOrBody() throws {
        func name(_ json: String) throws -> String? {
            try SessionKey.name(RequestFields(body: JSONParser.parse(Array(json.utf8))))
        }
        #expect(try name("{}") == nil)
        #expect(try name(#"{"user": "u"}"#) == "u")
        #expect(try name(#"{"user": "u", "prompt_cache_key": "p"}"#) == "p")
        #expect(try name(#"{"user": "u", "prompt_cache_key": "p", "session_id": "s"}"#) == "s")
        #expect(try name(#"{"user": "", "session_id": 5}"#) == nil)
        #expect(throws: APIError.self) { try name(#"{"user": 5}"#) }
        let byBody = SessionKey.session([:], name: "s")
        #expect(byBody != nil && byBody == SessionKey.session(["x-session-id": "s"], name: "t"))
        #expect(SessionKey.session(["X-Session-Id": ""], name: "t") == SessionKey.session([:], name: "t"))
        #expect(SessionKey.session([:], name: nil) == nil && SessionKey.session([:], name: "t") != byBody)
    }
}
