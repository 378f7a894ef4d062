// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore
import Requests
import Tokenization

/// Endpoints that turn text into tokens and back, and say how.
extension GatewayShard {
    /// What clients that render and count by themselves want to know: the members of a `tokenizer_config.json`.
    func tokenizerInfo(_ exchange: Exchange) {
        let tokenizer = model.tokenizer
        var writer = JSONWriter()
        func text(_ name: String, _ text: String?) {
            writer.key(name)
            if let text { writer.string(text) } else { writer.null() }
        }
        func token(_ name: String, _ token: TokenID?) {
            text(name, token.flatMap { tokenizer.vocabularyString($0) })
        }
        writer.beginObject()
        text("tokenizer_class", "PreTrainedTokenizerFast")
        token("bos_token", tokenizer.bosToken)
        token("eos_token", tokenizer.eosToken)
        // Nothing is ever padded here; clients that pad by themselves take the end token for it, as is usual.
        token("pad_token", tokenizer.eosToken)
        writer.key("add_bos_token")
        writer.bool(tokenizer.addsBOS)
        writer.key("add_eos_token")
        writer.bool(tokenizer.addsEOS)
        writer.key("vocab_size")
        writer.integer(tokenizer.vocabularySize)
        writer.key("model_max_length")
        writer.integer(model.contextLength)
        text("chat_template", model.chatTemplate == nil ? nil : tokenizer.chatTemplateSource)
        writer.endObject()
        respond(exchange, writer.bytes)
    }

    func tokenize(_ exchange: Exchange) throws(APIError) {
        let (model, times, now) = (model, metrics.hostTimes, configuration.secondsSince1970())
        try process(exchange) { (body) throws(APIError) in
            try times.measure(times.tokenize) { () throws(APIError) in
                ByteBuffer(bytes: try Self.tokenized(.body(body), model: model, now: now))
            }
        } finish: { [self] bytes throws(APIError) in
            respond(exchange, bytes)
        }
    }

    private static func tokenized(_ body: JSONValue, model: ServedModel, now: Int) throws(APIError) -> [UInt8] {
        let fields = try RequestFields(body: body)
        try model.check(fields.string("model"))
        let isChat = fields.value("messages") != nil
        let text: String
        if isChat {
            text = try Conversation.render(body, model: model, now: now)
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
            ByteBuffer(bytes: try Self.detokenized(.body(body), model: model))
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
        let tokens = try TokenID.read(
            values, name: "tokens", vocabularySize: model.tokenizer.vocabularySize)
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("prompt")
        writer.string(model.tokenizer.decode(tokens, skipSpecialTokens: false))
        writer.endObject()
        return writer.bytes
    }
}
