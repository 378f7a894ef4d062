// Tandem — Apache-2.0

import Foundation
import Requests
import TestSupport
import Testing
import Weights

@testable import Tokenization

/// The tokenizers of Qwen2.5 and Gemma 3 against the outputs of Hugging Face's: Qwen's cut down to what the reference
/// strings need, and both whole where the environment names them. Gemma's terms do not allow to pass parts of it on;
/// made-up vocabularies with scores are tested elsewhere.
@Suite struct ReferenceVocabularyTests {
    struct Vocabulary: Decodable {
        let ids: [TokenID]
        let tokens: [String]
        let token_type: [Int32]
        let merges: [String]
    }

    /// The cut-down tokenizer in `file`, and the ids that its tokens have in the whole one.
    static func cutDown(_ file: String) throws -> (tokenizer: Tokenizer, ids: [TokenID]) {
        let vocabulary = try Fixtures.decode(Vocabulary.self, "tokenization/" + file)
        var builder = GGUFBuilder()
        builder.add("tokenizer.ggml.tokens", .strings(vocabulary.tokens))
        builder.add("tokenizer.ggml.token_type", .int32s(vocabulary.token_type))
        builder.add("tokenizer.ggml.model", .string("gpt2"))
        builder.add("tokenizer.ggml.pre", .string("qwen2"))
        builder.add("tokenizer.ggml.merges", .strings(vocabulary.merges))
        return (try Tokenizer(gguf: GGUFFile(bytes: builder.build(), name: file)), vocabulary.ids)
    }

    /// Compares with every case of a reference file. `ids` translates the tokenizer's tokens.
    static func check(_ tokenizer: Tokenizer, _ reference: String, ids: [TokenID]? = nil) throws {
        let file = try Fixtures.decode(TokenizerReferenceTests.TokenFile.self, "reference/" + reference)
        #expect(file.cases.count == 138)
        for reference in file.cases {
            let tokens = tokenizer.encode(reference.s, addSpecialTokens: false, parseSpecialTokens: true)
            #expect(tokens.map { ids?[Int($0)] ?? $0 } == reference.ids, "\(reference.s.debugDescription)")
            let text = tokenizer.decode(tokens, skipSpecialTokens: false)
            #expect(text.utf8.elementsEqual(reference.detok.utf8), "\(reference.s.debugDescription)")
            var detokenizer = IncrementalDetokenizer(tokenizer: tokenizer, skipSpecialTokens: false)
            let pieces = tokens.map { detokenizer.append($0) } + [detokenizer.finish()]
            #expect(pieces.joined().utf8.elementsEqual(reference.detok.utf8))
        }
    }

    @Test func qwenStringsHaveTheReferenceTokens() throws {
        let (tokenizer, ids) = try Self.cutDown("qwen2.5.vocabulary.json")
        try Self.check(tokenizer, "qwen2.5.tok.hf.json", ids: ids)
    }

    // MARK: - Whole vocabularies

    @Test func theWholeQwenVocabularyAgrees() throws {
        guard let path = Fixtures.path("TANDEM_TEST_QWEN") else { return }
        try Self.check(Tokenizer(path: path), "qwen2.5.tok.hf.json")
    }

    @Test func theWholeGemmaVocabularyAgrees() throws {
        guard let path = Fixtures.path("TANDEM_TEST_GEMMA") else { return }
        let tokenizer = try Tokenizer(path: path)
        try Self.check(tokenizer, "gemma-3-270m-q4_k_m.tok.hf.json")
        // Tags of HTML are text, though one of them ends a turn in other vocabularies.
        let strike = try #require(tokenizer.encode("</s>", addSpecialTokens: false, parseSpecialTokens: true).first)
        #expect(!tokenizer.isSpecial(strike) && !tokenizer.endOfGenerationTokens.contains(strike))
    }

    @Test func theWholeTokenizerJSONOfQwenAgrees() throws {
        guard let path = Fixtures.path("TANDEM_TEST_QWEN_TOKENIZER") else { return }
        let tokenizer = try Tokenizer(path: path)
        try Self.check(tokenizer, "qwen2.5.tok.hf.json")
        #expect(tokenizer.vocabularyString(151_645) == "<|im_end|>")
        #expect(tokenizer.endOfGenerationTokens.contains(151_645))
    }

    /// Vocabulary-only model files with texts and their tokens beside them, as llama.cpp has them for its own tests.
    @Test func vocabulariesOfLlamaCppAgree() throws {
        guard let directory = Fixtures.path("TANDEM_TEST_VOCABULARIES") else { return }
        for name in ["llama-spm", "phi-3", "gpt-2", "qwen2", "llama-bpe"] {
            let path = "\(directory)/ggml-vocab-\(name).gguf"
            let tokenizer = try Tokenizer(path: path)
            let texts = try String(contentsOfFile: path + ".inp", encoding: .utf8)
                .components(separatedBy: "\n__ggml_vocab_test__\n")
            let tokens = try String(contentsOfFile: path + ".out", encoding: .utf8).components(separatedBy: "\n")
            #expect(texts.count > 40 && tokens.count >= texts.count)
            for (text, line) in zip(texts, tokens) {
                let expected = line.split(separator: " ").compactMap { TokenID($0) }
                let ids = tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: false)
                #expect(ids == expected, "\(name) \(text.debugDescription)")
            }
        }
    }
}
