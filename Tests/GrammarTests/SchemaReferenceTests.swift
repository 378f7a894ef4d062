// Tandem — Apache-2.0

import Foundation
import Grammar
import JSON
import Requests
import Testing

@Suite("Schemas against the verdicts of jsonschema")
struct SchemaReferenceTests {
    private struct Reference {
        var schema: String
        var valid: [String]
        var invalid: [String]
    }

    private func references() throws -> [Reference] {
        try #require(GrammarFixtures.json("schemas.json").array).map { row in
            Reference(
                schema: try #require(row.object?["schema"]?.string),
                valid: try #require(row.object?["valid"]?.array).compactMap(\.string),
                invalid: try #require(row.object?["invalid"]?.array).compactMap(\.string))
        }
    }

    @Test("Valid instances match and invalid ones do not")
    func instances() throws {
        let references = try references()
        #expect(references.count >= 200)
        #expect(references.reduce(0) { $0 + $1.valid.count } > 1000)
        #expect(references.reduce(0) { $0 + $1.invalid.count } > 2000)
        for reference in references {
            let grammar = try GrammarFixtures.compile(.jsonSchema, reference.schema)
            for text in reference.valid {
                #expect(grammar.matches(text), "\(text) is valid by \(reference.schema)")
            }
            for text in reference.invalid {
                #expect(!grammar.matches(text), "\(text) is not valid by \(reference.schema)")
            }
        }
    }

    @Test("What cannot be honoured is refused with a pointer to it")
    func refusals() throws {
        let rows = try #require(GrammarFixtures.json("refused.json").array)
        #expect(rows.count >= 60)
        for row in rows {
            let schema = try #require(row.object?["schema"]?.string)
            do {
                _ = try GrammarFixtures.compile(.jsonSchema, schema)
                Issue.record("accepted: \(schema)")
            } catch let error as GrammarError {
                #expect("\(error.kind)" == row.object?["kind"]?.string, "\(schema): \(error)")
                #expect(error.place == row.object?["place"]?.string, "\(schema): \(error)")
                #expect(!error.reason.isEmpty)
            }
        }
    }

    /// `samples.json` was checked by make_references.py: every text in it is valid by its schema.
    @Test("Sampled texts are those that jsonschema found valid")
    func samples() throws {
        var writer = JSONWriter()
        writer.beginArray()
        let known =
            ProcessInfo.processInfo.environment["TANDEM_GRAMMAR_SAMPLES"] == nil
            ? try #require(GrammarFixtures.json("samples.json").array) : []
        for (index, reference) in try references().enumerated() {
            let grammar = try GrammarFixtures.compile(.jsonSchema, reference.schema)
            let tokens = TokenGrammar(grammar, vocabulary: GrammarFixtures.vocabulary)
            var random = SeededGenerator(state: UInt64(index))
            var texts: [String] = []
            for _ in 0..<40 where texts.count < 8 {
                guard let text = GrammarFixtures.walk(tokens, &random), text.utf8.count < 500 else { continue }
                #expect(grammar.matches(text))
                if !texts.contains(text) { texts.append(text) }
            }
            #expect(!texts.isEmpty, "nothing was sampled from \(reference.schema)")
            writer.beginObject()
            writer.key("schema")
            writer.string(reference.schema)
            writer.key("texts")
            writer.beginArray()
            texts.forEach { writer.string($0) }
            writer.endArray()
            writer.endObject()
            if !known.isEmpty {
                #expect(known[index].object?["schema"]?.string == reference.schema)
                #expect(known[index].object?["texts"]?.array?.compactMap(\.string) == texts)
            }
        }
        writer.endArray()
        if let path = ProcessInfo.processInfo.environment["TANDEM_GRAMMAR_SAMPLES"] {
            let rows = String(decoding: writer.bytes, as: UTF8.self).replacing("},{\"schema\"", with: "},\n{\"schema\"")
            try Data((rows + "\n").utf8).write(to: URL(filePath: path))
        }
    }

    @Test("White space is one space or one line break with indentation, where JSON permits it")
    func whitespace() throws {
        let schema =
            #"{"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"}}},"required":["a"]}"#
        let grammar = try GrammarFixtures.compile(.jsonSchema, schema)
        for text in [
            #"{"a":[1,2]}"#, #"{"a": [1, 2]}"#, "{\n  \"a\": [\n    1,\n    2\n  ]\n}", #"{ "a": [ 1, 2 ] }"#,
            "{\"a\":[]}",
            "{\"a\":[ ]}", "{\n\t\"a\":\n[]}",
        ] { #expect(grammar.matches(text), "\(text)") }
        for text in [
            #"{"a" :[1]}"#, #"{"a":[1 ,2]}"#, #" {"a":[1]}"#, #"{"a":[1]} "#, #"{"a":  [1]}"#, "{\"a\":\n\n[1]}",
            "{\"a\":\t[1]}",
            "{\"a\":[1]\r\n}",
        ] { #expect(!grammar.matches(text), "\(text)") }
    }

    @Test("Strings are JSON strings: escapes, surrogates in pairs, no control characters")
    func strings() throws {
        let grammar = try GrammarFixtures.compile(.jsonSchema, #"{"type":"string"}"#)
        for text in [
            #""""#, #""é日😀""#, #""\"\\\/\b\f\n\r\t""#, #""\u0041\u00e9\uABCD\uD7FF\ue000""#, #""\ud83d\ude00""#,
            #""\uDBFF\uDFFF!""#,
        ] { #expect(grammar.matches(text), "\(text)") }
        for text in [
            "\"", #""a"#, #""\x""#, #""\u12""#, #""\ud83d""#, #""\ude00""#, #""\ud83d\u0041""#, #""\ud83dx""#, "\"\n\"",
            "\"\u{1}\"",
            #""a""b""#,
        ] { #expect(!grammar.matches(text), "\(text)") }
    }

    @Test("Any object: what JSON allows, from its first brace to its last")
    func anyObject() throws {
        let grammar = try GrammarFixtures.compile(.jsonObject, "")
        for text in ["{}", #"{"a": 1}"#, #"{"a": [1, {"b": null}], "c": -1.5e+3}"#, #"{"": {"x": [[], {}]}}"#] {
            #expect(grammar.matches(text), "\(text)")
        }
        for text in [
            "", "[]", "1", "{", #"{"a"}"#, #"{"a": 01}"#, #"{"a": 1,}"#, #"{a: 1}"#, "{} ", #"{"a": .5}"#,
            #"{"a": +1}"#,
        ] {
            #expect(!grammar.matches(text), "\(text)")
        }
    }

    @Test("Bounds of integers and numbers are exact: every value near them is decided as arithmetic decides it")
    func bounds() throws {
        for (low, high) in [(-12, 105), (0, 1), (7, 1234), (-999, -99), (95, 1005), (-1, 1)] {
            let integers = try GrammarFixtures.compile(
                .jsonSchema, #"{"type":"integer","minimum":\#(low),"maximum":\#(high)}"#)
            let numbers = try GrammarFixtures.compile(
                .jsonSchema, #"{"type":"number","exclusiveMinimum":\#(low),"maximum":\#(high)}"#)
            for value in -1500...1500 {
                #expect(integers.matches("\(value)") == (low...high).contains(value))
                #expect(numbers.matches("\(value)") == (value > low && value <= high))
                for digit in [0, 1, 5, 9] {
                    let number = Double("\(value).\(digit)") ?? .nan
                    #expect(numbers.matches("\(value).\(digit)") == (number > Double(low) && number <= Double(high)))
                }
            }
        }
    }
}
