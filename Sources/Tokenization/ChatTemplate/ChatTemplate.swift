// Tandem — Apache-2.0

public import JSON

/// A model's chat template: turns a conversation into the prompt text that the model was trained on.
///
/// Templates are written in Jinja. This is an interpreter of the part that chat templates use, with the settings and
/// additions of Hugging Face transformers: `trim_blocks`, `lstrip_blocks`, `raise_exception`, `tojson` without HTML
/// escapes, `strftime_now`, `break` and `continue`, `generation` blocks, and the immutability of the sandbox. What is left
/// out, such as `call` blocks, is refused by name when the template is made.
///
/// Neither templates nor messages are trusted: nesting, steps and text are bounded.
public struct ChatTemplate: Sendable {
    /// The template as it was written.
    public let source: String
    private let body: [TemplateStatement]

    /// Parses a template.
    ///
    /// - Throws: `ChatTemplateError` with the line, if the source is no template or uses an unsupported construct.
    public init(source: String) throws(ChatTemplateError) {
        self.source = source
        body = try TemplateParser.parse(source)
    }

    /// Renders a conversation.
    ///
    /// - Parameters:
    ///   - messages: an array of objects with `role`, `content` and what else the template reads.
    ///   - tools: an array of tool definitions.
    ///   - addGenerationPrompt: whether the text ends where the assistant begins to speak.
    ///   - bosToken: text of the BOS token, empty if there is none; `eosToken` likewise.
    ///   - now: the moment that templates may print by `strftime_now`, as seconds since 1970 in UTC; nil leaves the
    ///     function undefined, as templates provide for.
    ///   - extra: further variables; they take precedence.
    /// - Throws: `ChatTemplateError`; kind `.raised` where the template itself refuses the messages.
    public func render(
        messages: JSONValue,
        tools: JSONValue?,
        addGenerationPrompt: Bool,
        bosToken: String,
        eosToken: String,
        now: Int64? = nil,
        extra: JSONObject
    ) throws(ChatTemplateError) -> String {
        var globals: [String: TemplateValue] = [
            "messages": try Self.value(messages, "messages"),
            "tools": try Self.value(tools ?? .null, "tools"),
            "documents": .none,
            "add_generation_prompt": .boolean(addGenerationPrompt),
            "bos_token": .string(bosToken),
            "eos_token": .string(eosToken),
        ]
        for name in TemplateInterpreter.functions { globals[name] = .function(name) }
        if now != nil { globals["strftime_now"] = .function("strftime_now") }
        for (name, value) in extra.entries { globals[name] = try Self.value(value, name) }
        var interpreter = TemplateInterpreter(globals: globals, now: now.map { TemplateTime(secondsSince1970: $0) })
        return try interpreter.render(body)
    }

    private static func value(_ json: JSONValue, _ name: String) throws(ChatTemplateError) -> TemplateValue {
        guard let value = TemplateValue(json) else {
            throw ChatTemplateError(kind: .limit, line: 0, reason: "\(name) is too large or nests too deeply")
        }
        return value
    }
}
