// Tandem — Apache-2.0

import Requests

/// How a token's text is to be read.
enum TokenKind: UInt8, Sendable {
    /// Written in the byte alphabet.
    case byteLevel
    /// Plain text with spaces that the vocabulary writes as U+2581.
    case spaced
    /// Plain text as the vocabulary writes it.
    case literal
    /// One byte, written `<0xNN>`.
    case byte
    /// Markup.
    case control
}

/// Checks a `TokenizerDefinition` and turns it into tables.
struct VocabularyBuilder {
    private(set) var table: TokenTable
    private(set) var kinds: [TokenKind] = []
    /// What is found in a text as it was given, and in normalized text.
    private(set) var specials = SpecialTokenMatcher()
    private(set) var normalizedSpecials = SpecialTokenMatcher()
    /// The tokens of single bytes, or -1: of the byte alphabet, or else of type `byte`.
    private(set) var byteTokens = [TokenID](repeating: -1, count: 256)

    private let definition: TokenizerDefinition
    private let fields: TokenizerFields

    init(_ definition: TokenizerDefinition) throws(TokenizationError) {
        self.definition = definition
        fields = definition.fields
        let tokens = definition.tokens
        guard !tokens.isEmpty, tokens.count <= TokenizerDefinition.maximumTokens else {
            throw fields.error(
                fields.tokens, "\(tokens.count) tokens; 1 to \(TokenizerDefinition.maximumTokens) are supported")
        }
        if let types = definition.types, types.count != tokens.count {
            throw fields.error(fields.types, "\(types.count) types for \(tokens.count) tokens")
        }
        table = TokenTable(capacity: tokens.count)
        kinds.reserveCapacity(tokens.count)
        for index in tokens.indices { try append(index) }
        try indexTokens()
        if definition.alphabet == .bytes {
            for byte in 0..<256 { byteTokens[byte] = table.find([UInt8(byte)][...]) ?? -1 }
        }
    }

    // MARK: - Tokens

    private func type(of index: Int) -> TokenizerDefinition.TokenType { definition.types?[index] ?? .normal }

    private mutating func append(_ index: Int) throws(TokenizationError) {
        let text = definition.tokens[index]
        switch (type(of: index), definition.alphabet) {
        case (.normal, .bytes), (.byte, .bytes):
            kinds.append(table.append(byteLevel: text) ? .byteLevel : .literal)
        case (.normal, .text):
            table.append(spaced: text)
            kinds.append(.spaced)
        case (.byte, .text):
            guard let byte = Self.byte(of: text) else {
                throw fields.error(fields.tokens, "token \(index), \(quoted(text)), is not of the form <0xNN>")
            }
            table.append(byte: byte)
            kinds.append(.byte)
            byteTokens[Int(byte)] = TokenID(index)
        case (.userDefined, .text) where Self.isSpaces(text):
            // Left to the merges, as the original tokenizers do: in normalized text there are no spaces to be found.
            table.append(spaced: text)
            kinds.append(.spaced)
        case (.userDefined, _):
            table.append(literal: text)
            kinds.append(.literal)
            try appendSpecial(index, isUserDefined: true)
        case (.control, _), (.unknown, _):
            table.append(literal: text)
            kinds.append(.control)
            try appendSpecial(index, isUserDefined: false)
        }
    }

    private mutating func appendSpecial(_ index: Int, isUserDefined: Bool) throws(TokenizationError) {
        var bytes = table.bytes[table.range(of: index)]
        let options = definition.options[TokenID(index)] ?? TokenizerDefinition.TokenOptions()
        guard bytes.count <= SpecialTokenMatcher.maximumLength,
            specials.size + normalizedSpecials.size <= SpecialTokenMatcher.maximumSize
        else {
            throw fields.error(
                fields.tokens, "token \(index) of \(bytes.count) bytes is too much for special tokens")
        }
        let isNew: Bool
        if options.isNormalized {
            bytes = definition.normalization.apply(to: bytes)
            isNew = normalizedSpecials.insert(
                bytes, token: TokenID(index), isUserDefined: isUserDefined, stripsLeft: options.stripsLeft,
                stripsRight: options.stripsRight)
        } else {
            isNew = specials.insert(
                bytes, token: TokenID(index), isUserDefined: isUserDefined, stripsLeft: options.stripsLeft,
                stripsRight: options.stripsRight)
        }
        guard isNew else {
            throw fields.error(
                fields.tokens,
                "token \(index) repeats the text of another special token, \(quoted(definition.tokens[index]))")
        }
    }

