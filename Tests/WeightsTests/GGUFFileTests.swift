// Tandem — Apache-2.0

import TestSupport
import Testing
import Weights

/// What a well-formed file says is what is read.
@Suite struct GGUFFileTests {
    /// A file with a value of every type and a tensor of every format.
    static func everything() -> GGUFBuilder {
        var builder = GGUFBuilder()
        builder.add("general.architecture", .string("llama"))
        builder.add("a.uint8", .uint8(255))
        builder.add("a.int8", .int8(-128))
        builder.add("a.uint16", .uint16(65535))
        builder.add("a.int16", .int16(-32768))
        builder.add("a.uint32", .uint32(.max))
        builder.add("a.int32", .int32(.min))
        builder.add("a.uint64", .uint64(.max))
        builder.add("a.int64", .int64(.min))
        builder.add("a.float32", .float32(1.5e-5))
        builder.add("a.float64", .float64(.pi))
        builder.add("a.true", .bool(true))
        builder.add("a.false", .bool(false))
        builder.add("a.strings", .strings(["", "Ġthe", "naïve", "日本", "🙂"]))
        builder.add("a.int32s", .int32s([1, -2, 3]))
        builder.add("a.uint64s", .array(10, [.uint64(7), .uint64(.max)]))
        builder.add("a.floats", .floats([0.5, -0.25]))
        builder.add("a.bools", .array(7, [.bool(true), .bool(false)]))
        builder.add("a.empty", .array(9, []))
        builder.add(
            "a.nested",
            .array(9, [.strings(["x"]), .array(9, [.int32s([4, 5]), .array(8, [])]), .array(0, [.uint8(9)])]))
        var generator = SeededGenerator(seed: 1)
        for (index, encoding) in GGUFBuilder.Encoding.allCases.enumerated() {
            let width = max(64, encoding.blockElements)
            let values = (0..<width * 3).map { _ in Float.random(in: -1...1, using: &generator) }
            builder.addTensor("blk.\(index).weight", shape: [width, 3], encoding, values: values)
        }
        builder.addTensor("norm.weight", shape: [5], values: [1, 2, 3, 4, 5])
        return builder
    }

    private func parse(_ builder: GGUFBuilder) throws -> GGUFFile {
        try GGUFFile(bytes: builder.build(), name: "test.gguf")
    }

    @Test(arguments: [2, 3] as [UInt32]) func metadataOfEveryType(version: UInt32) throws {
        var builder = GGUFFileTests.everything()
        builder.version = version
        let file = try parse(builder)
        #expect(file.path == "test.gguf")
        #expect(file.version == version)
        #expect(file.alignment == 32)
        let metadata = file.metadata
        #expect(metadata.keys.count == 20)
        #expect(metadata.keys.first == "general.architecture")
        #expect(metadata.string("general.architecture") == "llama")
        #expect(metadata.unsigned("a.uint8") == 255)
        #expect(metadata.integer("a.int8") == -128)
        #expect(metadata.unsigned("a.int8") == nil)
        #expect(metadata.unsigned("a.uint16") == 65535)
        #expect(metadata.integer("a.int16") == -32768)
        #expect(metadata.unsigned("a.uint32") == 4_294_967_295)
        #expect(metadata.integer("a.int32") == -2_147_483_648)
        #expect(metadata.unsigned("a.uint64") == .max)
        #expect(metadata.integer("a.uint64") == nil)
        #expect(metadata.integer("a.int64") == .min)
        #expect(metadata.float("a.float32") == 1.5e-5)
        #expect(metadata["a.float64"]?.double == .pi)
        #expect(metadata.float("a.float64") == Float(Double.pi))
        #expect(metadata.bool("a.true") == true)
        #expect(metadata.bool("a.false") == false)
        #expect(metadata.strings("a.strings") == ["", "Ġthe", "naïve", "日本", "🙂"])
        #expect(metadata.integers("a.int32s") == [1, -2, 3])
        #expect(metadata.integers("a.uint64s") == nil)
        #expect(metadata.floats("a.floats") == [0.5, -0.25])
        #expect(metadata["a.bools"]?.array?.elements?.compactMap(\.bool) == [true, false])
        #expect(metadata["a.empty"]?.array?.elements?.count == 0)
        let nested = try #require(metadata["a.nested"]?.array?.elements)
        #expect(nested.count == 3)
        #expect(nested[0].array?.strings == ["x"])
        let inner = try #require(nested[1].array?.elements)
        #expect(inner[0].array?.integers == [4, 5])
        #expect(inner[1].array?.strings == [])
        #expect(nested[2].array?.integers == [9])
    }

