// Tandem — Apache-2.0

import Testing

@testable import Tokenization

@Suite struct PreTokenizerTests {
    struct WordFile: Decodable {
        struct Case: Decodable {
            let text: String
            let words: [String: [String]]
        }
        let cases: [Case]
    }

    @Test(arguments: KnownPreTokenizer.table.map(\.name))
    func wordsAreThoseOfTheRegularExpression(name: String) throws {
        let preTokenizer = try KnownPreTokenizer(named: name).preTokenizer
        let file = try Fixtures.decode(WordFile.self, "tokenization/words.json")
        #expect(file.cases.count > 250)
        for reference in file.cases {
            let bytes = Array(reference.text.utf8)
            var words: [[UInt8]] = []
            preTokenizer.forEachWord(in: bytes[...]) { words.append(Array(bytes[$0])) }
            let expected = try #require(reference.words[name])
            #expect(words == expected.map { Array($0.utf8) }, "\(reference.text.debugDescription)")
        }
    }

    @Test func rangesCountFromTheStartOfASlice() {
        let bytes = Array("## two words".utf8)
        var words: [Range<Int>] = []
        PreTokenizer(pattern: .gpt2).forEachWord(in: bytes[3...]) { words.append($0) }
        #expect(words == [0..<3, 3..<9])
    }

    @Test func anUnknownNameIsRefusedWithTheKnownOnes() {
        let error = #expect(throws: TokenizationError.self) { try KnownPreTokenizer(named: "tekken") }
        #expect(error?.field == "tokenizer.ggml.pre")
        for name in ["tekken", "smollm", "qwen2"] { #expect(error?.reason.contains(name) == true) }
    }
}
