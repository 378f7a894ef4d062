// Tandem — Apache-2.0

public import Requests

/// A grammar together with a vocabulary; shared by all sequences that use it, from several threads.
public final class TokenGrammar: Sendable {
    let grammar: CompiledGrammar
    let vocabulary: TokenVocabulary

    public init(_ grammar: CompiledGrammar, vocabulary: TokenVocabulary) {
        self.grammar = grammar
        self.vocabulary = vocabulary
    }
}

/// Where one sequence stands in a grammar. A value: copies are cheap and independent.
public struct GrammarMatcher: Sendable {
    private let grammar: TokenGrammar
    private var text: [UInt8] = []

    /// Stands before the first byte.
    public init(_ grammar: TokenGrammar) { self.grammar = grammar }

    /// Advances by a token's bytes. False, and nothing changed, if they cannot follow.
    public mutating func accept(_ token: TokenID) -> Bool {
        guard let next = following(token) else { return false }
        text = next
        return true
    }

    /// Whether the text so far is complete (an end token may follow).
    public var isAccepting: Bool { grammar.grammar.texts.contains(text) }

    /// Whether the text so far is complete and nothing can follow.
    public var isExhausted: Bool {
        isAccepting && !grammar.grammar.texts.contains { $0.count > text.count && $0.starts(with: text) }
    }

    /// Overwrites all `maskWords` words; bit t % 32 of word t / 32 permits token t. End tokens are the caller's business.
    ///
    /// - Returns: how many tokens are permitted.
    @discardableResult
    public func fillMask(_ words: UnsafeMutableBufferPointer<UInt32>) -> Int {
        words.update(repeating: 0)
        var count = 0
        for token in 0..<grammar.vocabulary.count where following(TokenID(token)) != nil {
            words[token / 32] |= 1 << UInt32(token % 32)
            count += 1
        }
        return count
    }

    private func following(_ token: TokenID) -> [UInt8]? {
        guard grammar.vocabulary.tokens.indices.contains(Int(token)),
            let bytes = grammar.vocabulary.tokens[Int(token)], !bytes.isEmpty
        else { return nil }
        let next = text + bytes
        return grammar.grammar.texts.contains { $0.starts(with: next) } ? next : nil
    }
}
