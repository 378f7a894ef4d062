// Tandem — Apache-2.0

import JSON
import Tokenization

/// The `messages` of a chat request, checked and in the form that chat templates expect.
enum Conversation {
    private static let roles: Set<String> = ["system", "developer", "user", "assistant", "tool"]
    private static let roleNames = roles.sorted().joined(separator: ", ")

    /// Renders a chat body's messages through the model's template.
    ///
    /// - Throws: 400 naming the message and field.
    static func render(_ body: JSONValue, model: ServedModel) throws(APIError) -> String {
        let fields = try RequestFields(body: body)
        guard let template = model.chatTemplate else {
            throw .invalid(
                "messages", "the model `\(model.name)` has no chat template; use /v1/completions")
        }
        for name in ["chat_template", "documents"] where fields.value(name) != nil {
            throw .unsupported(name, "overriding the model's template")
        }
        if try fields.bool("continue_final_message") == true {
            throw .unsupported("continue_final_message", "continuing the last message")
        }
        let messages = try messages(fields)
        let addsPrompt = try fields.bool("add_generation_prompt") ?? true
        let extra = try fields.nested("chat_template_kwargs")?.object ?? JSONObject()
        let tokenizer = model.tokenizer
        let bos: String? = tokenizer.bosToken.flatMap { tokenizer.vocabularyString($0) }
        let eos: String? = tokenizer.eosToken.flatMap { tokenizer.vocabularyString($0) }
        do throws(ChatTemplateError) {
            return try template.render(
                messages: .array(messages), tools: nil, addGenerationPrompt: addsPrompt, bosToken: bos ?? "",
                eosToken: eos ?? "", extra: extra)
        } catch {
            throw .invalid("messages", "the model's chat template refused the conversation: \(error)")
        }
    }

    private static func messages(_ fields: RequestFields) throws(APIError) -> [JSONValue] {
        guard let messages = try fields.array("messages") else {
            throw .invalid("messages", "`messages` is missing: give an array of {role, content} objects")
        }
        guard !messages.isEmpty else { throw .invalid("messages", "`messages` must not be empty") }
        var checked: [JSONValue] = []
        checked.reserveCapacity(messages.count)
        for (index, message) in messages.enumerated() {
            let name = "messages[\(index)]"
            guard case .object(var object) = message else {
                throw .invalid(name, "`\(name)` must be an object, not \(RequestFields.describe(message))")
            }
            guard case .string(let role) = object["role"] else {
                throw .invalid("\(name).role", "`\(name).role` must be one of: \(roleNames)")
            }
            guard roles.contains(role) else {
                throw .invalid(
                    "\(name).role",
                    "`\(name).role` is `\(role)` but must be one of: \(roleNames)")
            }
            if case .array(let calls) = object["tool_calls"], !calls.isEmpty {
                throw .unsupported("\(name).tool_calls", "tool calling")
            }
            // Templates know the older name of this role.
            if role == "developer" { object["role"] = .string("system") }
            object["content"] = .string(try content(object["content"], role: role, name: name))
            checked.append(.object(object))
        }
        return checked
    }

    /// A message's text: a string, or text parts joined by newlines.
    private static func content(_ value: JSONValue?, role: String, name: String) throws(APIError) -> String {
        switch value {
        case .string(let text): return text
        case nil, .null:
            guard role == "assistant" else { throw .invalid("\(name).content", "`\(name).content` is missing") }
            return ""
        case .array(let parts):
            var texts: [String] = []
            for (index, part) in parts.enumerated() {
                let partName = "\(name).content[\(index)]"
                guard case .object(let object) = part, case .string(let type) = object["type"] else {
                    throw .invalid(partName, "`\(partName)` must be an object with a `type`")
                }
                guard type == "text" else {
                    throw .invalid(
                        "\(partName).type", "`\(partName)` is of type `\(type)`, but this model takes only text")
                }
                guard case .string(let text) = object["text"] else {
                    throw .invalid("\(partName).text", "`\(partName).text` must be a string")
                }
                texts.append(text)
            }
            return texts.joined(separator: "\n")
        case .some(let value):
            throw .invalid(
                "\(name).content",
                "`\(name).content` must be a string or an array of parts, not \(RequestFields.describe(value))")
        }
    }
}
