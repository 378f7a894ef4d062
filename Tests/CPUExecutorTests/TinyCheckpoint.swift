// Tandem — Apache-2.0

import Foundation
import LanguageModel
import Requests
import TestSupport
import Weights

/// A random checkpoint below `Tests/Fixtures/tiny`, with float32 outputs of another implementation (the README there
/// says how they were made).
struct TinyCheckpoint {
    struct Case: Decodable {
        var name: String
        var input_ids: [TokenID]
        var greedy16: [TokenID]
    }

    static let names = ["llama-tied", "llama3-rope-untied", "qwen2-tied", "qwen2-untied", "gemma3-text"]

    let name: String
    let model: DecoderDescription
    let tensors: any TensorSource
    let cases: [Case]
    /// `logits.CASE` and `hiddenI.CASE`, row after row.
    let outputs: [String: [Float]]

    init(_ name: String) throws {
        struct File: Decodable {
            var cases: [Case]
        }
        self.name = name
        cases = try JSONDecoder().decode(File.self, from: ModelFixture.data("tiny/\(name)/reference.json")).cases
        outputs = try Self.tensors("tiny/\(name)/reference.safetensors").mapValues { tensor in
            stride(from: 0, to: tensor.bytes.count, by: 4).map { start in
                Float(bitPattern: (0..<4).reduce(0) { $0 | UInt32(tensor.bytes[start + $1]) << (8 * $1) })
            }
        }
        (model, tensors) = try Self.open(name)
    }

    /// The reference was computed with the whole model, buffers included, rounded to bfloat16 and widened again: the
    /// rotary frequencies too.
    static func rounded(_ frequency: Float) -> Float {
        let bits = frequency.bitPattern
        return Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
    }

    private struct Tensor {
        var type: String
        var shape: [Int]
        var bytes: [UInt8]
    }

    private static func tensors(_ path: String) throws -> [String: Tensor] {
        struct Entry: Decodable {
            var dtype: String?
            var data_offsets: [Int]?
            var shape: [Int]?
        }
        let data = [UInt8](try ModelFixture.data(path))
        let headerBytes = (0..<8).reduce(0) { $0 | Int(data[$1]) << (8 * $1) }
        let header = try JSONDecoder().decode([String: Entry].self, from: Data(data[8..<8 + headerBytes]))
        return header.compactMapValues { entry in
            guard let type = entry.dtype, let offsets = entry.data_offsets, let shape = entry.shape else { return nil }
            return Tensor(
                type: type, shape: shape,
                bytes: Array(data[(8 + headerBytes + offsets[0])..<(8 + headerBytes + offsets[1])]))
        }
    }

    private static func open(_ name: String) throws -> (DecoderDescription, any TensorSource) {
        var builder = GGUFBuilder()
        for (name, tensor) in try tensors("tiny/\(name)/model.safetensors").sorted(by: { $0.key < $1.key }) {
            builder.addTensor(name, code: 30, shape: tensor.shape.reversed().map(UInt64.init), bytes: tensor.bytes)
        }
        let file = try GGUFFile(bytes: builder.build(), name: name)
        var model = DecoderDescription(
            architecture: name, name: name, vocabularySize: 320, hiddenSize: 64, intermediateSize: 160, queryHeads: 4,
            keyValueHeads: name.hasPrefix("qwen2") || name == "llama3-rope-untied" ? 2 : 1, headDimension: 16,
            contextLength: 512, normEpsilon: name.hasPrefix("llama") ? 1e-5 : 1e-6,
            tiedHead: !name.hasSuffix("untied"),
            ropes: [RotaryDescription(base: 1e6, dimensions: 16, fileLayout: .halfSplit)],
            layers: Array(
                repeating: LayerDescription(queryKeyValueBias: name.hasPrefix("qwen2"), attentionScale: 0.25),
                count: 2), tensorNaming: .huggingFace(prefix: "model."))
        switch name {
        case "llama-tied": model.ropes[0].base = 1e5
        case "llama3-rope-untied":
            model.ropes[0].base = 5e5
            model.ropes[0].scaling = .llama3(
                factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 64)
        case "gemma3-text":
            model.headDimension = 32
            model.normOffset = 1
            model.embeddingScale = 8
            model.ropes = [1e4, 1e6].map { RotaryDescription(base: $0, dimensions: 32, fileLayout: .halfSplit) }
            model.layers = (0..<6).map { index in
                LayerDescription(
                    queryKeyNorm: true, postAttentionNorm: true, postFeedForwardNorm: true, activation: .geluTanh,
                    window: index == 5 ? nil : 16, rope: index == 5 ? 1 : 0, attentionScale: 1 / Float(32).squareRoot())
            }
        default: break
        }
        return (model, file)
    }
}
