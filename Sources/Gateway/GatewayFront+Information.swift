// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore
import Requests
import Synchronization

/// Endpoints that answer from the gateway's own knowledge of all models.
extension GatewayFront {
    func listModels(_ exchange: Exchange) {
        list(shards.flatMap(\.cards), exchange)
    }

    func list(_ cards: [ModelCard], _ exchange: Exchange) {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("object")
        writer.string("list")
        writer.key("data")
        writer.beginArray()
        for card in cards { write(card, to: &writer) }
        writer.endArray()
        writer.endObject()
        exchange.respond(writer.bytes)
    }

    func showModel(_ exchange: Exchange, named encoded: String) throws(APIError) {
        let name = Self.percentDecoded(encoded)
        var writer = JSONWriter()
        for card in try shard(named: name).cards where card.name == name { write(card, to: &writer) }
        exchange.respond(writer.bytes)
    }

    private func write(_ card: ModelCard, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("id")
        writer.string(card.name)
        writer.key("object")
        writer.string("model")
        writer.key("created")
        writer.integer(Int64(card.created))
        writer.key("owned_by")
        writer.string(card.owner)
        writer.key("root")
        writer.string(card.root)
        writer.key("parent")
        writer.null()
        if let length = card.contextLength {
            writer.key("max_model_len")
            writer.integer(Int64(length))
        }
        writer.endObject()
    }

    /// 200 while at least one engine of every model serves.
    func health(_ exchange: Exchange) throws(APIError) {
        // A roster may name engines of one kind only.
        let named = shards.filter(\.hasEngines)
        let waiting = (named.isEmpty ? shards : named).filter { $0.servingEngines == 0 }
        guard waiting.isEmpty else {
            let summaries = waiting.map {
                (shards.count == 1 ? "" : "of `\($0.name)`, ") + $0.summary
            }
            throw .unavailable(
                "no engine is serving yet\(shards.count == 1 ? ":" : "") \(summaries.joined(separator: "; "))")
        }
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("status")
        writer.string("ok")
        writer.key("engines")
        writer.integer(Int64(shards.reduce(0) { $0 + $1.servingEngines }))
        if shards.count > 1 {
            writer.key("models")
            writer.beginObject()
            for shard in shards {
                writer.key(shard.name)
                writer.integer(Int64(shard.servingEngines))
            }
            writer.endObject()
        }
        writer.endObject()
        exchange.respond(writer.bytes)
    }

    /// 200 while the gateway's process lives.
    func live(_ exchange: Exchange) {
        exchange.respond(Array(#"{"status":"ok"}"#.utf8))
    }

    func version(_ exchange: Exchange) {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("version")
        writer.string(configuration.version)
        writer.endObject()
        exchange.respond(writer.bytes)
    }

    /// Requests in hand, for balancers.
    func load(_ exchange: Exchange) {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("server_load")
        writer.integer(instruments.models.reduce(0) { $0 + $1.requestsInHand.load(ordering: .relaxed) })
        writer.endObject()
        exchange.respond(writer.bytes)
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