    /// Makes findable what merges may yield. Where several tokens have the same bytes, the one that the vocabulary writes
    /// in its alphabet is meant.
    private mutating func indexTokens() throws(TokenizationError) {
        for index in kinds.indices {
            guard isInAlphabet(index), let other = table.index(index) else { continue }
            throw fields.error(
                fields.tokens, "token \(index) repeats token \(other), \(quoted(definition.tokens[index]))")
        }
        for index in kinds.indices where !isInAlphabet(index) {
            switch kinds[index] {
            case .spaced: _ = table.index(index)
            case .literal where definition.alphabet == .text || isByteLevel(index): _ = table.index(index)
            default: break
            }
        }
    }

    private func isInAlphabet(_ index: Int) -> Bool {
        switch kinds[index] {
        case .byteLevel: true
        case .spaced: !definition.tokens[index].utf8.contains(SpaceMark.space)
        default: false
        }
    }

    /// Whether a literal token's text, read in the byte alphabet, is that text.
    private func isByteLevel(_ index: Int) -> Bool {
        table.bytes[table.range(of: index)].allSatisfy { (33...126).contains($0) }
    }

    private static func isSpaces(_ text: String) -> Bool {
        !text.isEmpty && text.unicodeScalars.allSatisfy { $0 == " " || $0 == "\u{2581}" }
    }

    /// The byte of `<0xNN>`.
    static func byte(of text: String) -> UInt8? {
        guard text.utf8.count == 6 else { return nil }
        let utf8 = Array(text.utf8)
        guard utf8.starts(with: "<0x".utf8), utf8[5] == UInt8(ascii: ">") else { return nil }
        let digits = utf8[3..<5].map { Character(Unicode.Scalar($0)).hexDigitValue }
        guard let high = digits[0], let low = digits[1] else { return nil }
        return UInt8(high << 4 | low)
    }

    // MARK: - Merges

    func scores(_ scores: [Float]) throws(TokenizationError) -> [UInt32] {
        let field = "tokenizer.ggml.scores"
        guard scores.count == table.count else {
            throw fields.error(field, "\(scores.count) scores for \(table.count) tokens")
        }
        var ranks: [UInt32] = []
        ranks.reserveCapacity(scores.count)
        for (index, score) in scores.enumerated() {
            guard score.isFinite else { throw fields.error(field, "score \(index) is not a finite number") }
            let isRun = kinds[index] == .spaced && type(of: index) == .userDefined
            ranks.append(isRun ? UInt32(index) : ScoredPairs.rank(of: score))
        }
        return ranks
    }

    func merges(_ lines: [String]) throws(TokenizationError) -> MergeTable {
        try checkCount(lines.count)
        var merges = MergeTable(capacity: lines.count)
        var bytes: [UInt8] = []
        for (rank, line) in lines.enumerated() {
            bytes.removeAll(keepingCapacity: true)
            guard let middle = decode(line, into: &bytes) else {
                throw fields.error(
                    fields.merges, "merge \(rank), \(quoted(line)), is not two tokens with a space between")
            }
            try insert(rank, bytes, middle, into: &merges)
        }
        return merges
    }

    func merges(_ pairs: [(left: String, right: String)]) throws(TokenizationError) -> MergeTable {
        try checkCount(pairs.count)
        var merges = MergeTable(capacity: pairs.count)
        var bytes: [UInt8] = []
        for (rank, pair) in pairs.enumerated() {
            bytes.removeAll(keepingCapacity: true)
            let isLeft = decodeSide(pair.left, into: &bytes)
            let middle = bytes.count
            guard isLeft, decodeSide(pair.right, into: &bytes), middle > 0, middle < bytes.count else {
                throw fields.error(
                    fields.merges,
                    "merge \(rank), \(quoted(pair.left)) and \(quoted(pair.right)), is not of two tokens")
            }
            try insert(rank, bytes, middle, into: &merges)
        }
        return merges
    }

