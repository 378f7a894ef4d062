// Tandem — Apache-2.0

import JSON
import Requests
import Tokenization

/// The body of `POST /v1/responses`, read and checked.
struct ResponsesRequest {
    /// What is to be generated, all but the prompt, which ``render(model:now:)`` makes.
    var generation: GenerationRequest
    /// What the response repeats of the request.
    var settings: ResponsesSettings
    /// The conversation and the tools in the form of a chat.
    private var chat: JSONObject
    private var messages: [JSONObject]
    /// Whether the oldest messages may be left out.
    private var drops: Bool

    /// - Parameter vocabularySize: token ids of stops are below it.
    /// - Throws: ``APIError`` naming the field.
    init(_ body: JSONValue, vocabularySize: Int) throws(APIError) {
        let fields = try RequestFields(body: body)
        try Self.refuseOthers(fields)
        messages = try ResponsesInput(fields).messages
        var generation = GenerationRequest(kind: .chat, prompts: [])
        generation.promptField = "input"
        generation.addSpecialTokens = false
        generation.maximumNewTokens = try fields.integer("max_output_tokens", in: 1...Int(Int32.max))
        try generation.readCommon(fields, vocabularySize: vocabularySize)
        guard generation.choices == 1 else { throw fields.unsupported("n", "more than one choice") }
        generation.logProbabilities = try Self.logProbabilities(fields)
        let tools = try ResponsesTools.read(fields)
        if let tools, tools.isActive { generation.tools = tools }
        if let format = try fields.nested("text")?.nested("format") {
            try generation.setFormat(format)
        }
        drops = try Self.truncation(fields) == "auto"
        settings = try ResponsesSettings(fields)
        self.generation = generation

        chat = JSONObject()
        if let tools = generation.tools { chat["tools"] = .array(tools.tools.map(\.definition)) }
        let asInChats = [
            "chat_template", "chat_template_kwargs", "documents", "add_generation_prompt", "continue_final_message",
        ]
        for name in asInChats { chat[name] = fields.value(name) }
    }

    // MARK: Fields

    private static func refuseOthers(_ fields: RequestFields) throws(APIError) {
        if try fields.bool("store") == true { throw fields.unsupported("store", "storing responses") }
        if try fields.bool("background") == true { throw fields.unsupported("background", "working in the background") }
        for name in ["previous_response_id", "conversation"] where fields.value(name) != nil {
            throw .invalid(
                name, "`\(name)`: this server stores no conversations; pass the earlier items in `input`",
                code: "unsupported_parameter")
        }
        if fields.value("prompt") != nil { throw fields.unsupported("prompt", "a stored prompt template") }
        for name in ["context_management", "moderation"] where fields.value(name) != nil {
            throw fields.unsupported(name, "this OpenAI feature")
        }
        let elsewhere = [
            ("messages", "input"), ("response_format", "text.format"), ("max_tokens", "max_output_tokens"),
            ("max_completion_tokens", "max_output_tokens"), ("logprobs", "include"),
        ]
        for (name, place) in elsewhere where fields.value(name) != nil {
            throw fields.invalid(name, "is no field of /v1/responses; use `\(place)`")
        }
        if fields.value("prompt_logprobs") != nil { throw fields.unsupported("prompt_logprobs", "this form") }
        for name in ["return_token_ids", "echo"] where try fields.bool(name) == true {
            throw fields.unsupported(name, "this form")
        }
        if let options = try fields.nested("stream_options"), try options.bool("include_obfuscation") == true {
            throw options.unsupported("include_obfuscation", "hiding the lengths of tokens")
        }
        // Nothing here thinks apart from its text, writes longer for it, or has tiers.
        _ = try fields.nested("reasoning")
        _ = try fields.nested("text")?.string("verbosity")
        _ = try fields.string("service_tier")
        _ = try fields.string("prompt_cache_retention")
    }

    private static let includable: Set<String> = [
        "message.output_text.logprobs", "reasoning.encrypted_content", "file_search_call.results",
        "web_search_call.results", "web_search_call.action.sources", "message.input_image.image_url",
        "computer_call_output.output.image_url", "code_interpreter_call.outputs",
    ]

