// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore

/// What a port answers that reaches one engine only.
extension GatewayFront {
    private typealias Endpoint = @Sendable (GatewayFront, Exchange, Int) throws(APIError) -> Void

    private static let enginePaths: [String: Endpoint] = [
        "/v1/models": { (front, exchange, engine) throws(APIError) in
            front.list(front.shard(of: engine)?.cards(of: engine) ?? [], exchange)
        },
        "/health": { (front, exchange, engine) throws(APIError) in try front.health(exchange, of: engine) },
        "/ping": { (front, exchange, engine) throws(APIError) in try front.health(exchange, of: engine) },
        "/load": { (front, exchange, engine) throws(APIError) in front.load(exchange, of: engine) },
        "/live": { (front, exchange, _) throws(APIError) in front.live(exchange) },
        "/version": { (front, exchange, _) throws(APIError) in front.version(exchange) },
        "/metrics": { (front, exchange, engine) throws(APIError) in front.showMetrics(exchange, of: engine) },
    ]

    private static let gatewayPaths: Set<String> = ["/engines", "/ui", "/ui/", "/ui/events"]

    func route(_ exchange: Exchange, to engine: Int) throws(APIError) {
        let path = exchange.request.path
        if let endpoint = Self.enginePaths[path] {
            try exchange.require(.get)
            try endpoint(self, exchange, engine)
            return
        }
        guard !Self.gatewayPaths.contains(path), !path.hasPrefix("/v1/models/") else { throw .unknownPath(path) }
        guard let shard = shard(of: engine) else { throw Self.nobody(engine) }
        shard.handle(exchange)
    }

    private func shard(of engine: Int) -> (any ModelShard)? { shards.first { $0.has(engine: engine) } }

    private static func nobody(_ engine: Int) -> APIError { .unavailable("there is no engine \(engine) at the moment") }

    /// 200 while the engine serves.
    private func health(_ exchange: Exchange, of engine: Int) throws(APIError) {
        guard let shard = shard(of: engine), let report = shard.reports.first(where: { $0.index == engine }) else {
            throw Self.nobody(engine)
        }
        guard report.isServing else {
            throw .unavailable(
                "engine \(engine) is \(report.state)" + (report.reason.isEmpty ? "" : ": \(report.reason)"))
        }
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("status")
        writer.string("ok")
        writer.key("engine")
        writer.integer(Int64(engine))
        writer.endObject()
        exchange.respond(writer.bytes)
    }

    private func load(_ exchange: Exchange, of engine: Int) {
        withCensus(exchange) { census in
            let reports = census.models.flatMap(\.engines).filter { $0.index == engine }
            var writer = JSONWriter()
            writer.beginObject()
            writer.key("server_load")
            writer.integer(Int64(reports.reduce(0) { $0 + $1.outstandingRequests }))
            writer.endObject()
            exchange.respond(writer.bytes)
        }
    }

    private func showMetrics(_ exchange: Exchange, of engine: Int) {
        if exchange.request.method == .head {
            exchange.respondToHead(contentType: GatewayMetrics.contentType)
            return
        }
        withCensus(exchange) { [instruments] census in
            instruments.take(census)
            exchange.respond(instruments.exposition(engine: engine), contentType: GatewayMetrics.contentType)
        }
    }
}
