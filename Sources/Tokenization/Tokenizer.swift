// Tandem — Apache-2.0

public import Requests
public import Weights

/// Turns text into the tokens of one model, and back.
///
/// Byte-level BPE as GPT-2 introduced it. It is immutable: any number of threads may use it at once.
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
    /// Over the model file's `tokenizer.ggml.*` metadata as it is stored: equal fingerprints mean equal token ids for any
    /// text. An engine computes the same without reading a vocabulary.
    public let fingerprint: Digest128

    private let preTokenizer: PreTokenizer
    private let table: TokenTable
    private let merges: MergeTable
    private let byteTokens: [TokenID]
    private let specials: SpecialTokenMatcher
    private let kinds: [TokenKind]

    /// Reads the tokenizer of a model file.
    ///
    /// - Throws: `TokenizationError` if the file has none, one of an unknown kind, or one that contradicts itself.
    public convenience init(gguf: GGUFFile) throws(TokenizationError) {
        var hash = StableHash()
        for bytes in gguf.rawMetadata(ofKeysWithPrefix: "tokenizer.ggml.") { hash.combine(buffer: bytes) }
        try self.init(TokenizerDefinition(metadata: gguf.metadata), fingerprint: hash.digest())
    }

    /// - Throws: `TokenizationError` if the definition contradicts itself.
    init(
        _ definition: TokenizerDefinition, fingerprint: Digest128 = Digest128(high: 0, low: 0)
    ) throws(TokenizationError) {
        guard definition.model == "gpt2" else {
            throw TokenizationError(
                field: "tokenizer.ggml.model", reason: "\"\(definition.model)\" is not gpt2")
        }
        let preTokenizer = try PreTokenizer(named: definition.preTokenizer)
        var builder = try VocabularyBuilder(definition)
        let merges = try builder.merges(definition.merges)

        self.preTokenizer = preTokenizer
        self.merges = merges
        table = builder.table
        kinds = builder.kinds
        specials = builder.specials
        byteTokens = builder.byteTokens()
        vocabularySize = builder.table.count
        bosToken = try builder.token(definition.bosToken, field: "tokenizer.ggml.bos_token_id")
        eosToken = try builder.token(definition.eosToken, field: "tokenizer.ggml.eos_token_id")
        let endOfTurn = try builder.token(
            definition.endOfTurnToken, field: "tokenizer.ggml.eot_token_id")
        addsBOS = bosToken != nil && (definition.addsBOS ?? preTokenizer.addsBOSByDefault)
        addsEOS = eosToken != nil && (definition.addsEOS ?? false)
        endOfGenerationTokens = builder.endOfGenerationTokens(
            also: [eosToken, endOfTurn].compactMap { $0 })
        chatTemplateSource = definition.chatTemplate
        self.fingerprint = fingerprint
    }

    // MARK: - Encoding

    /// The tokens of `text`.
    ///
    /// - Parameters:
    ///   - addSpecialTokens: add BOS and EOS where the model wants them.
    ///   - parseSpecialTokens: turn the texts of control tokens, such as `<|im_end|>`, into those tokens. User-defined
    ///     tokens are always found.
    public func encode(_ text: String, addSpecialTokens: Bool, parseSpecialTokens: Bool) -> [TokenID] {
        var result: [TokenID] = []
        if addSpecialTokens, addsBOS, let bosToken { result.append(bosToken) }
        let bytes = Array(text.utf8)
        var encoder = BytePairEncoder(merges: merges, byteTokens: byteTokens)
        var start = 0
        while start < bytes.count {
            let special = specials.next(in: bytes, from: start, includingControl: parseSpecialTokens)
            let end = special?.range.lowerBound ?? bytes.count
            encodeOrdinary(bytes[start..<end], &encoder, into: &result)
            if let special { result.append(special.token) }
            start = special?.range.upperBound ?? bytes.count
        }
        if addSpecialTokens, addsEOS, let eosToken { result.append(eosToken) }
        return result
    }

    private func encodeOrdinary(
        _ text: ArraySlice<UInt8>, _ encoder: inout BytePairEncoder, into result: inout [TokenID]
    ) {
        if text.isEmpty { return }
        preTokenizer.forEachWord(in: text) { word in
            let range = (text.startIndex + word.lowerBound)..<(text.startIndex + word.upperBound)
            if preTokenizer.ignoresMerges, let token = table.find(text[range]) {
                result.append(token)
            } else {
                encoder.encode(text[range], into: &result)
            }
        }
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

    /// The token as the vocabulary writes it, such as `Ġthe`; nil for an id that is not in the vocabulary.
    public func vocabularyString(_ token: TokenID) -> String? {
        guard token >= 0, token < vocabularySize else { return nil }
        let bytes = table.bytes[table.range(of: Int(token))]
        return kinds[Int(token)] == .ordinary
            ? ByteAlphabet.encode(bytes) : String(decoding: bytes, as: UTF8.self)
    }

    /// The text of `tokens`. Bytes that are not UTF-8 become U+FFFD, one for each maximal part of a character.
    public func decode(_ tokens: [TokenID], skipSpecialTokens: Bool) -> String {
        var bytes: [UInt8] = []
        for token in tokens { appendBytes(of: token, skipSpecialTokens: skipSpecialTokens, to: &bytes) }
        return String(decoding: bytes, as: UTF8.self)
    }
}
