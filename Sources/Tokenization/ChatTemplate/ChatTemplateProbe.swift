// Tandem — Apache-2.0

internal import JSON

extension ChatTemplate {
    /// Whether content may be a list of parts: whether the template writes the text of one as it writes a string.
    ///
    /// Renders a short conversation twice.
    public var readsContentParts: Bool {
        let probe = "a probe"
        var part = JSONObject()
        part["type"] = .string("text")
        part["text"] = .string(probe)
        guard let text = rendered(content: .string(probe)), let parts = rendered(content: .array([.object(part)]))
        else {
            return false
        }
        return text.utf8.elementsEqual(parts.utf8)
    }

    /// Whether the template writes the tools that it is given.
    ///
    /// Renders a short conversation twice.
    public var readsTools: Bool {
        var function = JSONObject()
        function["name"] = .string("probe")
        function["description"] = .string("")
        var parameters = JSONObject()
        parameters["type"] = .string("object")
        parameters["properties"] = .object(JSONObject())
        function["parameters"] = .object(parameters)
        var tool = JSONObject()
        tool["type"] = .string("function")
        tool["function"] = .object(function)
        guard let without = rendered(content: .string("a")),
            let with = rendered(content: .string("a"), tools: .array([.object(tool)]))
        else { return false }
        return !without.utf8.elementsEqual(with.utf8)
    }

    private func rendered(content: JSONValue, tools: JSONValue? = nil) -> String? {
        var message = JSONObject()
        message["role"] = .string("user")
        message["content"] = content
        return try? render(
            messages: .array([.object(message)]), tools: tools, addGenerationPrompt: true, bosToken: "", eosToken: "",
            now: 0, extra: JSONObject())
    }
}
