// Tandem — Apache-2.0

internal import Weights

extension TokenizerDefinition {
    /// Reads the `tokenizer.*` metadata of a GGUF file.
    init(metadata: GGUFMetadata) throws(TokenizationError) {
        guard let model = metadata.string("tokenizer.ggml.model") else {
            throw TokenizationError(
                field: "tokenizer.ggml.model", reason: "missing; the file must carry its tokenizer")
        }
        // Refused before the rest is read: other kinds have other fields.
        guard model == "gpt2" || model == "llama" else {
            throw TokenizationError(
                field: "tokenizer.ggml.model",
                reason: "unknown kind of tokenizer \"\(model)\"; known are gpt2 (byte-level BPE) and llama "
                    + "(SentencePiece BPE)")
        }
        try Self.checkCount(of: "tokenizer.ggml.tokens", in: metadata, 1...Self.maximumTokens)
        guard let tokens = metadata.strings("tokenizer.ggml.tokens") else {
            throw TokenizationError(
                field: "tokenizer.ggml.tokens", reason: "missing, or not an array of strings")
        }
        for name in ["tokenizer.ggml.token_type", "tokenizer.ggml.scores"] {
            try Self.checkCount(of: name, in: metadata, tokens.count...tokens.count)
        }
        try Self.checkCount(of: "tokenizer.ggml.merges", in: metadata, 0...Self.maximumTokens)
        let types = metadata.integers("tokenizer.ggml.token_type")
        if types == nil, metadata["tokenizer.ggml.token_type"] != nil {
            throw TokenizationError(
                field: "tokenizer.ggml.token_type", reason: "not an array of integers")
        }
        self.init(tokens: tokens, types: types.map { $0.map(TokenType.init(gguf:)) }, merging: .lines([]))
        if model == "gpt2" {
            try readByteLevel(metadata)
        } else {
            try readScored(metadata)
        }
        bosToken = metadata.unsigned("tokenizer.ggml.bos_token_id")
        eosToken = metadata.unsigned("tokenizer.ggml.eos_token_id")
        endOfTurnToken = metadata.unsigned("tokenizer.ggml.eot_token_id")
        addsBOS = metadata.bool("tokenizer.ggml.add_bos_token") ?? addsBOS
        addsEOS = metadata.bool("tokenizer.ggml.add_eos_token")
        chatTemplate = metadata.string("tokenizer.chat_template")
    }

    /// Refuses an array before memory is taken for it: a file may claim any number of small elements.
    private static func checkCount(
        of name: String, in metadata: GGUFMetadata, _ range: ClosedRange<Int>
    ) throws(TokenizationError) {
        guard let count = metadata[name]?.array?.count, !range.contains(count) else { return }
        let expected =
            range.lowerBound == range.upperBound
            ? "there are \(range.lowerBound) tokens" : "\(range.lowerBound) to \(range.upperBound) are supported"
        throw TokenizationError(field: name, reason: "has \(count) entries; \(expected)")
    }

    private mutating func readByteLevel(_ metadata: GGUFMetadata) throws(TokenizationError) {
        guard let name = metadata.string("tokenizer.ggml.pre") else {
            throw TokenizationError(
                field: "tokenizer.ggml.pre",
                reason: "missing; convert the model again with a current converter")
        }
        let known = try KnownPreTokenizer(named: name)
        preTokenizer = known.preTokenizer
        normalization.formC = known.normalizesToFormC
        addsBOS = known.addsBOSByDefault
        guard let merges = metadata.strings("tokenizer.ggml.merges") else {
            throw TokenizationError(
                field: "tokenizer.ggml.merges", reason: "missing, or not an array of strings")
        }
        merging = .lines(merges)
    }

    private mutating func readScored(_ metadata: GGUFMetadata) throws(TokenizationError) {
        guard let scores = metadata.floats("tokenizer.ggml.scores") else {
            throw TokenizationError(
                field: "tokenizer.ggml.scores", reason: "missing, or not an array of numbers")
        }
        alphabet = .text
        normalization.mapsSpaceMarks = true
        merging = .scores(scores)
        unknownToken = metadata.unsigned("tokenizer.ggml.unknown_token_id")
        addsBOS = true
        if metadata.bool("tokenizer.ggml.add_space_prefix") ?? true {
            normalization.prependsSpace = true
            stripsLeadingSpace = true
        }
    }
}

extension TokenizerDefinition.TokenType {
    /// A value of `tokenizer.ggml.token_type`.
    fileprivate init(gguf value: Int64) {
        switch value {
        case 2: self = .unknown
        case 3: self = .control
        case 4: self = .userDefined
        case 6: self = .byte
        default: self = .normal
        }
    }
}