    @Test func lookUpsOfAbsentKeysAndOtherTypesAreNil() throws {
        let metadata = try parse(GGUFFileTests.everything()).metadata
        #expect(metadata["nothing"] == nil)
        #expect(metadata.string("nothing") == nil)
        #expect(metadata.string("a.uint8") == nil)
        #expect(metadata.unsigned("general.architecture") == nil)
        #expect(metadata.float("a.uint32") == nil)
        #expect(metadata.bool("a.uint8") == nil)
        #expect(metadata.strings("a.int32s") == nil)
        #expect(metadata.strings("general.architecture") == nil)
        #expect(metadata.integers("a.floats") == nil)
        #expect(metadata.integers("a.bools") == nil)
        #expect(metadata.floats("a.int32s") == nil)
    }

    @Test func tensorsOfEveryFormat() throws {
        let file = try parse(GGUFFileTests.everything())
        #expect(file.tensors.count == 12)
        var generator = SeededGenerator(seed: 1)
        // Half a step of each format for values in −1…1, and its rounded scale; zero where nothing is lost.
        let tolerances: [GGUFBuilder.Encoding: Float] = [
            .f32: 0, .f16: 0x1p-12, .bf16: 0x1p-7, .q8_0: 0.0045, .q4_0: 0.08, .q4_1: 0.08, .q5_0: 0.04,
            .q5_1: 0.04, .q4_K: 0.1, .q5_K: 0.06, .q6_K: 0.025,
        ]
        for (index, encoding) in GGUFBuilder.Encoding.allCases.enumerated() {
            let width = max(64, encoding.blockElements)
            let values = (0..<width * 3).map { _ in Float.random(in: -1...1, using: &generator) }
            let tensor = try #require(file.tensor(named: "blk.\(index).weight"))
            #expect(tensor.type.ggufCode == encoding.rawValue)
            #expect(tensor.shape == [width, 3])
            #expect(tensor.elementCount == 3 * width)
            #expect(tensor.offset.isMultiple(of: 32))
            #expect(tensor.byteCount == 3 * width / tensor.type.blockElements * tensor.type.blockBytes)
            let tolerance = try #require(tolerances[encoding])
            let error = zip(file.floats(of: tensor), values).map { ($0 - $1).magnitude }.max() ?? .nan
            #expect(error <= tolerance, "\(encoding)")
        }
        let norm = try #require(file.tensor(named: "norm.weight"))
        #expect(file.floats(of: norm) == [1, 2, 3, 4, 5])
        #expect(file.bytes(of: norm).count == 20)
        #expect(file.tensor(named: "other") == nil)
    }

    @Test func alignmentIsTakenFromTheMetadata() throws {
        var builder = GGUFBuilder()
        builder.add("general.alignment", .uint32(256))
        builder.alignment = 256
        builder.addTensor("a", shape: [1], values: [7])
        builder.addTensor("b", shape: [1], values: [8])
        let file = try parse(builder)
        #expect(file.alignment == 256)
        #expect(file.tensors.map(\.offset) == [256, 512])
        #expect(file.floats(of: file.tensors[1]) == [8])
    }

    @Test func aFileMayHoldNothing() throws {
        let file = try parse(GGUFBuilder())
        #expect(file.tensors.isEmpty)
        #expect(file.metadata.keys.isEmpty)
    }

    @Test func lazyArraysKeepTheFileAlive() throws {
        func array() throws -> GGUFArray? {
            try parse(GGUFFileTests.everything()).metadata["a.strings"]?.array
        }
        #expect(try array()?.strings?.count == 5)
    }
}
