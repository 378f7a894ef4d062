// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore
import NIOPosix
import Requests
import Routing
import Synchronization
import Testing
import Tokenization

@testable import Gateway

/// An engine in the gateway's own memory, so that requests and outputs are what the gateway makes of them, without a
/// link between. It answers a request with outputs that a closure makes, one in each turn of the event loop.
final class MemoryEngine: Sendable {
    private struct State {
        var requests: [EngineRequest] = []
        var cancelled: [RequestID] = []
    }

    private let state = Mutex(State())
    private let answer: @Sendable (EngineRequest) -> [SequenceOutput]

    init(_ answer: @escaping @Sendable (EngineRequest) -> [SequenceOutput]) {
        self.answer = answer
    }

    /// Generates `text`, a token an output, with log-probabilities and prompt log-probabilities as asked for.
    convenience init(text: String) {
        self.init { request in
            MemoryEngine.outputs(request, text: text.ids)
        }
    }

    var requests: [EngineRequest] { state.withLock { $0.requests } }
    var cancelled: [RequestID] { state.withLock { $0.cancelled } }

    /// The token `a` is always likely: -0.25 log-probability, `b` -2, `c` -3 and so on; what was chosen has -1.5.
    static func position(_ token: TokenID, top: Int) -> PositionLogProbabilities {
        let likely = (0..<top).map { index in
            TokenLogProbability(token: TokenID(97 + index), logProbability: index == 0 ? -0.25 : -Float(index) - 1)
        }
        return PositionLogProbabilities(
            chosen: likely.first { $0.token == token } ?? TokenLogProbability(token: token, logProbability: -1.5),
            top: likely)
    }

    static func outputs(_ request: EngineRequest, text: [TokenID]) -> [SequenceOutput] {
        var outputs: [SequenceOutput] = []
        let prompt = request.promptLogProbabilities.map { top in
            request.tokens.dropFirst().map { position($0, top: top) }
        }
        let count = min(text.count, request.maximumNewTokens)
        for (index, token) in text.prefix(count).enumerated() where index >= request.resumeOffset {
            let isStop = request.stopTokens.contains(token)
            let ends = index == count - 1 || isStop
            outputs.append(
                SequenceOutput(
                    id: request.id, tokens: [token],
                    logProbabilities: request.logProbabilities.map { [position(token, top: $0)] } ?? [],
                    promptLogProbabilities: index == 0 ? prompt ?? [] : [],
                    finish: ends ? (isStop ? .stop : .length) : nil, cachedPromptTokens: index == 0 ? 0 : nil))
            if isStop { break }
        }
        if outputs.isEmpty {
            outputs.append(
                SequenceOutput(id: request.id, promptLogProbabilities: prompt ?? [], finish: .length))
        }
        return outputs
    }

    /// The engine as one dispatcher uses it.
    private final class End: Upstream {
        let engine: EngineID
        let resumeCapability = ResumeCapability.tokens
        private let owner: MemoryEngine
        private let shard: NIOLoopBound<GatewayShard>

        init(_ owner: MemoryEngine, _ index: Int, _ shard: GatewayShard) {
            engine = MemoryEngine.id(index)
            self.owner = owner
            self.shard = NIOLoopBound(shard, eventLoop: shard.eventLoop)
        }

        func start(_ request: EngineRequest) {
            owner.state.withLock { $0.requests.append(request) }
            let (shard, engine) = (shard, engine)
            for output in owner.answer(request) {
                shard.value.eventLoop.execute { shard.value.dispatcher.receive([output], from: engine) }
            }
        }

        func cancel(_ id: RequestID) { owner.state.withLock { $0.cancelled.append(id) } }
        func pause(_ id: RequestID) {}
        func resume(_ id: RequestID) {}
    }

    static func id(_ index: Int) -> EngineID { EngineID(UInt64(1000 + index)) }

    func join(_ shard: GatewayShard, index: Int) {
        shard.dispatcher.engineAppeared(End(self, index, shard))
    }
}

/// A gateway over engines in memory, and requests to it.
struct MemoryBench {
    let client: TestClient
    let shards: ShardTable

    static func run(
        _ engines: [MemoryEngine], tokenizer: Tokenizer? = nil, template: String? = defaultTemplate,
        configure: (inout GatewayConfiguration) -> Void = { _ in },
        limits: (inout HTTPLimits) -> Void = { _ in }, observe: (@Sendable (AccessLogEntry) -> Void)? = nil,
        _ body: (MemoryBench) async throws -> Void
    ) async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let workers = NIOThreadPool(numberOfThreads: 1)
        workers.start()
        var configuration = GatewayConfiguration(
            models: [
                ServedModel(
                    names: ["toy"], tokenizer: try tokenizer ?? TestModel.tokenizer(),
                    chatTemplate: try template.map { try ChatTemplate(source: $0) }, contextLength: 512, created: 5)
            ],
            listener: .address(host: "127.0.0.1", port: 0), version: "1.2.3", pid: 9, log: { _ in },
            secondsSince1970: { 77 })
        configure(&configuration)
        let shards = ShardTable(
            group: group, configuration: configuration, instruments: GatewayInstruments(models: ["toy"]),
            workers: workers)
        shards.forEachModel { shard in
            for (index, engine) in engines.enumerated() { engine.join(shard, index: index) }
        }
        var serving = HTTPServerConfiguration()
        serving.limits.maximumBodyBytes = configuration.maximumBodyBytes
        serving.accessLog = observe
        limits(&serving.limits)
        let server = try await HTTPServer.start(
            group: group, listening: configuration.listener, configuration: serving, handler: shards)
        let bench = MemoryBench(client: TestClient(port: try #require(server.port)), shards: shards)
        do {
            try await body(bench)
        } catch {
            await server.close()
            throw error
        }
        await server.drain()
        await shards.shutdown()
        try await workers.shutdownGracefully()
        try await group.shutdownGracefully()
    }

    static let defaultTemplate = """
        {% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}\
        {% if add_generation_prompt %}assistant:{% endif %}
        """

    func get(_ path: String) async throws -> TestClient.Answer { try await client.get(path) }

    func post(_ path: String, _ body: String) async throws -> TestClient.Answer {
        try await client.post(path, body, headers: "X-Request-Id: r\r\n")
    }

    /// The error of a request, as `status parameter`; `nil` if it succeeds.
    func refusal(_ path: String, _ body: String) async throws -> String? {
        let answer = try await post(path, body)
        guard answer.status != 200 else { return nil }
        return "\(answer.status) \(answer.json["error"]["param"].string ?? "-")"
    }

    /// Expects a refusal as `status parameter`.
    func expect(
        _ refusal: String?, _ path: String, _ body: String, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let actual = try await self.refusal(path, body)
        #expect(actual == refusal, "\(body.prefix(200))", sourceLocation: sourceLocation)
    }
}

extension ShardTable {
    /// Calls `body` with every shard of our own engines.
    func forEachModel(_ body: @escaping @Sendable (GatewayShard) -> Void) {
        forEach { if let shard = $0 as? GatewayShard { body(shard) } }
    }
}
