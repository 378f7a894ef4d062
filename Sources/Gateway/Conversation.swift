// Tandem — Apache-2.0

import JSON
import Tokenization

/// The `messages` of a chat request, checked and in the form that chat templates expect.
enum Conversation {
    private static let roles: Set<String> = ["system", "developer", "user", "assistant", "tool", "function"]
    private static let roleNames = roles.sorted().joined(separator: ", ")

    /// Renders a chat body's messages, and the tools it offers, through the model's template.
    ///
    /// - Parameter now: seconds since 1970, for templates that tell the model the date.
    /// - Throws: 400 naming the message and field.
    static func render(_ body: JSONValue, model: ServedModel, now: Int) throws(APIError) -> String {
        let fields = try RequestFields(body: body)
        guard let template = model.chatTemplate else {
            throw .invalid(
                "messages", "the model `\(model.name)` has no chat template; use /v1/completions")
        }
        for name in ["chat_template", "documents"] where fields.value(name) != nil {
            throw .unsupported(name, "overriding the model's template")
        }
        let continues = try fields.bool("continue_final_message") ?? false
        let tools = try ToolCallRequest.read(fields).flatMap { $0.isActive ? $0.tools : nil }
        var messages = try messages(fields, template: template)
        var definitions = tools.map { JSONValue.array($0.map(\.definition)) }
        if tools != nil || messages.contains(where: ToolCallPrompt.isAboutTools), !template.readsTools {
            messages = ToolCallPrompt.spelledOut(messages, tools: tools ?? [], format: model.toolCallFormat)
            definitions = nil
        }
        if continues { try mark(&messages) }
        let addsPrompt = try fields.bool("add_generation_prompt") ?? !continues
        guard !continues || !addsPrompt else {
            throw .invalid(
                "continue_final_message", "`continue_final_message` and `add_generation_prompt` exclude each other")
        }
        let extra = try fields.nested("chat_template_kwargs")?.object ?? JSONObject()
        let tokenizer = model.tokenizer
        let bos: String? = tokenizer.bosToken.flatMap { tokenizer.vocabularyString($0) }
        let eos: String? = tokenizer.eosToken.flatMap { tokenizer.vocabularyString($0) }
        let prompt: String
        do throws(ChatTemplateError) {
            prompt = try template.render(
                messages: .array(messages.map { .object($0) }), tools: definitions, addGenerationPrompt: addsPrompt,
                bosToken: bos ?? "", eosToken: eos ?? "", now: Int64(now), extra: extra)
        } catch {
            throw .invalid("messages", "the model's chat template refused the conversation: \(error)")
        }
        return continues ? try cut(prompt) : prompt
    }

    // MARK: Continuing the last message

    /// Stands at the end of a message that is to be continued while the template has it. Templates may drop blanks at
    /// the end of a message, and then these are not at the end.
    private static let endMark = "\u{F8FF}END\u{F8FF}"

    private static func mark(_ messages: inout [JSONObject]) throws(APIError) {
        guard var last = messages.popLast(), last["role"]?.string == "assistant", let text = last["content"]?.string
        else {
            throw .invalid(
                "continue_final_message", "`continue_final_message` needs a last message of the assistant, with text")
        }
        last["content"] = .string(text + endMark)
        messages.append(last)
    }

    /// The prompt up to where the last message is to go on.
    private static func cut(_ prompt: String) throws(APIError) -> String {
        let places = prompt.ranges(of: endMark)
        guard places.count == 1 else {
            throw .invalid(
                "continue_final_message", "the model's chat template does not let the last message be continued")
        }
        return String(prompt[..<places[0].lowerBound])
    }

    private static func messages(
        _ fields: RequestFields, template: ChatTemplate
    ) throws(APIError) -> [JSONObject] {
        guard let messages = try fields.array("messages") else {
            throw .invalid("messages", "`messages` is missing: give an array of {role, content} objects")
        }
        guard !messages.isEmpty else { throw .invalid("messages", "`messages` must not be empty") }
        // Few messages have parts, and few templates read them: looked at once, and only then.
        var readsParts: Bool?
        var checked: [JSONObject] = []
        checked.reserveCapacity(messages.count)
        for (index, message) in messages.enumerated() {
            let name = "messages[\(index)]"
            guard case .object(let object) = message else {
                throw .invalid(name, "`\(name)` must be an object, not \(RequestFields.describe(message))")
            }
            guard case .string(let role) = object["role"] else {
                throw .invalid("\(name).role", "`\(name).role` must be one of: \(roleNames)")
            }
            guard roles.contains(role) else {
                throw .invalid(
                    "\(name).role",
                    "`\(name).role` is `\(shortened(role))` but must be one of: \(roleNames)")
            }
            if case .array = object["content"], readsParts == nil { readsParts = template.readsContentParts }
            checked.append(
                try self.message(RequestFields(object, inside: name), role: role, keepsParts: readsParts ?? false))
        }
        return checked
    }

