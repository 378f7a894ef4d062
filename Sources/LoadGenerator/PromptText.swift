// Tandem — Apache-2.0

import JSON
import Requests
public import Tokenization

/// Makes prompts of words, of an exact number of tokens where a tokenizer is known.
public struct PromptText: Sendable {
    private let words: [String]
    /// Tokens that the server puts around a prompt: of a template, or at the beginning.
    public let overhead: Int
    private let tokenizer: Tokenizer?

    /// Words instead of tokens.
    public init() {
        words = Self.vocabulary
        overhead = 0
        tokenizer = nil
    }

    /// - Parameter isChat: whether prompts are messages, which the model's template surrounds.
    /// - Throws: ``LoadGeneratorError`` if the tokenizer makes exact lengths impossible.
    public init(tokenizer: Tokenizer, isChat: Bool) throws(LoadGeneratorError) {
        let count = { (text: String) in
            tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: false).count
        }
        words = Self.vocabulary.filter { count($0) == 1 && count("a " + $0) == count("a") + 1 }
        self.tokenizer = tokenizer
        guard words.count >= 32 else {
            throw LoadGeneratorError(
                "the tokenizer has only \(words.count) of the \(Self.vocabulary.count) common English words as tokens "
                    + "of their own, so no prompt of an exact length can be made of them; leave --model out to count "
                    + "words instead")
        }
        let sample = words.prefix(32).joined(separator: " ")
        guard isChat else {
            overhead = tokenizer.encode(sample, addSpecialTokens: true, parseSpecialTokens: false).count - 32
            return
        }
        guard let source = tokenizer.chatTemplateSource else {
            throw LoadGeneratorError("the model has no chat template; leave --chat out, or --model to count words")
        }
        let special = { (token: TokenID?) in token.flatMap { tokenizer.vocabularyString($0) } ?? "" }
        do {
            let rendered = try ChatTemplate(source: source).render(
                messages: Self.messages(sample), tools: nil, addGenerationPrompt: true,
                bosToken: special(tokenizer.bosToken), eosToken: special(tokenizer.eosToken), extra: JSONObject())
            overhead = tokenizer.encode(rendered, addSpecialTokens: false, parseSpecialTokens: true).count - 32
        } catch {
            throw LoadGeneratorError("the model's chat template cannot be used: \(error)")
        }
    }

    /// Whether lengths are tokens; else they are words.
    public var isExact: Bool { tokenizer != nil }

    /// Length of a text that is not made here, without ``overhead``; nil without a tokenizer.
    func count(_ text: String) -> Int? {
        tokenizer?.encode(text, addSpecialTokens: false, parseSpecialTokens: false).count
    }

    /// So many words.
    func text(_ length: Int, _ random: inout RandomSource) -> String {
        var text = ""
        text.reserveCapacity(6 * length)
        for position in 0..<max(0, length) {
            if position > 0 { text += " " }
            text += words[Int.random(in: 0..<words.count, using: &random)]
        }
        return text
    }

    static func messages(_ text: String) -> JSONValue {
        var message = JSONObject()
        message["role"] = .string("user")
        message["content"] = .string(text)
        return .array([.object(message)])
    }

    /// Common words, which tokenizers that know English have whole.
    private static let vocabulary = """
        time year people way day man thing woman life child world school state family student group country problem \
        hand part place case week company system program question work government number night point home water room \
        mother area money story fact month lot right study book eye job word business issue side kind head house \
        service friend father power hour game line end member law car city community name president team minute idea \
        body information back parent face others level office door health person art war history party result change \
        morning reason research girl guy moment air teacher force education foot boy age policy music market sense \
        good new first last long great little own other old right big high different small large next early young \
        important few public bad same able river mountain street table paper glass light green blue white black red \
        summer winter spring north south east west
        """.split(separator: " ").map(String.init)
}
