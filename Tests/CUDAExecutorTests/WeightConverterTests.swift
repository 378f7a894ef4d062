// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import TestSupport
import Testing
import Weights

@testable import CUDAExecutor

@Suite struct WeightConverterTests {
    /// A source whose tensors hold numbers that name their places.
    struct Source {
        var model: DecoderDescription
        var file: GGUFFile
        var values: [String: [Float]] = [:]

        init(_ model: DecoderDescription, type: GGUFBuilder.Encoding) throws {
            self.model = model
            var builder = GGUFBuilder()
            builder.add("general.architecture", .string("llama"))
            for (index, role) in model.roles.enumerated() {
                let shape = model.expectedShape(role)
                let numbers = (0..<shape.reduce(1, *)).map { Float(($0 * 31 + index * 17) % 509) / 64 - 3 }
                builder.addTensor(
                    model.tensorName(role), shape: shape, shape.count == 1 ? .f32 : type, values: numbers)
            }
            file = try GGUFFile(bytes: builder.build(), name: "numbers.gguf")
            for tensor in file.tensors { values[tensor.name] = file.floats(of: tensor) }
        }

        func value(_ role: TensorRole, row: Int, column: Int) -> Float {
            values[model.tensorName(role)]![row * model.expectedShape(role)[0] + column]
        }

        func converted(_ entry: WeightLayout.Entry, pieces: Int) throws -> [UInt8] {
            var converter = WeightConverter(model: model, file: file)
            var bytes = [UInt8](repeating: 0xAA, count: entry.byteCount)
            try bytes.withUnsafeMutableBytes { buffer in
                for start in stride(from: 0, to: entry.rows, by: pieces) {
                    let rows = start..<min(start + pieces, entry.rows)
                    try converter.convert(
                        entry, rows: rows,
                        into: UnsafeMutableRawBufferPointer(
                            rebasing: buffer[rows.lowerBound * entry.rowBytes..<rows.upperBound * entry.rowBytes]))
                }
            }
            return bytes
        }
    }

    static func words(_ bytes: [UInt8]) -> [Float] {
        stride(from: 0, to: bytes.count, by: 2).map { float(UInt16(bytes[$0]) | UInt16(bytes[$0 + 1]) << 8) }
    }

    @Test(arguments: [GGUFBuilder.Encoding.f32, .f16, .bf16, .q8_0, .q4_1, .q4_0, .q5_1], [7, 1000])
    func everyFormatArrivesInPlace(_ type: GGUFBuilder.Encoding, _ pieces: Int) throws {
        let model = smallModel(head: 16, fileLayout: .interleaved) { layer, _ in layer.queryKeyValueBias = true }
        let source = try Source(model, type: type)
        let shape = try DeviceShape(model)
        let layout = WeightLayout(model, shape: shape)
        let layer = layout.layers[1]
        let joint = Self.words(try source.converted(layout.entries[layer.queryKeyValue!], pieces: pieces))
        let bias = Self.words(try source.converted(layout.entries[layer.queryKeyValueBias!], pieces: pieces))
        let rotated = shape.fileRows(model.ropes[0])
        for head in 0..<8 {
            let (role, biasRole, first): (TensorRole, TensorRole, Int) =
                head < 4
                ? (.query(1), .queryBias(1), 0) : head < 6 ? (.key(1), .keyBias(1), 4) : (.value(1), .valueBias(1), 6)
            for element in 0..<64 {
                let place = head < 6 ? rotated[element] : element < 16 ? element : nil
                let row = place.map { (head - first) * 16 + $0 }
                let exact = row.map { source.value(biasRole, row: 0, column: $0) } ?? 0
                #expect(bias[head * 64 + element] == float(bfloat16(exact)))
                for column in [0, 13, 63] {
                    let exact = row.map { source.value(role, row: $0, column: column) } ?? 0
                    #expect(joint[(head * 64 + element) * 64 + column] == float(bfloat16(exact)))
                }
            }
        }
        let output = Self.words(try source.converted(layout.entries[layer.attentionOutput!], pieces: pieces))
        for row in [0, 40, 63] {
            for column in 0..<4 * 64 {
                let (head, element) = column.quotientAndRemainder(dividingBy: 64)
                let exact = element < 16 ? source.value(.attentionOutput(1), row: row, column: head * 16 + element) : 0
                #expect(output[row * 256 + column] == float(bfloat16(exact)))
            }
        }
        let gateUp = Self.words(try source.converted(layout.entries[layer.gateUp!], pieces: pieces))
        #expect(gateUp[(160 + 5) * 64 + 9] == float(bfloat16(source.value(.up(1), row: 5, column: 9))))
        #expect(gateUp[5 * 64 + 9] == float(bfloat16(source.value(.gate(1), row: 5, column: 9))))
        let embedding = Self.words(try source.converted(layout.entries[layout.embedding], pieces: pieces))
        // Rows up to a multiple of 8 are zeros.
        #expect(embedding.count == 104 * 64 && embedding.dropFirst(100 * 64).allSatisfy { $0 == 0 })
        #expect(embedding[99 * 64 + 3] == float(bfloat16(source.value(.tokenEmbedding, row: 99, column: 3))))
    }

