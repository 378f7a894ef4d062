// Tandem — Apache-2.0

import EngineLink
import HTTPCore
import JSON
import NIOCore
import NIOPosix
import Requests
import Routing
import Tokenization

/// Everything a gateway does for one model of our own engines on one event loop: endpoints, request owners, the
/// dispatcher and its engine links.
final class GatewayShard: ModelShard {
    let eventLoop: any EventLoop
    let configuration: GatewayConfiguration
    let model: ServedModel
    let metrics: GatewayMetrics
    let dispatcher: SequenceDispatcher
    let engines: EnginePool
    /// Where long prompts are tokenized, and what else would keep other connections waiting is done.
    let workers: NIOThreadPool
    var recentGrammars = RecentGrammars()
    let chunks = ChunkBuffer()

    init(
        eventLoop: any EventLoop, configuration: GatewayConfiguration, model: ServedModel, metrics: GatewayMetrics,
        workers: NIOThreadPool
    ) {
        self.eventLoop = eventLoop
        self.configuration = configuration
        self.model = model
        self.metrics = metrics
        self.workers = workers
        dispatcher = SequenceDispatcher(
            eventLoop: eventLoop,
            limits: DispatchLimits(
                sequences: configuration.maximumSequences, hold: configuration.holdTimeout),
            metrics: metrics)
        engines = EnginePool(
            eventLoop: eventLoop, dispatcher: dispatcher, indices: model.engines,
            tokenizerFingerprint: model.tokenizer.fingerprint, pid: configuration.pid,
            silenceLimit: configuration.engineSilenceTimeout, metrics: metrics, log: configuration.log)
    }

    /// One request, with what every answer to it carries.
    struct Exchange {
        var request: HTTPRequest
        var responder: HTTPResponder
        var id: String
        var headers: HTTPHeaders
        /// Where it stands in a trace, if its client said so.
        var trace: TraceContext?
        /// The index of the only engine that may have it: that of the port by which it came.
        var engine: Int?

        /// The same, as a ``Dispatcher`` knows engines.
        var onlyEngine: UInt64? { engine.map { UInt64($0) } }
    }

    func handle(_ exchange: Exchange) {
        do {
            try route(exchange)
        } catch {
            metrics.refused(status: error.status)
            exchange.responder.respond(error, headers: exchange.headers)
        }
    }

    // MARK: Engines

    var cards: [ModelCard] {
        model.names.map {
            ModelCard(name: $0, root: model.name, created: model.created, contextLength: model.contextLength)
        }
    }

    var servingEngines: Int { dispatcher.servingEngines }
    var unfinished: Int { dispatcher.unfinished }
    var summary: String { engines.summary }
    var settled: EventLoopFuture<Void> { engines.settled }

    var reports: [EngineReport] {
        let views = dispatcher.views
        return engines.states.map { state in
            let view = state.engine.flatMap { engine in views.first { $0.id == engine } }
            return EngineReport(
                index: Int(state.entry.index), model: model.name, address: state.entry.address,
                state: state.entry.state, isServing: state.isServing, pid: state.entry.pid,
                restarts: state.entry.restarts, reason: state.entry.reason, hello: state.hello,
                statistics: state.statistics, outstandingRequests: view?.outstandingRequests ?? 0,
                outstandingTokens: view?.outstandingTokens ?? 0, breaker: view?.breaker ?? .closed,
                heard: state.heard)
        }
    }

    var held: Int { dispatcher.heldSequences }

    func placements(limit: Int) -> [RequestPlacement] {
        let states = engines.states
        return dispatcher.placements(limit: limit).compactMap { request, engine, attempts in
            guard let state = states.first(where: { $0.engine == engine }) else { return nil }
            return RequestPlacement(
                request: request, model: model.name, engine: Int(state.entry.index), attempts: attempts)
        }
    }

    func has(engine: Int) -> Bool {
        model.engines?.contains(UInt32(clamping: engine)) ?? engines.states.contains { $0.entry.index == engine }
    }

    /// A supervisor's engines are always meant to be there.
    var hasEngines: Bool { configuration.upstreams == nil || !engines.states.isEmpty }
    func update(_ roster: Roster) { engines.update(roster) }
    func failAll(_ error: APIError) { dispatcher.failAll(error) }
    func shutdown() { engines.shutdown() }

    // MARK: Paths

    private typealias Endpoint = @Sendable (GatewayShard, Exchange) throws(APIError) -> Void

    private static let endpoints: [String: (method: HTTPMethod, run: Endpoint)] = generating.merging(informing) {
        (first, _) in first
    }

