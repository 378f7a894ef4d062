// Tandem — Apache-2.0

import TestSupport
import Testing
import Weights

/// Files that are wrong in one way, and the offset and words they are refused with.
@Suite struct GGUFRefusalTests {
    private func refusal(_ bytes: [UInt8]) -> WeightsError? {
        do throws(WeightsError) {
            _ = try GGUFFile(bytes: bytes, name: "bad.gguf")
            return nil
        } catch {
            return error
        }
    }

    private func expectRefusal(
        _ bytes: [UInt8], at offset: UInt64?, _ words: String..., location: SourceLocation = #_sourceLocation
    ) {
        guard let error = refusal(bytes) else {
            Issue.record("accepted", sourceLocation: location)
            return
        }
        #expect(error.path == "bad.gguf", sourceLocation: location)
        if let offset { #expect(error.offset == offset, "\(error)", sourceLocation: location) }
        for word in words { #expect(error.reason.contains(word), "\(error)", sourceLocation: location) }
    }

    private func withMetadata(_ pairs: [(String, GGUFBuilder.Value)]) -> [UInt8] {
        var builder = GGUFBuilder()
        for (key, value) in pairs { builder.add(key, value) }
        return builder.build()
    }

    private func withTensor(
        code: UInt32 = 0, shape: [UInt64], bytes: [UInt8] = [0, 0, 0, 0], offset: UInt64? = nil
    ) -> [UInt8] {
        var builder = GGUFBuilder()
        builder.addTensor("blk.0.x", code: code, shape: shape, bytes: bytes, offset: offset)
        return builder.build()
    }

    // The tensor table of `withTensor` begins behind the header; a name of 7 bytes.
    private let shapeOffset: UInt64 = 24 + 8 + 7

    @Test func otherFilesAndVersions() {
        expectRefusal([], at: 0, "ends")
        expectRefusal(Array("GGU".utf8), at: 0, "ends")
        expectRefusal(Array("{\"a\": 12345}".utf8), at: 0, "not a GGUF file", "7b 22 61 22")
        var builder = GGUFBuilder()
        for version in [0, 1, 4, 99, 0x0300_0000, 0x0100_0000] as [UInt32] {
            builder.version = version
            let word =
                switch version {
                case 1: "version 1"
                case 0x0300_0000, 0x0100_0000: "big-endian"
                default: "version \(version)"
                }
            expectRefusal(builder.build(), at: 4, word, "not supported")
        }
    }

    @Test func countsThatCannotBe() {
        var builder = GGUFBuilder()
        for count in [1, 1 << 32, 1 << 60, .max] as [UInt64] {
            builder.statedTensorCount = count
            builder.statedPairCount = nil
            expectRefusal(builder.build(), at: 8, "\(count) tensors")
            builder.statedTensorCount = nil
            builder.statedPairCount = count
            expectRefusal(builder.build(), at: 16, "\(count) metadata pairs")
        }
    }

    @Test func metadataThatCannotBe() {
        // A pair begins at 24: key length, key of one byte, type, value at 37.
        var bytes = withMetadata([("k", .string("abc"))])
        bytes[37] = 4
        expectRefusal(bytes, at: 37, "4 bytes", "3 bytes are left")
        bytes.replaceSubrange(37..<45, with: [UInt8](repeating: 0xFF, count: 8))
        expectRefusal(bytes, at: 37, "18446744073709551615 bytes")
        bytes = withMetadata([("k", .string("abc"))])
        bytes[46] = 0xFF
        expectRefusal(bytes, at: 46, "UTF-8")
        bytes = withMetadata([("k", .uint32(1))])
        bytes[33] = 13
        expectRefusal(bytes, at: 33, "is 13", "\"k\"")
        bytes = withMetadata([("k", .bool(true))])
        bytes[37] = 2
        expectRefusal(bytes, at: 37, "boolean")
        expectRefusal(withMetadata([("", .uint64(1))]), at: 24, "key", "0 bytes")
        expectRefusal(
            withMetadata([(String(repeating: "k", count: 65536), .uint64(1))]), at: 24, "65536 bytes")
        expectRefusal(withMetadata([("k", .uint8(1)), ("k", .uint8(2))]), at: 38, "second time", "\"k\"")
    }

    @Test func arraysThatCannotBe() {
        var bytes = withMetadata([("k", .array(8, [.string("a"), .string("b")]))])
        // The array at 37: type, count at 41.
        bytes[41] = 3
        expectRefusal(bytes, at: 41, "3 array elements")
        bytes = withMetadata([("k", .array(12, [.float64(1)]))])
        bytes.replaceSubrange(41..<49, with: [0, 0, 0, 0, 0, 0, 0, 0x20])
        expectRefusal(bytes, at: 41, "2305843009213693952 array elements")
        bytes = withMetadata([("k", .array(77, []))])
        expectRefusal(bytes, at: 37, "is 77")
        bytes = withMetadata([("k", .array(7, [.bool(true), .bool(true)]))])
        bytes[50] = 9
        expectRefusal(bytes, at: 50, "boolean")

        func nested(_ depth: Int) -> GGUFBuilder.Value {
            depth == 1 ? .array(0, []) : .array(9, [nested(depth - 1)])
        }
        #expect(refusal(withMetadata([("k", nested(8))])) == nil)
        expectRefusal(withMetadata([("k", nested(9))]), at: nil, "deeper than 8")
        expectRefusal(withMetadata([("k", nested(5000))]), at: nil, "deeper than 8")
    }

    @Test func alignmentsThatCannotBe() {
        for alignment in [0, 1, 4, 33, 48, 1 << 21, .max] as [UInt32] {
            expectRefusal(withMetadata([("general.alignment", .uint32(alignment))]), at: 53, "power of two")
        }
        expectRefusal(withMetadata([("general.alignment", .string("32"))]), at: 53, "power of two")
        expectRefusal(withMetadata([("general.alignment", .int32(-32))]), at: 53, "power of two")
    }

    @Test func tensorsThatCannotBe() {
        #expect(refusal(withTensor(shape: [1])) == nil)
        expectRefusal(withTensor(shape: []), at: shapeOffset, "\"blk.0.x\"", "0 dimensions")
        expectRefusal(withTensor(shape: [1, 1, 1, 1, 1]), at: shapeOffset, "5 dimensions")
        expectRefusal(withTensor(shape: [1, 0]), at: shapeOffset + 12, "dimension of 0")
        expectRefusal(withTensor(shape: [.max]), at: shapeOffset + 4, "dimension of 18446744073709551615")
        expectRefusal(withTensor(shape: [1 << 32, 1 << 31]), at: shapeOffset + 12, "2^63 elements")
        expectRefusal(withTensor(shape: [1 << 32, 1 << 30]), at: shapeOffset, "2^63 bytes")
        expectRefusal(withTensor(shape: [1 << 40]), at: shapeOffset + 16, "file has only")
        expectRefusal(withTensor(shape: [2]), at: shapeOffset + 16, "takes 8 bytes", "incomplete")
        expectRefusal(withTensor(shape: [1], offset: 4), at: shapeOffset + 16, "multiple of the alignment 32")
        expectRefusal(withTensor(shape: [1], offset: 32), at: shapeOffset + 16, "file has only")
        expectRefusal(withTensor(shape: [1], offset: .max - 31), at: shapeOffset + 16, "file has only")
        expectRefusal(
            withTensor(code: 8, shape: [16, 2], bytes: [UInt8](repeating: 0, count: 34)), at: shapeOffset + 4,
            "rows of 16", "Q8_0 blocks of 32")
        var builder = GGUFBuilder()
        builder.addTensor("x", shape: [1], values: [1])
        builder.addTensor("x", shape: [1], values: [1])
        expectRefusal(builder.build(), at: 24 + 8 + 1 + 4 + 8 + 4 + 8, "second time")
        builder = GGUFBuilder()
        builder.addTensor("", shape: [1], values: [1])
        expectRefusal(builder.build(), at: 24, "tensor name", "0 bytes")
    }

    @Test func typesThatAreNotReadAreNamed() {
        let supported = "F32, F16, BF16, Q8_0, Q4_0, Q4_1"
        expectRefusal(
            withTensor(code: 10, shape: [256]), at: shapeOffset + 12, "\"blk.0.x\"", "Q2_K (code 10)", supported)
        expectRefusal(withTensor(code: 4, shape: [32]), at: shapeOffset + 12, "Q4_2 (code 4)", supported)
        expectRefusal(withTensor(code: 1000, shape: [32]), at: shapeOffset + 12, "unknown (code 1000)", supported)
    }

    @Test func messagesStayReadableWhateverAFileCallsItsTensors() throws {
        var builder = GGUFBuilder()
        builder.addTensor("evil\u{1B}[2J\n" + String(repeating: "x", count: 10_000), code: 0, shape: [], bytes: [])
        let error = try #require(refusal(builder.build()))
        #expect(error.description.utf8.count < 300)
        #expect(!error.description.unicodeScalars.contains { $0.value < 32 })
        #expect(error.description.hasPrefix("bad.gguf: byte "))
    }
}