    private func checkCount(_ count: Int) throws(TokenizationError) {
        guard count <= TokenizerDefinition.maximumTokens else {
            throw fields.error(fields.merges, "\(count) merges are too many")
        }
    }

    private func insert(
        _ rank: Int, _ bytes: [UInt8], _ middle: Int, into merges: inout MergeTable
    ) throws(TokenizationError) {
        guard let left = table.find(bytes[..<middle]), let right = table.find(bytes[middle...]),
            let merged = table.find(bytes[...])
        else {
            throw fields.error(
                fields.merges,
                "merge \(rank), \(quoted(String(decoding: bytes[..<middle], as: UTF8.self))) and "
                    + "\(quoted(String(decoding: bytes[middle...], as: UTF8.self))), is of or to a token that does not "
                    + "exist")
        }
        guard merges.insert(left: left, right: right, rank: UInt32(rank), merged: merged) else {
            throw fields.error(fields.merges, "merge \(rank) repeats an earlier one")
        }
    }

    /// Appends the bytes of both sides of a merge. Neither alphabet has a space, so the first one divides the sides.
    ///
    /// - Returns: the number of bytes on the left; nil if a side is empty or not of the alphabet.
    private func decode(_ line: String, into bytes: inout [UInt8]) -> Int? {
        var line = line
        return line.withUTF8 { utf8 -> Int? in
            guard let space = utf8.firstIndex(of: SpaceMark.space), space > 0, space + 1 < utf8.count,
                decodeSide(UnsafeBufferPointer(rebasing: utf8[..<space]), into: &bytes)
            else { return nil }
            let middle = bytes.count
            guard decodeSide(UnsafeBufferPointer(rebasing: utf8[(space + 1)...]), into: &bytes) else { return nil }
            return middle
        }
    }

    private func decodeSide(_ text: String, into bytes: inout [UInt8]) -> Bool {
        var text = text
        return text.withUTF8 { decodeSide($0, into: &bytes) }
    }

    private func decodeSide(_ text: UnsafeBufferPointer<UInt8>, into bytes: inout [UInt8]) -> Bool {
        switch definition.alphabet {
        case .bytes: return ByteAlphabet.decode(text, into: &bytes)
        case .text:
            SpaceMark.replace(in: text, into: &bytes)
            return true
        }
    }

    // MARK: - Named tokens

    /// A token id of the metadata.
    func token(_ value: UInt64?, field: String) throws(TokenizationError) -> TokenID? {
        guard let value else { return nil }
        guard value < UInt64(table.count) else {
            throw fields.error(field, "token \(value) of a vocabulary of \(table.count)")
        }
        return TokenID(value)
    }

    func tokens(_ values: [UInt64], field: String) throws(TokenizationError) -> [TokenID] {
        var result: [TokenID] = []
        for value in values {
            if let token = try token(value, field: field) { result.append(token) }
        }
        return result
    }

    func endOfGenerationTokens(also named: [TokenID]) -> Set<TokenID> {
        var result = Set(named)
        for text in Self.endOfGenerationTexts {
            for matcher in [specials, normalizedSpecials] {
                // A vocabulary of HTML has "</s>" for text that is struck out.
                if let found = matcher.find(text.utf8), !found.isUserDefined { result.insert(found.token) }
            }
        }
        return result
    }

    private static let endOfGenerationTexts = [
        "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|end|>",
        "<end_of_turn>",
        "</s>", "<EOT>", "<|eot|>", "<|end_of_turn|>", "<|return|>",
    ]
}

/// A text from a file as it may stand in a message: quoted, control characters escaped, shortened.
func quoted(_ text: String, limit: Int = 80) -> String {
    guard let end = text.unicodeScalars.index(text.startIndex, offsetBy: limit, limitedBy: text.endIndex),
        end < text.endIndex
    else { return text.debugDescription }
    return String(text.unicodeScalars[..<end]).debugDescription + "…"
}
