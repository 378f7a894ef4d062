// Tandem — Apache-2.0

import JSON
import Requests

/// Reads `tokenizer.json`, the format of Hugging Face's `tokenizers`, as far as language models with byte-pair encoding
/// use it. Everything else is refused by name.
struct TokenizerJSONReader {
    private(set) var definition: TokenizerDefinition
    private let root: JSONField
    private var vocabulary = JSONObject()
    /// The added tokens that are not in the vocabulary, by their UTF-8: strings compare as equal too easily.
    private var addedIDs: [[UInt8]: Int] = [:]

    /// What pre-tokenizers split by, see `readPreTokenizer`.
    private struct Splitting {
        var isolatesDigits = false
        var pattern: PreTokenizer.Pattern?
        var isByteLevel = false
    }

    init(_ root: JSONField) throws(TokenizationError) {
        self.root = root
        definition = TokenizerDefinition(tokens: [], merging: .lines([]))
        definition.fields = .huggingFace
    }

    /// The token that is written `text`.
    func token(_ text: String) -> Int? {
        // In the vocabulary, ids have been checked.
        vocabulary[text]?.integer.map { Int(truncatingIfNeeded: $0) } ?? addedIDs[Array(text.utf8)]
    }

    mutating func readAll() throws(TokenizationError) {
        _ = try root.object()
        try readModel()
        try readAddedTokens()
        try readNormalizer(root["normalizer"])
        try readPreTokenizer()
        try readDecoder()
        try readPostProcessor()
    }

    // MARK: - Model

    private mutating func readModel() throws(TokenizationError) {
        let model = root["model"]
        _ = try model.object()
        // Old files have no type; only byte-pair encoding has merges.
        let type = try model["type"].optionalString() ?? (model["merges"].isMissing ? "without type" : "BPE")
        guard type == "BPE" else {
            throw model["type"].error("\(quoted(type)) is not supported; known is BPE")
        }
        try model.refuse("dropout")
        try model.refuse("continuing_subword_prefix")
        try model.refuse("end_of_word_suffix")
        definition.fallsBackToBytes = try model["byte_fallback"].optionalBool() ?? false
        definition.fusesUnknown = try model["fuse_unk"].optionalBool() ?? false
        try readVocabulary(model["vocab"])
        try readMerges(model["merges"])
        if let unknown = try model["unk_token"].optionalString() {
            guard let id = token(unknown) else {
                throw model["unk_token"].error("\(quoted(unknown)) is not in the vocabulary")
            }
            definition.unknownToken = UInt64(id)
        }
    }

    private mutating func readVocabulary(_ field: JSONField) throws(TokenizationError) {
        vocabulary = try field.object()
        let entries = vocabulary.entries
        // Ids may have holes, but few: a file must not make us allocate more than it is worth.
        let limit = min(TokenizerDefinition.maximumTokens, entries.count * 4 + 1024)
        var tokens = [String](repeating: "", count: entries.count)
        var isTaken = [Bool](repeating: false, count: entries.count)
        for (text, value) in entries {
            guard let id = value.integer, id >= 0, id < limit else {
                throw field.error("\(quoted(text)) has no id between 0 and \(limit)")
            }
            let index = Int(id)
            while tokens.count <= index {
                tokens.append("")
                isTaken.append(false)
            }
            guard !isTaken[index] else {
                throw field.error("\(quoted(text)) and \(quoted(tokens[index])) both have id \(index)")
            }
            tokens[index] = text
            isTaken[index] = true
        }
        definition.tokens = tokens
    }

    /// Merges are strings, `left right`, or pairs.
    private mutating func readMerges(_ field: JSONField) throws(TokenizationError) {
        guard let merges = field.value?.array else { throw field.error("missing, or not an array") }
        guard merges.first?.array != nil else {
            var lines: [String] = []
            lines.reserveCapacity(merges.count)
            for (index, merge) in merges.enumerated() {
                guard let line = merge.string else { throw field.error("merge \(index) is not a string") }
                lines.append(line)
            }
            definition.merging = .lines(lines)
            return
        }
        var pairs: [(left: String, right: String)] = []
        pairs.reserveCapacity(merges.count)
        for (index, merge) in merges.enumerated() {
            guard let pair = merge.array, pair.count == 2, let left = pair[0].string, let right = pair[1].string
            else { throw field.error("merge \(index) is not a pair of strings") }
            pairs.append((left, right))
        }
        definition.merging = .pairs(pairs)
    }

    // MARK: - Added tokens

