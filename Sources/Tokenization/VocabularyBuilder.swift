// Tandem — Apache-2.0

import Requests

/// How a token's text is to be read.
enum TokenKind: UInt8, Sendable {
    /// Bytes written in the byte alphabet.
    case ordinary
    /// Plain text that merges do not yield: user-defined, or written with characters that are not of the alphabet.
    case literal
    /// Markup.
    case control
}

/// Checks a `TokenizerDefinition` and turns it into tables.
struct VocabularyBuilder {
    private(set) var table: TokenTable
    private(set) var kinds: [TokenKind] = []
    private(set) var specials = SpecialTokenMatcher()
    private var mergeWords: [UInt64] = []

    private typealias TokenType = TokenizerDefinition.TokenType

    init(_ definition: TokenizerDefinition) throws(TokenizationError) {
        let field = "tokenizer.ggml.tokens"
        let tokens = definition.tokens
        guard !tokens.isEmpty, tokens.count <= TokenizerDefinition.maximumTokens else {
            throw TokenizationError(
                field: field,
                reason: "\(tokens.count) tokens; 1 to \(TokenizerDefinition.maximumTokens) are supported")
        }
        if let types = definition.types, types.count != tokens.count {
            throw TokenizationError(
                field: "tokenizer.ggml.token_type",
                reason: "\(types.count) types for \(tokens.count) tokens")
        }
        table = TokenTable(capacity: tokens.count)
        kinds.reserveCapacity(tokens.count)
        for (index, text) in tokens.enumerated() {
            let type = definition.types?[index] ?? 1
            let isControl = type == TokenType.control || type == TokenType.unknown
            let isSpecial = isControl || type == TokenType.userDefined
            let decoded = table.append(text, literal: isSpecial)
            kinds.append(isControl ? .control : decoded ? .ordinary : .literal)
            if isSpecial {
                let bytes = table.bytes[table.range(of: index)]
                guard bytes.count <= SpecialTokenMatcher.maximumLength, specials.size <= SpecialTokenMatcher.maximumSize
                else {
                    throw TokenizationError(
                        field: field, reason: "token \(index) of \(bytes.count) bytes is too much for special tokens")
                }
                guard specials.insert(bytes, token: TokenID(index), isUserDefined: !isControl) else {
                    throw TokenizationError(
                        field: field,
                        reason: "token \(index) repeats the text of another special token, \"\(text)\"")
                }
            } else if decoded, let other = table.index(index) {
                throw TokenizationError(
                    field: field, reason: "token \(index) repeats token \(other), \"\(text)\"")
            }
        }
    }

    /// The token of each byte, or -1 where the vocabulary lacks one.
    func byteTokens() -> [TokenID] {
        (0..<256).map { table.find([UInt8($0)][...]) ?? -1 }
    }

    mutating func merges(_ lines: [String]) throws(TokenizationError) -> MergeTable {
        let field = "tokenizer.ggml.merges"
        guard lines.count <= TokenizerDefinition.maximumTokens else {
            throw TokenizationError(field: field, reason: "\(lines.count) merges are too many")
        }
        var merges = MergeTable(capacity: lines.count)
        mergeWords.reserveCapacity(lines.count)
        var bytes: [UInt8] = []
        for (rank, line) in lines.enumerated() {
            bytes.removeAll(keepingCapacity: true)
            guard let middle = Self.decode(line, into: &bytes) else {
                throw TokenizationError(
                    field: field, reason: "merge \(rank), \"\(line)\", is not two tokens with a space between"
                )
            }
            guard let left = table.find(bytes[..<middle]), let right = table.find(bytes[middle...]),
                let merged = table.find(bytes[...])
            else {
                throw TokenizationError(
                    field: field,
                    reason: "merge \(rank), \"\(line)\", is of or to a token that does not exist")
            }
            guard merges.insert(left: left, right: right, rank: UInt32(rank), merged: merged) else {
                throw TokenizationError(
                    field: field, reason: "merge \(rank), \"\(line)\", repeats an earlier one")
            }
            mergeWords.append(UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right)))
        }
        return merges
    }

    /// Appends the bytes of both sides of a merge. The byte alphabet has no space, so the first one divides the sides.
    ///
    /// - Returns: the number of bytes on the left; nil if a side is empty or not of the alphabet.
    private static func decode(_ line: String, into bytes: inout [UInt8]) -> Int? {
        var line = line
        return line.withUTF8 { utf8 -> Int? in
            guard let space = utf8.firstIndex(of: UInt8(ascii: " ")), space > 0, space + 1 < utf8.count,
                ByteAlphabet.decode(UnsafeBufferPointer(rebasing: utf8[..<space]), into: &bytes)
            else { return nil }
            let middle = bytes.count
            guard ByteAlphabet.decode(UnsafeBufferPointer(rebasing: utf8[(space + 1)...]), into: &bytes)
            else {
                return nil
            }
            return middle
        }
    }

    /// A token id of the metadata.
    func token(_ value: UInt64?, field: String) throws(TokenizationError) -> TokenID? {
        guard let value else { return nil }
        guard value < UInt64(table.count) else {
            throw TokenizationError(
                field: field, reason: "token \(value) of a vocabulary of \(table.count)")
        }
        return TokenID(value)
    }

    func endOfGenerationTokens(also named: [TokenID]) -> Set<TokenID> {
        var result = Set(named)
        for text in Self.endOfGenerationTexts {
            if let match = specials.next(in: Array(text.utf8), from: 0, includingControl: true),
                match.range == 0..<text.utf8.count
            {
                result.insert(match.token)
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
