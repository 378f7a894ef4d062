// Tandem — Apache-2.0

import Requests

/// What files say about a tokenizer, before any of it is believed: one form for model files and for the files of Hugging
/// Face.
struct TokenizerDefinition: Sendable {
    /// What vocabulary strings are written in.
    enum Alphabet: Sendable {
        /// `ByteAlphabet`: every character is a byte.
        case bytes
        /// Plain text with U+2581 for a space; tokens of type `byte` stand for what has no token (SentencePiece).
        case text
    }

    enum TokenType: Sendable {
        case normal
        /// Stands for what the vocabulary cannot express.
        case unknown
        /// Markup, found in a text only if asked for.
        case control
        /// Always found in a text, before anything else is done with it.
        case userDefined
        /// `<0xNN>`, one byte.
        case byte
    }

    /// Which pairs merge, and in what order.
    enum Merging: Sendable {
        /// `left right`, earliest first.
        case lines([String])
        /// Left and right, earliest first.
        case pairs([(left: String, right: String)])
        /// Two pieces merge if together they are a token, the one of highest score first.
        case scores([Float])
    }

    /// Before what a space is put once special tokens are found.
    enum SpacePrefix: Sendable {
        case never
        /// A text that does not begin with a special token, unless it begins with a space.
        case atStart
        /// Every part of a text between special tokens, unless it begins with a space.
        case everyPart
    }

    /// What an added token asks for beyond being found.
    struct TokenOptions: Sendable {
        /// It takes the white space before it.
        var stripsLeft = false
        /// It takes the white space after it.
        var stripsRight = false
        /// It is found in normalized text, not in the text as it was given.
        var isNormalized = false
    }

    var fields = TokenizerFields.gguf
    var alphabet = Alphabet.bytes
    var normalization = TextNormalization()
    /// How text is split; nil if it is not split by a pattern.
    var preTokenizer: PreTokenizer?
    /// Every word begins with one space, and no token reaches across.
    var splitsBeforeSpaces = false
    var spacePrefix = SpacePrefix.never
    /// Decoding a text from its start leaves out one leading space.
    var stripsLeadingSpace = false
    /// Special and byte tokens are plain text.
    var tokens: [String]
    /// One for each token; nil when all are normal.
    var types: [TokenType]?
    /// For tokens that have any.
    var options: [TokenID: TokenOptions] = [:]
    var merging: Merging
    var unknownToken: UInt64?
    /// Characters without a token become bytes, if the vocabulary has tokens for them.
    var fallsBackToBytes = true
    /// Neighbouring unknown characters are one unknown token.
    var fusesUnknown = false
    var bosToken: UInt64?
    var eosToken: UInt64?
    /// A second token that ends a turn.
    var endOfTurnToken: UInt64?
    /// Further tokens that end an answer; they may lie beyond the vocabulary.
    var furtherEndTokens: [TokenID] = []
    /// What goes before and after a text; nil for BOS and EOS as the next two say.
    var surroundings: (prefix: [UInt64], suffix: [UInt64])?
    var addsBOS: Bool?
    var addsEOS: Bool?
    var chatTemplate: String?

    /// The largest vocabulary that is taken for one.
    static let maximumTokens = 1 << 22
}

/// Where a definition was read, for messages.
struct TokenizerFields: Sendable {
    /// nil where the caller knows the file.
    var file: String?
    var tokens: String
    var types: String
    var merges: String
    var unknown: String
    var bos: String
    var eos: String
    var endOfTurn: String
    var surroundings: String

    /// The metadata of a GGUF file.
    static let gguf = TokenizerFields(
        file: nil, tokens: "tokenizer.ggml.tokens", types: "tokenizer.ggml.token_type",
        merges: "tokenizer.ggml.merges", unknown: "tokenizer.ggml.unknown_token_id",
        bos: "tokenizer.ggml.bos_token_id", eos: "tokenizer.ggml.eos_token_id",
        endOfTurn: "tokenizer.ggml.eot_token_id", surroundings: "tokenizer.ggml.add_bos_token")

    /// `tokenizer.json`.
    static let huggingFace = TokenizerFields(
        file: "tokenizer.json", tokens: "model.vocab", types: "added_tokens", merges: "model.merges",
        unknown: "model.unk_token", bos: "bos_token", eos: "eos_token", endOfTurn: "eos_token_id",
        surroundings: "post_processor")

    func error(_ field: String, _ reason: String) -> TokenizationError {
        TokenizationError(file: file, field: field, reason: reason)
    }
}