    private static func message(
        _ fields: RequestFields, role: String, keepsParts: Bool
    ) throws(APIError) -> JSONObject {
        // Members of value null are as good as absent, for clients as for templates.
        var message = ChatMessages.normalized(fields.object)
        switch role {
        // Templates know the older name of this role, and the newer one of that.
        case "developer": message["role"] = .string("system")
        case "function": message["role"] = .string("tool")
        case "assistant":
            let calls = try calls(fields)
            message["tool_calls"] = calls.isEmpty ? nil : .array(calls)
            message["function_call"] = nil
        case "tool": _ = try fields.string("tool_call_id")
        default: break
        }
        _ = try fields.string("name")
        message["content"] = try content(fields, role: role, keepsParts: keepsParts)
        return message
    }

    // MARK: Content

    /// A message's text: a string, or text parts, which stay a list if `keepsParts` and are else joined by newlines.
    private static func content(
        _ fields: RequestFields, role: String, keepsParts: Bool
    ) throws(APIError) -> JSONValue {
        switch fields.value("content") {
        case .string(let text): return .string(text)
        case nil:
            guard role == "assistant" else { throw fields.invalid("content", "is missing") }
            return .string("")
        case .array(let parts):
            var texts: [String] = []
            for (index, part) in parts.enumerated() {
                texts.append(try text(of: part, path: fields.path("content[\(index)]")))
            }
            guard keepsParts else { return .string(texts.joined(separator: "\n")) }
            return .array(
                texts.map { text in
                    var part = JSONObject()
                    part["type"] = .string("text")
                    part["text"] = .string(text)
                    return .object(part)
                })
        case .some(let value): throw fields.wrongType("content", "a string or an array of parts", value)
        }
    }

    private static func text(of part: JSONValue, path: String) throws(APIError) -> String {
        guard case .object(let object) = part, case .string(let type) = object["type"] else {
            throw .invalid(path, "`\(path)` must be an object with a `type`")
        }
        let fields = RequestFields(object, inside: path)
        guard type == "text" || type == "refusal" else {
            throw fields.invalid("type", "is `\(shortened(type))`, but this model takes only text")
        }
        guard case .string(let text) = object[type] else { throw fields.invalid(type, "must be a string") }
        return text
    }

    // MARK: Calls

    /// The calls of an assistant's message, in the form of `tool_calls` with the arguments as objects.
    private static func calls(_ fields: RequestFields) throws(APIError) -> [JSONValue] {
        var calls: [JSONValue] = []
        for (index, value) in (try fields.array("tool_calls") ?? []).enumerated() {
            let path = fields.path("tool_calls[\(index)]")
            guard case .object(var call) = value else {
                throw .invalid(path, "`\(path)` must be an object, not \(RequestFields.describe(value))")
            }
            let inner = RequestFields(call, inside: path)
            _ = try inner.string("id")
            if let type = try inner.string("type"), type != "function" {
                throw inner.invalid("type", "is `\(shortened(type))` but must be `function`")
            }
            guard let function = try inner.nested("function") else {
                throw inner.invalid("function", "is missing: give {name, arguments}")
            }
            call["type"] = .string("function")
            call["function"] = .object(try self.function(function))
            calls.append(.object(call))
        }
        if let older = try fields.nested("function_call") {
            guard calls.isEmpty else {
                throw fields.invalid("function_call", "is the older form of `tool_calls`; give one of them")
            }
            var call = JSONObject()
            call["type"] = .string("function")
            call["function"] = .object(try function(older))
            calls.append(.object(call))
        }
        return calls
    }

    /// Templates write arguments as JSON, which they take to be an object. Text that is none, as it is left where an
    /// answer was cut, stays text: templates write that, too.
    private static func function(_ fields: RequestFields) throws(APIError) -> JSONObject {
        var function = fields.object
        guard let name = try fields.string("name"), !name.isEmpty else { throw fields.invalid("name", "is missing") }
        switch fields.value("arguments") {
        case nil: function["arguments"] = .object(JSONObject())
        case .object: break
        case .string(let text):
            if text.utf8.allSatisfy(ToolCallScanner.isSpace) {
                function["arguments"] = .object(JSONObject())
            } else if let value = try? JSONParser.parse(Array(text.utf8)), value.object != nil {
                function["arguments"] = value
            }
        case .some(let value): throw fields.wrongType("arguments", "a string of JSON", value)
        }
        return function
    }
}
