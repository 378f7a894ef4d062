// Tandem — Apache-2.0

import JSON
import Requests
import Tokenization

/// A prompt with places for texts that clients give. Where the model has a chat template it is one message of a user,
/// and the answer comes next.
///
/// What stands around the places is tokenized once, with the template's markup; the texts without: no document can end
/// the message it stands in. Prompts that begin with the same texts begin with the same tokens, so engines compute them
/// once.
struct PromptFrame: Sendable {
    /// One more than there are places.
    private let parts: [[TokenID]]
    private let tokenizer: Tokenizer
    /// What stands after the last place.
    private let tail: String
    /// Whether the answer begins a text, instead of going on after a word.
    private let isChat: Bool

    /// - Parameters:
    ///   - words: what the prompt says around its places, one more than there are places.
    ///   - answer: what leads to the answer where there is no chat template.
    ///   - refusal: the field that asks for this, and what to do instead.
    /// - Throws: 400 if the model's chat template does not show what a user says.
    init(
        words: [String], answer: String, model: ServedModel, refusal: (field: String, remedy: String)
    ) throws(APIError) {
        tokenizer = model.tokenizer
        isChat = model.chatTemplate != nil
        var texts: [String]
        if let template = model.chatTemplate {
            guard let rendered = Self.rendered(words, template: template, tokenizer: tokenizer) else {
                throw .invalid(
                    refusal.field, "the model's chat template cannot be asked a question; \(refusal.remedy)")
            }
            texts = rendered
        } else {
            texts = words
            texts[texts.count - 1] += answer
        }
        var parts: [[TokenID]] = []
        for (index, text) in texts.enumerated() {
            parts.append(
                tokenizer.encode(text, addSpecialTokens: index == 0 && !isChat, parseSpecialTokens: true))
        }
        // What wants to stand after a text ends a prompt for good.
        if !isChat, tokenizer.addsEOS, parts[0].last == tokenizer.eosToken { parts[0].removeLast() }
        self.parts = parts
        tail = texts.last ?? ""
    }

    /// What the template puts before, between and after the places; `nil` if it refuses or shows a place not just once.
    private static func rendered(
        _ words: [String], template: ChatTemplate, tokenizer: Tokenizer
    ) -> [String]? {
        // Of private use, so that no template knows them.
        func mark(_ place: Int) -> String { "\u{F8E0}\(place)\u{F8E1}" }
        var message = words[0]
        for (place, words) in words.dropFirst().enumerated() { message += mark(place) + words }
        var object = JSONObject()
        object["role"] = .string("user")
        object["content"] = .string(message)
        var extra = JSONObject()
        // The answer is one word; where a template can leave thoughts out, they are left out.
        extra["enable_thinking"] = .bool(false)
        var rest: String
        do throws(ChatTemplateError) {
            rest = try template.render(
                messages: .array([.object(object)]), tools: nil, addGenerationPrompt: true,
                bosToken: tokenizer.bosToken.flatMap { tokenizer.vocabularyString($0) } ?? "",
                eosToken: tokenizer.eosToken.flatMap { tokenizer.vocabularyString($0) } ?? "", extra: extra)
        } catch {
            return nil
        }
        var parts: [String] = []
        for place in 0..<(words.count - 1) {
            let pieces = rest.split(separator: mark(place), omittingEmptySubsequences: false)
            guard pieces.count == 2 else { return nil }
            parts.append(String(pieces[0]))
            rest = String(pieces[1])
        }
        return parts + [rest]
    }

    /// Tokens of a text for a place, after a word of the frame.
    func encode(_ text: String) -> [TokenID] {
        tokenizer.encode(" " + text, addSpecialTokens: false, parseSpecialTokens: false)
    }

    /// Tokens that stand around the places.
    var count: Int { parts.reduce(0) { $0 + $1.count } }

    /// The prompt with a text at each place.
    func tokens(_ texts: [[TokenID]]) -> [TokenID] {
        var tokens = parts[0]
        for (text, part) in zip(texts, parts.dropFirst()) {
            tokens += text
            tokens += part
        }
        return tokens
    }

    /// The token with which an answer begins; `nil` if the answer has none.
    func firstToken(ofAnswer answer: String) -> TokenID? {
        let answer = isChat ? answer : " " + answer
        // Tokens may join over the boundary, so the answer is looked at where it stands.
        let before = tokenizer.encode(tail, addSpecialTokens: false, parseSpecialTokens: true)
        let whole = tokenizer.encode(tail + answer, addSpecialTokens: false, parseSpecialTokens: true)
        if whole.count > before.count, whole.starts(with: before) { return whole[before.count] }
        return tokenizer.encode(answer, addSpecialTokens: false, parseSpecialTokens: false).first
    }
}
