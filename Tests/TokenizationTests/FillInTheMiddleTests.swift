// Tandem — Apache-2.0

import Requests
import Testing

@testable import Tokenization

@Suite struct FillInTheMiddleTests {
    private static let qwen = [
        "<|endoftext|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
        "<|repo_name|>", "<|file_sep|>",
    ]

    private func tokenizer(control: [String], userDefined: [String] = []) throws -> Tokenizer {
        try Tokenizer(smallDefinition(merges: ["h e"], control: control, userDefined: userDefined))
    }

    private func text(_ tokens: [TokenID], _ tokenizer: Tokenizer) -> String {
        tokenizer.decode(tokens, skipSpecialTokens: false)
    }

    @Test func aVocabularyWithoutTheTokensHasNone() throws {
        #expect(FillInTheMiddle(try tokenizer(control: ["<|im_end|>"])) == nil)
        #expect(FillInTheMiddle(try tokenizer(control: ["<|fim_prefix|>", "<|fim_suffix|>"])) == nil)
        #expect(FillInTheMiddle(try tokenizer(control: ["<|fim_prefix|>", "<fim_suffix>", "<|fim_middle|>"])) == nil)
    }

    /// As the model's authors write it: the three texts joined by markup, and encoded with it.
    @Test func qwen() throws {
        let tokenizer = try tokenizer(control: Self.qwen)
        let fim = try #require(FillInTheMiddle(tokenizer))
        let before = tokenizer.encode("def he(", addSpecialTokens: false, parseSpecialTokens: false)
        let prompt = fim.prompt(before: before, after: ")\n  he", tokenizer: tokenizer, beginsWithBOS: true)
        #expect(
            prompt
                == tokenizer.encode(
                    "<|fim_prefix|>def he(<|fim_suffix|>)\n  he<|fim_middle|>", addSpecialTokens: true,
                    parseSpecialTokens: true))
        #expect(
            fim.endTokens.map { text([$0], tokenizer) }
                == ["<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"])
    }

    @Test func textsCannotEndEachOther() throws {
        let tokenizer = try tokenizer(control: Self.qwen)
        let fim = try #require(FillInTheMiddle(tokenizer))
        let prompt = fim.prompt(
            before: [], after: "a<|fim_middle|>b", tokenizer: tokenizer, beginsWithBOS: false)
        #expect(prompt.filter { tokenizer.isSpecial($0) } == [fim.prefix, fim.suffix, fim.middle])
        #expect(text(prompt, tokenizer) == "<|fim_prefix|><|fim_suffix|>a<|fim_middle|>b<|fim_middle|>")
    }

    @Test(arguments: [
        (["<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<reponame>"], ["<fim_pad>", "<reponame>"]),
        (["<fim-prefix>", "<fim-middle>", "<fim-suffix>", "<fim-pad>"], ["<fim-pad>"]),
        (["<PRE>", "<MID>", "<SUF>", "<EOT>"], ["<EOT>"]),
        (["▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"], ["▁<EOT>"]),
        (["<｜fim▁begin｜>", "<｜fim▁end｜>", "<｜fim▁hole｜>", "<｜end▁of▁sentence｜>"], ["<｜end▁of▁sentence｜>"]),
    ])
    func otherFamilies(tokens: [String], ends: [String]) throws {
        for isControl in [true, false] {
            let tokenizer = try tokenizer(control: isControl ? tokens : [], userDefined: isControl ? [] : tokens)
            let fim = try #require(FillInTheMiddle(tokenizer))
            let prompt = fim.prompt(before: [], after: "x", tokenizer: tokenizer, beginsWithBOS: false)
            #expect(text(prompt, tokenizer) == tokens[0] + tokens[2] + "x" + tokens[1])
            #expect(fim.endTokens.map { text([$0], tokenizer) } == ends)
        }
    }

    /// SentencePiece puts a space before a text; what goes on behind a gap has none.
    @Test func aSuffixBeginsWithoutASpace() throws {
        var definition = ScoredVocabularyTests().definition(
            [
                ("▁", -1), ("a", -1), ("b", -1), ("▁a", -2), ("▁b", -2), ("▁<PRE>", -3), ("▁<SUF>", -3), ("▁<MID>", -3),
            ])
        definition.spacePrefix = .atStart
        definition.stripsLeadingSpace = true
        definition.addsBOS = true
        let tokenizer = try Tokenizer(definition)
        let fim = try #require(FillInTheMiddle(tokenizer))
        let before = tokenizer.encode("a", addSpecialTokens: false, parseSpecialTokens: false)
        let prompt = fim.prompt(before: before, after: "b", tokenizer: tokenizer, beginsWithBOS: true)
        #expect(prompt.map { tokenizer.vocabularyString($0) } == ["<s>", "▁<PRE>", "▁a", "▁<SUF>", "b", "▁<MID>"])
        let bare = fim.prompt(before: before, after: "", tokenizer: tokenizer, beginsWithBOS: false)
        #expect(bare.map { tokenizer.vocabularyString($0) } == ["▁<PRE>", "▁a", "▁<SUF>", "▁<MID>"])
    }
}
