// Tandem — Apache-2.0

import JSON
import NIOCore
import Requests

/// Lets an engine go on with an answer that another one began: it is asked for what follows the text so far, and what it
/// says is made to look as if the first one had said it.
enum ProxyContinuation {
    enum Plan {
        /// A body to send, and how to treat what comes back.
        case go(ByteBuffer, Merge)
        /// All tokens that were asked for are there; only the end of the stream is missing.
        case ended
        case cannot(Obstacle)
    }

    /// What is needed of a request's body to go on, from the body as it was sent.
    static func plan(_ body: ByteBuffer, record: ProxyRecord) -> Plan {
        if let obstacle = record.obstacle { return .cannot(obstacle) }
        guard record.kind != .other else { return .cannot(.endpoint) }
        guard record.choices == 1 else { return .cannot(.choices) }
        guard var fields = (try? JSONParser.parse(body.readableBytesView))?.object else { return .cannot(.format) }
        if let obstacle = obstacle(in: fields) { return .cannot(obstacle) }
        let kept = record.text.isEmpty ? 0 : record.keptTokens
        let merge = Merge(tokens: kept, kind: record.kind)
        guard !record.text.isEmpty else { return .go(body, merge) }
        guard let text = try? JSONParser.parse([0x22] + record.text + [0x22]).string else { return .cannot(.format) }
        for limit in ["max_tokens", "max_completion_tokens"] {
            guard let maximum = fields[limit]?.integer else { continue }
            guard maximum > kept else { return .ended }
            fields[limit] = .integer(maximum - Int64(kept))
        }
        if let minimum = fields["min_tokens"]?.integer {
            fields["min_tokens"] = .integer(max(0, minimum - Int64(kept)))
        }
        switch record.kind {
        case .completion:
            guard let prompt = prompt(in: fields, followedBy: text, record: record) else { return .cannot(.promptForm) }
            fields["prompt"] = prompt
        case .chat:
            guard let messages = messages(in: fields, followedBy: text) else { return .cannot(.promptForm) }
            fields["messages"] = .array(messages)
            fields["continue_final_message"] = .bool(true)
            fields["add_generation_prompt"] = .bool(false)
        case .other:
            return .cannot(.endpoint)
        }
        var writer = JSONWriter()
        writer.value(.object(fields))
        return .go(ByteBuffer(bytes: writer.bytes), merge)
    }

    private static func prompt(
        in fields: JSONObject, followedBy text: String, record: ProxyRecord
    ) -> JSONValue? {
        let ids = record.tokenIDs.prefix(record.shownTokenIDs).map { JSONValue.integer(Int64($0)) }
        switch fields["prompt"] {
        case .string(let prompt):
            if record.usesTokenIDs, let before = record.promptTokenIDs, fields["suffix"]?.isNull ?? true {
                return .array(before.map { .integer(Int64($0)) } + ids)
            }
            return .string(prompt + text)
        case .array(let parts):
            if parts.count == 1, let prompt = parts[0].string { return .string(prompt + text) }
            let isTokens = !parts.isEmpty && parts.allSatisfy { $0.integer != nil }
            return isTokens && record.usesTokenIDs ? .array(parts + ids) : nil
        default:
            return nil
        }
    }

    private static func messages(in fields: JSONObject, followedBy text: String) -> [JSONValue]? {
        guard var messages = fields["messages"]?.array else { return nil }
        // The client may have begun the answer itself.
        if fields["continue_final_message"]?.bool == true {
            guard var last = messages.popLast()?.object, let begun = last["content"]?.string else { return nil }
            last["content"] = .string(begun + text)
            messages.append(.object(last))
            return messages
        }
        var answer = JSONObject()
        answer["role"] = .string("assistant")
        answer["content"] = .string(text)
        messages.append(.object(answer))
        return messages
    }

    /// What in a request does not let its answer go on elsewhere.
    private static func obstacle(in fields: JSONObject) -> Obstacle? {
        func isSet(_ name: String) -> Bool {
            switch fields[name] {
            case nil, .null?, .bool(false)?: false
            default: true
            }
        }
        if (fields["best_of"]?.integer ?? 1) > 1 || isSet("use_beam_search") { return .choices }
        if isSet("logprobs") || isSet("prompt_logprobs") { return .logProbabilities }
        if fields["echo"]?.bool == true, fields["messages"] == nil { return .echo }
        if let format = fields["response_format"], !format.isNull, format.object?["type"]?.string != "text" {
            return .structuredOutput
        }
        if structures.contains(where: isSet) { return .structuredOutput }
        if let choice = fields["tool_choice"], !choice.isNull, choice.string != "auto", choice.string != "none" {
            return .structuredOutput
        }
        return nil
    }

    /// Fields by which vLLM, SGLang and llama-server prescribe a form.
    private static let structures = [
        "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "json_schema", "regex",
        "ebnf", "structural_tag", "grammar",
    ]

    /// How events of an engine that goes on become events of the stream that another one began.
    struct Merge {
        /// Tokens that the engine got as part of its prompt.
        var tokens: Int
        var kind: ProxyRecord.Kind

        /// - Returns: nil for what the client has had before.
        func merged(_ value: JSONValue, record: ProxyRecord) -> JSONValue? {
            guard var event = value.object, event["error"] == nil else { return value }
            if kind == .chat, isOpening(event) { return nil }
            if let id = record.id, event["id"] != nil { event["id"] = .string(id) }
            if let created = record.created, event["created"] != nil { event["created"] = .integer(created) }
            event["prompt_token_ids"] = nil
            if var choices = event["choices"]?.array, var choice = choices.first?.object,
                choice["prompt_token_ids"] != nil
            {
                choice["prompt_token_ids"] = nil
                choices[0] = .object(choice)
                event["choices"] = .array(choices)
            }
            if var usage = event["usage"]?.object {
                if let prompt = usage["prompt_tokens"]?.integer {
                    usage["prompt_tokens"] = .integer(max(0, prompt - Int64(tokens)))
                }
                if let completion = usage["completion_tokens"]?.integer {
                    usage["completion_tokens"] = .integer(completion + Int64(tokens))
                }
                event["usage"] = .object(usage)
            }
            return .object(event)
        }

        /// Whether an event only says whose words will follow.
        private func isOpening(_ event: JSONObject) -> Bool {
            guard let choice = event["choices"]?.array?.first?.object, let delta = choice["delta"]?.object,
                delta["role"] != nil, choice["finish_reason"]?.isNull ?? true
            else { return false }
            return delta["content"].map { $0.isNull || $0.string == "" } ?? (delta.count == 1)
        }
    }
}
