// Tandem — Apache-2.0

import HTTPCore
import NIOCore
import Requests

/// What people and programs look at: `/metrics`, `/engines` and the dashboard.
extension GatewayFront {
    /// Calls `body` with what all event loops know, at once if there is one.
    func withCensus(_ exchange: Exchange, _ body: @escaping (EngineCensus) -> Void) {
        guard let table, table.eventLoops > 1 else { return body(EngineCensus(shards)) }
        table.census(on: eventLoop).assumeIsolated().whenComplete { [instruments] outcome in
            if case .success(let census) = outcome { return body(census) }
            let error = APIError.unavailable("the server is shutting down")
            instruments.refused(status: error.status)
            exchange.responder.respond(error, headers: exchange.headers)
        }
    }

    func showMetrics(_ exchange: Exchange) {
        // Load generators ask whether there are any: nothing is gathered for that.
        if exchange.request.method == .head {
            exchange.respondToHead(contentType: GatewayMetrics.contentType)
            return
        }
        withCensus(exchange) { [instruments, configuration] census in
            instruments.take(census)
            instruments.take(configuration.devices)
            exchange.respond(instruments.exposition(), contentType: GatewayMetrics.contentType)
        }
    }

    func showEngines(_ exchange: Exchange) {
        withCensus(exchange) { [instruments, configuration] census in
            let document = EnginesDocument(census: census, instruments: instruments, configuration: configuration)
            var exchange = exchange
            exchange.headers.add("Cache-Control", "no-store")
            exchange.respond(document.bytes())
        }
    }

    // MARK: Dashboard

    /// The page holds nothing that is secret; what it shows it asks `/ui/events` for.
    func showDashboard(_ exchange: Exchange) {
        let nonce = Digest128(high: .random(in: .min ... .max), low: .random(in: .min ... .max)).description
        var exchange = exchange
        exchange.headers.add(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'nonce-\(nonce)'; style-src 'nonce-\(nonce)'; connect-src 'self'; "
                + "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
        exchange.headers.add("X-Content-Type-Options", "nosniff")
        exchange.headers.add("Referrer-Policy", "no-referrer")
        exchange.headers.add("Cache-Control", "no-store")
        exchange.respond(DashboardPage.bytes(nonce: nonce), contentType: "text/html; charset=utf-8")
    }

    /// A stream of server-sent events, each with what `/engines` says and where requests are.
    func watch(_ exchange: Exchange) throws(APIError) {
        guard exchange.request.method == .get else {
            exchange.respondToHead(contentType: Self.eventStream)
            return
        }
        guard let hub = table?.viewers, hub.hasRoom else {
            throw .overloaded("\(ViewerHub.limit) are watching already")
        }
        var headers = exchange.headers
        headers.add("Content-Type", Self.eventStream)
        headers.add("Cache-Control", "no-store")
        headers.add("X-Accel-Buffering", "no")
        let responder = exchange.responder
        responder.startStream(status: .ok, headers: headers)
        responder.write(Array(": tandem\n\n".utf8))
        guard let id = hub.add(responder) else {
            responder.finish()
            return
        }
        responder.onClose { hub.remove(id) }
    }

    private static let eventStream = "text/event-stream; charset=utf-8"
}

extension GatewayShard.Exchange {
    /// Answers HEAD where the length of a body would have to be found out.
    func respondToHead(contentType: String) {
        var headers = headers
        headers.add("Content-Type", contentType)
        responder.startStream(status: .ok, headers: headers)
        responder.finish()
    }
}

extension EnginesDocument {
    /// As an event of a stream.
    var event: ByteBuffer {
        var buffer = ByteBuffer(string: "data: ")
        buffer.writeBytes(bytes())
        buffer.writeString("\n\n")
        return buffer
    }
}
