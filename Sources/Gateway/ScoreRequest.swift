// Tandem — Apache-2.0

import JSON
import Requests
import Tokenization

/// `POST /v1/score`, in two forms: pairs of texts as vLLM takes them, or the probabilities of tokens after a query and
/// each of several items as SGLang does.
enum ScoreRequest {
    /// - Throws: 400 naming the field.
    static func read(_ body: JSONValue, model: ServedModel, times: HostTimes) throws(APIError) -> ScoringWork {
        let fields = try RequestFields(body: body)
        let requestedModel = try fields.string("model")
        try model.check(requestedModel)
        let isOfLabels = ["label_token_ids", "query", "items"].contains { fields.value($0) != nil }
        var work =
            isOfLabels
            ? try ofLabels(fields, model: model, times: times) : try ofPairs(fields, model: model, times: times)
        work.requestedModel = requestedModel
        (work.priority, work.cacheSalt) = try GenerationRequest.readScheduling(fields)
        return work
    }

    // MARK: Pairs

    private static func ofPairs(
        _ fields: RequestFields, model: ServedModel, times: HostTimes
    ) throws(APIError) -> ScoringWork {
        let (queries, queryName) = try texts(fields, ["text_1", "queries", "data_1"])
        let (documents, documentName) = try texts(fields, ["text_2", "documents", "data_2"])
        guard queries.count == 1 || queries.count == documents.count else {
            throw fields.invalid(
                queryName,
                "has \(queries.count) texts and `\(documentName)` \(documents.count): give one in `\(queryName)` for all, "
                    + "or as many as in `\(documentName)`")
        }
        let pairs = try PairScoring(
            queries: queries, documents: documents, names: (queryName, documentName), fields: fields, model: model,
            times: times)
        return ScoringWork(
            items: pairs.items,
            write: { (scores, usage, head) throws(APIError) in
                var writer = JSONWriter()
                writer.beginObject()
                writer.head(head, prefix: "score-", object: "list")
                writer.key("data")
                writer.beginArray()
                for (index, score) in pairs.scores(scores).enumerated() {
                    writer.beginObject()
                    writer.key("index")
                    writer.integer(index)
                    writer.key("object")
                    writer.string("score")
                    writer.key("score")
                    writer.number(score)
                    writer.endObject()
                }
                writer.endArray()
                writer.promptUsage(usage)
                writer.endObject()
                return writer.bytes
            })
    }

    /// The first of several names for the same field that is there.
    private static func texts(
        _ fields: RequestFields, _ names: [String]
    ) throws(APIError) -> (texts: [String], name: String) {
        for name in names {
            guard let texts = try fields.strings(name, atMost: ScoringWork.maximumItems, orOne: true) else { continue }
            guard !texts.isEmpty else { throw fields.invalid(name, "must not be empty") }
            return (texts, name)
        }
        throw fields.invalid(names[0], "is missing: give a string or an array of strings")
    }

    // MARK: Labels

    private static let maximumLabels = 1024
    /// Bytes of text that are tokenized for one request: the query is, again with each item.
    private static let maximumBytes = 16 << 20

    private static func ofLabels(
        _ fields: RequestFields, model: ServedModel, times: HostTimes
    ) throws(APIError) -> ScoringWork {
        let tokenizer = model.tokenizer
        guard let values = try fields.array("label_token_ids") else {
            throw fields.invalid("label_token_ids", "is missing: give the ids of the tokens to be scored")
        }
        guard (1...maximumLabels).contains(values.count) else {
            throw fields.invalid(
                "label_token_ids", "has \(values.count) entries but must have from 1 to \(maximumLabels)")
        }
        let labels = try TokenID.read(values, name: "label_token_ids", vocabularySize: tokenizer.vocabularySize)
        let appliesSoftmax = try fields.bool("apply_softmax") ?? false
        let itemFirst = try fields.bool("item_first") ?? false
        let prompts = try prompts(fields, itemFirst: itemFirst, model: model, times: times)
        let items = prompts.enumerated().map { index, tokens in
            ScoringItem(
                tokens: tokens, labels: labels, name: prompts.count == 1 ? "items" : "items[\(index)]")
        }
        return ScoringWork(
            items: items,
            write: { (scores, usage, head) throws(APIError) in
                var writer = JSONWriter()
                writer.beginObject()
                writer.key("scores")
                writer.beginArray()
                for score in scores {
                    let probabilities =
                        appliesSoftmax ? Probability.softmax(score.labels) : Probability.each(score.labels)
                    writer.beginArray()
                    for probability in probabilities { writer.number(probability) }
                    writer.endArray()
                }
                writer.endArray()
                writer.key("model")
                writer.string(head.model)
                writer.promptUsage(usage)
                writer.key("object")
                writer.string("scoring")
                writer.endObject()
                return writer.bytes
            })
    }

    /// The query with each item, both as text or both as token ids.
    private static func prompts(
        _ fields: RequestFields, itemFirst: Bool, model: ServedModel, times: HostTimes
    ) throws(APIError) -> [[TokenID]] {
        let tokenizer = model.tokenizer
        switch fields.value("query") {
        case nil: throw fields.invalid("query", "is missing: give a string or token ids")
        case .string(let query):
            guard let items = try fields.strings("items", atMost: ScoringWork.maximumItems, orOne: true) else {
                throw fields.invalid("items", "is missing: give a string or an array of strings")
            }
            guard !items.isEmpty else { throw fields.invalid("items", "must not be empty") }
            let bytes = items.reduce(query.utf8.count * items.count) { $0 + $1.utf8.count }
            guard bytes <= maximumBytes else {
                throw fields.invalid(
                    "items", "and the query with each are \(bytes) bytes; the limit is \(maximumBytes) a request")
            }
            return times.measure(times.tokenize) {
                items.map { item in
                    tokenizer.encode(
                        itemFirst ? item + query : query + item, addSpecialTokens: true, parseSpecialTokens: true)
                }
            }
        case .array(let values):
            let query = try TokenID.read(values, name: "query", vocabularySize: tokenizer.vocabularySize)
            guard let items = try fields.array("items") else {
                throw fields.invalid("items", "is missing: give arrays of token ids, as `query` is one")
            }
            guard (1...ScoringWork.maximumItems).contains(items.count) else {
                throw fields.invalid(
                    "items", "has \(items.count) entries but must have from 1 to \(ScoringWork.maximumItems)")
            }
            var prompts: [[TokenID]] = []
            for (index, item) in items.enumerated() {
                guard case .array(let values) = item else {
                    throw fields.invalid("items", "must be arrays of token ids, as `query` is one")
                }
                let item = try TokenID.read(
                    values, name: "items[\(index)]", vocabularySize: tokenizer.vocabularySize)
                guard query.count + item.count <= model.contextLength else {
                    throw .contextLengthExceeded(
                        prompt: query.count + item.count, requested: 0, limit: model.contextLength,
                        parameter: "items[\(index)]")
                }
                prompts.append(itemFirst ? item + query : query + item)
            }
            return prompts
        case .some(let value): throw fields.wrongType("query", "a string or token ids", value)
        }
    }
}
