// Tandem — Apache-2.0

import Requests
import TestSupport
import Testing
import Weights

@testable import Tokenization

@Suite struct TokenizerTests {
    func encode(
        _ text: String, _ definition: TokenizerDefinition = smallDefinition(), special: Bool = true
    ) throws
        -> [String?]
    {
        let tokenizer = try Tokenizer(definition)
        return tokenizer.encode(text, addSpecialTokens: true, parseSpecialTokens: special).map {
            tokenizer.vocabularyString($0)
        }
    }

    @Test func theLongestSpecialTokenWins() throws {
        #expect(try encode("<|im_end|>") == ["<|im_end|>"])
        #expect(try encode("<|im<|im_start|>hello") == ["<|im", "<|im_start|>", "hello"])
        #expect(try encode("<|im_en").first == "<|im")
        #expect(try encode("<<|im_end|>|") == ["<", "<|im_end|>", "|"])
    }

    @Test func userDefinedTokensAreAlwaysFound() throws {
        #expect(try encode("a[user]hello", special: false) == ["a", "[user]", "hello"])
        #expect(try encode("<|im", special: false) == ["<", "|", "i", "m"])
    }

    @Test func bosAndEOSAreAddedWhereTheModelWantsThem() throws {
        var definition = smallDefinition()
        definition.bosToken = UInt64(definition.tokens.count - 4)
        definition.eosToken = UInt64(definition.tokens.count - 3)
        #expect(try encode("hello", definition) == ["hello"])
        definition.addsBOS = true
        definition.addsEOS = true
        #expect(try encode("hello", definition) == ["<|im_start|>", "hello", "<|im_end|>"])
        #expect(try encode("", definition) == ["<|im_start|>", "<|im_end|>"])
        let tokenizer = try Tokenizer(definition)
        #expect(tokenizer.encode("hello", addSpecialTokens: false, parseSpecialTokens: true).count == 1)
        #expect(tokenizer.endOfGenerationTokens == [TokenID(definition.tokens.count - 3)])
    }

    @Test func aWholeWordIsOneTokenWhereMergesAreIgnored() throws {
        // "ab" is a token that no merge makes.
        var definition = smallDefinition(
            control: [], userDefined: [],
            preTokenizer: PreTokenizer(pattern: .gpt2, ignoresMerges: true))
        definition.tokens.append("ab")
        definition.types?.append(.normal)
        #expect(try encode("ab", definition) == ["ab"])
        definition.preTokenizer?.ignoresMerges = false
        #expect(try encode("ab", definition) == ["a", "b"])
    }

    @Test func missingBytesAreLeftOut() throws {
        let definition = TokenizerDefinition(
            preTokenizer: PreTokenizer(pattern: .gpt2), tokens: ["a", "b", "ab"], types: nil, merging: .lines(["a b"]))
        #expect(try encode("axb", definition) == ["ab"])
    }

    @Test func idsOutsideTheVocabularyAreNothing() throws {
        let tokenizer = try Tokenizer(smallDefinition())
        for token in [-1, TokenID(tokenizer.vocabularySize), .max, .min] {
            #expect(tokenizer.bytes(of: token) == [])
            #expect(tokenizer.vocabularyString(token) == nil)
            #expect(!tokenizer.isSpecial(token))
        }
        #expect(tokenizer.decode([-1, 72, .max], skipSpecialTokens: false) == "H")
    }

    @Test func textOutsideTheByteAlphabetIsLiteral() throws {
        var definition = smallDefinition()
        definition.tokens.append("你 好")
        definition.types?.append(.normal)
        let tokenizer = try Tokenizer(definition)
        let token = TokenID(tokenizer.vocabularySize - 1)
        #expect(tokenizer.bytes(of: token) == Array("你 好".utf8))
        #expect(tokenizer.vocabularyString(token) == "你 好")
    }

    @Test func fingerprintDependsOnEveryPart() throws {
        func fingerprint(
            name: String = "a", tokens: [String] = ["a", "b", "ab", "x"], merges: [String] = ["a b"],
            types: [Int32] = [1, 1, 1, 1], pre: String = "gpt-2"
        ) throws -> Digest128 {
            var builder = GGUFBuilder()
            builder.add("general.name", .string(name))
            builder.add("tokenizer.ggml.model", .string("gpt2"))
            builder.add("tokenizer.ggml.pre", .string(pre))
            builder.add("tokenizer.ggml.tokens", .strings(tokens))
            builder.add("tokenizer.ggml.merges", .strings(merges))
            builder.add("tokenizer.ggml.token_type", .int32s(types))
            return try Tokenizer(gguf: GGUFFile(bytes: builder.build(), name: "test.gguf")).fingerprint
        }
        let plain = try fingerprint()
        #expect(try fingerprint() == plain)
        #expect(try fingerprint(name: "b") == plain)
        let others = try [
            fingerprint(tokens: ["b", "a", "ab", "x"]), fingerprint(merges: []), fingerprint(types: [1, 1, 1, 3]),
            fingerprint(pre: "smollm"),
        ]
        #expect(Set(others + [plain]).count == 5)
    }

    // MARK: - Hostile files

    func refused(_ field: String, _ change: (inout TokenizerDefinition) -> Void) {
        var definition = smallDefinition()
        change(&definition)
        let error = #expect(throws: TokenizationError.self) { try Tokenizer(definition) }
        #expect(error?.field == field, "\(error.map(String.init(describing:)) ?? "")")
    }

    func append(_ merge: String, to definition: inout TokenizerDefinition) {
        guard case .lines(let lines) = definition.merging else { return }
        definition.merging = .lines(lines + [merge])
    }

    @Test func contradictionsAreRefused() {
        refused("tokenizer.ggml.tokens") { $0.tokens = [] }
        refused("tokenizer.ggml.tokens") { $0.tokens[7] = $0.tokens[8] }
        refused("tokenizer.ggml.tokens") { $0.tokens[$0.tokens.count - 1] = "<|im_end|>" }
        refused("tokenizer.ggml.tokens") { $0.tokens[$0.tokens.count - 1] = String(repeating: "x", count: 1025) }
        refused("tokenizer.ggml.token_type") { $0.types?.removeLast() }
        refused("tokenizer.ggml.token_type") { $0.types = [] }
        refused("tokenizer.ggml.merges") { append("h e", to: &$0) }
        for merge in [
            "", " ", "h", "h ", " e", "  ", "h  e", "zz z", "z zz", "x y", "你 h", "h 你", "a <|im",
        ] {
            refused("tokenizer.ggml.merges") { append(merge, to: &$0) }
        }
        refused("tokenizer.ggml.bos_token_id") { $0.bosToken = UInt64($0.tokens.count) }
        refused("tokenizer.ggml.eos_token_id") { $0.eosToken = .max }
        refused("tokenizer.ggml.eot_token_id") { $0.endOfTurnToken = 1 << 40 }
    }

    @Test func aRefusedModelFileIsNamed() throws {
        let file = try GGUFFile(bytes: GGUFBuilder().build(), name: "odd.gguf")
        let error = #expect(throws: TokenizationError.self) { try Tokenizer(gguf: file) }
        #expect(error?.file == "odd.gguf")
    }

    @Test func emptyTokensAreHarmless() throws {
        var definition = smallDefinition()
        definition.tokens += ["", ""]
        definition.types?.append(contentsOf: [.control, .normal])
        #expect(try encode("hello", definition) == ["hello"])
    }
}
