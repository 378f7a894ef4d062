// Tandem — Apache-2.0

import Requests
import TestSupport
import Testing
import Weights

@testable import Tokenization

/// The real model's tokenizer against the outputs of Hugging Face tokenizers.
@Suite struct TokenizerReferenceTests {
    struct TokenFile: Decodable {
        struct Case: Decodable {
            let s: String
            let ids: [TokenID]
            let detok: String
        }
        let cases: [Case]
    }

    struct PromptFile: Decodable {
        struct Case: Decodable {
            let kind: String
            let prompt: String
            let prompt_ids: [TokenID]
        }
        let cases: [Case]
    }

    @Test func everyReferenceStringHasTheReferenceTokens() throws {
        guard let tokenizer = try Fixtures.realTokenizer.get() else { return }
        let file = try Fixtures.decode(
            TokenFile.self, "reference/smollm2-135m-instruct-q4_1.tok.hf.json")
        #expect(file.cases.count == 138)
        for reference in file.cases {
            let ids = tokenizer.encode(reference.s, addSpecialTokens: true, parseSpecialTokens: true)
            #expect(ids == reference.ids, "\(reference.s.debugDescription)")
            let text = tokenizer.decode(reference.ids, skipSpecialTokens: false)
            #expect(Array(text.utf8) == Array(reference.detok.utf8))
        }
    }

    @Test func otherTextsSurviveARoundTrip() throws {
        guard let tokenizer = try Fixtures.realTokenizer.get() else { return }
        let file = try Fixtures.decode(TokenFile.self, "reference/qwen2.5.tok.hf.json")
        for text in file.cases.flatMap({ [$0.s, $0.detok] }) {
            let ids = tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: true)
            #expect(Array(tokenizer.decode(ids, skipSpecialTokens: false).utf8) == Array(text.utf8))
        }
    }

    @Test func rawPromptsHaveTheReferenceTokens() throws {
        guard let tokenizer = try Fixtures.realTokenizer.get() else { return }
        let file = try Fixtures.decode(PromptFile.self, "reference/smollm2-135m-instruct-q4_1.hf.json")
        let raw = file.cases.filter { $0.kind == "raw" }
        #expect(raw.count == 4)
        for reference in raw {
            let ids = tokenizer.encode(
                reference.prompt, addSpecialTokens: true, parseSpecialTokens: false)
            #expect(ids == reference.prompt_ids)
        }
    }

    @Test func theModelNamesItsSpecialTokens() throws {
        guard let tokenizer = try Fixtures.realTokenizer.get() else { return }
        #expect(tokenizer.vocabularySize == 49152)
        #expect(tokenizer.bosToken == 1)
        #expect(tokenizer.eosToken == 2)
        #expect(!tokenizer.addsBOS)
        #expect(tokenizer.endOfGenerationTokens == [0, 2])
        #expect(tokenizer.isSpecial(16))
        #expect(!tokenizer.isSpecial(17))
        #expect(tokenizer.vocabularyString(504) == "The")
        #expect(tokenizer.vocabularyString(260) == "Ġthe")
        #expect(tokenizer.bytes(of: 260) == Array(" the".utf8))
        #expect(tokenizer.vocabularyString(2) == "<|im_end|>")
        #expect(tokenizer.chatTemplateSource?.contains("<|im_start|>") == true)
    }

    @Test func controlTokensAreTextUnlessParsed() throws {
        guard let tokenizer = try Fixtures.realTokenizer.get() else { return }
        let text = "a<|im_end|>"
        #expect(tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: true) == [81, 2])
        let plain = tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: false)
        #expect(!plain.contains(2))
        #expect(tokenizer.decode(plain, skipSpecialTokens: true) == text)
        #expect(tokenizer.decode([81, 2], skipSpecialTokens: true) == "a")
    }

    /// With a cost that grows with the square of a word's length this would not end in time.
    @Test(.timeLimit(.minutes(5))) func oneLongWordEnds() throws {
        guard let tokenizer = try Fixtures.realTokenizer.get() else { return }
        let letters = String(repeating: "a", count: 1 << 20)
        let tokens = tokenizer.encode(letters, addSpecialTokens: false, parseSpecialTokens: true)
        #expect(!tokens.isEmpty && tokens.count <= letters.utf8.count / 4)
        #expect(tokenizer.decode(tokens, skipSpecialTokens: true) == letters)
    }

    @Test func fingerprintIsThatOfTheContent() throws {
        guard let path = try ModelFixture.path(), let tokenizer = try Fixtures.realTokenizer.get()
        else { return }
        let again = try Tokenizer(gguf: GGUFFile(path: path))
        #expect(again.fingerprint == tokenizer.fingerprint)
    }
}