    private mutating func readAddedTokens() throws(TokenizationError) {
        let field = root["added_tokens"]
        var types = [TokenizerDefinition.TokenType](repeating: .normal, count: definition.tokens.count)
        var isAdded = [Bool](repeating: false, count: definition.tokens.count)
        for added in field.isMissing ? [] : try field.elements() {
            let text = try added["content"].string()
            let id = Int(exactly: try added["id"].integer()) ?? -1
            let limit = min(TokenizerDefinition.maximumTokens, definition.tokens.count + 65_536)
            guard id >= 0, id < limit else { throw added["id"].error("\(id) is not between 0 and \(limit)") }
            if let other = token(text), other != id {
                throw added["id"].error("\(quoted(text)) has id \(other) in the vocabulary")
            }
            while definition.tokens.count <= id {
                definition.tokens.append("")
                types.append(.normal)
                isAdded.append(false)
            }
            guard definition.tokens[id].isEmpty || definition.tokens[id].utf8.elementsEqual(text.utf8) else {
                throw added["id"].error("\(id) is already that of \(quoted(definition.tokens[id]))")
            }
            guard !isAdded[id] else { throw added["id"].error("\(id) is added twice") }
            isAdded[id] = true
            definition.tokens[id] = text
            addedIDs[Array(text.utf8)] = id
            let isSpecial = try added["special"].optionalBool() ?? false
            types[id] = isSpecial ? .control : .userDefined
            try added.refuse("single_word")
            definition.options[TokenID(id)] = TokenizerDefinition.TokenOptions(
                stripsLeft: try added["lstrip"].optionalBool() ?? false,
                stripsRight: try added["rstrip"].optionalBool() ?? false,
                isNormalized: try added["normalized"].optionalBool() ?? !isSpecial)
        }
        definition.types = types
    }

    // MARK: - Normalizer

    private mutating func readNormalizer(_ field: JSONField) throws(TokenizationError) {
        if field.isMissing { return }
        let type = try field.type()
        switch type {
        case "NFC": definition.normalization.formC = true
        case "Sequence":
            for element in try field["normalizers"].elements() { try readNormalizer(element) }
        case "Prepend":
            guard try field["prepend"].string() == "\u{2581}" else {
                throw field["prepend"].error("is not supported; known is U+2581")
            }
            definition.normalization.prependsSpace = true
        case "Replace":
            guard field["pattern"]["String"].value?.string == " ", try field["content"].string() == "\u{2581}" else {
                throw field.error("is not supported; known is the replacement of a space by U+2581")
            }
            definition.normalization.mapsSpaceMarks = true
        default: throw field.error("\(quoted(type)) is not supported; known are NFC, Prepend, Replace and Sequence")
        }
    }

    // MARK: - Pre-tokenizer

    private mutating func readPreTokenizer() throws(TokenizationError) {
        let field = root["pre_tokenizer"]
        var splitting = Splitting()
        if !field.isMissing { try readPreTokenizer(field, into: &splitting) }
        let ignoresMerges = try root["model"]["ignore_merges"].optionalBool() ?? false
        if splitting.isByteLevel {
            let normalization = definition.normalization
            guard let pattern = splitting.pattern else {
                throw field.error("does not split text into words; byte-level vocabularies without are not supported")
            }
            guard !normalization.mapsSpaceMarks, !normalization.prependsSpace else {
                throw root["normalizer"].error("replaces spaces, which byte-level vocabularies do not know")
            }
            if definition.fallsBackToBytes { throw root["model"]["byte_fallback"].error("contradicts ByteLevel") }
            definition.preTokenizer = PreTokenizer(
                isolatesDigits: splitting.isolatesDigits, pattern: pattern, ignoresMerges: ignoresMerges)
            return
        }
        guard definition.normalization.mapsSpaceMarks else {
            throw field.error("neither ByteLevel nor Metaspace; other vocabularies are not supported")
        }
        if ignoresMerges { throw root["model"]["ignore_merges"].error("is supported for byte-level vocabularies only") }
        if splitting.pattern != nil || splitting.isolatesDigits {
            throw field.error("splits words, which is supported for byte-level vocabularies only")
        }
        definition.alphabet = .text
        // Bytes are written so in a vocabulary that falls back to them.
        guard definition.fallsBackToBytes else { return }
        for index in definition.tokens.indices where definition.types?[index] == .normal {
            if VocabularyBuilder.byte(of: definition.tokens[index]) != nil { definition.types?[index] = .byte }
        }
    }

    private mutating func readPreTokenizer(
        _ field: JSONField, into splitting: inout Splitting
    ) throws(TokenizationError) {
        let type = try field.type()
        switch type {
        case "Sequence":
            for element in try field["pretokenizers"].elements() { try readPreTokenizer(element, into: &splitting) }
        case "ByteLevel":
            try field.refuse("add_prefix_space")
            splitting.isByteLevel = true
            guard try field["use_regex"].optionalBool() ?? true else { return }
            guard splitting.pattern == nil else { throw field["use_regex"].error("splits words a second time") }
            splitting.pattern = .gpt2
        case "Digits":
            guard try field["individual_digits"].optionalBool() ?? false else {
                throw field["individual_digits"].error("false is not supported")
            }
            guard splitting.pattern == nil else { throw field.error("is supported before other splits only") }
            splitting.isolatesDigits = true
        case "Split": try readSplit(field, into: &splitting)
        case "Metaspace": try readMetaspace(field)
        default:
            throw field.error(
                "\(quoted(type)) is not supported; known are ByteLevel, Digits, Metaspace, Sequence and Split")
        }
    }

