// Tandem — Apache-2.0

import Requests
import TestSupport
import Testing

@testable import Tokenization

@Suite struct IncrementalDetokenizerTests {
    /// Checks one sequence: the whole is what `decode` gives, and nothing that was emitted ends within a character.
    func check(_ tokens: [TokenID], _ tokenizer: Tokenizer, skipSpecialTokens: Bool) {
        var detokenizer = IncrementalDetokenizer(
            tokenizer: tokenizer, skipSpecialTokens: skipSpecialTokens)
        var emitted: [UInt8] = []
        for (index, token) in tokens.enumerated() {
            emitted += Array(detokenizer.append(token).utf8)
            var rest = detokenizer
            let soFar = emitted + Array(rest.finish().utf8)
            let decoded = tokenizer.decode(Array(tokens[...index]), skipSpecialTokens: skipSpecialTokens)
            #expect(soFar == Array(decoded.utf8), "\(tokens)")
        }
        emitted += Array(detokenizer.finish().utf8)
        #expect(
            emitted == Array(tokenizer.decode(tokens, skipSpecialTokens: skipSpecialTokens).utf8),
            "\(tokens)")
        #expect(detokenizer.finish().isEmpty)
    }

    /// Random bytes, mostly such as make long, broken and forbidden sequences.
    @Test func randomBytesDecodeAsTheWhole() throws {
        let tokenizer = try Tokenizer(smallDefinition())
        let bytes: [UInt8] = [
            0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED,
            0xEF, 0xF0, 0xF1,
            0xF4, 0xF5, 0xFF,
        ]
        var random = SeededGenerator(seed: 11)
        for _ in 0..<4000 {
            let tokens = (0..<Int.random(in: 1...12, using: &random)).map { _ -> TokenID in
                let isSpecial = Int.random(in: 0..<12, using: &random) == 0
                return isSpecial
                    ? TokenID(tokenizer.vocabularySize - 3)
                    : TokenID(bytes.randomElement(using: &random) ?? 0)
            }
            check(tokens, tokenizer, skipSpecialTokens: Bool.random(using: &random))
        }
    }

    @Test func realTokensDecodeAsTheWhole() throws {
        guard let tokenizer = try Fixtures.realTokenizer.get() else { return }
        var random = SeededGenerator(seed: 5)
        for _ in 0..<300 {
            // The first few hundred are mostly single bytes.
            let bound = TokenID(Bool.random(using: &random) ? 400 : tokenizer.vocabularySize)
            let tokens = (0..<20).map { _ in TokenID.random(in: 0..<bound, using: &random) }
            check(tokens, tokenizer, skipSpecialTokens: Bool.random(using: &random))
        }
    }

    @Test func charactersAreHeldBackUntilTheyAreWhole() throws {
        let tokenizer = try Tokenizer(smallDefinition())
        var detokenizer = IncrementalDetokenizer(tokenizer: tokenizer, skipSpecialTokens: true)
        let pieces = Array("a😀é".utf8).map { detokenizer.append(TokenID($0)) }
        #expect(pieces == ["a", "", "", "", "😀", "", "é"])
        #expect(detokenizer.append(0xF0).isEmpty)
        #expect(detokenizer.append(0x41) == "\u{FFFD}A")
        #expect(detokenizer.append(0xE2).isEmpty)
        #expect(detokenizer.finish() == "\u{FFFD}")
    }
}
