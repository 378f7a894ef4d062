// Tandem — Apache-2.0

import JSON
import Requests

/// What a text must look like, and which field asks for it.
struct StructuredOutput: Equatable {
    var source: GrammarSource
    /// The field that carries the source, for messages.
    var field: String

    /// Bytes of a source.
    private static let maximumBytes = 256 << 10
    private static let maximumChoices = 4096

    /// Reads all the fields by which clients of OpenAI, vLLM and llama.cpp ask for structure.
    ///
    /// - Throws: 400 naming the field, also if more than one asks. Whether a source is a grammar is not looked at.
    static func read(_ fields: RequestFields) throws(APIError) -> StructuredOutput? {
        var found: [StructuredOutput] = []
        if let format = try fields.nested("response_format"), let structure = try responseFormat(format) {
            found.append(structure)
        }
        if let options = try fields.nested("structured_outputs") {
            found += try sources(
                options, json: "json", regex: "regex", choice: "choice", grammar: "grammar", jsonObject: "json_object")
            if options.value("structural_tag") != nil { throw options.unsupported("structural_tag", "this structure") }
            if options.value("whitespace_pattern") != nil {
                throw options.unsupported("whitespace_pattern", "choosing the white space")
            }
            for name in ["disable_any_whitespace", "disable_additional_properties"] {
                if try options.bool(name) == true { throw options.unsupported(name, "this option") }
            }
        }
        found += try sources(
            fields, json: "guided_json", regex: "guided_regex", choice: "guided_choice", grammar: "guided_grammar",
            jsonObject: "guided_json_object")
        if fields.value("guided_whitespace_pattern") != nil {
            throw fields.unsupported("guided_whitespace_pattern", "choosing the white space")
        }
        found += try sources(
            fields, json: "json_schema", regex: nil, choice: nil, grammar: "grammar", jsonObject: nil)
        if found.count > 1 {
            throw .invalid(
                found[1].field,
                "`\(found[0].field)` and `\(found[1].field)` both say what the text must look like; give one of them")
        }
        try found.first?.checkSize()
        return found.first
    }

    func checkSize() throws(APIError) {
        guard source.text.utf8.count > Self.maximumBytes else { return }
        throw .invalid(
            field, "`\(field)` has \(source.text.utf8.count) bytes but may have at most \(Self.maximumBytes)")
    }

    /// `{"type": "text" | "json_object" | "json_schema", …}`
    static func responseFormat(_ format: RequestFields) throws(APIError) -> StructuredOutput? {
        switch try format.string("type") {
        case "text": return nil
        case "json_object":
            if let schema = try schema(format, "schema", allowsText: false) { return schema }
            return StructuredOutput(
                source: GrammarSource(kind: .jsonObject, text: ""), field: format.path("type"))
        case "json_schema":
            if let inner = try format.nested("json_schema") {
                _ = try inner.string("name")
                _ = try inner.bool("strict")
                if let schema = try schema(inner, "schema", allowsText: false) { return schema }
                throw inner.invalid("schema", "is missing: give a JSON schema")
            }
            if let schema = try schema(format, "schema", allowsText: false) { return schema }
            throw format.invalid("json_schema", "is missing: give {name, schema}")
        case .some(let type):
            throw format.invalid(
                "type", "is `\(shortened(type))` but must be one of: text, json_object, json_schema")
        case nil:
            throw format.invalid("type", "is missing: give one of: text, json_object, json_schema")
        }
    }

    private static func sources(
        _ fields: RequestFields, json: String, regex: String?, choice: String?, grammar: String, jsonObject: String?
    ) throws(APIError) -> [StructuredOutput] {
        var found: [StructuredOutput] = []
        func add(_ kind: GrammarSource.Kind, _ text: String, _ name: String) {
            found.append(
                StructuredOutput(source: GrammarSource(kind: kind, text: text), field: fields.path(name)))
        }
        if let schema = try schema(fields, json, allowsText: true) { found.append(schema) }
        if let regex, let text = try text(fields, regex) { add(.regularExpression, text, regex) }
        if let choice, let choices = try fields.strings(choice, atMost: maximumChoices) {
            guard !choices.isEmpty else { throw fields.invalid(choice, "must not be empty") }
            var writer = JSONWriter()
            writer.value(.array(choices.map { .string($0) }))
            add(.choice, String(decoding: writer.bytes, as: UTF8.self), choice)
        }
        if let text = try text(fields, grammar) { add(.gbnf, text, grammar) }
        if let jsonObject, try fields.bool(jsonObject) == true { add(.jsonObject, "", jsonObject) }
        return found
    }

    private static func text(_ fields: RequestFields, _ name: String) throws(APIError) -> String? {
        guard let text = try fields.string(name) else { return nil }
        guard !text.isEmpty else { throw fields.invalid(name, "must not be empty") }
        return text
    }

    /// A schema: an object or a boolean, or where `allowsText` says so the JSON text of one.
    private static func schema(
        _ fields: RequestFields, _ name: String, allowsText: Bool
    ) throws(APIError) -> StructuredOutput? {
        let text: String
        switch fields.value(name) {
        case nil: return nil
        case .string(let string) where allowsText: text = string
        case .some(let value):
            switch value {
            case .object, .bool: break
            default: throw fields.wrongType(name, "a JSON schema", value)
            }
            var writer = JSONWriter()
            writer.value(value)
            text = String(decoding: writer.bytes, as: UTF8.self)
        }
        return StructuredOutput(
            source: GrammarSource(kind: .jsonSchema, text: text), field: fields.path(name))
    }
}