    private mutating func readSplit(_ field: JSONField, into splitting: inout Splitting) throws(TokenizationError) {
        if field["pattern"]["String"].value?.string == " ", definition.normalization.mapsSpaceMarks {
            // Gemma's files split at spaces that the normalizer has replaced before.
            return
        }
        let pattern = try field["pattern"]["Regex"].string()
        guard let known = PreTokenizer.Pattern(regularExpression: pattern) else {
            throw field["pattern"].error("the regular expression \(quoted(pattern, limit: 300)) is not known")
        }
        guard try field["behavior"].string() == "Isolated", try field["invert"].optionalBool() ?? false == false else {
            throw field["behavior"].error("only Isolated, not inverted, is supported")
        }
        guard splitting.pattern == nil else { throw field.error("splits words a second time") }
        splitting.pattern = known
    }

    private mutating func readMetaspace(_ field: JSONField) throws(TokenizationError) {
        guard try field["replacement"].string() == "\u{2581}" else {
            throw field["replacement"].error("is not supported; known is U+2581")
        }
        definition.normalization.mapsSpaceMarks = true
        definition.splitsBeforeSpaces = try field["split"].optionalBool() ?? true
        // Old files say it by a boolean.
        let old = try field["add_prefix_space"].optionalBool() ?? true
        let scheme = try field["prepend_scheme"].optionalString() ?? (old ? "always" : "never")
        switch scheme {
        case "always": definition.spacePrefix = .everyPart
        case "first": definition.spacePrefix = .atStart
        case "never": definition.spacePrefix = .never
        default: throw field["prepend_scheme"].error("\(quoted(scheme)) is not known")
        }
    }

    // MARK: - Decoder

    private mutating func readDecoder() throws(TokenizationError) {
        let field = root["decoder"]
        if field.isMissing { throw field.error("missing; known are ByteLevel, Metaspace and Sequence") }
        try readDecoder(field)
    }

    private mutating func readDecoder(_ field: JSONField) throws(TokenizationError) {
        let type = try field.type()
        switch (type, definition.alphabet) {
        case ("Sequence", _): for element in try field["decoders"].elements() { try readDecoder(element) }
        case ("ByteLevel", .bytes), ("ByteFallback", .text), ("Fuse", _): break
        case ("Metaspace", .text):
            let old = try field["add_prefix_space"].optionalBool() ?? true
            definition.stripsLeadingSpace =
                try field["prepend_scheme"].optionalString() ?? (old ? "always" : "never") != "never"
        case ("Replace", .text):
            guard field["pattern"]["String"].value?.string == "\u{2581}", try field["content"].string() == " " else {
                throw field.error("is not supported; known is the replacement of U+2581 by a space")
            }
        case ("Strip", .text):
            guard try field["content"].string() == " ", try field["start"].integer() == 1,
                try field["stop"].integer() == 0
            else { throw field.error("is not supported; known is one space at the start") }
            definition.stripsLeadingSpace = true
        default: throw field.error("\(quoted(type)) is not supported with this vocabulary")
        }
    }

    // MARK: - Post-processor

    private mutating func readPostProcessor() throws(TokenizationError) {
        let field = root["post_processor"]
        if !field.isMissing { try readPostProcessor(field) }
    }

    private mutating func readPostProcessor(_ field: JSONField) throws(TokenizationError) {
        let type = try field.type()
        switch type {
        case "ByteLevel": return
        case "Sequence": for element in try field["processors"].elements() { try readPostProcessor(element) }
        case "TemplateProcessing":
            guard definition.surroundings == nil else { throw field.error("a second template is not supported") }
            definition.surroundings = try readTemplate(field)
        default:
            throw field.error(
                "\(quoted(type)) is not supported; known are ByteLevel, Sequence and TemplateProcessing")
        }
    }

    /// Special tokens before and after the one text.
    private func readTemplate(_ field: JSONField) throws(TokenizationError) -> (prefix: [UInt64], suffix: [UInt64]) {
        var prefix: [UInt64] = []
        var suffix: [UInt64] = []
        var hasText = false
        for piece in try field["single"].elements() {
            if !piece["Sequence"].isMissing {
                guard try piece["Sequence"]["id"].string() == "A", !hasText else {
                    throw piece.error("only one text is supported")
                }
                hasText = true
                continue
            }
            let name = try piece["SpecialToken"]["id"].string()
            for id in try field["special_tokens"][name]["ids"].elements() {
                guard let token = UInt64(exactly: try id.integer()) else { throw id.error("is not a token") }
                if hasText { suffix.append(token) } else { prefix.append(token) }
            }
        }
        guard hasText else { throw field["single"].error("leaves out the text") }
        return (prefix, suffix)
    }
}

extension PreTokenizer.Pattern {
    /// One of the regular expressions that model files hold, word for word.
    init?(regularExpression: String) {
        let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
        let rest = #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
        let letters = #"|[^\r\n\p{L}\p{N}]?\p{L}+"#
        switch regularExpression {
        case #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#: self = .gpt2
        case contractions + letters + #"|\p{N}"# + rest: self = .llama3(digits: 1)
        case contractions + letters + #"|\p{N}{1,3}"# + rest: self = .llama3(digits: 3)
        default: return nil
        }
    }
}
