// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore
import Requests
import Synchronization

/// Endpoints that answer from the gateway's own knowledge.
extension GatewayShard {
    func listModels(_ exchange: Exchange) {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("object")
        writer.string("list")
        writer.key("data")
        writer.beginArray()
        for name in model.names { write(modelNamed: name, to: &writer) }
        writer.endArray()
        writer.endObject()
        respond(exchange, writer.bytes)
    }

    func showModel(_ exchange: Exchange, named encoded: String) throws(APIError) {
        let name = Self.percentDecoded(encoded)
        try model.check(name)
        var writer = JSONWriter()
        write(modelNamed: name, to: &writer)
        respond(exchange, writer.bytes)
    }

    private func write(modelNamed name: String, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("id")
        writer.string(name)
        writer.key("object")
        writer.string("model")
        writer.key("created")
        writer.integer(Int64(model.created))
        writer.key("owned_by")
        writer.string("tandem")
        writer.key("root")
        writer.string(model.name)
        writer.key("parent")
        writer.null()
        writer.key("max_model_len")
        writer.integer(Int64(model.contextLength))
        writer.endObject()
    }

    /// 200 while at least one engine serves.
    func health(_ exchange: Exchange) throws(APIError) {
        guard dispatcher.servingEngines > 0 else {
            throw .unavailable("no engine is serving yet: \(engines.summary)")
        }
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("status")
        writer.string("ok")
        writer.key("engines")
        writer.integer(Int64(dispatcher.servingEngines))
        writer.endObject()
        respond(exchange, writer.bytes)
    }

    /// 200 while the gateway's process lives.
    func live(_ exchange: Exchange) {
        respond(exchange, Array(#"{"status":"ok"}"#.utf8))
    }

    func version(_ exchange: Exchange) {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("version")
        writer.string(configuration.version)
        writer.endObject()
        respond(exchange, writer.bytes)
    }

    func showMetrics(_ exchange: Exchange) {
        metrics.setEngines(engines.states, unfinished: dispatcher.unfinished)
        respond(exchange, metrics.exposition(), contentType: GatewayMetrics.contentType)
    }

    /// Requests in hand, for balancers.
    func load(_ exchange: Exchange) {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("server_load")
        writer.integer(metrics.requestsInHand.load(ordering: .relaxed))
        writer.endObject()
        respond(exchange, writer.bytes)
    }

    /// Decodes `%XX`; what is not a valid escape stays as it is.
    static func percentDecoded(_ text: String) -> String {
        var decoded: [UInt8] = []
        let bytes = Array(text.utf8)
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count,
                let value = UInt8(String(decoding: bytes[(index + 1)...(index + 2)], as: UTF8.self), radix: 16)
            {
                decoded.append(value)
                index += 3
            } else {
                decoded.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: decoded, as: UTF8.self)
    }
}
