// Tandem — Apache-2.0

import JSON
import TestSupport
import Testing

@Suite struct JSONParserTests {
    private func parse(_ text: String, _ limits: JSONLimits = JSONLimits()) throws(JSONError) -> JSONValue {
        try JSONParser.parse(text.utf8, limits: limits)
    }

    private func expectError(
        _ bytes: some Collection<UInt8>, at offset: Int, _ words: String = "", limits: JSONLimits = JSONLimits(),
        location: SourceLocation = #_sourceLocation
    ) {
        do throws(JSONError) {
            let value = try JSONParser.parse(bytes, limits: limits)
            Issue.record("accepted as \(value)", sourceLocation: location)
        } catch {
            #expect(error.offset == offset, "\(error)", sourceLocation: location)
            #expect(words.isEmpty || error.reason.contains(words), "\(error)", sourceLocation: location)
        }
    }

    private func expectError(
        _ text: String, at offset: Int, _ words: String = "", location: SourceLocation = #_sourceLocation
    ) {
        expectError(Array(text.utf8), at: offset, words, location: location)
    }

    // MARK: - What is JSON

    @Test func valuesOfEveryKind() throws {
        #expect(try parse("null") == .null)
        #expect(try parse(" true\n") == .bool(true))
        #expect(try parse("\t\r\nfalse") == .bool(false))
        #expect(try parse("\"\"") == .string(""))
        #expect(try parse("[]") == .array([]))
        #expect(try parse("[ ]") == .array([]))
        #expect(try parse("{ }") == .object(JSONObject()))
        #expect(try parse("[1,[2,\"3\"],null]") == .array([.integer(1), .array([.integer(2), .string("3")]), .null]))
        let object = try parse(#" { "b" : 1 , "a":{"c":[true]} } "#)
        #expect(object.object?.entries.map(\.key) == ["b", "a"])
        #expect(object.object?["b"] == .integer(1))
        #expect(object.object?["a"]?.object?["c"]?.array == [.bool(true)])
        #expect(object.object?["z"] == nil)
    }

    @Test func integers() throws {
        #expect(try parse("0") == .integer(0))
        #expect(try parse("-0") == .integer(0))
        #expect(try parse("-17") == .integer(-17))
        #expect(try parse("9223372036854775807") == .integer(.max))
        #expect(try parse("-9223372036854775808") == .integer(.min))
        #expect(try parse("9223372036854775808") == .number(9_223_372_036_854_775_808))
        #expect(try parse("-9223372036854775809") == .number(-9_223_372_036_854_775_808))
        #expect(try parse("18446744073709551616") == .number(0x1p64))
        #expect(try parse("1" + String(repeating: "0", count: 300)) == .number(1e300))
    }

    @Test func numbers() throws {
        let numbers = [
            "0.0", "1.0", "-0.5", "1e0", "1E+2", "25e-1", "3.141592653589793", "2.2250738585072014e-308", "5e-324",
            "1.7976931348623157e308", "0.1", "123456789.123456789", "0e999999999", "1e-400", "-1.0e-7",
        ]
        for text in numbers {
            let expected = try #require(Double(text))
            #expect(try parse(text) == .number(expected), "\(text)")
        }
        #expect(try parse("-0.0").number?.sign == .minus)
        #expect(try parse("1e-400") == .number(0))
        #expect(try parse("2").number == 2)
        #expect(try parse("2.0").integer == nil)
    }

    @Test func strings() throws {
        #expect(try parse(#""naïve 日本 🙂""#) == .string("naïve 日本 🙂"))
        #expect(try parse(#""\"\\\/\b\f\n\r\t""#) == .string("\"\\/\u{8}\u{C}\n\r\t"))
        #expect(try parse(#""a\u0041\u00e9\u65E5z""#) == .string("aAé日z"))
        #expect(try parse(#""\ud83d\ude42 \uDBFF\uDFFF""#) == .string("🙂 \u{10FFFF}"))
        #expect(try parse(#""\u0000\ufeff\uffff""#) == .string("\0\u{FEFF}\u{FFFF}"))
        #expect(try parse("\"\u{7F}\u{2028}\"") == .string("\u{7F}\u{2028}"))
        // Strings that follow each other do not share what was put together for the first.
        #expect(try parse(#"["a\n","b\t"]"#) == .array([.string("a\n"), .string("b\t")]))
    }

    @Test func anyCollectionOfBytes() throws {
        let bytes: [UInt8] = Array("xx[1, \"é\"]yy".utf8)
        #expect(try JSONParser.parse(bytes[2..<bytes.count - 2]) == .array([.integer(1), .string("é")]))
        let value = try bytes.withUnsafeBytes { raw in try JSONParser.parse(raw[2..<bytes.count - 2]) }
        #expect(value == .array([.integer(1), .string("é")]))
        // Without contiguous storage, too.
        #expect(try JSONParser.parse(Array("]1[".utf8).reversed() as ReversedCollection) == .array([.integer(1)]))
        expectError(bytes[3..<6], at: 1)
    }

    // MARK: - What is not

    @Test func brokenStructure() {
        expectError("", at: 0, "ends where a value")
        expectError("  ", at: 2, "ends")
        expectError("[1,2", at: 4, "ends where a comma")
        expectError("[1,]", at: 3, "a value")
        expectError("[,1]", at: 1)
        expectError("[1 2]", at: 3, "\"2\" stands where a comma")
        expectError("{\"a\":1,}", at: 7, "a key")
        expectError("{\"a\"}", at: 4, "a colon")
        expectError("{\"a\":}", at: 5, "a value")
        expectError("{a:1}", at: 1, "a key")
        expectError("{1:1}", at: 1, "a key")
        expectError("{'a':1}", at: 1)
        expectError("]", at: 0)
        expectError("[1}", at: 2)
        expectError("1 2", at: 2, "the end of the input")
        expectError("{} x", at: 3)
        expectError("[1] // no", at: 4)
        expectError("[/* no */ 1]", at: 1)
        expectError("\u{FEFF}1", at: 0, "byte order mark")
        expectError("[1\u{A0}]", at: 2, "0xc2")
        expectError([UInt8(ascii: "1"), 0], at: 1, "0x0")
    }

    @Test func brokenWordsAndNumbers() {
        for text in ["nul", "nulL", "True", "NaN", "Infinity", "undefined", "tru", "fals e", "'a'"] {
            expectError(text, at: 0)
        }
        expectError("-Infinity", at: 1, "a digit")
        expectError("nullx", at: 4)
        expectError("01", at: 0, "needless zero")
        expectError("-012", at: 0, "needless zero")
        expectError("+1", at: 0)
        expectError(".5", at: 0)
        expectError("1.", at: 2, "a digit")
        expectError("1.e5", at: 2, "a digit")
        expectError("1e", at: 2, "a digit")
        expectError("1e+", at: 3, "a digit")
        expectError("-", at: 1, "a digit")
        expectError("--1", at: 1)
        expectError("0x10", at: 1)
        expectError("1_000", at: 1)
        expectError("[1e400]", at: 1, "too large")
        expectError("-1e309", at: 0, "too large")
        expectError(String(repeating: "9", count: 400), at: 0, "too large")
        expectError("0." + String(repeating: "1", count: 1023), at: 0, "1024")
    }

    @Test func brokenStrings() {
        expectError("\"abc", at: 4, "ends inside")
        expectError("\"abc\\", at: 5, "ends inside")
        expectError("\"a\nb\"", at: 2, "control character")
        expectError("\"a\0b\"", at: 2, "control character")
        expectError(#""a\x41""#, at: 2, "no such escape")
        expectError(#""\u12g4""#, at: 5, "hexadecimal")
        expectError(#""\u12"#, at: 5, "hexadecimal")
        expectError(#""\u+123""#, at: 3, "hexadecimal")
        expectError(#""ab\ud800""#, at: 3, "surrogate")
        expectError(#""\ud800\n""#, at: 1, "surrogate")
        expectError(#""\ud800\ud801""#, at: 1, "surrogate")
        expectError(#""\ud800\ue000""#, at: 1, "surrogate")
        expectError(#""\udbff\uffff""#, at: 1, "surrogate")
        expectError(#""\udc00""#, at: 1, "surrogate")
        expectError(#""\ude42\ud83d""#, at: 1, "surrogate")
    }

    @Test(
        arguments: [
            [0xFF], [0x80], [0xC3], [0xC0, 0xAF], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80],
            [0xE2, 0x82], [0xF0, 0x9F, 0x99],
        ] as [[UInt8]]) func invalidUTF8(_ broken: [UInt8])
    {
        let quote = UInt8(ascii: "\"")
        expectError([quote, 0x61] + broken + [quote], at: 2, "UTF-8")
        // Behind an escape, and as a key.
        expectError(Array("[\"\\n".utf8) + broken + Array("\"]".utf8), at: 4, "UTF-8")
        expectError(Array("{\"".utf8) + broken + Array("\":1}".utf8), at: 2, "UTF-8")
    }

    @Test func bytesOutsideStringsMustBeASCII() {
        expectError([0xFF], at: 0, "0xff")
        expectError([UInt8(ascii: "["), 0xE2, 0x82, 0xAC, UInt8(ascii: "]")], at: 1)
    }

    @Test func keysThatRepeat() throws {
        expectError(#"{"a":1,"b":2,"a":3}"#, at: 13, "second time")
        expectError(#"{"a":1,"\u0061":3}"#, at: 7, "second time")
        let members = (0..<100).map { "\"k\($0)\":\($0)" }
        let many = try parse("{" + members.joined(separator: ",") + "}")
        #expect(many.object?.count == 100)
        #expect((0..<100).allSatisfy { many.object?["k\($0)"] == .integer(Int64($0)) })
        let repeated = "{" + (members + ["\"k57\":0"]).joined(separator: ",") + "}"
        expectError(repeated, at: repeated.utf8.count - 8, "second time")
        // Equivalent in Unicode, and yet different keys.
        let precomposed = try parse("{\"\u{E9}\":1,\"e\u{301}\":2}")
        #expect(precomposed.object?["\u{E9}"] == .integer(1))
        #expect(precomposed.object?["e\u{301}"] == .integer(2))
    }

    // MARK: - Limits

    @Test func depth() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect(throws: Never.self) { try parse(nested(64)) }
        expectError(nested(65), at: 64, "deeper than 64")
        expectError(String(repeating: "{\"a\":", count: 65), at: 320, "deeper than 64")
        // No limit leads into a stack overflow.
        let unlimited = JSONLimits(maximumDepth: .max)
        #expect(throws: Never.self) { try parse(nested(512), unlimited) }
        expectError(Array(String(repeating: "[", count: 5_000_000).utf8), at: 512, "deeper than 512", limits: unlimited)
        #expect(throws: Never.self) { try parse("1", JSONLimits(maximumDepth: 0)) }
        expectError(Array("[]".utf8), at: 0, "deeper than 0", limits: JSONLimits(maximumDepth: 0))
    }

    @Test func sizes() throws {
        let text = Array("[1,2,3]".utf8)
        #expect(throws: Never.self) {
            try JSONParser.parse(text, limits: JSONLimits(maximumBytes: 7, maximumValues: 4))
        }
        expectError(text, at: 0, "6 are allowed", limits: JSONLimits(maximumBytes: 6))
        expectError(text, at: 5, "more than 3 values", limits: JSONLimits(maximumValues: 3))
    }

    // MARK: - Any bytes

    @Test func truncatedAndChangedDocuments() throws {
        let document = Array(
            #" {"model":"m","messages":[{"role":"user","content":"a\u00e9\ud83d\ude42\n日本"}],"t":0.7e-1,"n":[-1,null,true,false,{}]}"#
                .utf8)
        #expect(throws: Never.self) { try JSONParser.parse(document) }
        for length in 0..<document.count {
            #expect(throws: JSONError.self) { try JSONParser.parse(document[..<length]) }
        }
        var generator = SeededGenerator(seed: 5)
        let telling = Array("\"\\{}[],:0123456789eE+-.u tfn\n\0\u{7F}é".utf8)
        var accepted = 0
        for _ in 0..<20_000 {
            var bytes = document
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let position = Int.random(in: 0..<bytes.count, using: &generator)
                let byte = telling.randomElement(using: &generator) ?? 0
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes[position] = byte
                case 1: bytes[position] = .random(in: .min ... .max, using: &generator)
                case 2: bytes.insert(byte, at: position)
                default: bytes.remove(at: position)
                }
            }
            do throws(JSONError) {
                let value = try JSONParser.parse(bytes)
                accepted += 1
                // What was understood can be written and is understood the same.
                var writer = JSONWriter()
                writer.value(value)
                let again = try JSONParser.parse(writer.bytes)
                if again != value { Issue.record("\(value) was written as \(again)") }
            } catch {
                if !(0...bytes.count).contains(error.offset) { Issue.record("an error outside the input: \(error)") }
            }
        }
        #expect(accepted > 500)
    }
}
