// Tandem — Apache-2.0

import Grammar
import JSON
import Requests
import Testing

@Suite("Regular expressions")
struct PatternTests {
    @Test("Texts match as they do for re.fullmatch")
    func references() throws {
        let rows = try #require(GrammarFixtures.json("patterns.json").array)
        #expect(rows.count >= 70)
        for row in rows {
            let pattern = try #require(row.object?["pattern"]?.string)
            let grammar = try GrammarFixtures.compile(.regularExpression, pattern)
            for text in try #require(row.object?["matching"]?.array).compactMap(\.string) {
                #expect(grammar.matches(text), "\(pattern.debugDescription) matches \(text.debugDescription)")
            }
            for text in try #require(row.object?["failing"]?.array).compactMap(\.string) {
                #expect(!grammar.matches(text), "\(pattern.debugDescription) does not match \(text.debugDescription)")
            }
        }
    }

    @Test(
        "What is not regular, not supported or not well formed is refused at its byte",
        arguments: [
            ("(?=a)b", GrammarError.Kind.unsupported, 0), ("a(?!b)", .unsupported, 1), ("(?<=a)b", .unsupported, 0),
            ("(?<!a)b", .unsupported, 0), ("(a)\\1", .unsupported, 3), ("\\bword", .unsupported, 0),
            ("é\\B", .unsupported, 2),
            ("(?i)a", .unsupported, 0), ("(?>a)", .unsupported, 0), ("a*+", .unsupported, 2), ("a^b", .unsupported, 1),
            ("a$b", .unsupported, 1), ("(^a)b", .unsupported, 1), ("(a$)+", .unsupported, 2),
            ("\\p{L}", .unsupported, 0),
            ("\\Z", .unsupported, 0), ("a{,3}", .unsupported, 1), ("[[:alpha:]]", .unsupported, 1),
            ("[]a]", .unsupported, 1),
            ("(", .malformed, 0), ("a)", .malformed, 1), ("[a", .malformed, 0), ("*a", .malformed, 0),
            ("a**", .malformed, 2),
            ("a{3,1}", .malformed, 1), ("\\", .malformed, 0), ("[z-a]", .malformed, 1), ("\\ud800", .malformed, 0),
            ("\\xZZ", .malformed, 0), ("\\y", .malformed, 0), ("[\\d-z]", .malformed, 1), ("^*", .malformed, 1),
            ("a{1,1000000}", .tooComplex, 4), ("(a{1000}){1000}", .tooComplex, 0), ("(a|b)*a(a|b){30}", .tooComplex, 0),
            ("[]", .unsupported, 1), ("(?P=x)", .unsupported, 0),
        ])
    func refusals(_ pattern: String, _ kind: GrammarError.Kind, _ offset: Int) throws {
        let error = try #require(throws: GrammarError.self) {
            _ = try GrammarFixtures.compile(.regularExpression, pattern)
        }
        #expect(error.kind == kind, "\(error)")
        #expect(error.place == "byte \(offset)", "\(error)")
    }

    @Test("A literal prefix and suffix stand around the text")
    func prefixAndSuffix() throws {
        let grammar = try CompiledGrammar(
            GrammarSource(kind: .regularExpression, text: "[0-9]+|x", prefix: "<a>", suffix: "</a>"))
        #expect(grammar.matches("<a>12</a>"))
        #expect(grammar.matches("<a>x</a>"))
        for text in ["12", "<a>12", "12</a>", "<a></a>", "<a>12</a> "] { #expect(!grammar.matches(text)) }
    }

    @Test("A class that nothing is in leaves nothing")
    func emptyLanguage() throws {
        let error = try #require(throws: GrammarError.self) {
            _ = try GrammarFixtures.compile(.regularExpression, "a[^\\x00-\\U0010ffff]")
        }
        #expect(error.kind == .empty)
    }

    @Test("A choice is one of its texts, to the letter")
    func choices() throws {
        let grammar = try GrammarFixtures.compile(.choice, #"["yes", "no", "not at all", "é.*"]"#)
        for text in ["yes", "no", "not at all", "é.*"] { #expect(grammar.matches(text)) }
        for text in ["", "ye", "yesno", "not", "éxx", "No"] { #expect(!grammar.matches(text)) }
        for (source, kind, place) in [
            ("[]", GrammarError.Kind.empty, "#"), ("{}", .malformed, "#"), ("[1]", .malformed, "#/0"),
            ("[", .malformed, "#"),
        ] {
            let error = try #require(throws: GrammarError.self) { _ = try GrammarFixtures.compile(.choice, source) }
            #expect(error.kind == kind)
            #expect(error.place == place)
        }
        let empty = try GrammarFixtures.compile(.choice, #"[""]"#)
        #expect(empty.matches(""))
        #expect(GrammarMatcher(TokenGrammar(empty, vocabulary: GrammarFixtures.vocabulary)).isExhausted)
    }
}
