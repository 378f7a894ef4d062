// Tandem — Apache-2.0

import Requests
import Testing

@testable import Grammar

@Suite("Masks and matchers")
struct MaskTests {
    /// Grammars of every notation: nested, ambiguous, bounded, with characters of several bytes.
    static let sources: [(GrammarSource.Kind, String)] = [
        (.jsonObject, ""),
        (.jsonSchema, #"{"type":"string"}"#),
        (
            .jsonSchema,
            ##"""
            {"type":"object","properties":{"name":{"type":"string","maxLength":5},"kind":{"enum":["a","ab","é"]},
            "n":{"type":"number","minimum":-1,"maximum":100},"next":{"anyOf":[{"type":"null"},{"$ref":"#"}]}},
            "required":["name"]}
            """##
        ),
        (.jsonSchema, ##"{"type":"array","items":{"anyOf":[{"type":"integer"},{"$ref":"#"}]},"maxItems":3}"##),
        (
            .jsonSchema,
            #"{"type":"object","additionalProperties":{"type":"string","pattern":"^[a-zé日]+$"},"maxProperties":2}"#
        ),
        (.regularExpression, "(\\w+ ?){1,12}"), (.regularExpression, ".*[0-9]{2}"),
        (.regularExpression, "[日本é😀]{2,3}|aaa*"),
        (.gbnf, "root ::= \"(\" root \")\" root | [ab]?"),
        (.gbnf, "root ::= \"a\" root \"a\" | \"b\" root \"b\" | [ab]?"),
        (.gbnf, "root ::= s\ns ::= \"a\" s \"b\" | \"a\" s \"c\" | \"a\" s | \"1\" | e e\ne ::= \"e\"? | [0-9]"),
        (.gbnf, "root ::= x+ | y\nx ::= w \" \"\nw ::= [a-z]+ | v\nv ::= [ab]+ [0-9]?\ny ::= x \"\\n\" y | .{1,3}"),
        (.choice, #"["true", "tru", "null", "日本", "{\"a\": \"b\"}"]"#),
    ]

    @Test("A mask permits exactly the tokens that are accepted", arguments: sources.indices)
    func masksAreExact(_ index: Int) throws {
        let (kind, source) = MaskTests.sources[index]
        let grammar = try GrammarFixtures.compile(kind, source)
        let tokens = TokenGrammar(grammar, vocabulary: GrammarFixtures.vocabulary)
        var random = SeededGenerator(state: 7)
        var states = 0
        for _ in 0..<25 {
            let text = GrammarFixtures.walk(tokens, &random) { matcher, words, count in
                states += 1
                var permitted = 0
                for token in 0..<GrammarFixtures.vocabulary.count {
                    var copy = matcher
                    let isAccepted = copy.accept(TokenID(token))
                    #expect(isAccepted == GrammarFixtures.permits(words, token), "token \(token)")
                    if isAccepted { permitted += 1 }
                }
                #expect(permitted == count)
                #expect(!matcher.isExhausted || (matcher.isAccepting && count == 0))
                #expect(matcher.isAccepting || count > 0)
                // Bits behind the last token stay clear.
                #expect(words.last.map { $0 >> UInt32(GrammarFixtures.vocabulary.count % 32) } == 0)
            }
            if let text { #expect(grammar.matches(text), "\(text.debugDescription)") }
        }
        #expect(states > 50)
    }

    @Test("Masks are the same with a table that must be begun anew all the time", arguments: sources.indices)
    func renewal(_ index: Int) throws {
        let (kind, source) = MaskTests.sources[index]
        let grammar = try GrammarFixtures.compile(kind, source)
        let usual = TokenGrammar(grammar, vocabulary: GrammarFixtures.vocabulary)
        let small = TokenGrammar(grammar, vocabulary: GrammarFixtures.vocabulary, tableBytes: 1024)
        var random = SeededGenerator(state: 11)
        for _ in 0..<6 {
            var other = GrammarMatcher(small)
            var first = GrammarMatcher(usual)
            for _ in 0..<60 {
                let (words, count) = GrammarFixtures.mask(first)
                let (otherWords, otherCount) = GrammarFixtures.mask(other)
                #expect(words == otherWords)
                #expect(count == otherCount)
                #expect(first.isAccepting == other.isAccepting)
                #expect(first.isExhausted == other.isExhausted)
                guard count > 0 else { break }
                var left = Int.random(in: 0..<count, using: &random)
                let token = try #require(
                    GrammarFixtures.tokens.indices.first { token in
                        guard GrammarFixtures.permits(words, token) else { return false }
                        left -= 1
                        return left < 0
                    })
                first.expect(TokenID(token))
                other.expect(TokenID(token))
                // A token that cannot follow changes nothing.
                other.expectRefusal(TokenID(GrammarFixtures.tokens.count))
                other.expectRefusal(-1)
                other.expectRefusal(.max)
            }
        }
    }

    @Test("Copies go their own ways")
    func copies() throws {
        let grammar = TokenGrammar(
            try GrammarFixtures.compile(.regularExpression, "a(b|c)"), vocabulary: GrammarFixtures.vocabulary)
        var first = GrammarMatcher(grammar)
        first.expect(TokenID(UInt8(ascii: "a")))
        var second = first
        second.expect(TokenID(UInt8(ascii: "b")))
        #expect(second.isExhausted)
        #expect(!first.isAccepting)
        first.expect(TokenID(UInt8(ascii: "c")))
    }

    @Test("Several threads use one grammar and see the same masks")
    func threads() async throws {
        let grammar = try GrammarFixtures.compile(.jsonObject, "")
        let shared = TokenGrammar(grammar, vocabulary: GrammarFixtures.vocabulary, tableBytes: 16 << 10)
        let own = TokenGrammar(grammar, vocabulary: GrammarFixtures.vocabulary)
        await withTaskGroup(of: Void.self) { group in
            for seed in 0..<8 {
                group.addTask {
                    var random = SeededGenerator(state: UInt64(seed))
                    var same = SeededGenerator(state: UInt64(seed))
                    for _ in 0..<5 {
                        let left = GrammarFixtures.walk(shared, &random)
                        let right = GrammarFixtures.walk(own, &same)
                        #expect(left == right)
                    }
                }
            }
        }
    }

    @Test("Nesting stops at the limit of depth, and every text can still be completed")
    func depth() throws {
        let grammar = try GrammarFixtures.compile(.gbnf, "root ::= \"(\" root \")\" | \"[\" root \"]\" | \"x\"")
        let tokens = TokenGrammar(grammar, vocabulary: GrammarFixtures.vocabulary)
        var matcher = GrammarMatcher(tokens)
        var opened = 0
        while matcher.accept(TokenID(UInt8(ascii: "("))) { opened += 1 }
        #expect((200...300).contains(opened))
        for _ in 0..<3 {
            let (words, count) = GrammarFixtures.mask(matcher)
            #expect(count > 0)
            for token in 0..<GrammarFixtures.tokens.count {
                var copy = matcher
                let isAccepted = copy.accept(TokenID(token))
                #expect(isAccepted == GrammarFixtures.permits(words, token))
            }
        }
        matcher.expect(TokenID(UInt8(ascii: "x")))
        for _ in 0..<opened { matcher.expect(TokenID(UInt8(ascii: ")"))) }
        #expect(matcher.isExhausted)
    }

    @Test("A vocabulary that lacks bytes leaves masks empty, and nothing else goes wrong")
    func poorVocabularies() throws {
        let grammar = try GrammarFixtures.compile(.regularExpression, "ab")
        for tokens in [[], [nil], [[]], [Array("b".utf8)]] as [[[UInt8]?]] {
            let vocabulary = TokenVocabulary(count: tokens.count) { tokens[Int($0)] }
            let matcher = GrammarMatcher(TokenGrammar(grammar, vocabulary: vocabulary))
            var words = Array(repeating: UInt32.max, count: vocabulary.maskWords)
            let count = words.withUnsafeMutableBufferPointer { matcher.fillMask($0) }
            #expect(count == 0)
            #expect(words.allSatisfy { $0 == 0 })
            #expect(!matcher.isAccepting)
        }
    }
}
