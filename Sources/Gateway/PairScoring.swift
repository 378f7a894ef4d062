// Tandem — Apache-2.0

import JSON
import Requests
import Tokenization

/// How well documents fit queries, for `/score` and `/rerank`.
struct PairScoring: Sendable {
    private enum Method: Sendable {
        case judge(RelevanceJudge)
        /// The vectors of the two texts of a pair stand at these places.
        case cosine([(Int, Int)])
    }

    private let method: Method
    let items: [ScoringItem]

    /// Reads `method`, `instruction` and what embeddings take, and makes sequences of pairs.
    ///
    /// - Parameters:
    ///   - queries: one for all documents, or one for each.
    ///   - names: the fields of queries and documents, for messages.
    /// - Throws: 400 naming the field.
    init(
        queries: [String], documents: [String], names: (query: String, document: String), fields: RequestFields,
        model: ServedModel, times: HostTimes
    ) throws(APIError) {
        let usesJudge: Bool
        switch try fields.string("method") {
        case nil: usesJudge = model.chatTemplate != nil
        case "judge": usesJudge = true
        case "cosine": usesJudge = false
        case .some(let other):
            throw fields.invalid("method", "is `\(shortened(other))` but must be judge or cosine")
        }
        let instruction = try fields.string("instruction")
        func name(_ name: String, _ index: Int, of count: Int) -> String { count == 1 ? name : "\(name)[\(index)]" }
        var items: [ScoringItem] = []
        guard usesJudge else {
            guard instruction == nil else {
                throw fields.invalid("instruction", "is for the method `judge`")
            }
            let texts = try EmbeddedText(fields, model: model)
            for (index, query) in queries.enumerated() {
                let name = name(names.query, index, of: queries.count)
                items.append(try texts.item(.text(query), name: name, times: times))
            }
            for (index, document) in documents.enumerated() {
                let name = name(names.document, index, of: documents.count)
                items.append(try texts.item(.text(document), name: name, times: times))
            }
            self.items = items
            method = .cosine(
                documents.indices.map { (queries.count == 1 ? 0 : $0, queries.count + $0) })
            return
        }
        let limit = try PromptTruncation.read(fields)?.limit(contextLength: model.contextLength, new: 0) ?? .max
        let judge = try RelevanceJudge(instruction: instruction, model: model)
        times.measure(times.tokenize) {
            let encoded = queries.map { judge.encode($0) }
            for (index, document) in documents.enumerated() {
                let query = encoded[queries.count == 1 ? 0 : index]
                items.append(
                    ScoringItem(
                        tokens: judge.prompt(query: query, document: judge.encode(document), limit: limit),
                        labels: judge.labels, name: name(names.document, index, of: documents.count)))
            }
        }
        self.items = items
        method = .judge(judge)
    }

    /// A score for each pair, in the order of the documents.
    func scores(_ scores: [PromptScore]) -> [Double] {
        switch method {
        case .judge(let judge): scores.map { judge.relevance($0.labels) }
        case .cosine(let pairs): pairs.map { Vector.cosine(scores[$0].pooled, scores[$1].pooled) }
        }
    }
}

extension JSONWriter {
    /// A member `usage` of an endpoint that generates nothing.
    mutating func promptUsage(_ usage: Usage) {
        key("usage")
        beginObject()
        key("prompt_tokens")
        integer(usage.promptTokens)
        key("total_tokens")
        integer(usage.promptTokens)
        key("completion_tokens")
        integer(0)
        key("prompt_tokens_details")
        beginObject()
        key("cached_tokens")
        integer(usage.cachedPromptTokens)
        endObject()
        endObject()
    }

    /// Members `id`, `object`, `created` and `model` of an answer in the form of vLLM.
    mutating func head(_ head: ScoringWork.Head, prefix: String, object: String) {
        key("id")
        string(prefix + head.id)
        key("object")
        string(object)
        key("created")
        integer(head.created)
        key("model")
        string(head.model)
    }
}
