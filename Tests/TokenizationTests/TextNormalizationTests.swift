// Tandem — Apache-2.0

import TestSupport
import Testing

@testable import Tokenization

@Suite struct TextNormalizationTests {
    struct File: Decodable {
        let characters: [[String]]
        let sequences: [[String]]
    }

    func formC(_ text: String) -> [UInt8] {
        let bytes = Array(text.utf8)
        return TextNormalization.formC(bytes[...]) ?? bytes
    }

    @Test func formCIsThatOfUnicode() throws {
        let file = try Fixtures.decode(File.self, "tokenization/normalization.json")
        #expect(file.characters.count > 1000 && file.sequences.count == 400)
        for pair in file.characters + file.sequences {
            #expect(formC(pair[0]) == Array(pair[1].utf8), "\(pair[0].unicodeScalars.map(\.value))")
            #expect(formC("x" + pair[0] + " y") == formC("x" + pair[1]) + Array(" y".utf8))
        }
    }

    /// Only parts of a text are looked at; together they must give what the whole gives.
    @Test func longTextsAreNormalizedAsTheirParts() throws {
        let file = try Fixtures.decode(File.self, "tokenization/normalization.json")
        var random = SeededGenerator(seed: 4)
        for _ in 0..<100 {
            let pairs = (0..<8).map { _ in file.sequences.randomElement(using: &random) ?? ["", ""] }
            let separators = [" ", "a", "\n", "\u{E9}", "Z9"]
            var text = ""
            var expected: [UInt8] = []
            for pair in pairs {
                // What begins with a base character takes nothing from what is before.
                let separator = (separators.randomElement(using: &random) ?? "") + "|"
                text += pair[0] + separator
                expected += formC(expected.isEmpty ? pair[0] : "|" + pair[0]).dropFirst(expected.isEmpty ? 0 : 1)
                expected += Array(separator.utf8)
            }
            #expect(formC(text) == expected)
        }
    }

    @Test func textInFormCIsLeftAlone() {
        for text in ["", "plain", "caf\u{E9} \u{130}", "\u{4F60}\u{597D}", "\u{43F}\u{440}", "\u{AC01} \u{1F600}"] {
            #expect(TextNormalization.formC(Array(text.utf8)[...]) == nil)
        }
    }

    @Test func spacesAndTheirMarksAreTheSame() {
        let rules = TextNormalization(mapsSpaceMarks: true, prependsSpace: true)
        #expect(Array(rules.apply(to: Array("a\u{2581} \u{2582}".utf8)[...])) == Array(" a  \u{2582}".utf8))
        #expect(rules.apply(to: []).isEmpty)
    }
}