    @Test func normsHaveTheirOffset() throws {
        var model = smallModel(head: 16) { layer, _ in layer.queryKeyNorm = true }
        model.normOffset = 1
        let source = try Source(model, type: .f32)
        let layout = WeightLayout(model, shape: try DeviceShape(model))
        func floats(_ entry: Int) throws -> [Float] {
            try source.converted(layout.entries[entry], pieces: 1000).withUnsafeBytes {
                Array($0.bindMemory(to: Float.self))
            }
        }
        let norm = try floats(layout.outputNorm)
        #expect(norm == source.values["output_norm.weight"]!.map { $0 + 1 })
        let head = try floats(layout.layers[0].keyNorm!)
        // Sixteen elements of 64: factor one half.
        #expect(head[33] == (source.values["blk.0.attn_k_norm.weight"]![9] + 1) * 0.5)
        #expect(head[8..<32].allSatisfy { $0 == 0 })
    }

    @Test func anAblationLeavesOutWhatItDoesNotCompute() throws {
        var model = smallModel()
        let full = WeightLayout(model, shape: try DeviceShape(model))
        model.ablation = .mlpOnly
        let mlp = WeightLayout(model, shape: try DeviceShape(model))
        model.ablation = .attentionOnly
        let attention = WeightLayout(model, shape: try DeviceShape(model))
        #expect(mlp.layers[0].queryKeyValue == nil && mlp.layers[0].gateUp != nil)
        #expect(attention.layers[0].queryKeyValue != nil && attention.layers[0].gateUp == nil)
        #expect(mlp.byteCount < full.byteCount && attention.byteCount < full.byteCount)
        for entry in full.entries { #expect(entry.offset % 256 == 0) }
    }

    @Test func aMissingTensorIsNamed() throws {
        var model = smallModel()
        let source = try Source(model, type: .f32)
        model.layers.append(model.layers[0])
        let layout = WeightLayout(model, shape: try DeviceShape(model))
        var wider = source
        wider.model = model
        let error = #expect(throws: ExecutorError.self) {
            try wider.converted(layout.entries[layout.layers[2].down!], pieces: 10)
        }
        #expect(error?.message.contains("blk.2.ffn_down.weight is missing") == true)
    }

    @Test func roundingIsToNearestEven() {
        #expect(bfloat16(1) == 0x3F80)
        #expect(bfloat16(Float(bitPattern: 0x3F80_8000)) == 0x3F80)
        #expect(bfloat16(Float(bitPattern: 0x3F81_8000)) == 0x3F82)
        #expect(bfloat16(Float(bitPattern: 0x3F80_8001)) == 0x3F81)
        #expect(float(bfloat16(.infinity)) == .infinity)
        #expect(float(bfloat16(.nan)).isNaN)
    }
}
