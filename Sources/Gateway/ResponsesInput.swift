// Tandem — Apache-2.0

import JSON

/// The `instructions` and `input` of a response, checked, as the messages of a chat.
struct ResponsesInput {
    private(set) var messages: [JSONObject] = []
    /// Calls so far, by their ids.
    private var calls: Set<String> = []

    /// - Throws: 400 naming the item and field.
    init(_ fields: RequestFields) throws(APIError) {
        if let instructions = try fields.string("instructions") {
            messages.append(Self.message("system", .string(instructions)))
        }
        switch fields.value("input") {
        case nil: throw fields.invalid("input", "is missing: give a string or an array of items")
        case .string(let text): messages.append(Self.message("user", .string(text)))
        case .array(let items):
            guard !items.isEmpty else { throw fields.invalid("input", "must not be empty") }
            for (index, item) in items.enumerated() {
                let path = "input[\(index)]"
                guard case .object(let object) = item else {
                    throw .invalid(path, "`\(path)` must be an object, not \(RequestFields.describe(item))")
                }
                try add(RequestFields(object, inside: path))
            }
            guard !messages.isEmpty else { throw fields.invalid("input", "has no item that the model could answer") }
        case .some(let value): throw fields.wrongType("input", "a string or an array of items", value)
        }
    }

    private mutating func add(_ item: RequestFields) throws(APIError) {
        let type = try item.string("type")
        switch type {
        case nil where item.value("role") == nil:
            throw item.invalid("type", "is missing: give an item with a `type`, or a message with a `role`")
        case nil, "message": try addMessage(item)
        case "function_call": try addCall(item)
        case "function_call_output": try addResult(item)
        // A model's thoughts are shown to it only while it has them.
        case "reasoning": break
        case "item_reference": throw item.unsupported("type", "referring to stored items")
        case .some(let other):
            throw item.invalid(
                "type",
                "is `\(shortened(other))`, but this server takes only: message, function_call, function_call_output, "
                    + "reasoning")
        }
    }

    // MARK: Messages

    private static let roles = ["user", "assistant", "system", "developer"]

    private mutating func addMessage(_ item: RequestFields) throws(APIError) {
        let names = Self.roles.joined(separator: ", ")
        guard let role = try item.string("role") else {
            throw item.invalid("role", "is missing: give one of: \(names)")
        }
        guard Self.roles.contains(role) else {
            throw item.invalid("role", "is `\(shortened(role))` but must be one of: \(names)")
        }
        let content: JSONValue
        switch item.value("content") {
        case nil: throw item.invalid("content", "is missing")
        case .string(let text): content = .string(text)
        case .array(let parts):
            let texts = try Self.texts(parts, item.path("content"))
            // Parts that a model wrote are one text; those of others are kept apart for templates that do.
            content = role == "assistant" ? .string(texts.joined()) : Self.parts(texts)
        case .some(let value): throw item.wrongType("content", "a string or an array of parts", value)
        }
        if role == "assistant", let last = messages.indices.last, messages[last]["role"] == .string("assistant"),
            messages[last]["content"] == nil
        {
            messages[last]["content"] = content
        } else {
            // Templates know the older name.
            messages.append(Self.message(role == "developer" ? "system" : role, content))
        }
    }

    private static func texts(_ parts: [JSONValue], _ path: String) throws(APIError) -> [String] {
        var texts: [String] = []
        for (index, part) in parts.enumerated() {
            let path = "\(path)[\(index)]"
            guard case .object(let object) = part else {
                throw .invalid(path, "`\(path)` must be an object, not \(RequestFields.describe(part))")
            }
            let fields = RequestFields(object, inside: path)
            guard let type = try fields.string("type") else { throw fields.invalid("type", "is missing") }
            guard ["input_text", "output_text", "refusal"].contains(type) else {
                throw fields.invalid("type", "is `\(shortened(type))`, but this model takes only text")
            }
            let name = type == "refusal" ? "refusal" : "text"
            guard let text = try fields.string(name) else { throw fields.invalid(name, "is missing") }
            texts.append(text)
        }
        return texts
    }

    // MARK: Calls

    /// Calls belong to the message that the model wrote before them, as in a chat.
    private mutating func addCall(_ item: RequestFields) throws(APIError) {
        let id = try Self.callID(item)
        guard let name = try item.string("name"), !name.isEmpty else { throw item.invalid("name", "is missing") }
        guard let arguments = try item.string("arguments") else {
            throw item.invalid("arguments", "is missing: give the JSON that the model wrote")
        }
        guard calls.insert(id).inserted else {
            throw item.invalid("call_id", "is `\(shortened(id))`, which an earlier call has, too")
        }
        var function = JSONObject()
        function["name"] = .string(name)
        function["arguments"] = .string(arguments)
        var call = JSONObject()
        call["id"] = .string(id)
        call["type"] = .string("function")
        call["function"] = .object(function)
        if messages.last?["role"] != .string("assistant") {
            var message = JSONObject()
            message["role"] = .string("assistant")
            messages.append(message)
        }
        let last = messages.count - 1
        messages[last]["tool_calls"] = .array((messages[last]["tool_calls"]?.array ?? []) + [.object(call)])
    }

    private mutating func addResult(_ item: RequestFields) throws(APIError) {
        let id = try Self.callID(item)
        guard calls.contains(id) else {
            throw item.invalid("call_id", "is `\(shortened(id))`, which no `function_call` before it has")
        }
        let content: JSONValue
        switch item.value("output") {
        case nil: throw item.invalid("output", "is missing")
        case .string(let text): content = .string(text)
        case .array(let parts): content = Self.parts(try Self.texts(parts, item.path("output")))
        case .some(let value): throw item.wrongType("output", "a string or an array of parts", value)
        }
        var message = Self.message("tool", content)
        message["tool_call_id"] = .string(id)
        messages.append(message)
    }

    private static func callID(_ item: RequestFields) throws(APIError) -> String {
        guard let id = try item.string("call_id"), !id.isEmpty else { throw item.invalid("call_id", "is missing") }
        return id
    }

    // MARK: Parts

    private static func message(_ role: String, _ content: JSONValue) -> JSONObject {
        var message = JSONObject()
        message["role"] = .string(role)
        message["content"] = content
        return message
    }

    private static func parts(_ texts: [String]) -> JSONValue {
        .array(
            texts.map { text in
                var part = JSONObject()
                part["type"] = .string("text")
                part["text"] = .string(text)
                return .object(part)
            })
    }
}
