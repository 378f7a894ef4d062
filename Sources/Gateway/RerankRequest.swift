// Tandem — Apache-2.0

import JSON
import Requests
import Tokenization

/// `POST /v1/rerank`, as Jina, Cohere and vLLM take it: documents sorted by how well they answer a query.
enum RerankRequest {
    /// - Throws: 400 naming the field.
    static func read(_ body: JSONValue, model: ServedModel, times: HostTimes) throws(APIError) -> ScoringWork {
        let fields = try RequestFields(body: body)
        let requestedModel = try fields.string("model")
        try model.check(requestedModel)
        guard let query = try fields.string("query") else {
            throw fields.invalid("query", "is missing: give a string")
        }
        guard !query.isEmpty else { throw fields.invalid("query", "must not be empty") }
        let documents = try documents(fields)
        let top = try fields.integer("top_n", in: 0...Int(Int32.max)) ?? 0
        let returnsDocuments = try fields.bool("return_documents") ?? true
        let (priority, cacheSalt) = try GenerationRequest.readScheduling(fields)
        let pairs = try PairScoring(
            queries: [query], documents: documents, names: ("query", "documents"), fields: fields, model: model,
            times: times)
        return ScoringWork(
            items: pairs.items, requestedModel: requestedModel, priority: priority, cacheSalt: cacheSalt,
            write: { (scores, usage, head) throws(APIError) in
                let scores = pairs.scores(scores)
                let order = scores.indices.sorted {
                    scores[$0] == scores[$1] ? $0 < $1 : scores[$0] > scores[$1]
                }
                var writer = JSONWriter()
                writer.beginObject()
                writer.key("id")
                writer.string("rerank-" + head.id)
                writer.key("model")
                writer.string(head.model)
                writer.promptUsage(usage)
                writer.key("results")
                writer.beginArray()
                for index in order.prefix(top == 0 ? order.count : top) {
                    writer.beginObject()
                    writer.key("index")
                    writer.integer(index)
                    if returnsDocuments {
                        writer.key("document")
                        writer.beginObject()
                        writer.key("text")
                        writer.string(documents[index])
                        writer.endObject()
                    }
                    writer.key("relevance_score")
                    writer.number(scores[index])
                    writer.endObject()
                }
                writer.endArray()
                writer.endObject()
                return writer.bytes
            })
    }

    /// Strings, or objects with a `text`.
    private static func documents(_ fields: RequestFields) throws(APIError) -> [String] {
        guard let values = try fields.array("documents") else {
            throw fields.invalid("documents", "is missing: give an array of strings or of {text} objects")
        }
        guard (1...ScoringWork.maximumItems).contains(values.count) else {
            throw fields.invalid(
                "documents", "has \(values.count) entries but must have from 1 to \(ScoringWork.maximumItems)")
        }
        var documents: [String] = []
        documents.reserveCapacity(values.count)
        for (index, value) in values.enumerated() {
            let name = "documents[\(index)]"
            let text: String
            switch value {
            case .string(let string): text = string
            case .object(let object):
                guard case .string(let string) = object["text"] else {
                    throw fields.invalid("\(name).text", "must be a string")
                }
                text = string
            default:
                throw fields.invalid(
                    name, "must be a string or an object with a `text`, not \(RequestFields.describe(value))")
            }
            guard !text.isEmpty else { throw fields.invalid(name, "must not be empty") }
            documents.append(text)
        }
        return documents
    }
}
