// Tandem — Apache-2.0

import TestSupport
import Testing
import Weights

/// Files that are wrong in one way, and the words they are refused with.
@Suite struct SafetensorsRefusalTests {
    private func expectRefusal(
        _ bytes: [UInt8], at offset: UInt64? = nil, _ words: String..., location: SourceLocation = #_sourceLocation
    ) {
        do throws(WeightsError) {
            _ = try SafetensorsFile(bytes: bytes, name: "bad.safetensors")
            Issue.record("accepted", sourceLocation: location)
        } catch {
            #expect(error.path == "bad.safetensors", sourceLocation: location)
            #expect(error.offset == offset, "\(error)", sourceLocation: location)
            for word in words { #expect(error.reason.contains(word), "\(error)", sourceLocation: location) }
        }
    }

    private func header(_ text: String, data: Int = 0) -> [UInt8] {
        var builder = SafetensorsBuilder()
        builder.trailingBytes = data
        return builder.build(header: text)
    }

    private func tensor(
        dtype: String = "F32", shape: String = "[1]", byteCount: Int = 4, offsets: String? = nil
    ) -> [UInt8] {
        var builder = SafetensorsBuilder()
        builder.addTensor(
            "w", dtype: dtype, shape: shape, bytes: Array(repeating: 0, count: byteCount), offsets: offsets)
        return builder.build()
    }

    @Test func lengthsThatCannotBe() {
        expectRefusal([], at: 0, "0 bytes")
        expectRefusal([2, 0, 0, 0, 0, 0, 0], at: 0, "7 bytes")
        expectRefusal([2, 0, 0, 0, 0, 0, 0, 0], at: 0, "2 bytes", "0 bytes are left")
        var builder = SafetensorsBuilder()
        for length in [0, 1, 100_000_001, 1 << 32, 1 << 62, 1 << 63, .max] as [UInt64] {
            builder.statedHeaderLength = length
            expectRefusal(builder.build(), at: 0, "\(length) bytes", "not a safetensors file")
        }
        builder.statedHeaderLength = 9
        expectRefusal(builder.build(), at: 0, "9 bytes", "8 bytes are left", "incomplete")
        expectRefusal(GGUFBuilder().build(), at: 0, "not a safetensors file")
    }

    @Test func headersThatAreNoJSONObject() {
        expectRefusal(header("[]"), at: 8, "no JSON object")
        expectRefusal(header(" {}"), at: 8, "no JSON object")
        expectRefusal(header("{\"a\":}"), at: 13, "header is not valid")
        expectRefusal(header("{} {}"), at: 11, "header is not valid")
        expectRefusal(header("{\"\u{1}\":1}"), at: 10, "header is not valid")
        expectRefusal(header(String(repeating: "{\"a\":", count: 1000) + "1"), at: 8 + 40, "nest deeper")
        expectRefusal(
            header("{\"w\":{\"shape\":[" + String(repeating: "0,", count: 2_000_000) + "0]}}"), at: 4_000_017, "values")
    }

    @Test func metadataThatCannotBe() {
        expectRefusal(header("{\"__metadata__\":[]}"), "__metadata__", "array instead of object")
        expectRefusal(header("{\"__metadata__\":{\"a\":1}}"), "__metadata__", "\"a\"", "integer instead of string")
    }

    @Test func fieldsThatCannotBe() {
        expectRefusal(header("{\"w\":1}"), "\"w\"", "integer instead of object")
        expectRefusal(header("{\"w\":{}}"), "\"w\"", "dtype")
        expectRefusal(header("{\"w\":{\"dtype\":1}}"), "\"w\"", "dtype")
        for shape in ["1", "[-1]", "[1.0]", "[\"1\"]", "[9223372036854775808]", "null"] {
            expectRefusal(tensor(shape: shape), "\"w\"", "shape")
        }
        for offsets in ["[]", "[0]", "[0,4,4]", "[-4,0]", "[0,4.0]", "[0,18446744073709551615]", "{}"] {
            expectRefusal(tensor(offsets: offsets), "\"w\"", "data_offsets")
        }
    }

    @Test func sizesThatCannotBe() {
        expectRefusal(tensor(shape: "[2]"), "\"w\"", "4 bytes", "8 bytes of F32")
        expectRefusal(tensor(dtype: "BF16", shape: "[1]"), "\"w\"", "2 bytes of BF16")
        expectRefusal(tensor(dtype: "I64", shape: "[1]"), "\"w\"", "8 bytes of I64")
        expectRefusal(tensor(shape: "[]", byteCount: 8), "\"w\"", "4 bytes of F32")
        expectRefusal(tensor(dtype: "F4", shape: "[3]", byteCount: 1), "\"w\"", "F4")
        expectRefusal(tensor(shape: "[4294967296,4294967296]"), "\"w\"", "2^63")
        expectRefusal(tensor(shape: "[0]"), "\"w\"", "4 bytes", "0 bytes of F32")
        expectRefusal(tensor(offsets: "[4,0]"), "\"w\"", "4 to 0")
        expectRefusal(tensor(offsets: "[0,5]"), "\"w\"", "0 to 5", "4 bytes", "incomplete")
        expectRefusal(tensor(shape: "[2]", offsets: "[0,9223372036854775807]"), "\"w\"", "incomplete")
    }

    @Test func placesThatCannotBe() {
        func two(_ first: String, _ second: String, data: Int) -> [UInt8] {
            func entry(_ offsets: String) -> String { "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":\(offsets)}" }
            return header("{\"a\":\(entry(first)),\"b\":\(entry(second))}", data: data)
        }
        // The data begin at 120, behind a header of two entries that is padded to 112.
        expectRefusal(two("[0,4]", "[0,4]", data: 4), at: 120, "\"b\"", "overlap")
        expectRefusal(two("[0,4]", "[2,6]", data: 6), at: 122, "\"b\"", "overlap")
        expectRefusal(two("[8,12]", "[0,4]", data: 12), at: 128, "\"a\"", "hole")
        expectRefusal(two("[4,8]", "[8,12]", data: 12), at: 124, "\"a\"", "hole")
        expectRefusal(two("[0,4]", "[4,8]", data: 9), at: 128, "1 bytes follow")
        expectRefusal(header("{}", data: 3), at: 16, "3 bytes follow")
    }

    @Test func namesThatStandTwice() {
        var builder = SafetensorsBuilder()
        builder.addTensor("w", shape: [1], values: [1])
        builder.addTensor("w", shape: [1], values: [1])
        expectRefusal(builder.build(), at: 8 + 1 + 53, "second time")
        // Different bytes, but the same to Unicode and to every look-up by name.
        builder = SafetensorsBuilder()
        builder.addTensor("\u{E9}", shape: [1], values: [1])
        builder.addTensor("e\u{301}", shape: [1], values: [1])
        expectRefusal(builder.build(), "second time")
    }

    @Test func messagesStayReadableWhateverAFileCallsItsTensors() {
        var builder = SafetensorsBuilder()
        builder.addMember("evil\\u001b[2J\\n" + String(repeating: "x", count: 10_000), "1")
        let error = #expect(throws: WeightsError.self) {
            try SafetensorsFile(bytes: builder.build(), name: "bad.safetensors")
        }
        #expect((error?.description.utf8.count ?? 1000) < 300)
        #expect(error?.description.unicodeScalars.contains { $0.value < 32 } == false)
    }
}
