// Tandem — Apache-2.0

import Grammar
import Requests
import Testing

@Suite("GBNF")
struct GBNFTests {
    /// All texts over an alphabet up to a length.
    private func texts(_ alphabet: String, _ length: Int) -> [String] {
        var result = [""]
        var longest = [""]
        for _ in 0..<length {
            longest = longest.flatMap { text in alphabet.map { text + String($0) } }
            result += longest
        }
        return result
    }

    private func expect(
        _ source: String, _ alphabet: String, _ length: Int, _ belongs: (String) -> Bool
    ) throws {
        let grammar = try GrammarFixtures.compile(.gbnf, source)
        for text in texts(alphabet, length) {
            #expect(grammar.matches(text) == belongs(text), "\(text.debugDescription) in \(source)")
        }
    }

    @Test("Grammars describe what predicates written out for them describe")
    func predicates() throws {
        try expect("root ::= \"(\" root \")\" root | \"\"", "()", 10) { text in
            var depth = 0
            for character in text {
                depth += character == "(" ? 1 : -1
                if depth < 0 { return false }
            }
            return depth == 0
        }
        // Palindromes: ambiguous where the middle is, and no finite automaton.
        try expect("root ::= \"a\" root \"a\" | \"b\" root \"b\" | [ab]?", "ab", 9) { $0 == String($0.reversed()) }
        try expect("root ::= s\ns ::= \"a\" s \"b\" | \"a\" s \"c\" | \"\"", "abc", 8) { text in
            let half = text.prefix { $0 == "a" }.count
            return text.count == 2 * half && !text.dropFirst(half).contains("a")
        }
        try expect("root ::= x x x\nx ::= \"a\"? | \"b\"", "ab", 5) { $0.count <= 3 }
        try expect("root ::= e\ne ::= t (\"+\" t)*\nt ::= \"1\" | \"(\" e \")\"", "1+()", 6) { text in
            var rest = Substring(text)
            func term() -> Bool {
                if rest.popFirst(if: "1") { return true }
                return rest.popFirst(if: "(") && sum() && rest.popFirst(if: ")")
            }
            func sum() -> Bool {
                guard term() else { return false }
                while rest.popFirst(if: "+") { guard term() else { return false } }
                return true
            }
            return sum() && rest.isEmpty
        }
        // Right recursion needs no stack; mutual recursion counts modulo two.
        try expect("root ::= even\neven ::= \"a\" odd | \"\"\nodd ::= \"a\" even", "ab", 9) {
            $0.allSatisfy { $0 == "a" } && $0.count % 2 == 0
        }
        try expect("root ::= (\"a\"{2} | \"b\"{1,2} | \"c\"{3,}){2}", "abc", 6) { text in
            func isPiece(_ text: Substring) -> Bool {
                guard let first = text.first, text.allSatisfy({ $0 == first }) else { return false }
                switch first {
                case "a": return text.count == 2
                case "b": return text.count <= 2
                default: return text.count >= 3
                }
            }
            return text.indices.contains { split in isPiece(text[..<split]) && isPiece(text[split...]) }
        }
    }

    @Test("Notation: escapes, classes, comments, rules over several lines")
    func notation() throws {
        let grammar = try GrammarFixtures.compile(
            .gbnf,
            """
            # a comment
            root ::= first-rule (   # another
                "," first-rule
            )* end
            first-rule ::=
              [a-c\\x30-\\u0039\\U0001F600]   |
              "\\"\\\\\\t\\x41\\u00e9" |
              [^\\]a-z\\n0-9 -]+
              | "literal" .
            end ::= "\\n"?
            """)
        for text in ["a", "5", "😀", "\"\\\tAé", "ABC", "literalx", "literalé\n", "a,b,c\n", "É日", "A"] {
            #expect(grammar.matches(text), "\(text.debugDescription)")
        }
        for text in ["", "d", "a,", ",a", "literal", "]", "A-", "a\n\n", "a b"] {
            #expect(!grammar.matches(text), "\(text.debugDescription)")
        }
    }

