// Tandem — Apache-2.0

internal import Weights

/// What a model file says about its tokenizer, before any of it is believed.
struct TokenizerDefinition: Sendable {
    /// `tokenizer.ggml.model`
    var model = "gpt2"
    /// `tokenizer.ggml.pre`
    var preTokenizer: String
    /// In the byte alphabet, special tokens as plain text.
    var tokens: [String]
    /// One for each token, see `TokenType`; nil when the file has none.
    var types: [Int64]?
    /// `left right`, earliest first.
    var merges: [String]
    var bosToken: UInt64?
    var eosToken: UInt64?
    /// A second token that ends a turn.
    var endOfTurnToken: UInt64?
    var addsBOS: Bool?
    var addsEOS: Bool?
    var chatTemplate: String?

    /// The types of `tokenizer.ggml.token_type` that matter here.
    enum TokenType {
        static let unknown: Int64 = 2
        static let control: Int64 = 3
        static let userDefined: Int64 = 4
    }

    /// The largest vocabulary that is taken for one.
    static let maximumTokens = 1 << 22
}

extension TokenizerDefinition {
    /// Reads the `tokenizer.*` metadata.
    init(metadata: GGUFMetadata) throws(TokenizationError) {
        guard let model = metadata.string("tokenizer.ggml.model") else {
            throw TokenizationError(
                field: "tokenizer.ggml.model", reason: "missing; the file must carry its tokenizer")
        }
        // Refused before the rest is read: other kinds have other fields.
        guard model == "gpt2" else {
            throw TokenizationError(
                field: "tokenizer.ggml.model",
                reason: "unknown kind of tokenizer \"\(model)\"; known is gpt2 (byte-level BPE)")
        }
        guard let preTokenizer = metadata.string("tokenizer.ggml.pre") else {
            throw TokenizationError(
                field: "tokenizer.ggml.pre",
                reason: "missing; convert the model again with a current converter")
        }
        guard let tokens = metadata.strings("tokenizer.ggml.tokens") else {
            throw TokenizationError(
                field: "tokenizer.ggml.tokens", reason: "missing, or not an array of strings")
        }
        guard let merges = metadata.strings("tokenizer.ggml.merges") else {
            throw TokenizationError(
                field: "tokenizer.ggml.merges", reason: "missing, or not an array of strings")
        }
        let types = metadata.integers("tokenizer.ggml.token_type")
        if types == nil, metadata["tokenizer.ggml.token_type"] != nil {
            throw TokenizationError(
                field: "tokenizer.ggml.token_type", reason: "not an array of integers")
        }
        self.init(
            model: model,
            preTokenizer: preTokenizer,
            tokens: tokens,
            types: types,
            merges: merges,
            bosToken: metadata.unsigned("tokenizer.ggml.bos_token_id"),
            eosToken: metadata.unsigned("tokenizer.ggml.eos_token_id"),
            endOfTurnToken: metadata.unsigned("tokenizer.ggml.eot_token_id"),
            addsBOS: metadata.bool("tokenizer.ggml.add_bos_token"),
            addsEOS: metadata.bool("tokenizer.ggml.add_eos_token"),
            chatTemplate: metadata.string("tokenizer.chat_template")
        )
    }
}
