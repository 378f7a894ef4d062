// Tandem — Apache-2.0

import JSON

/// The `tools` and `tool_choice` of a response, whose form is flatter than that of chats.
enum ResponsesTools {
    /// - Returns: nil if there are no tools.
    /// - Throws: 400 naming the field.
    static func read(_ fields: RequestFields) throws(APIError) -> ToolCallRequest? {
        let tools = try readTools(fields)
        let choice = try readChoice(fields)
        let allowsSeveral = try fields.bool("parallel_tool_calls") ?? true
        guard !tools.isEmpty else {
            switch choice {
            case .none, .auto: return nil
            case .required, .named: throw fields.invalid("tool_choice", "needs `tools` to choose from")
            }
        }
        if case .named(let name) = choice, !tools.contains(where: { $0.name == name }) {
            throw .invalid(
                "tool_choice.name", "`tool_choice.name` is `\(shortened(name))`, which is none of the `tools`")
        }
        return ToolCallRequest(tools: tools, choice: choice, allowsSeveral: allowsSeveral)
    }

    private static func readTools(_ fields: RequestFields) throws(APIError) -> [ToolCallRequest.Tool] {
        let values = try fields.array("tools") ?? []
        guard values.count <= ToolCallRequest.maximumTools else {
            throw fields.invalid(
                "tools", "has \(values.count) entries but may have at most \(ToolCallRequest.maximumTools)")
        }
        var tools: [ToolCallRequest.Tool] = []
        var names: Set<String> = []
        for (index, value) in values.enumerated() {
            let path = "tools[\(index)]"
            guard case .object(let object) = value else {
                throw .invalid(path, "`\(path)` must be an object, not \(RequestFields.describe(value))")
            }
            let tool = try read(RequestFields(object, inside: path), path: path)
            guard names.insert(tool.name).inserted else {
                throw .invalid("\(path).name", "`\(path).name` is `\(tool.name)`, which an earlier tool is called, too")
            }
            tools.append(tool)
        }
        return tools
    }

    private static func read(_ fields: RequestFields, path: String) throws(APIError) -> ToolCallRequest.Tool {
        switch try fields.string("type") {
        case "function": break
        case nil: throw fields.invalid("type", "is missing: it must be `function`")
        case .some(let type):
            throw .invalid(
                fields.path("type"),
                "`\(fields.path("type"))` is `\(shortened(type))`, but this server runs no tools itself: only tools of "
                    + "type `function` are supported",
                code: "unsupported_parameter")
        }
        // What models are told of a tool, which are the members that it has in chats.
        var function = JSONObject()
        for (name, value) in fields.object.entries where ["name", "description", "parameters", "strict"].contains(name)
        {
            function[name] = value
        }
        var definition = JSONObject()
        definition["type"] = .string("function")
        return try ToolCallRequest.tool(RequestFields(function, inside: path), in: definition)
    }

    private static func readChoice(_ fields: RequestFields) throws(APIError) -> ToolCallRequest.Choice {
        let expected = "`none`, `auto`, `required` or {\"type\": \"function\", \"name\": …}"
        switch fields.value("tool_choice") {
        case nil, .string("auto"): return .auto
        case .string("none"): return .none
        case .string("required"): return .required
        case .string(let text): throw fields.invalid("tool_choice", "is `\(shortened(text))` but must be \(expected)")
        case .object(let object):
            let choice = RequestFields(object, inside: "tool_choice")
            guard try choice.string("type") == "function" else {
                throw choice.invalid("type", "must be `function`")
            }
            guard let name = try choice.string("name"), !name.isEmpty else {
                throw choice.invalid("name", "is missing")
            }
            return .named(name)
        case .some(let value): throw fields.wrongType("tool_choice", expected, value)
        }
    }
}
