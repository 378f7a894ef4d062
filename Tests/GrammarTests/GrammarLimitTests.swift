// Tandem — Apache-2.0

import Grammar
import Requests
import Testing

@Suite("Hostile grammars")
struct GrammarLimitTests {
    private func error(_ kind: GrammarSource.Kind, _ text: String) -> GrammarError? {
        do throws(GrammarError) {
            _ = try CompiledGrammar(GrammarSource(kind: kind, text: text))
            return nil
        } catch {
            return error
        }
    }

    @Test("Sources beyond a limit are refused as too complex, with the limit in the reason")
    func tooComplex() {
        let deep = String(repeating: "(", count: 5000) + "a" + String(repeating: ")", count: 5000)
        let sources: [(GrammarSource.Kind, String)] = [
            (.regularExpression, String(repeating: "a", count: 300 << 10)), (.regularExpression, deep),
            (.gbnf, "root ::= " + deep.replacing("a", with: "\"a\"")), (.gbnf, "root ::= (\"abc\"{20000}){20000}"),
            (.gbnf, (0..<5000).map { "r\($0) ::= \"a\"\n" }.joined() + "root ::= r0"),
            (.regularExpression, "((((a{0,20}){0,20}){0,20}){0,20}){0,20}"),
            (.regularExpression, "(.*a.{20}|.*b.{20}|.*c.{20})*"),
            (.jsonSchema, #"{"type":"string","minLength":20001}"#),
            (
                .jsonSchema,
                #"{"type":"array","items":{"type":"array","items":{"enum":["a"]},"minItems":20000},"prefixItems":[\#((0..<200).map { _ in #"{"type":"string","pattern":"^[a-z]{1000}$"}"# }.joined(separator: ","))]}"#
            ),
            (
                .jsonSchema,
                #"{"allOf":[\#((0..<12).map { #"{"anyOf":[{"minLength":\#($0)},{"maximum":\#($0)}]}"# }.joined(separator: ","))]}"#
            ),
        ]
        for (kind, text) in sources {
            let error = error(kind, text)
            #expect(error?.kind == .tooComplex, "\(text.prefix(60)): \(String(describing: error))")
            #expect(error?.reason.contains(where: \.isNumber) == true || error?.reason.contains("steps") == true)
        }
    }

    @Test("What a schema costs in all is bounded, however it is divided")
    func allTogether() {
        let patterns = (0..<4000).map { #""p\#($0)":{"pattern":"^\#(["a", "b"][$0 & 1]){\#(19990 - $0)}$"}"# }
            .joined(separator: ",")
        let branches = (0..<200).map { #"{"type":"string","pattern":"^\#(1000 + $0)","maxLength":19000}"# }
            .joined(separator: ",")
        let names = (0..<40_000).map { "\"\($0)\"" }.joined(separator: ",")
        for text in [
            #"{"properties":{\#(patterns)}}"#, #"{"oneOf":[\#(branches)]}"#, #"{"required":[\#(names)]}"#,
            #"{"enum":[\#(names)]}"#,
        ] {
            #expect(error(.jsonSchema, text)?.kind == .tooComplex, "\(text.prefix(60))")
        }
        // Equal patterns are made once, wherever they stand.
        let equal = (0..<300).map { #""p\#($0)":{"pattern":"^[a-f]{1500}$"}"# }.joined(separator: ",")
        let same = error(.jsonSchema, #"{"properties":{\#(equal)}}"#)
        #expect(same == nil || same?.reason.contains("patterns, formats") == false, "\(String(describing: same))")
    }

    @Test("A grammar that takes too long to follow is given up, and says so")
    func tooAmbiguous() throws {
        var lines = ["root ::= [a-z ] root"]
        for letter in "abcdefghijklmnopqrstuvwxyz" {
            lines[0] += " | r\(letter)"
            lines.append("r\(letter) ::= \"\(letter)\" [a-z ]{30} \".\" | \"\\x01\" r\(letter)")
        }
        for index in 0..<440 {
            lines[0] += " | p\(index)"
            lines.append("p\(index) ::= \"\\x02\" p\(index) | \"\\x03\"")
        }
        let grammar = try CompiledGrammar(GrammarSource(kind: .gbnf, text: lines.joined(separator: "\n")))
        var random = SeededGenerator(state: 9)
        let tokens = (0..<20_000).map { _ in (0..<6).map { _ in UInt8.random(in: 97...122, using: &random) } }
        let vocabulary = TokenVocabulary(count: tokens.count) { tokens[Int($0)] }
        let matcher = GrammarMatcher(TokenGrammar(grammar, vocabulary: vocabulary))
        var words = [UInt32](repeating: 1, count: vocabulary.maskWords)
        let count = words.withUnsafeMutableBufferPointer { matcher.fillMask($0) }
        #expect(count == nil && words.allSatisfy { $0 == 0 })
    }

    @Test("Formats of numbers say nothing, and other types have none")
    func numberFormats() {
        for text in [
            #"{"type":"integer","format":"int32"}"#, #"{"type":"number","format":"double"}"#, #"{"format":"int64"}"#,
            #"{"type":["integer","null"],"format":"date"}"#,
        ] {
            #expect(error(.jsonSchema, text) == nil, "\(text)")
        }
        #expect(error(.jsonSchema, #"{"type":"string","format":"int32"}"#)?.kind == .unsupported)
    }

    @Test("GBNF takes space before a quantifier, and several of them, as llama.cpp does")
    func quantifiers() {
        for text in [
            "root ::= \"a\" * [0-9] +", "root ::= \"a\"+?", "root ::= ( \"a\"\n + )", "root ::= r *\nr ::= \"a\" {2} ?",
        ] {
            #expect(error(.gbnf, text) == nil, "\(text)")
        }
        #expect(error(.gbnf, "root ::= \"a\"?????")?.kind == .malformed)
    }

    @Test("Nesting of a schema is bounded, and so are chains of references")
    func nesting() {
        let deep = String(repeating: #"{"items":"#, count: 2000) + "{}" + String(repeating: "}", count: 2000)
        #expect(error(.jsonSchema, deep)?.kind == .malformed)
        let chain = (0..<500).map { ##""d\##($0)":{"$ref":"#/$defs/d\##($0 + 1)"}"## }.joined(separator: ",")
        #expect(error(.jsonSchema, ##"{"$ref":"#/$defs/d0","$defs":{\##(chain),"d500":{}}}"##)?.kind == .tooComplex)
        let many = (0..<5000).map { #""p\#($0)":{"type":"integer","minimum":\#($0)}"# }.joined(separator: ",")
        #expect(error(.jsonSchema, #"{"properties":{\#(many)}}"#)?.kind == .tooComplex)
    }

    @Test("Sources that are no text of their notation are refused, never more")
    func garbage() {
        var random = SeededGenerator(state: 3)
        let seeds: [(GrammarSource.Kind, String)] =
            MaskTests.sources + [
                (.regularExpression, "(?:a|[^b-d\\d]{1,3}?)+\\u00e9$"),
                (.gbnf, "root ::= (\"a\" | [^\\x00-\\u00ff]{2,})* r # c\nr ::= .? | \"\\\"\""),
                (
                    .jsonSchema,
                    ##"{"anyOf":[{"const":1},{"type":["string"],"format":"date"}],"$defs":{"a":{"$ref":"#/$defs/a"}}}"##
                ),
            ]
        for (kind, text) in seeds {
            let scalars = Array(text.unicodeScalars)
            for _ in 0..<150 {
                var changed = scalars
                for _ in 0..<Int.random(in: 1...3, using: &random) where !changed.isEmpty {
                    let index = Int.random(in: 0..<changed.count, using: &random)
                    switch Int.random(in: 0..<3, using: &random) {
                    case 0: changed.remove(at: index)
                    case 1: changed.insert(scalars[Int.random(in: 0..<scalars.count, using: &random)], at: index)
                    default: changed[index] = Unicode.Scalar(UInt8.random(in: 32..<127, using: &random))
                    }
                }
                var view = String.UnicodeScalarView()
                view.append(contentsOf: changed)
                do throws(GrammarError) {
                    let grammar = try CompiledGrammar(GrammarSource(kind: kind, text: String(view)))
                    let tokens = TokenGrammar(grammar, vocabulary: GrammarFixtures.vocabulary)
                    if let text = GrammarFixtures.walk(tokens, &random) { #expect(grammar.matches(text)) }
                } catch {
                    #expect(!error.reason.isEmpty)
                }
            }
        }
    }

    @Test("A text may be as ambiguous as it likes")
    func ambiguity() throws {
        // Every split of the text is a reading of its own.
        let grammar = try CompiledGrammar(
            GrammarSource(
                kind: .gbnf,
                text:
                    "root ::= s\ns ::= \"a\" s | \"a\" s s | \"a\" s \"b\" s \"c\" | t\nt ::= \"a\" | \"a\" t \"a\" | \"a\" t t"
            ))
        #expect(grammar.matches(String(repeating: "a", count: 60)))
        #expect(!grammar.matches(String(repeating: "a", count: 60) + "d"))
        let wide = try CompiledGrammar(
            GrammarSource(
                kind: .gbnf,
                text: "root ::= " + (0..<200).map { "r\($0)" }.joined(separator: " | ") + "\n"
                    + (0..<200).map { "r\($0) ::= \"(\" r\($0) \")\" \"x\"{\($0)} | \"y\"\n" }.joined()))
        var matcher = GrammarMatcher(TokenGrammar(wide, vocabulary: GrammarFixtures.vocabulary))
        for _ in 0..<10 {
            matcher.expect(TokenID(UInt8(ascii: "(")))
            #expect(GrammarFixtures.mask(matcher).count > 0)
        }
    }
}
