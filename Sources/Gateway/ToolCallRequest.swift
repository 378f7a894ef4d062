// Tandem — Apache-2.0

import JSON
import Tokenization

/// The tools that a client offers to the model, and what it says of their use.
struct ToolCallRequest: Equatable {
    enum Choice: Equatable {
        /// The model is told of no tools.
        case none
        /// The model decides.
        case auto
        /// The model has to call one.
        case required
        /// The model has to call this one.
        case named(String)
    }

    struct Tool: Equatable {
        var name: String
        /// What the arguments must look like; an object's schema.
        var parameters: JSONObject
        /// As the client wrote it, for the template.
        var definition: JSONValue
    }

    var tools: [Tool]
    var choice: Choice
    /// Whether one answer may have several calls.
    var allowsSeveral: Bool

    static let maximumTools = 128
    private static let maximumNameBytes = 64

    /// Whether the model is told of the tools, and its calls are looked for.
    ///
    /// With `none` it is not, as with vLLM's `--exclude-tools-when-tool-choice-none`: told of them it would call them.
    var isActive: Bool { choice != .none && !tools.isEmpty }

    var names: Set<String> { Set(tools.map(\.name)) }

    /// Reads `tools`, `tool_choice` and `parallel_tool_calls`.
    ///
    /// - Returns: nil if there are no tools.
    /// - Throws: 400 naming the field.
    static func read(_ fields: RequestFields) throws(APIError) -> ToolCallRequest? {
        let tools = try readTools(fields)
        let choice = try readChoice(fields)
        let allowsSeveral = try fields.bool("parallel_tool_calls") ?? true
        guard let tools else {
            switch choice {
            case nil, .some(.none), .auto: return nil
            case .required, .named: throw fields.invalid("tool_choice", "needs `tools` to choose from")
            }
        }
        if case .named(let name) = choice, !tools.contains(where: { $0.name == name }) {
            throw .invalid(
                "tool_choice.function.name",
                "`tool_choice.function.name` is `\(name)`, which is none of the `tools`")
        }
        return ToolCallRequest(tools: tools, choice: choice ?? .auto, allowsSeveral: allowsSeveral)
    }

    private static func readTools(_ fields: RequestFields) throws(APIError) -> [Tool]? {
        guard let values = try fields.array("tools"), !values.isEmpty else { return nil }
        guard values.count <= maximumTools else {
            throw fields.invalid("tools", "has \(values.count) entries but may have at most \(maximumTools)")
        }
        var tools: [Tool] = []
        var names: Set<String> = []
        for (index, value) in values.enumerated() {
            let tool = try read(value, path: "tools[\(index)]")
            guard names.insert(tool.name).inserted else {
                let path = "tools[\(index)].function.name"
                throw .invalid(path, "`\(path)` is `\(tool.name)`, which an earlier tool is called, too")
            }
            tools.append(tool)
        }
        return tools
    }

    private static func read(_ value: JSONValue, path: String) throws(APIError) -> Tool {
        guard case .object(let definition) = value else {
            throw .invalid(path, "`\(path)` must be an object, not \(RequestFields.describe(value))")
        }
        let fields = RequestFields(definition, inside: path)
        guard let type = try fields.string("type") else {
            throw fields.invalid("type", "is missing: it must be `function`")
        }
        guard type == "function" else {
            throw fields.invalid("type", "is `\(shortened(type))` but must be `function`")
        }
        guard let function = try fields.nested("function") else {
            throw fields.invalid("function", "is missing: give {name, description, parameters}")
        }
        return try tool(function, in: definition)
    }

    /// - Parameters:
    ///   - function: its name, what it is for, and its parameters.
    ///   - definition: what the template is given, all but the function.
    static func tool(_ function: RequestFields, in definition: JSONObject) throws(APIError) -> Tool {
        var definition = definition
        guard let name = try function.string("name") else { throw function.invalid("name", "is missing") }
        guard isName(name) else {
            throw function.invalid(
                "name", "must have 1 to \(maximumNameBytes) letters, digits, underscores and dashes")
        }
        _ = try function.string("description")
        _ = try function.bool("strict")
        var parameters = JSONObject()
        if let given = try function.nested("parameters") {
            parameters = given.object
            if let type = given.value("type"), type != .string("object") {
                throw given.invalid("type", "must be `object`: arguments are given by name")
            }
        } else {
            parameters["properties"] = .object(JSONObject())
            parameters["additionalProperties"] = .bool(false)
        }
        parameters["type"] = .string("object")
        definition["function"] = .object(withoutNulls(function.object))
        return Tool(name: name, parameters: parameters, definition: .object(withoutNulls(definition)))
    }

    private static func withoutNulls(_ object: JSONObject) -> JSONObject {
        var result = JSONObject()
        for (name, value) in object.entries where !value.isNull { result[name] = value }
        return result
    }

    static func isName(_ name: String) -> Bool {
        (1...maximumNameBytes).contains(name.utf8.count)
            && name.utf8.allSatisfy {
                switch $0 {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
                    true
                default: false
                }
            }
    }

    private static func readChoice(_ fields: RequestFields) throws(APIError) -> Choice? {
        let expected = "`none`, `auto`, `required` or {\"type\": \"function\", \"function\": {\"name\": …}}"
        switch fields.value("tool_choice") {
        case nil: return nil
        case .string("none"): return Choice.none
        case .string("auto"): return .auto
        case .string("required"): return .required
        case .string(let text): throw fields.invalid("tool_choice", "is `\(shortened(text))` but must be \(expected)")
        case .object:
            guard let choice = try fields.nested("tool_choice") else { return nil }
            guard try choice.string("type") == "function" else {
                throw choice.invalid("type", "must be `function`")
            }
            guard let function = try choice.nested("function"), let name = try function.string("name") else {
                throw .invalid("tool_choice.function.name", "`tool_choice.function.name` is missing")
            }
            return .named(name)
        case .some(let value): throw fields.wrongType("tool_choice", expected, value)
        }
    }
}

extension GenerationRequest {
    /// Settles what depends on how the model writes calls: the grammar where a call is wanted, and that its marks are seen.
    ///
    /// - Throws: 400 if a call is wanted and a structure, too.
    mutating func prepareTools(for model: ServedModel) throws(APIError) {
        guard let tools else { return }
        let format = model.toolCallFormat
        toolCallFormat = format
        if let source = ToolCallGrammar.source(tools, format: format) {
            if let structure {
                throw .invalid(
                    structure.field,
                    "`\(structure.field)` says what the text must look like, and `tool_choice` wants a call; give one of them"
                )
            }
            structure = StructuredOutput(source: source, field: "tools")
            // The grammar says where the call ends. A stop string would cut its marks, or arguments that contain it.
            stop = []
            mustCall = true
        }
        // Marks that are control tokens would not be in the text.
        let mark = model.tokenizer.encode(format.opening, addSpecialTokens: false, parseSpecialTokens: true)
        if mark.count == 1, model.tokenizer.isSpecial(mark[0]) { skipSpecialTokens = false }
    }
}
