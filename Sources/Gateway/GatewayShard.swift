// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore
import NIOPosix
import Requests
import Tokenization

/// Everything a gateway does on one event loop: endpoints, request owners, the dispatcher and its engine links.
final class GatewayShard {
    let eventLoop: any EventLoop
    let configuration: GatewayConfiguration
    let model: ServedModel
    let metrics: GatewayMetrics
    let dispatcher: Dispatcher
    let engines: EnginePool
    /// Where long prompts are tokenized, and what else would keep other connections waiting is done.
    let workers: NIOThreadPool
    var recentGrammars = RecentGrammars()

    init(
        eventLoop: any EventLoop, configuration: GatewayConfiguration, metrics: GatewayMetrics,
        workers: NIOThreadPool
    ) {
        self.eventLoop = eventLoop
        self.configuration = configuration
        model = configuration.model
        self.metrics = metrics
        self.workers = workers
        dispatcher = Dispatcher(
            eventLoop: eventLoop,
            limits: Dispatcher.Limits(
                sequences: configuration.maximumSequences, hold: configuration.holdTimeout),
            metrics: metrics)
        engines = EnginePool(
            eventLoop: eventLoop, dispatcher: dispatcher, tokenizerFingerprint: model.tokenizer.fingerprint,
            pid: configuration.pid, metrics: metrics, log: configuration.log)
    }

    /// One request, with what every answer to it carries.
    struct Exchange {
        var request: HTTPRequest
        var responder: HTTPResponder
        var id: String
        var headers: HTTPHeaders
    }

    func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        let id = Self.requestID(responder.requestID)
        responder.requestID = id
        let exchange = Exchange(request: request, responder: responder, id: id, headers: ["X-Request-Id": id])
        do {
            try authorize(request)
            try route(exchange)
        } catch {
            metrics.refused(status: error.status)
            responder.respond(error, headers: exchange.headers)
        }
    }

    /// The client's id if it can stand in a header and in JSON as it is, else a random one.
    private static func requestID(_ given: String?) -> String {
        if let given, (1...128).contains(given.utf8.count), given.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) {
            return given
        }
        return Digest128(high: .random(in: .min ... .max), low: .random(in: .min ... .max)).description
    }

    private func authorize(_ request: HTTPRequest) throws(APIError) {
        guard !configuration.apiKeys.isEmpty, !Self.openPaths.contains(request.path) else { return }
        guard let header = request.headers["Authorization"] else {
            throw .unauthorized("an API key is required: send `Authorization: Bearer KEY`")
        }
        let prefix = "bearer "
        guard header.prefix(prefix.count).lowercased() == prefix else {
            throw .unauthorized("the Authorization header must be `Bearer KEY`")
        }
        let key = Array(header.utf8.dropFirst(prefix.utf8.count))
        var known = false
        for candidate in configuration.apiKeys where Self.equal(key, Array(candidate.utf8)) { known = true }
        guard known else { throw .unauthorized("the API key is not valid") }
    }

    /// Takes the same time wherever two keys differ.
    private static func equal(_ first: [UInt8], _ second: [UInt8]) -> Bool {
        guard first.count == second.count else { return false }
        return zip(first, second).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }

    /// Paths that probes and scrapers read without a key.
    private static let openPaths: Set<String> = ["/health", "/live", "/ping", "/version", "/metrics", "/load"]

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
        "/v1/models": (.get, { (shard, exchange) throws(APIError) in shard.listModels(exchange) }),
        "/tokenizer_info": (.get, { (shard, exchange) throws(APIError) in shard.tokenizerInfo(exchange) }),
        "/tokenize": (.post, { (shard, exchange) throws(APIError) in try shard.tokenize(exchange) }),
        "/detokenize": (.post, { (shard, exchange) throws(APIError) in try shard.detokenize(exchange) }),
        "/health": (.get, { (shard, exchange) throws(APIError) in try shard.health(exchange) }),
        "/ping": (.get, { (shard, exchange) throws(APIError) in try shard.health(exchange) }),
        "/load": (.get, { (shard, exchange) throws(APIError) in shard.load(exchange) }),
        "/live": (.get, { (shard, exchange) throws(APIError) in shard.live(exchange) }),
        "/version": (.get, { (shard, exchange) throws(APIError) in shard.version(exchange) }),
        "/metrics": (.get, { (shard, exchange) throws(APIError) in shard.showMetrics(exchange) }),
    ]

    private func route(_ exchange: Exchange) throws(APIError) {
        let path = exchange.request.path
        let method = exchange.request.method
        if let endpoint = Self.endpoints[path] {
            try check(method, endpoint.method)
            try endpoint.run(self, exchange)
        } else if path.hasPrefix("/v1/models/") {
            try check(method, .get)
            try showModel(exchange, named: String(path.dropFirst("/v1/models/".count)))
        } else {
            throw .unknownPath(path)
        }
    }

    private func check(_ method: HTTPMethod, _ expected: HTTPMethod) throws(APIError) {
        if method == expected || (expected == .get && method == .head) { return }
        throw .methodNotAllowed(method.rawValue, allow: expected == .get ? "GET, HEAD" : expected.rawValue)
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
