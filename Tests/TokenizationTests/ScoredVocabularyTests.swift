// Tandem — Apache-2.0

import Requests
import TestSupport
import Testing
import Weights

@testable import Tokenization

/// Vocabularies with scores, as SentencePiece makes them.
@Suite struct ScoredVocabularyTests {
    /// Tokens with their scores; control tokens, byte tokens if asked for, and user-defined ones besides.
    func definition(
        _ scored: [(String, Float)], bytes: Bool = true, userDefined: [String] = []
    ) -> TokenizerDefinition {
        var tokens = ["<unk>", "<s>", "</s>"]
        var types: [TokenizerDefinition.TokenType] = [.unknown, .control, .control]
        var scores: [Float] = [0, 0, 0]
        if bytes {
            for byte in 0..<256 {
                let digits = String(byte, radix: 16, uppercase: true)
                tokens.append("<0x\(digits.count < 2 ? "0" : "")\(digits)>")
                types.append(.byte)
                scores.append(0)
            }
        }
        for (token, score) in scored {
            tokens.append(token)
            types.append(.normal)
            scores.append(score)
        }
        tokens += userDefined
        types += userDefined.map { _ in .userDefined }
        scores += userDefined.map { _ in -1000 }
        var definition = TokenizerDefinition(tokens: tokens, types: types, merging: .scores(scores))
        definition.alphabet = .text
        definition.normalization.mapsSpaceMarks = true
        definition.unknownToken = 0
        definition.bosToken = 1
        definition.eosToken = 2
        return definition
    }

