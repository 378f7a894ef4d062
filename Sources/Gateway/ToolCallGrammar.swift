// Tandem — Apache-2.0

import JSON
import Requests

/// Grammars that make a model call a tool.
enum ToolCallGrammar {
    /// The grammar of an answer that is a call, or for Mistral's format a list of calls: nothing else can be written.
    /// The other formats take one call, as several would need a grammar within another.
    ///
    /// - Returns: nil if the client leaves the model the choice.
    static func source(_ request: ToolCallRequest, format: ToolCallFormat) -> GrammarSource? {
        let tools: [ToolCallRequest.Tool]
        switch request.choice {
        case .none, .auto: return nil
        case .required: tools = request.tools
        case .named(let name): tools = request.tools.filter { $0.name == name }
        }
        let takesList = format == .mistral
        // Llama's calls need no mark, and are trained to have none.
        let before: String
        let after: String
        switch format {
        case .hermes: (before, after) = ("<tool_call>\n", "\n</tool_call>")
        case .llama: (before, after) = ("", "")
        case .mistral: (before, after) = ("[TOOL_CALLS]", "")
        }
        if let tool = tools.first, tools.count == 1, !takesList {
            // All but the arguments is fixed, and written as the templates write it.
            return GrammarSource(
                kind: .jsonSchema, text: text(.object(tool.parameters)),
                prefix: before + "{\"name\": \"\(tool.name)\", \"\(format.argumentsName)\": ", suffix: "}" + after)
        }
        var schema = JSONObject()
        if takesList {
            var items = JSONObject()
            items["anyOf"] = .array(calls(tools, format, at: "#/items/anyOf"))
            schema["type"] = .string("array")
            schema["minItems"] = .integer(1)
            if !request.allowsSeveral { schema["maxItems"] = .integer(1) }
            schema["items"] = .object(items)
        } else {
            schema["anyOf"] = .array(calls(tools, format, at: "#/anyOf"))
        }
        return GrammarSource(kind: .jsonSchema, text: text(.object(schema)), prefix: before, suffix: after)
    }

    /// A schema for a call of each tool, which stand as a list at `path`.
    private static func calls(
        _ tools: [ToolCallRequest.Tool], _ format: ToolCallFormat, at path: String
    ) -> [JSONValue] {
        tools.enumerated().map { index, tool in
            let place = "\(path)/\(index)/properties/\(format.argumentsName)"
            var name = JSONObject()
            name["const"] = .string(tool.name)
            var properties = JSONObject()
            properties["name"] = .object(name)
            properties[format.argumentsName] = moved(.object(tool.parameters), to: place)
            var call = JSONObject()
            call["type"] = .string("object")
            call["properties"] = .object(properties)
            call["required"] = .array([.string("name"), .string(format.argumentsName)])
            call["additionalProperties"] = .bool(false)
            return .object(call)
        }
    }

    /// Members whose values are no schemas, and those whose members' values are.
    private static let plain: Set<String> = ["const", "enum", "default", "examples"]
    private static let named: Set<String> = [
        "properties", "patternProperties", "$defs", "definitions", "dependentSchemas",
    ]

    /// A schema that stands at `place` of another: what it refers to within itself is there, too.
    static func moved(_ schema: JSONValue, to place: String) -> JSONValue {
        switch schema {
        case .array(let elements): return .array(elements.map { moved($0, to: place) })
        case .object(let object):
            var result = JSONObject()
            for (key, value) in object.entries {
                if key == "$ref", case .string(let target) = value, target == "#" || target.hasPrefix("#/") {
                    result[key] = .string(place + target.dropFirst())
                } else if plain.contains(key) {
                    result[key] = value
                } else if named.contains(key), case .object(let members) = value {
                    var inner = JSONObject()
                    for (name, member) in members.entries { inner[name] = moved(member, to: place) }
                    result[key] = .object(inner)
                } else {
                    result[key] = moved(value, to: place)
                }
            }
            return .object(result)
        default: return schema
        }
    }

    private static func text(_ value: JSONValue) -> String {
        var writer = JSONWriter()
        writer.value(value)
        return String(decoding: writer.bytes, as: UTF8.self)
    }
}
