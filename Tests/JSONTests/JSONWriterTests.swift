// Tandem — Apache-2.0

import JSON
import TestSupport
import Testing

@Suite struct JSONWriterTests {
    private func written(_ body: (inout JSONWriter) -> Void) -> String {
        var writer = JSONWriter()
        body(&writer)
        return String(decoding: writer.bytes, as: UTF8.self)
    }

    @Test func commasStandBetweenValues() {
        let text = written {
            $0.beginObject()
            $0.key("a")
            $0.beginArray()
            $0.integer(1)
            $0.beginArray()
            $0.endArray()
            $0.beginObject()
            $0.endObject()
            $0.null()
            $0.endArray()
            $0.key("b")
            $0.bool(true)
            $0.key("c")
            $0.raw("[0]".utf8)
            $0.key("d")
            $0.string("x")
            $0.endObject()
        }
        #expect(text == #"{"a":[1,[],{},null],"b":true,"c":[0],"d":"x"}"#)
    }

    @Test func numbersAreShortAndExact() throws {
        #expect(written { $0.integer(Int64.min) } == "-9223372036854775808")
        #expect(written { $0.integer(UInt64.max) } == "18446744073709551615")
        #expect(written { $0.float(0.1) } == "0.1")
        #expect(written { $0.number(0.1) } == "0.1")
        #expect(written { $0.float(-1.25) } == "-1.25")
        #expect(written { $0.float(.nan) } == "null")
        #expect(written { $0.float(-.infinity) } == "null")
        #expect(written { $0.number(.infinity) } == "null")
        let edges: [Float] = [
            0, -0.0, .leastNonzeroMagnitude, .leastNormalMagnitude, .greatestFiniteMagnitude, .ulpOfOne, 16_777_216,
            1e20, 1e-5, -2.0795,
        ]
        var generator = SeededGenerator(seed: 9)
        let random = (0..<2000).map { _ in Float(bitPattern: .random(in: 0 ... .max, using: &generator)) }
        for value in edges + random where value.isFinite {
            let text = written { $0.float(value) }
            let back = try #require(try JSONParser.parse(text.utf8).number, "\(text)")
            #expect(Float(back).bitPattern == value.bitPattern, "\(text)")
        }
        for _ in 0..<2000 {
            let value = Double(bitPattern: .random(in: 0 ... .max, using: &generator))
            guard value.isFinite else { continue }
            let text = written { $0.number(value) }
            #expect(try JSONParser.parse(text.utf8).number?.bitPattern == value.bitPattern, "\(text)")
        }
    }

    @Test func stringsAreEscaped() throws {
        #expect(written { $0.string("a\"b\\c/é🙂") } == #""a\"b\\c/é🙂""#)
        #expect(written { $0.string("\u{8}\u{C}\n\r\t\0\u{1F}\u{7F}") } == "\"\\b\\f\\n\\r\\t\\u0000\\u001f\u{7F}\"")
        let all = String(String.UnicodeScalarView((0..<0x250).compactMap { Unicode.Scalar($0 as UInt32) }))
        #expect(try JSONParser.parse(written { $0.string(all) }.utf8).string == all)
        #expect(
            try JSONParser.parse(
                written {
                    $0.beginObject()
                    $0.key(all)
                    $0.null()
                    $0.endObject()
                }.utf8
            )
            .object?[all] == .null)
        // The path for sequences without contiguous storage gives the same.
        var bytes: [UInt8] = []
        JSONWriter.appendEscaped(AnySequence(Array(all.utf8)), to: &bytes)
        #expect("\"" + String(decoding: bytes, as: UTF8.self) + "\"" == written { $0.string(all) })
    }

    @Test func aWriterIsUsedAgain() {
        var writer = JSONWriter(Array("data: ".utf8))
        writer.integer(1)
        #expect(writer.bytes == Array("data: 1".utf8))
        writer.reset()
        writer.beginArray()
        writer.endArray()
        #expect(writer.bytes == Array("[]".utf8))
    }
}