    func encode(_ text: String, _ definition: TokenizerDefinition, special: Bool = true) throws -> [String?] {
        let tokenizer = try Tokenizer(definition)
        return tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: special).map {
            tokenizer.vocabularyString($0)
        }
    }

    let small: [(String, Float)] = [
        ("▁", -9), ("a", -9), ("b", -9), ("ab", -1), ("▁a", -2), ("▁ab", -3), ("b▁", -4), ("aa", -5),
    ]

    @Test func theHighestScoreMergesFirst() throws {
        #expect(try encode("ab", definition(small)) == ["ab"])
        #expect(try encode(" ab", definition(small)) == ["▁ab"])
        #expect(try encode("aab", definition(small)) == ["a", "ab"])
        #expect(try encode("aaa", definition(small)) == ["aa", "a"])
        #expect(try encode("bb a", definition(small)) == ["b", "b", "▁a"])
        #expect(try encode("a▁b", definition(small)) == ["a", "▁", "b"])
    }

    @Test func whatHasNoTokenBecomesBytesOrUnknown() throws {
        #expect(try encode("aé", definition(small)) == ["a", "<0xC3>", "<0xA9>"])
        #expect(try encode("aéb", definition(small, bytes: false)) == ["a", "<unk>", "b"])
        var without = definition(small, bytes: false)
        without.unknownToken = nil
        #expect(try encode("aéb", without) == ["a", "b"])
    }

    /// The texts of bytes and of control tokens are text unless they are asked for.
    @Test func markupIsNotMadeByMerges() throws {
        let characters = Set("<0x41></s>").map { (String($0), Float(-50)) }
        let pieces: [(String, Float)] = [("<0", 9), ("x4", 8), ("<0x4", 7), ("1>", 6), ("</", 5), ("s>", 4)]
        let definition = definition(characters + pieces)
        #expect(try encode("<0x41>", definition) == ["<0x4", "1>"])
        #expect(try encode("</s>", definition, special: false) == ["</", "s>"])
        #expect(try encode("</s>", definition) == ["</s>"])
    }

    @Test func userDefinedTokensAreFoundAsTheyAreWritten() throws {
        let definition = definition(small, userDefined: ["a b", "  ", "    "])
        #expect(try encode("aa b", definition) == ["a", "a b"])
        // Runs of spaces are the longest that merges reach, before the word that follows takes one.
        #expect(try encode("a  ab", definition) == ["a", "▁▁", "ab"])
        #expect(try encode("     ", definition) == ["▁▁▁▁", "▁"])
        #expect(try encode("▁▁", definition) == ["▁▁"])
    }

    @Test func aSpaceGoesBeforeEveryPart() throws {
        var definition = definition(small)
        definition.normalization.prependsSpace = true
        definition.stripsLeadingSpace = true
        #expect(try encode("ab</s>ab", definition) == ["▁ab", "</s>", "▁ab"])
        #expect(try encode(" ab", definition) == ["▁", "▁ab"])
        #expect(try encode("", definition) == [])
        let tokenizer = try Tokenizer(definition)
        for text in ["ab", " ab", "é", "  ", ""] {
            let ids = tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: true)
            #expect(tokenizer.decode(ids, skipSpecialTokens: true) == text)
            #expect(tokenizer.decode(ids, skipSpecialTokens: true, startsText: false) == (text == "" ? "" : " " + text))
        }
    }

    @Test func theGGUFFieldsAreRead() throws {
        func tokenizer(_ change: (inout GGUFBuilder) -> Void) throws -> Tokenizer {
            var builder = GGUFBuilder()
            builder.add("tokenizer.ggml.model", .string("llama"))
            builder.add("tokenizer.ggml.tokens", .strings(["<unk>", "<s>", "▁", "a", "▁a"]))
            builder.add("tokenizer.ggml.token_type", .int32s([2, 3, 1, 1, 1]))
            builder.add("tokenizer.ggml.bos_token_id", .uint32(1))
            change(&builder)
            return try Tokenizer(gguf: GGUFFile(bytes: builder.build(), name: "test.gguf"))
        }
        let scores = GGUFBuilder.Value.floats([0, 0, -3, -2, -1])
        let plain = try tokenizer { $0.add("tokenizer.ggml.scores", scores) }
        #expect(plain.encode("a", addSpecialTokens: true, parseSpecialTokens: true) == [1, 4])
        #expect(plain.decode([4], skipSpecialTokens: true) == "a")
        let without = try tokenizer {
            $0.add("tokenizer.ggml.scores", scores)
            $0.add("tokenizer.ggml.add_space_prefix", .bool(false))
            $0.add("tokenizer.ggml.add_bos_token", .bool(false))
        }
        #expect(without.encode("a", addSpecialTokens: true, parseSpecialTokens: true) == [3])
        #expect(without.decode([4], skipSpecialTokens: true) == " a")
        for bad in [GGUFBuilder.Value.floats([0, 0, 0]), .floats([0, 0, .nan, 0, 0]), .string("")] {
            let error = #expect(throws: TokenizationError.self) {
                _ = try tokenizer { $0.add("tokenizer.ggml.scores", bad) }
            }
            #expect(error?.field == "tokenizer.ggml.scores")
        }
    }

    /// The definition, word for word: of all neighbours that together are a token, those of the highest score merge, the
    /// leftmost first.
    static func reference(_ text: String, _ scores: [String: Float]) -> [String] {
        var parts = text.unicodeScalars.map { String($0) }
        while true {
            var best: (score: Float, index: Int)?
            for index in parts.indices.dropLast() {
                guard let score = scores[parts[index] + parts[index + 1]] else { continue }
                if best.map({ score > $0.score }) ?? true { best = (score, index) }
            }
            guard let best else { return parts }
            parts.replaceSubrange(best.index...(best.index + 1), with: [parts[best.index] + parts[best.index + 1]])
        }
    }

    @Test(arguments: 0..<40)
    func randomVocabulariesGiveWhatTheDefinitionGives(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var scores: [String: Float] = ["▁": -99, "a": -99, "b": -99, "é": -99]
        var order = ["▁", "a", "b", "é"]
        for _ in 0..<40 {
            let token = (order.randomElement(using: &random) ?? "") + (order.randomElement(using: &random) ?? "")
            guard token.utf8.count < 24, scores[token] == nil else { continue }
            // Few scores, so that many are equal.
            scores[token] = Float(Int.random(in: -9...9, using: &random))
            order.append(token)
        }
        let tokenizer = try Tokenizer(definition(order.map { ($0, scores[$0] ?? 0) }))
        for length in [1, 2, 3, 7, 20, 47, 48, 49, 50, 90, 200] {
            let text = (0..<length).map { _ in ["▁", "a", "b", "é"].randomElement(using: &random) ?? "" }.joined()
            let ids = tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: false)
            #expect(ids.map { tokenizer.vocabularyString($0) } == Self.reference(text, scores))
        }
    }

    /// Incremental decoding equals decoding the whole, with and without a leading space.
    @Test func incrementalDecodingIsThatOfTheWhole() throws {
        var definition = definition(small)
        definition.normalization.prependsSpace = true
        definition.stripsLeadingSpace = true
        let tokenizer = try Tokenizer(definition)
        var random = SeededGenerator(seed: 8)
        for _ in 0..<2000 {
            let tokens = (0..<Int.random(in: 0...8, using: &random)).map { _ in
                TokenID.random(in: -1...TokenID(tokenizer.vocabularySize), using: &random)
            }
            let startsText = Bool.random(using: &random)
            let skips = Bool.random(using: &random)
            var detokenizer = IncrementalDetokenizer(
                tokenizer: tokenizer, skipSpecialTokens: skips, startsText: startsText)
            for _ in 0..<2 {
                let pieces = tokens.map { detokenizer.append($0) } + [detokenizer.finish()]
                let whole = tokenizer.decode(tokens, skipSpecialTokens: skips, startsText: startsText)
                #expect(pieces.joined().utf8.elementsEqual(whole.utf8), "\(tokens)")
            }
        }
    }

    /// A text is one word here: anything slower than n log n would not end in time.
    @Test(.timeLimit(.minutes(5))) func oneLongRunEnds() throws {
        let tokenizer = try Tokenizer(definition(small))
        let text = String(repeating: "a", count: 1 << 20)
        let count = tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: true).count
        #expect(count == 1 << 19)
    }
}
