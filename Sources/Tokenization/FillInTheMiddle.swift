// Tandem — Apache-2.0

public import Requests

/// The tokens by which a code model is asked for what stands between two texts, and the prompt that asks.
///
/// All families here take prefix, suffix, middle in this order (Bavarian et al., arXiv 2207.14255, "PSM"); they differ in
/// their tokens. Texts are encoded without looking for control tokens in them, as llama.cpp's server does
/// (`format_prompt_infill`), so that no text can end another.
public struct FillInTheMiddle: Sendable, Equatable {
    /// Stands before the text before the gap.
    public let prefix: TokenID
    /// Stands before the text after the gap.
    public let suffix: TokenID
    /// Stands before what fills the gap.
    public let middle: TokenID
    /// Tokens with which a model ends what it filled in, beside those that end every text: markup that begins another
    /// part of a repository or is filled into places without text. Ascending.
    public let endTokens: [TokenID]

    /// Texts of the three tokens, and of those that end the middle.
    private struct Family {
        var prefix: String
        var suffix: String
        var middle: String
        var ends: [String]
    }

    private static let families = [
        // Qwen2.5-Coder (arXiv 2409.12186, section 3.2) and CodeQwen's successors.
        Family(
            prefix: "<|fim_prefix|>", suffix: "<|fim_suffix|>", middle: "<|fim_middle|>",
            ends: ["<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|endoftext|>", "<|file_separator|>"]),
        // StarCoder (arXiv 2305.06161), StarCoder2, SmolLM and Granite.
        Family(
            prefix: "<fim_prefix>", suffix: "<fim_suffix>", middle: "<fim_middle>",
            ends: ["<fim_pad>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>", "<|endoftext|>"]),
        // SantaCoder (arXiv 2301.03988).
        Family(
            prefix: "<fim-prefix>", suffix: "<fim-suffix>", middle: "<fim-middle>",
            ends: ["<fim-pad>", "<|endoftext|>"]),
        // CodeLlama (arXiv 2308.12950): tokens of text that begin with a space.
        Family(prefix: " <PRE>", suffix: " <SUF>", middle: " <MID>", ends: [" <EOT>"]),
        Family(prefix: "<PRE>", suffix: "<SUF>", middle: "<MID>", ends: ["<EOT>"]),
        // DeepSeek-Coder (arXiv 2401.14196): begin, prefix, hole, suffix, end.
        Family(
            prefix: "<｜fim▁begin｜>", suffix: "<｜fim▁hole｜>", middle: "<｜fim▁end｜>",
            ends: ["<｜end▁of▁sentence｜>", "<|EOT|>"]),
    ]

    /// - Returns: nil if the vocabulary has the tokens of no family.
    public init?(_ tokenizer: Tokenizer) {
        let names = Self.families.flatMap { [$0.prefix, $0.suffix, $0.middle] + $0.ends }
        let wanted = Set(names.map(SpaceMark.replaced))
        var tokens: [[UInt8]: TokenID] = [:]
        var bytes: [UInt8] = []
        for token in 0..<TokenID(tokenizer.vocabularySize) {
            bytes.removeAll(keepingCapacity: true)
            tokenizer.appendBytes(of: token, skipSpecialTokens: false, to: &bytes)
            guard let name = Self.name(bytes), wanted.contains(name), tokens[name] == nil else { continue }
            tokens[name] = token
        }
        func found(_ text: String) -> TokenID? { tokens[SpaceMark.replaced(text)] }
        for family in Self.families {
            guard let prefix = found(family.prefix), let suffix = found(family.suffix),
                let middle = found(family.middle)
            else { continue }
            self.prefix = prefix
            self.suffix = suffix
            self.middle = middle
            endTokens = Set(family.ends.compactMap(found)).sorted()
            return
        }
        return nil
    }

    /// A token's text as it is looked up, with spaces for U+2581; nil for most tokens that are none of those.
    private static func name(_ bytes: [UInt8]) -> [UInt8]? {
        guard bytes.count > 3, bytes.last == UInt8(ascii: ">") else { return nil }
        return bytes.contains(SpaceMark.utf8[0])
            ? SpaceMark.replaced(String(decoding: bytes, as: UTF8.self)) : bytes
    }

    /// The prompt that asks for what stands between two texts.
    ///
    /// - Parameters:
    ///   - before: tokens of the text before the gap, without BOS.
    ///   - beginsWithBOS: begin with the model's BOS, if it wants one.
    public func prompt(
        before: [TokenID], after: String, tokenizer: Tokenizer, beginsWithBOS: Bool
    ) -> [TokenID] {
        var tokens: [TokenID] = []
        if beginsWithBOS, tokenizer.addsBOS, let bos = tokenizer.bosToken { tokens.append(bos) }
        tokens.append(prefix)
        tokens += before
        tokens.append(suffix)
        tokens += Self.continuation(after, tokenizer)
        tokens.append(middle)
        return tokens
    }

    /// Tokens of a text that goes on after another one: SentencePiece puts a space before every text, and here there is
    /// none. The text is encoded after a character of its own, as CodeLlama's reference does.
    private static func continuation(_ text: String, _ tokenizer: Tokenizer) -> [TokenID] {
        let plain = tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: false)
        guard tokenizer.stripsLeadingSpace else { return plain }
        let guardText = "\u{263A}"
        let before = tokenizer.encode(guardText, addSpecialTokens: false, parseSpecialTokens: false)
        let whole = tokenizer.encode(guardText + text, addSpecialTokens: false, parseSpecialTokens: false)
        return whole.starts(with: before) ? Array(whole[before.count...]) : plain
    }
}

extension SpaceMark {
    /// The bytes of a text with spaces for U+2581.
    fileprivate static func replaced(_ text: String) -> [UInt8] {
        var text = text
        var bytes: [UInt8] = []
        text.withUTF8 { replace(in: $0, into: &bytes) }
        return bytes
    }
}