    /// Endpoints that give engines work.
    private static let generating: [String: (method: HTTPMethod, run: Endpoint)] = {
        let embeddings: Endpoint = { (shard, exchange) throws(APIError) in try shard.embeddings(exchange) }
        let score: Endpoint = { (shard, exchange) throws(APIError) in shard.score(exchange) }
        let rerank: Endpoint = { (shard, exchange) throws(APIError) in shard.rerank(exchange) }
        let classify: Endpoint = { (shard, exchange) throws(APIError) in shard.classify(exchange) }
        return [
            "/v1/completions": (.post, { (shard, exchange) throws(APIError) in try shard.completions(exchange) }),
            "/v1/chat/completions": (
                .post, { (shard, exchange) throws(APIError) in try shard.chatCompletions(exchange) }
            ),
            "/v1/responses": (.post, { (shard, exchange) throws(APIError) in try shard.responses(exchange) }),
            "/v1/responses/input_tokens": (
                .post, { (shard, exchange) throws(APIError) in try shard.responseTokens(exchange) }
            ),
            "/v1/embeddings": (.post, embeddings), "/embeddings": (.post, embeddings),
            "/v1/score": (.post, score), "/score": (.post, score),
            "/v1/rerank": (.post, rerank), "/v2/rerank": (.post, rerank), "/rerank": (.post, rerank),
            "/v1/classify": (.post, classify), "/classify": (.post, classify),
        ]
    }()

    private static let informing: [String: (method: HTTPMethod, run: Endpoint)] = [
        "/tokenizer_info": (.get, { (shard, exchange) throws(APIError) in shard.tokenizerInfo(exchange) }),
        "/tokenize": (.post, { (shard, exchange) throws(APIError) in try shard.tokenize(exchange) }),
        "/detokenize": (.post, { (shard, exchange) throws(APIError) in try shard.detokenize(exchange) }),
    ]

    private func route(_ exchange: Exchange) throws(APIError) {
        guard let endpoint = Self.endpoints[exchange.request.path] else {
            throw .unknownPath(exchange.request.path)
        }
        try exchange.require(endpoint.method)
        try endpoint.run(self, exchange)
    }

    // MARK: Long work

    /// Runs `work` on the body and hands its result to `finish` on the event loop: at once if the body is short, else
    /// with `work` on a worker thread, so that a long body keeps no other connection waiting.
    func process<Value: Sendable>(
        _ exchange: Exchange,
        work: @escaping @Sendable (ByteBuffer) throws(APIError) -> Value,
        finish: @escaping (Value) throws(APIError) -> Void
    ) throws(APIError) {
        let body = exchange.request.body
        guard body.readableBytes > Self.longBody else {
            try finish(work(body))
            return
        }
        onWorker(exchange, work: { () throws(APIError) in try work(body) }, finish: finish)
    }

    /// Runs `work` on a worker thread and hands its result to `finish` on the event loop; answers with the error that
    /// either throws.
    func onWorker<Value: Sendable>(
        _ exchange: Exchange,
        work: @escaping @Sendable () throws(APIError) -> Value,
        finish: @escaping (Value) throws(APIError) -> Void
    ) {
        workers.runIfActive(eventLoop: eventLoop) { () -> Result<Value, APIError> in
            do throws(APIError) { return .success(try work()) } catch { return .failure(error) }
        }.assumeIsolated().whenComplete { [self] outcome in
            do throws(APIError) {
                switch outcome {
                case .success(.success(let value)): try finish(value)
                case .success(.failure(let error)): throw error
                case .failure: throw .unavailable("the server is shutting down")
                }
            } catch {
                metrics.refused(status: error.status)
                exchange.responder.respond(error, headers: exchange.headers)
            }
        }
    }

    /// Bytes of a body that takes about 100 µs to parse and tokenize.
    private static let longBody = 8 * 1024

    var writer: BodyWriter { BodyWriter(eventLoop: eventLoop, workers: workers, times: metrics.hostTimes) }

    func respond(_ exchange: Exchange, _ body: [UInt8], contentType: String = "application/json") {
        respond(exchange, ByteBuffer(bytes: body), contentType: contentType)
    }

    func respond(_ exchange: Exchange, _ body: ByteBuffer, contentType: String = "application/json") {
        var headers = exchange.headers
        headers.add("Content-Type", contentType)
        exchange.responder.respond(status: .ok, headers: headers, body: body)
    }
}

extension JSONValue {
    /// Many small values take some twenty times their size in memory, so their number is bounded beside the bytes.
    private static let limits = JSONLimits(maximumDepth: 64, maximumBytes: 64 << 20, maximumValues: 1 << 20)

    /// - Throws: 400 with the offset if a request body is not valid JSON.
    static func body(_ bytes: ByteBuffer) throws(APIError) -> JSONValue {
        do throws(JSONError) {
            return try JSONParser.parse(bytes.readableBytesView, limits: limits)
        } catch {
            throw .invalid(nil, "the request body is not valid JSON: \(error.reason) at byte \(error.offset)")
        }
    }
}
