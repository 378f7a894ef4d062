// Tandem — Apache-2.0

import JSON

/// What tells a model of tools whose chat template does not: instructions in the first message, and calls and results
/// as text.
enum ToolCallPrompt {
    /// Whether a message is one that only a template that knows of tools can write.
    static func isAboutTools(_ message: JSONObject) -> Bool {
        message["role"] == .string("tool") || message["tool_calls"] != nil
    }

    /// - Parameters:
    ///   - messages: as ``Conversation`` has checked them.
    ///   - tools: on offer now; there may be none, and calls of earlier turns.
    static func spelledOut(
        _ messages: [JSONObject], tools: [ToolCallRequest.Tool], format: ToolCallFormat
    ) -> [JSONObject] {
        var result = joiningResults(messages, format)
        guard !tools.isEmpty else { return result }
        let instructions = instructions(tools, format)
        if let first = result.first, first["role"] == .string("system") {
            result[0]["content"] = .string([text(of: first), instructions].joined(separator: "\n\n"))
        } else {
            result.insert(message("system", instructions), at: 0)
        }
        return result
    }

    private static func instructions(_ tools: [ToolCallRequest.Tool], _ format: ToolCallFormat) -> String {
        let lines = tools.map { json($0.definition) }
        return """
            You can call functions. These are the functions, one on each line:
            \(lines.joined(separator: "\n"))

            When you need one, answer only with a call of it, in exactly this form:
            \(call("NAME", "{\"ARGUMENT\": VALUE}", format))
            You are then given the result. When you need none, answer in words.
            """
    }

    /// A call as the model should write it.
    private static func call(_ name: String, _ arguments: String, _ format: ToolCallFormat) -> String {
        let body = "{\"name\": \"\(name)\", \"\(format.argumentsName)\": \(arguments)}"
        return switch format {
        case .hermes: "<tool_call>\n\(body)\n</tool_call>"
        case .llama: body
        case .mistral: "[TOOL_CALLS][\(body)]"
        }
    }

    /// Calls become the text of the assistant that made them, and the results that follow one message of the user.
    private static func joiningResults(_ messages: [JSONObject], _ format: ToolCallFormat) -> [JSONObject] {
        var result: [JSONObject] = []
        var results: [String] = []
        func flush(_ result: inout [JSONObject], _ results: inout [String]) {
            if !results.isEmpty { result.append(message("user", results.joined(separator: "\n"))) }
            results = []
        }
        for var message in messages {
            if message["role"] == .string("tool") {
                results.append("<tool_response>\n\(text(of: message))\n</tool_response>")
                continue
            }
            flush(&result, &results)
            if case .array(let calls) = message["tool_calls"] {
                var texts = [text(of: message)].filter { !$0.isEmpty }
                for case .object(let call) in calls {
                    guard case .object(let function) = call["function"], case .string(let name) = function["name"]
                    else { continue }
                    let arguments = function["arguments"] ?? .object(JSONObject())
                    texts.append(self.call(name, arguments.string ?? json(arguments), format))
                }
                message["tool_calls"] = nil
                message["content"] = .string(texts.joined(separator: "\n"))
            }
            result.append(message)
        }
        flush(&result, &results)
        return result
    }

    /// The text of a message whose content is a string or parts.
    private static func text(of message: JSONObject) -> String {
        switch message["content"] {
        case .string(let text): text
        case .array(let parts): parts.compactMap { $0.object?["text"]?.string }.joined(separator: "\n")
        default: ""
        }
    }

    private static func message(_ role: String, _ text: String) -> JSONObject {
        var message = JSONObject()
        message["role"] = .string(role)
        message["content"] = .string(text)
        return message
    }

    private static func json(_ value: JSONValue) -> String {
        var writer = JSONWriter()
        writer.value(value)
        return String(decoding: writer.bytes, as: UTF8.self)
    }
}
