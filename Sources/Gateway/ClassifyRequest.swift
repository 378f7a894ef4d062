// Tandem — Apache-2.0

import JSON
import Requests
import Tokenization

/// `POST /v1/classify`: which of several labels fits a text, by how likely the model is to answer with it.
enum ClassifyRequest {
    private static let maximumLabels = 1024
    private static let maximumLabelBytes = 256

    /// - Throws: 400 naming the field.
    static func read(_ body: JSONValue, model: ServedModel, times: HostTimes) throws(APIError) -> ScoringWork {
        let fields = try RequestFields(body: body)
        let requestedModel = try fields.string("model")
        try model.check(requestedModel)
        guard let input = fields.value("input") else {
            throw fields.invalid("input", "is missing: give a string or an array of strings")
        }
        let inputs = try PromptInput.read(input, name: "input", vocabularySize: model.tokenizer.vocabularySize)
        var work: ScoringWork
        switch (fields.value("labels"), fields.value("label_token_ids")) {
        case (.some, .some):
            throw fields.invalid("label_token_ids", "and `labels` both say what the labels are; give one of them")
        case (.some, nil): work = try byLabels(inputs, fields, model: model, times: times)
        case (nil, .some): work = try byTokens(inputs, fields, model: model, times: times)
        case (nil, nil): throw fields.invalid("labels", "is missing: give an array of strings")
        }
        work.requestedModel = requestedModel
        (work.priority, work.cacheSalt) = try GenerationRequest.readScheduling(fields)
        return work
    }

    /// The model is told the labels and asked for one.
    private static func byLabels(
        _ inputs: [PromptInput], _ fields: RequestFields, model: ServedModel, times: HostTimes
    ) throws(APIError) -> ScoringWork {
        let labels = try fields.strings("labels", atMost: maximumLabels) ?? []
        guard labels.count >= 2 else { throw fields.invalid("labels", "must have at least 2 strings") }
        for label in labels where label.utf8.count > maximumLabelBytes {
            throw fields.invalid(
                "labels",
                "has one of \(label.utf8.count) bytes but a label may have at most \(maximumLabelBytes)")
        }
        let instruction = try fields.string("instruction") ?? "choose the label that fits the text best."
        let frame = try PromptFrame(
            words: [
                "Sort a text under one of several labels. Task:", "\n\nLabels:", "\n\nText:",
                "\n\nReply with the label that fits and nothing else.",
            ], answer: "\nLabel:", model: model, refusal: ("labels", "give `label_token_ids` and whole prompts"))
        let tokens = try tokens(of: labels, in: frame)
        let fixed = [frame.encode(instruction), frame.encode(labels.joined(separator: ", "))]
        let limit = try PromptTruncation.read(fields)?.limit(contextLength: model.contextLength, new: 0) ?? .max
        let room = max(0, limit == .max ? .max : limit - frame.count - fixed[0].count - fixed[1].count)
        var items: [ScoringItem] = []
        for (index, input) in inputs.enumerated() {
            let name = inputs.count == 1 ? "input" : "input[\(index)]"
            guard case .text(let text) = input else {
                throw fields.invalid(
                    name, "must be a string where `labels` are given; token ids go with `label_token_ids`")
            }
            guard !text.isEmpty else { throw fields.invalid(name, "must not be empty") }
            let encoded = times.measure(times.tokenize) { frame.encode(text) }
            items.append(
                ScoringItem(
                    tokens: frame.tokens(fixed + [encoded.count > room ? Array(encoded.prefix(room)) : encoded]),
                    labels: tokens, name: name))
        }
        return work(items, labels: labels)
    }

    /// The first token of each label's answer; no two may be the same.
    private static func tokens(of labels: [String], in frame: PromptFrame) throws(APIError) -> [TokenID] {
        var owners: [TokenID: String] = [:]
        var tokens: [TokenID] = []
        for label in labels {
            guard let token = frame.firstToken(ofAnswer: label) else {
                throw .invalid("labels", "the label `\(label)` gives no tokens")
            }
            if let other = owners.updateValue(label, forKey: token) {
                throw .invalid(
                    "labels",
                    "the labels `\(other)` and `\(label)` begin with the same token, \(token), so the model's answer "
                        + "cannot tell them apart; use other words")
            }
            tokens.append(token)
        }
        return tokens
    }

    /// The client's own prompts and tokens.
    private static func byTokens(
        _ inputs: [PromptInput], _ fields: RequestFields, model: ServedModel, times: HostTimes
    ) throws(APIError) -> ScoringWork {
        let tokenizer = model.tokenizer
        let values = try fields.array("label_token_ids") ?? []
        guard (2...maximumLabels).contains(values.count) else {
            throw fields.invalid(
                "label_token_ids", "has \(values.count) entries but must have from 2 to \(maximumLabels)")
        }
        guard fields.value("instruction") == nil else {
            throw fields.invalid("instruction", "goes with `labels`; with token ids the input is the whole prompt")
        }
        let labels = try TokenID.read(values, name: "label_token_ids", vocabularySize: tokenizer.vocabularySize)
        let texts = try EmbeddedText(fields, model: model)
        var items: [ScoringItem] = []
        for (index, input) in inputs.enumerated() {
            var item = try texts.item(
                input, name: inputs.count == 1 ? "input" : "input[\(index)]", times: times)
            item.pooling = nil
            item.labels = labels
            items.append(item)
        }
        return work(items, labels: labels.map { LogProbabilityText.name(of: $0, tokenizer) })
    }

    private static func work(_ items: [ScoringItem], labels: [String]) -> ScoringWork {
        ScoringWork(
            items: items,
            write: { (scores, usage, head) throws(APIError) in
                var writer = JSONWriter()
                writer.beginObject()
                writer.head(head, prefix: "classify-", object: "list")
                writer.key("labels")
                writer.beginArray()
                for label in labels { writer.string(label) }
                writer.endArray()
                writer.key("data")
                writer.beginArray()
                for (index, score) in scores.enumerated() {
                    let probabilities = Probability.softmax(score.labels)
                    let best = probabilities.indices.max {
                        probabilities[$0] == probabilities[$1] ? $0 > $1 : probabilities[$0] < probabilities[$1]
                    }
                    writer.beginObject()
                    writer.key("index")
                    writer.integer(index)
                    writer.key("label")
                    writer.string(labels[best ?? 0])
                    writer.key("probs")
                    writer.beginArray()
                    for probability in probabilities { writer.number(probability) }
                    writer.endArray()
                    writer.key("num_classes")
                    writer.integer(labels.count)
                    writer.endObject()
                }
                writer.endArray()
                writer.promptUsage(usage)
                writer.endObject()
                return writer.bytes
            })
    }
}
