// Tandem — Apache-2.0

import Tokenization

/// How a family of models writes calls of tools.
enum ToolCallFormat: String, Sendable, CaseIterable {
    /// `<tool_call>`, `{"name": …, "arguments": {…}}`, `</tool_call>`, once for each call: Hermes, Qwen 2.5 and 3. One
    /// without marks at the start of an answer counts too, if it calls a tool on offer.
    case hermes
    /// `{"name": …, "parameters": {…}}` and nothing before it, or only `<|python_tag|>`; several with `;` between them:
    /// Llama 3.
    case llama
    /// `[TOOL_CALLS]` and a JSON array of `{"name": …, "arguments": {…}}`, or each time the name, `[ARGS]` and the arguments:
    /// Mistral.
    case mistral

    /// Opens calls.
    var opening: String {
        switch self {
        case .hermes: "<tool_call>"
        case .llama: "<|python_tag|>"
        case .mistral: "[TOOL_CALLS]"
        }
    }

    /// Closes a call.
    var closing: String? { self == .hermes ? "</tool_call>" : nil }

    /// What the arguments are called.
    var argumentsName: String { self == .llama ? "parameters" : "arguments" }

    /// The format that a model was trained on: what its template writes for calls of earlier turns tells, and where that
    /// does not, its vocabulary. A model of which neither says anything gets the commonest.
    ///
    /// - Parameters:
    ///   - template: the source of the chat template.
    ///   - hasToken: whether the vocabulary has a token of this text.
    static func detect(template: String?, hasToken: (String) -> Bool) -> ToolCallFormat {
        let template = template ?? ""
        // Hermes' format is written by models with Llama's control tokens, too, so that its mark is looked for first.
        if template.contains("<tool_call>") { return .hermes }
        if template.contains("[TOOL_CALLS]") { return .mistral }
        if template.contains("<|python_tag|>") { return .llama }
        if template.contains("<|start_header_id|>"), template.contains("\"parameters\"") { return .llama }
        if hasToken("<tool_call>") { return .hermes }
        if hasToken("[TOOL_CALLS]") { return .mistral }
        if hasToken("<|python_tag|>") { return .llama }
        return .hermes
    }

    static func detect(template: ChatTemplate?, tokenizer: Tokenizer) -> ToolCallFormat {
        detect(template: template?.source) { text in
            let ids = tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: true)
            return ids.count == 1 && tokenizer.vocabularyString(ids[0]) == text
        }
    }

    private static let alphabet = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789".utf8)

    /// A new id for a call: `call_` and 24 letters or digits, or nine of these where templates insist on it.
    func callID(using generator: inout some RandomNumberGenerator) -> String {
        var bytes = self == .mistral ? [] : Array("call_".utf8)
        for _ in 0..<(self == .mistral ? 9 : 24) {
            bytes.append(Self.alphabet[Int.random(in: 0..<Self.alphabet.count, using: &generator)])
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