    @Test("Every character of a class or of . has its whole UTF-8")
    func unicode() throws {
        for (source, belongs) in [
            ("root ::= .", { (_: UInt32) in true }), ("root ::= [^a\\u00e9]", { $0 != 0x61 && $0 != 0xE9 }),
            ("root ::= [\\u0370-\\uD7FF]", { (0x370...0xD7FF).contains($0) }),
            ("root ::= [\\u07F0-\\U00010010]", { (0x7F0...0x10010).contains($0) }),
        ] as [(String, (UInt32) -> Bool)] {
            let grammar = try GrammarFixtures.compile(.gbnf, source)
            let edges: [UInt32] = [
                0, 0x80, 0x800, 0x10000, 0x10FFFF, 0x370, 0x7F0, 0xD7FF, 0xE000, 0x10010, 0x61, 0xE9, 0xFFFF,
            ]
            for value in edges.flatMap({ [$0 &- 1, $0, $0 + 1] }) + stride(from: 0, to: 0x110000, by: 977) {
                guard let scalar = Unicode.Scalar(value) else { continue }
                #expect(grammar.matches(String(Character(scalar))) == belongs(value), "U+\(String(value, radix: 16))")
            }
            #expect(!grammar.matches("ab"))
        }
    }

    @Test(
        "Mistakes are refused with line and column",
        arguments: [
            ("root ::= a", GrammarError.Kind.malformed, "line 1, column 10"),
            ("a ::= \"x\"", .malformed, "line 1, column 10"),
            ("", .malformed, "line 1, column 1"), ("root ::= \"x", .malformed, "line 1, column 10"),
            ("root ::= [a", .malformed, "line 1, column 10"), ("root ::= (\"a\"", .malformed, "line 1, column 10"),
            ("root = \"a\"", .malformed, "line 1, column 6"),
            ("root ::= \"a\"\nroot ::= \"b\"", .malformed, "line 2, column 1"),
            ("root ::= \"a\" )", .malformed, "line 1, column 14"), ("root ::= *", .malformed, "line 1, column 10"),
            ("root ::= \"\\q\"", .malformed, "line 1, column 13"), ("root ::= [z-a]", .malformed, "line 1, column 14"),
            ("root ::= \"a\"{2,1}", .malformed, "line 1, column 17"),
            ("root ::= <think>", .unsupported, "line 1, column 10"),
            ("root ::= \"a\"\n\n  b ::= c", .malformed, "line 3, column 9"),
            ("root ::= root \"a\" | \"b\"", .unsupported, "line 1, column 1"),
            ("root ::= \"x\" a\na ::= b | \"q\"\nb ::= \"y\"? a \"z\"", .unsupported, "line 2, column 1"),
            ("root ::= \"a\" root", .empty, "line 1, column 1"),
            ("root ::= \"a\"{1,99999}", .tooComplex, "line 1, column 20"),
        ])
    func mistakes(_ source: String, _ kind: GrammarError.Kind, _ place: String) throws {
        let error = try #require(throws: GrammarError.self) { _ = try GrammarFixtures.compile(.gbnf, source) }
        #expect(error.kind == kind, "\(error)")
        #expect(error.place == place, "\(error)")
    }

    @Test("A rule that leads nowhere is left out where another way remains")
    func deadEnds() throws {
        let grammar = try GrammarFixtures.compile(.gbnf, "root ::= \"a\" endless | \"ab\"\nendless ::= \"b\" endless")
        #expect(grammar.matches("ab"))
        var matcher = GrammarMatcher(TokenGrammar(grammar, vocabulary: GrammarFixtures.vocabulary))
        matcher.expect(TokenID(UInt8(ascii: "a")))
        matcher.expect(TokenID(UInt8(ascii: "b")))
        #expect(matcher.isExhausted)
    }
}

extension Substring {
    fileprivate mutating func popFirst(if expected: Character) -> Bool {
        guard first == expected else { return false }
        removeFirst()
        return true
    }
}