    /// How many log-probabilities beside a token's own; `nil` if none are wanted.
    private static func logProbabilities(_ fields: RequestFields) throws(APIError) -> Int? {
        let top = try fields.integer("top_logprobs", in: 0...20) ?? 0
        var wanted = top > 0
        for (index, value) in (try fields.array("include") ?? []).enumerated() {
            let path = "include[\(index)]"
            guard case .string(let name) = value else {
                throw .invalid(path, "`\(path)` must be a string, not \(RequestFields.describe(value))")
            }
            guard includable.contains(name) else {
                throw .invalid(
                    path, "`\(path)` is `\(shortened(name))`, which is nothing that a response could include")
            }
            // What else can be included belongs to items that no response of this server has.
            if name == "message.output_text.logprobs" { wanted = true }
        }
        return wanted ? top : nil
    }

    private static func truncation(_ fields: RequestFields) throws(APIError) -> String {
        let truncation = try fields.string("truncation") ?? "disabled"
        guard ["auto", "disabled"].contains(truncation) else {
            throw fields.invalid("truncation", "is `\(shortened(truncation))` but must be `auto` or `disabled`")
        }
        return truncation
    }

    // MARK: Prompt

    /// The conversation as the model reads it; if it is too long for the model, and the client agreed, without its
    /// oldest messages. Those of the system at its beginning stay, and so does the last of the user.
    ///
    /// - Parameter now: seconds since 1970, for templates that tell the model the date.
    /// - Throws: 400 naming the field.
    func render(model: ServedModel, now: Int) throws(APIError) -> String {
        let whole = try text(messages, model: model, now: now)
        guard drops else { return whole }
        // Where the client left the length open, a quarter of the context is for the answer.
        let room = min(generation.maximumNewTokens ?? model.contextLength / 4, model.contextLength)
        let limit = model.contextLength - max(1, room)
        func fits(_ text: String) -> Bool {
            // No token is empty, but one may be a space that a tokenizer puts in front.
            text.utf8.count < limit
                || model.tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: true).count <= limit
        }
        if fits(whole) { return whole }
        // A conversation goes on from what a user says; results without their calls would make no sense.
        let head = messages.firstIndex { $0["role"] != .string("system") } ?? 0
        let starts = messages.indices.filter { $0 > head && messages[$0]["role"] == .string("user") }
        var (low, high) = (0, starts.count)
        var shortest = whole
        while low < high {
            let middle = (low + high) / 2
            let kept = messages[..<head] + messages[starts[middle]...]
            let text = try text(Array(kept), model: model, now: now)
            if fits(text) {
                shortest = text
                high = middle
            } else {
                low = middle + 1
                if low == starts.count { shortest = text }
            }
        }
        return shortest
    }

    private func text(_ messages: [JSONObject], model: ServedModel, now: Int) throws(APIError) -> String {
        var chat = chat
        chat["messages"] = .array(messages.map { .object($0) })
        do throws(APIError) {
            return try Conversation.render(.object(chat), model: model, now: now)
        } catch {
            var error = error
            if error.parameter == "messages" { error.parameter = "input" }
            throw error
        }
    }
}

extension GenerationRequest {
    /// Takes `text.format`.
    fileprivate mutating func setFormat(_ format: RequestFields) throws(APIError) {
        if try format.string("type") == "json_schema" {
            guard let name = try format.string("name"), !name.isEmpty else {
                throw format.invalid("name", "is missing")
            }
            _ = try format.bool("strict")
            guard format.value("schema") != nil else {
                throw format.invalid("schema", "is missing: give a JSON schema")
            }
        }
        guard let asked = try StructuredOutput.responseFormat(format) else { return }
        if let structure {
            throw .invalid(
                structure.field,
                "`\(asked.field)` and `\(structure.field)` both say what the text must look like; give one of them")
        }
        try asked.checkSize()
        structure = asked
    }
}
