// Tandem — Apache-2.0

public import Requests

/// Turns text into the tokens of one model, and back.
///
/// Byte-level BPE as GPT-2 introduced it, and the BPE of SentencePiece. It is immutable: any number of threads may use it
/// at once.
public final class Tokenizer: Sendable {
    /// The number of tokens; ids are `0 ..< vocabularySize`.
    public let vocabularySize: Int
    /// The token that begins a text, if the model has one.
    public let bosToken: TokenID?
    /// The token that ends a text or a turn, as the model file names it.
    public let eosToken: TokenID?
    /// Whether a text encoded with special tokens begins with BOS.
    public let addsBOS: Bool
    /// Whether a text encoded with special tokens ends with EOS.
    public let addsEOS: Bool
    /// The tokens after which a model has finished speaking: EOS, the file's end-of-turn token, and the special tokens
    /// whose text is known to end a turn or a document in one of the model families (`<|im_end|>`, `<|endoftext|>`,
    /// `<|eot_id|>`, …). A chat model that begins a new document has ended its answer, too.
    public let endOfGenerationTokens: Set<TokenID>
    /// The Jinja source of the model's chat template, if it has one.
    public let chatTemplateSource: String?
    /// Over the model file's `tokenizer.ggml.*` metadata, or the whole `tokenizer.json`, as it is stored: equal
    /// fingerprints mean equal token ids for any text. An engine computes the same without reading a vocabulary.
    public let fingerprint: Digest128

    private let encoder: TextEncoder
    private let table: TokenTable
    private let kinds: [TokenKind]
    private let prefix: [TokenID]
    private let suffix: [TokenID]
    /// Whether a text that is decoded from its start loses one leading space.
    let stripsLeadingSpace: Bool

    /// - Throws: `TokenizationError` if the definition contradicts itself.
    init(
        _ definition: TokenizerDefinition, fingerprint: Digest128 = Digest128(high: 0, low: 0)
    ) throws(TokenizationError) {
        let builder = try VocabularyBuilder(definition)
        let fields = definition.fields
        encoder = try TextEncoder(definition, builder)
        table = builder.table
        kinds = builder.kinds
        vocabularySize = builder.table.count
        bosToken = try builder.token(definition.bosToken, field: fields.bos)
        eosToken = try builder.token(definition.eosToken, field: fields.eos)
        let endOfTurn = try builder.token(definition.endOfTurnToken, field: fields.endOfTurn)
        if let surroundings = definition.surroundings {
            prefix = try builder.tokens(surroundings.prefix, field: fields.surroundings)
            suffix = try builder.tokens(surroundings.suffix, field: fields.surroundings)
        } else {
            prefix = [bosToken].compactMap { definition.addsBOS == true ? $0 : nil }
            suffix = [eosToken].compactMap { definition.addsEOS == true ? $0 : nil }
        }
        addsBOS = bosToken != nil && prefix.first == bosToken
        addsEOS = eosToken != nil && suffix.last == eosToken
        endOfGenerationTokens = builder.endOfGenerationTokens(
            also: [eosToken, endOfTurn].compactMap { $0 } + definition.furtherEndTokens)
        chatTemplateSource = definition.chatTemplate
        stripsLeadingSpace = definition.stripsLeadingSpace
        self.fingerprint = fingerprint
    }

    // MARK: - Encoding

    /// The tokens of `text`.
    ///
    /// - Parameters:
    ///   - addSpecialTokens: add what the model wants before and after a text: BOS and EOS.
    ///   - parseSpecialTokens: turn the texts of control tokens, such as `<|im_end|>`, into those tokens. User-defined
    ///     tokens are always found.
    public func encode(_ text: String, addSpecialTokens: Bool, parseSpecialTokens: Bool) -> [TokenID] {
        var result = addSpecialTokens ? prefix : []
        encoder.encode(Array(text.utf8), parseSpecialTokens: parseSpecialTokens, into: &result)
        if addSpecialTokens { result += suffix }
        return result
    }

    // MARK: - Decoding

    /// The bytes that a token stands for, which may be a part of a character; of a special token its text. Empty for an
    /// id that is not in the vocabulary.
    public func bytes(of token: TokenID) -> [UInt8] {
        var result: [UInt8] = []
        appendBytes(of: token, skipSpecialTokens: false, to: &result)
        return result
    }

    func appendBytes(of token: TokenID, skipSpecialTokens: Bool, to result: inout [UInt8]) {
        guard token >= 0, token < vocabularySize else { return }
        if skipSpecialTokens, kinds[Int(token)] == .control { return }
        result.append(contentsOf: table.bytes[table.range(of: Int(token))])
    }

    /// Whether the token is a control token, which is markup and not text.
    public func isSpecial(_ token: TokenID) -> Bool {
        token >= 0 && token < vocabularySize && kinds[Int(token)] == .control
    }

    /// The token as the vocabulary writes it, such as `Ġthe` or `▁the`; nil for an id that is not in the vocabulary.
    public func vocabularyString(_ token: TokenID) -> String? {
        guard token >= 0, token < vocabularySize else { return nil }
        let bytes = table.bytes[table.range(of: Int(token))]
        switch kinds[Int(token)] {
        case .byteLevel: return ByteAlphabet.encode(bytes)
        case .spaced: return String(decoding: bytes, as: UTF8.self).replacing(" ", with: "\u{2581}")
        case .byte:
            let hexadecimal = String(bytes.first ?? 0, radix: 16, uppercase: true)
            return "<0x" + (hexadecimal.count < 2 ? "0" : "") + hexadecimal + ">"
        case .literal, .control: return String(decoding: bytes, as: UTF8.self)
        }
    }

    /// The text of `tokens`. Bytes that are not UTF-8 become U+FFFD, one for each maximal part of a character.
    ///
    /// - Parameter startsText: whether the tokens are a text from its start, so that the space is left out which
    ///   SentencePiece puts before every text. What continues another text keeps its spaces.
    public func decode(_ tokens: [TokenID], skipSpecialTokens: Bool, startsText: Bool = true) -> String {
        var bytes: [UInt8] = []
        for token in tokens { appendBytes(of: token, skipSpecialTokens: skipSpecialTokens, to: &bytes) }
        let strips = startsText && stripsLeadingSpace && bytes.first == SpaceMark.space
        return String(decoding: bytes[(strips ? 1 : 0)...], as: UTF8.self)
    }
}
