// Tandem — Apache-2.0

import JSON
import Requests
import Tokenization

/// `POST /v1/embeddings`.
enum EmbeddingRequest {
    private enum Encoding { case float, base64 }

    /// Reads a body; the answer has the form of OpenAI.
    ///
    /// - Throws: 400 naming the field.
    static func read(_ body: JSONValue, model: ServedModel, times: HostTimes) throws(APIError) -> ScoringWork {
        let fields = try RequestFields(body: body)
        let requestedModel = try fields.string("model")
        try model.check(requestedModel)
        guard let input = fields.value("input") else {
            throw .invalid("input", "`input` is missing: give a string, strings, token ids, or arrays of token ids")
        }
        let inputs = try PromptInput.read(input, name: "input", vocabularySize: model.tokenizer.vocabularySize)
        let encoding: Encoding
        switch try fields.string("encoding_format") {
        case nil, "float": encoding = .float
        case "base64": encoding = .base64
        case .some(let other):
            throw fields.invalid("encoding_format", "is `\(shortened(other))` but must be float or base64")
        }
        let dimensions = try fields.integer("dimensions", in: 1...(1 << 20))
        if let size = model.vectorSize { try Self.check(dimensions, size: size) }
        let normalizes = try fields.bool("normalize") ?? true
        let (priority, cacheSalt) = try GenerationRequest.readScheduling(fields)
        _ = try fields.string("user")
        let texts = try EmbeddedText(fields, model: model)
        var items: [ScoringItem] = []
        items.reserveCapacity(inputs.count)
        for (index, input) in inputs.enumerated() {
            items.append(try texts.item(input, name: inputs.count == 1 ? "input" : "input[\(index)]", times: times))
        }
        return ScoringWork(
            items: items, requestedModel: requestedModel, priority: priority, cacheSalt: cacheSalt,
            check: { (score) throws(APIError) in
                try Self.check(dimensions, size: score.pooled.count)
            },
            write: { (scores, usage, head) throws(APIError) in
                var writer = JSONWriter()
                writer.beginObject()
                writer.key("object")
                writer.string("list")
                writer.key("data")
                writer.beginArray()
                for (index, score) in scores.enumerated() {
                    let vector = Vector.finished(score.pooled, dimensions: dimensions, normalizes: normalizes)
                    writer.beginObject()
                    writer.key("object")
                    writer.string("embedding")
                    writer.key("index")
                    writer.integer(index)
                    writer.key("embedding")
                    switch encoding {
                    case .float:
                        writer.beginArray()
                        for number in vector { writer.float(number) }
                        writer.endArray()
                    case .base64: writer.string(Vector.base64(vector))
                    }
                    writer.endObject()
                }
                writer.endArray()
                writer.key("model")
                writer.string(head.model)
                writer.key("usage")
                writer.beginObject()
                writer.key("prompt_tokens")
                writer.integer(usage.promptTokens)
                writer.key("total_tokens")
                writer.integer(usage.promptTokens)
                writer.endObject()
                writer.endObject()
                return writer.bytes
            })
    }

    private static func check(_ dimensions: Int?, size: Int) throws(APIError) {
        guard let dimensions, dimensions > size else { return }
        throw .invalid("dimensions", "`dimensions` is \(dimensions) but this model's vectors have \(size)")
    }
}

/// How texts become sequences whose hidden states are pooled.
struct EmbeddedText {
    private let model: ServedModel
    private let pooling: Pooling
    private let addsSpecialTokens: Bool
    private let limit: Int

    /// Reads `pooling`, `add_special_tokens` and `truncate_prompt_tokens`.
    init(_ fields: RequestFields, model: ServedModel) throws(APIError) {
        self.model = model
        switch try fields.string("pooling") {
        case nil, "last": pooling = .last
        case "mean": pooling = .mean
        case .some(let other):
            throw fields.invalid("pooling", "is `\(shortened(other))` but must be last or mean")
        }
        addsSpecialTokens = try fields.bool("add_special_tokens") ?? true
        limit = try PromptTruncation.read(fields)?.limit(contextLength: model.contextLength, new: 0) ?? .max
    }

    /// - Throws: 400 naming an empty text.
    func item(_ input: PromptInput, name: String, times: HostTimes) throws(APIError) -> ScoringItem {
        let tokenizer = model.tokenizer
        var tokens: [TokenID]
        switch input {
        case .text(let text):
            guard !text.isEmpty else { throw .invalid(name, "`\(name)` must not be empty") }
            tokens = times.measure(times.tokenize) {
                tokenizer.encode(text, addSpecialTokens: addsSpecialTokens, parseSpecialTokens: true)
            }
        case .tokens(let ids): tokens = ids
        }
        if tokens.count > limit {
            // The beginning is kept, as vLLM does for pooled texts, and the end token that some models pool at.
            let end = tokenizer.addsEOS ? tokens.last.filter { $0 == tokenizer.eosToken } : nil
            tokens = Array(tokens.prefix(limit - (end == nil ? 0 : 1))) + [end].compactMap { $0 }
        }
        return ScoringItem(tokens: tokens, pooling: pooling, name: name)
    }
}

extension Optional {
    /// The value, if it is one for which `predicate` holds.
    fileprivate func filter(_ predicate: (Wrapped) -> Bool) -> Wrapped? { flatMap { predicate($0) ? $0 : nil } }
}
