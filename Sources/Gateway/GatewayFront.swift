// Tandem — Apache-2.0

import HTTPCore
import NIOCore
import NIOPosix
import Requests

/// Takes the requests of one event loop: checks who asks, answers what concerns all models, and gives everything else
/// to the model that is asked for.
final class GatewayFront {
    typealias Exchange = GatewayShard.Exchange

    let eventLoop: any EventLoop
    let configuration: GatewayConfiguration
    /// One a model; requests that name none get the first, never empty.
    let shards: [any ModelShard]
    let instruments: GatewayInstruments
    /// What other event loops know too; set before there are requests.
    weak var table: ShardTable?
    private let workers: NIOThreadPool
    private var random = QuickGenerator()

    init(
        eventLoop: any EventLoop, configuration: GatewayConfiguration, instruments: GatewayInstruments,
        workers: NIOThreadPool
    ) {
        self.eventLoop = eventLoop
        self.configuration = configuration
        self.instruments = instruments
        self.workers = workers
        var shards: [any ModelShard] = zip(configuration.models, instruments.models).map { model, metrics in
            GatewayShard(
                eventLoop: eventLoop, configuration: configuration, model: model, metrics: metrics, workers: workers)
        }
        if let engines = configuration.external, let metrics = instruments.models.last {
            shards.append(
                ProxyShard(
                    eventLoop: eventLoop, configuration: configuration, engines: engines, metrics: metrics,
                    workers: workers))
        }
        self.shards = shards
    }

    /// Whether every shard knows its engines.
    var settled: EventLoopFuture<Void> { .andAllSucceed(shards.map(\.settled), on: eventLoop) }

    /// - Parameter engine: the only engine that may have the request; `nil` if any may.
    func handle(_ request: HTTPRequest, _ responder: HTTPResponder, engine: Int? = nil) {
        let id = requestID(responder.requestID)
        responder.requestID = id
        var exchange = Exchange(request: request, responder: responder, id: id, headers: ["X-Request-Id": id])
        if let trace = Self.trace(of: request) {
            exchange.trace = trace
            exchange.headers.add(TraceContext.responseHeader, trace.traceparent)
            responder.describe { AccessNote(trace: trace) }
        }
        configuration.allowedOrigins.allow(request, in: &exchange.headers)
        if let headers = configuration.allowedOrigins.preflight(request, exchange.headers) {
            responder.respond(status: .noContent, headers: headers)
            return
        }
        do {
            try authorize(request)
            if let engine {
                exchange.engine = engine
                try route(exchange, to: engine)
            } else {
                try route(exchange)
            }
        } catch {
            refuse(exchange, error)
        }
    }

    private func refuse(_ exchange: Exchange, _ error: APIError) {
        instruments.refused(status: error.status)
        exchange.responder.respond(error, headers: exchange.headers)
    }

