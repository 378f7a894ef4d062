// Tandem — Apache-2.0

import LanguageModel
import TestSupport
import Weights

/// A file with the metadata and the tensors, all zero, of a small decoder, both to be changed before it is opened.
struct TinyGGUF {
    var strings: [String: String]
    var integers: [String: UInt64]
    var floats: [String: Float]
    /// A boolean, or an array of them where there are several.
    var flags: [String: [Bool]] = [:]
    var shapes: [String: [Int]]

    init(architecture: String = "llama", layers: Int = 2) {
        strings = ["general.architecture": architecture, "general.name": "tiny"]
        integers = [
            "\(architecture).embedding_length": 64, "\(architecture).block_count": UInt64(layers),
            "\(architecture).feed_forward_length": 96, "\(architecture).attention.head_count": 4,
            "\(architecture).attention.head_count_kv": 2, "\(architecture).context_length": 128,
        ]
        floats = [
            "\(architecture).attention.layer_norm_rms_epsilon": 1e-5, "\(architecture).rope.freq_base": 10000,
        ]
        shapes = ["token_embd.weight": [64, 100], "output_norm.weight": [64]]
        addToLayers([
            "attn_norm.weight": [64], "attn_q.weight": [64, 64], "attn_k.weight": [64, 32], "attn_v.weight": [64, 32],
            "attn_output.weight": [64, 64], "ffn_norm.weight": [64], "ffn_gate.weight": [64, 96],
            "ffn_up.weight": [64, 96], "ffn_down.weight": [96, 64],
        ])
    }

    /// Adds tensors to, or replaces them in, every layer.
    mutating func addToLayers(_ tensors: [String: [Int]]) {
        let layers = integers.first { $0.key.hasSuffix(".block_count") }?.value ?? 0
        for layer in 0..<layers {
            for (name, shape) in tensors { shapes["blk.\(layer).\(name)"] = shape }
        }
    }

    func open() throws -> GGUFFile { try GGUFFile(bytes: bytes(), name: "tiny.gguf") }

    func bytes() -> [UInt8] {
        var builder = GGUFBuilder()
        for (key, value) in strings { builder.add(key, .string(value)) }
        for (key, value) in integers { builder.add(key, .uint64(value)) }
        for (key, value) in floats { builder.add(key, .float32(value)) }
        for (key, values) in flags {
            builder.add(key, values.count == 1 ? .bool(values[0]) : .array(7, values.map { .bool($0) }))
        }
        for (name, shape) in shapes.sorted(by: { $0.key < $1.key }) {
            builder.addTensor(name, shape: shape, values: [Float](repeating: 0, count: shape.reduce(1, *)))
        }
        return builder.build()
    }

    func describe() throws -> DecoderDescription { try DecoderDescription(gguf: open()) }
}
