// Tandem — Apache-2.0

import JSON

/// What a response repeats of its request, as members of JSON with commas between them.
struct ResponsesSettings: Equatable, Sendable {
    /// Before the model's name.
    let beginning: [UInt8]
    /// Behind the output.
    let middle: [UInt8]
    /// Behind the usage.
    let end: [UInt8]

    /// - Throws: 400 naming the field.
    init(_ fields: RequestFields) throws(APIError) {
        func members(
            _ names: [(name: String, otherwise: JSONValue)]
        ) -> [UInt8] {
            var writer = JSONWriter()
            for (name, otherwise) in names {
                writer.key(name)
                writer.value(fields.value(name) ?? otherwise)
            }
            return writer.bytes
        }
        for name in ["prompt_cache_key", "safety_identifier"] { _ = try fields.string(name) }
        _ = try fields.integer("max_tool_calls", in: 1...Int(Int32.max))
        try Self.checkMetadata(fields)
        beginning = members([("instructions", .null), ("max_output_tokens", .null), ("max_tool_calls", .null)])
        end = members([("user", .null), ("metadata", .object(JSONObject()))])

        var text = JSONObject()
        text["format"] = try fields.nested("text")?.value("format") ?? Self.object("type", .string("text"))
        var reasoning = JSONObject()
        reasoning["effort"] = .null
        reasoning["summary"] = .null
        var writer = JSONWriter()
        writer.raw(members([("parallel_tool_calls", .bool(true))]))
        writer.key("previous_response_id")
        writer.null()
        writer.raw(members([("prompt_cache_key", .null)]))
        writer.key("reasoning")
        writer.value(.object(reasoning))
        writer.raw(members([("safety_identifier", .null)]))
        writer.key("service_tier")
        writer.string("default")
        writer.key("store")
        writer.bool(false)
        writer.raw(members([("temperature", .number(1))]))
        writer.key("text")
        writer.value(.object(text))
        writer.raw(
            members([
                ("tool_choice", .string("auto")), ("tools", .array([])), ("top_logprobs", .integer(0)),
                ("top_p", .number(1)), ("truncation", .string("disabled")),
            ]))
        middle = writer.bytes
    }

    private static func object(_ name: String, _ value: JSONValue) -> JSONValue {
        var object = JSONObject()
        object[name] = value
        return .object(object)
    }

    private static func checkMetadata(_ fields: RequestFields) throws(APIError) {
        guard let metadata = try fields.nested("metadata") else { return }
        guard metadata.object.count <= 16 else {
            throw fields.invalid("metadata", "has \(metadata.object.count) members but may have at most 16")
        }
        for (name, value) in metadata.object.entries {
            let shown = shortened(name)
            guard name.unicodeScalars.count <= 64 else {
                throw fields.invalid("metadata", "has a key of more than 64 characters, `\(shown)`")
            }
            guard case .string(let text) = value else {
                throw .invalid(
                    metadata.path(shown),
                    "`\(metadata.path(shown))` must be a string, not \(RequestFields.describe(value))")
            }
            guard text.unicodeScalars.count <= 512 else {
                throw metadata.invalid(shown, "may have at most 512 characters")
            }
        }
    }
}