    /// The client's id if it can stand in a header and in JSON as it is, else a random one.
    private func requestID(_ given: String?) -> String {
        if let given, (1...128).contains(given.utf8.count), given.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) {
            return given
        }
        return Digest128(high: random.next(), low: random.next()).description
    }

    /// Two headers are as good as none: nobody could say which is meant.
    private static func trace(of request: HTTPRequest) -> TraceContext? {
        let values = request.headers.values(named: TraceContext.header)
        guard values.count == 1 else { return nil }
        return TraceContext(traceparent: values[0], spanID: .random(in: 1 ... .max))
    }

    // MARK: Keys

    private func authorize(_ request: HTTPRequest) throws(APIError) {
        try Self.authorize(request, keys: configuration.apiKeys)
    }

    /// - Throws: 401 if keys are wanted and the request has none of them.
    static func authorize(_ request: HTTPRequest, keys: [String]) throws(APIError) {
        guard !keys.isEmpty, !Self.openPaths.contains(request.path) else { return }
        guard let header = request.headers["Authorization"] else {
            throw .unauthorized("an API key is required: send `Authorization: Bearer KEY`")
        }
        let prefix = "bearer "
        guard header.prefix(prefix.count).lowercased() == prefix else {
            throw .unauthorized("the Authorization header must be `Bearer KEY`")
        }
        let key = Array(header.utf8.dropFirst(prefix.utf8.count))
        var known = false
        for candidate in keys where Self.equal(key, Array(candidate.utf8)) { known = true }
        guard known else { throw .unauthorized("the API key is not valid") }
    }

    /// Takes the same time wherever two keys differ.
    private static func equal(_ first: [UInt8], _ second: [UInt8]) -> Bool {
        guard first.count == second.count else { return false }
        return zip(first, second).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }

    /// Paths that probes, scrapers and browsers read without a key. Of the dashboard it is the empty page; what it shows
    /// needs one.
    private static let openPaths: Set<String> = [
        "/health", "/live", "/ping", "/version", "/metrics", "/load", "/ui", "/ui/",
    ]

    // MARK: Paths

    private typealias Endpoint = @Sendable (GatewayFront, Exchange) throws(APIError) -> Void

    /// Endpoints that concern all models, all of them to be read.
    private static let endpoints: [String: Endpoint] = [
        "/v1/models": { (front, exchange) throws(APIError) in front.listModels(exchange) },
        "/health": { (front, exchange) throws(APIError) in try front.health(exchange) },
        "/ping": { (front, exchange) throws(APIError) in try front.health(exchange) },
        "/load": { (front, exchange) throws(APIError) in front.load(exchange) },
        "/live": { (front, exchange) throws(APIError) in front.live(exchange) },
        "/version": { (front, exchange) throws(APIError) in front.version(exchange) },
        "/metrics": { (front, exchange) throws(APIError) in front.showMetrics(exchange) },
        "/engines": { (front, exchange) throws(APIError) in front.showEngines(exchange) },
        "/ui": { (front, exchange) throws(APIError) in front.showDashboard(exchange) },
        "/ui/": { (front, exchange) throws(APIError) in front.showDashboard(exchange) },
        "/ui/events": { (front, exchange) throws(APIError) in try front.watch(exchange) },
    ]

    private func route(_ exchange: Exchange) throws(APIError) {
        let path = exchange.request.path
        if let endpoint = Self.endpoints[path] {
            try exchange.require(.get)
            try endpoint(self, exchange)
        } else if path.hasPrefix("/v1/models/") {
            try exchange.require(.get)
            try showModel(exchange, named: String(path.dropFirst("/v1/models/".count)))
        } else {
            try choose(exchange)
        }
    }

    // MARK: Models

    /// Bytes of a body in which the model is found at once: that takes some 20 µs.
    private static let longBody = 64 * 1024

    /// Hands a request to the model that it asks for, in its body or, if it has none, in its query.
    private func choose(_ exchange: Exchange) throws(APIError) {
        let body = exchange.request.body
        // One model finds out by itself whether it is meant.
        guard shards.count > 1 else {
            shards[0].handle(exchange)
            return
        }
        guard body.readableBytes > Self.longBody else {
            let name =
                body.readableBytes > 0
                ? ModelField.value(in: body) : ModelField.value(inQuery: exchange.request.query)
            try shard(named: name).handle(exchange)
            return
        }
        workers.runIfActive(eventLoop: eventLoop) {
            ModelField.value(in: body)
        }.assumeIsolated().whenComplete { [self] outcome in
            do throws(APIError) {
                guard case .success(let name) = outcome else { throw .unavailable("the server is shutting down") }
                try shard(named: name).handle(exchange)
            } catch {
                refuse(exchange, error)
            }
        }
    }

    /// - Throws: 404 with the names that there are, if `name` is none of them.
    func shard(named name: String?) throws(APIError) -> any ModelShard {
        guard let name else { return shards[0] }
        guard let shard = shards.first(where: { $0.cards.contains { $0.name == name } }) else {
            throw .modelNotFound(name, known: shards.flatMap { $0.cards.map(\.name) })
        }
        return shard
    }
}

extension GatewayShard.Exchange {
    /// - Throws: 405 if the request has another method; what can be read may also be asked for by HEAD.
    func require(_ expected: HTTPMethod) throws(APIError) {
        if request.method == expected || (expected == .get && request.method == .head) { return }
        throw .methodNotAllowed(request.method.rawValue, allow: expected == .get ? "GET, HEAD" : expected.rawValue)
    }

    /// Answers with 200.
    func respond(_ body: [UInt8], contentType: String = "application/json") {
        var headers = headers
        headers.add("Content-Type", contentType)
        responder.respond(status: .ok, headers: headers, body: body)
    }
}
