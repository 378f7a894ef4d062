// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore
import Requests
import Tokenization

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

    // MARK: Tokens

    func tokenize(_ exchange: Exchange) throws(APIError) {
        let (model, times) = (model, metrics.hostTimes)
        try process(exchange) { (body) throws(APIError) in
            try times.measure(times.tokenize) { () throws(APIError) in try Self.tokenized(.body(body), model: model) }
        } finish: { [self] bytes throws(APIError) in
            respond(exchange, bytes)
        }
    }

    private static func tokenized(_ body: JSONValue, model: ServedModel) throws(APIError) -> [UInt8] {
        let fields = try RequestFields(body: body)
        try model.check(fields.string("model"))
        let isChat = fields.value("messages") != nil
        let text: String
        if isChat {
            text = try Conversation.render(body, model: model)
        } else if let prompt = try fields.string("prompt") {
            text = prompt
        } else {
            throw .invalid("prompt", "`prompt` (a string) or `messages` is missing")
        }
        let tokens = model.tokenizer.encode(
            text, addSpecialTokens: try fields.bool("add_special_tokens") ?? !isChat, parseSpecialTokens: true)
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("count")
        writer.integer(Int64(tokens.count))
        writer.key("max_model_len")
        writer.integer(Int64(model.contextLength))
        writer.key("tokens")
        writer.beginArray()
        for token in tokens { writer.integer(Int64(token)) }
        writer.endArray()
        writer.key("token_strs")
        if try fields.bool("return_token_strs") == true {
            writer.beginArray()
            for token in tokens { writer.string(model.tokenizer.vocabularyString(token) ?? "") }
            writer.endArray()
        } else {
            writer.null()
        }
        writer.endObject()
        return writer.bytes
    }

    func detokenize(_ exchange: Exchange) throws(APIError) {
        let model = model
        try process(exchange) { (body) throws(APIError) in
            try Self.detokenized(.body(body), model: model)
        } finish: { [self] bytes throws(APIError) in
            respond(exchange, bytes)
        }
    }

    private static func detokenized(_ body: JSONValue, model: ServedModel) throws(APIError) -> [UInt8] {
        let fields = try RequestFields(body: body)
        try model.check(fields.string("model"))
        guard let values = try fields.array("tokens") else {
            throw .invalid("tokens", "`tokens` is missing: give an array of token ids")
        }
        let tokens = try GenerationRequest.tokenIDs(
            values, name: "tokens", vocabularySize: model.tokenizer.vocabularySize)
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("prompt")
        writer.string(model.tokenizer.decode(tokens, skipSpecialTokens: false))
        writer.endObject()
        return writer.bytes
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
