// Tandem — Apache-2.0

import TestSupport
import Testing
import Weights

/// Good files, and what is read from them.
@Suite struct SafetensorsFileTests {
    /// A file with something of everything.
    static func everything() -> SafetensorsBuilder {
        var builder = SafetensorsBuilder()
        builder.addMetadata([("format", "pt"), ("naïve", "日本")])
        var generator = SeededGenerator(seed: 1)
        for encoding in [GGUFBuilder.Encoding.f32, .f16, .bf16] {
            let values = (0..<24).map { _ in Float.random(in: -1...1, using: &generator) }
            builder.addTensor("layer.\(encoding).weight", shape: [2, 3, 4], encoding, values: values)
        }
        builder.addTensor("norm.weight", shape: [5], values: [1, 2, 3, 4, 5])
        builder.addTensor("positions", dtype: "I64", shape: "[1,2]", bytes: [UInt8](repeating: 1, count: 16))
        builder.addTensor("scalar", shape: [], values: [1])
        builder.addTensor("nothing", shape: [0, 4], .bf16, values: [])
        builder.addTensor("patches", shape: [1, 1, 1, 1, 2], .f16, values: [1, 2])
        builder.addTensor("packed", dtype: "F4", shape: "[2,3]", bytes: [1, 2, 3])
        builder.addTensor("future", dtype: "Q9", shape: "[7]", bytes: [1, 2])
        return builder
    }

    @Test func tensorsOfEveryFormat() throws {
        let file = try SafetensorsFile(bytes: SafetensorsFileTests.everything().build(), name: "test.safetensors")
        #expect(file.path == "test.safetensors")
        #expect(file.metadata == ["format": "pt", "naïve": "日本"])
        #expect(
            file.tensors.map(\.name) == ["layer.f32.weight", "layer.f16.weight", "layer.bf16.weight", "norm.weight"])
        var generator = SeededGenerator(seed: 1)
        let expected: [(type: TensorType, tolerance: Float)] = [(.f32, 0), (.f16, 0x1p-12), (.bf16, 0x1p-7)]
        for (tensor, (type, tolerance)) in zip(file.tensors, expected) {
            let values = (0..<24).map { _ in Float.random(in: -1...1, using: &generator) }
            #expect(tensor.type == type)
            #expect(tensor.shape == [4, 3, 2])
            #expect(tensor.elementCount == 24)
            #expect(file.bytes(of: tensor).count == 24 * type.blockBytes)
            let error = zip(file.floats(of: tensor), values).map { ($0 - $1).magnitude }.max() ?? .nan
            #expect(error <= tolerance, "\(type)")
        }
        let norm = try #require(file.tensor(named: "norm.weight"))
        #expect(file.floats(of: norm) == [1, 2, 3, 4, 5])
    }

    @Test func tensorsThatCannotBeReadSayWhyWhenAskedFor() throws {
        let file = try SafetensorsFile(bytes: SafetensorsFileTests.everything().build(), name: "test.safetensors")
        let words = [
            "positions": "\"I64\"; F32, F16 and BF16 are supported", "scalar": "0 dimensions",
            "nothing": "no elements", "patches": "5 dimensions", "packed": "\"F4\"", "future": "\"Q9\"",
        ]
        for (name, word) in words {
            #expect(file.tensor(named: name) == nil)
            let refusal = try #require(file.refusal(ofTensorNamed: name))
            #expect(refusal.path == "test.safetensors")
            #expect(refusal.reason.contains("\"\(name)\""), "\(refusal)")
            #expect(refusal.reason.contains(word), "\(refusal)")
        }
        #expect(file.refusal(ofTensorNamed: "norm.weight") == nil)
        #expect(file.refusal(ofTensorNamed: "other") == nil)
        #expect(file.tensor(named: "other") == nil)
    }

    /// Neither the order of the header nor an alignment is prescribed.
    @Test(arguments: 0..<4) func headersMayBeInAnyOrderAndOfAnyLength(padding: Int) throws {
        var builder = SafetensorsBuilder()
        builder.headerAlignment = 1
        builder.addMetadata([("padding", String(repeating: "-", count: padding))])
        builder.addTensor("b", dtype: "F32", shape: "[1]", bytes: [0x80, 0x3F, 0, 0, 0, 0x40], offsets: "[2,6]")
        builder.addMember(
            "a", "{ \"data_offsets\" : [0, 2], \"shape\" : [1, 1], \"dtype\" : \"BF16\" , \"x\": null }\n")
        let file = try SafetensorsFile(bytes: builder.build(), name: "test")
        #expect(file.tensors.map(\.name) == ["b", "a"])
        #expect(file.tensors.map(\.shape) == [[1], [1, 1]])
        #expect(file.tensors.map { file.floats(of: $0) } == [[2], [1]])
    }

    @Test func aFileMayHoldNothing() throws {
        let file = try SafetensorsFile(bytes: SafetensorsBuilder().build(), name: "empty")
        #expect(file.tensors.isEmpty)
        #expect(file.metadata.isEmpty)
    }
}
