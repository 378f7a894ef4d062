// Tandem — Apache-2.0

import LanguageModel
import TestSupport
import Weights

/// Builds small models in memory.
struct TinyModel {
    /// Which features are on.
    enum Family: CaseIterable {
        case llama
        /// A bias of queries, keys and values.
        case qwen2
        /// Norms of queries and keys.
        case qwen3
        /// Norms of queries and keys and after blocks, GeGLU, a scale of embeddings, heads that are wider than the
        /// residual stream, and windows, with a rotary embedding of their own, in all layers but each third.
        case gemma3
        /// What no family has: norms after some blocks only.
        case mixed
    }

    /// How matrices are stored.
    typealias Format = GGUFBuilder.Encoding

    var family = Family.llama
    var format = Format.f32
    var hidden = 64
    var intermediate = 160
    var layers = 2
    var queryHeads = 4
    var keyValueHeads = 2
    var vocabulary = 320
    var context = 512
    var tied = true
    var ropeBase: Float = 10000
    var seed: UInt64 = 1
    /// Divisors of the rotary frequencies.
    var rotaryFactors: [Float] = []
    /// Metadata to replace, or to leave out when nil.
    var overrides: [String: UInt32?] = [:]
    var architecture = "llama"

    var headDimension: Int { family == .gemma3 ? 2 * hidden / queryHeads : hidden / queryHeads }

    /// A model whose rows are whole blocks of a format.
    static func holding(_ format: Format) -> TinyModel {
        var tiny = TinyModel(format: format)
        if format.blockElements == 256 { (tiny.hidden, tiny.intermediate) = (256, 256) }
        return tiny
    }

    func file() throws -> GGUFFile {
        try GGUFFile(bytes: bytes(), name: "tiny.gguf")
    }

    /// The file's description, with the family's features.
    func model(_ file: GGUFFile, ablation: Ablation = .full) throws -> DecoderDescription {
        var model = try DecoderDescription(gguf: file, ablation: ablation)
        for index in model.layers.indices { feature(&model.layers[index], index) }
        if family == .gemma3 {
            model.embeddingScale = Float(hidden).squareRoot()
            model.ropes.append(model.ropes[0])
            model.ropes[1].base = 1000
        }
        return model
    }

    /// Tokens that a windowed layer sees.
    static let window = 21

    private func feature(_ layer: inout LayerDescription, _ index: Int) {
        switch family {
        case .llama: break
        case .qwen2: layer.queryKeyValueBias = true
        case .qwen3: layer.queryKeyNorm = true
        case .gemma3:
            layer.queryKeyNorm = true
            layer.postAttentionNorm = true
            layer.postFeedForwardNorm = true
            layer.activation = .geluTanh
            if index % 3 != 2 {
                layer.window = Self.window
                layer.rope = 1
            }
        case .mixed:
            layer.postAttentionNorm = index == 0
            layer.postFeedForwardNorm = index == 1
        }
    }

    func bytes() -> [UInt8] {
        var random = SplitMix(state: seed)
        let queries = queryHeads * headDimension
        let keys = keyValueHeads * headDimension
        var table: [(name: String, shape: [Int])] = [("token_embd.weight", [hidden, vocabulary])]
        for layer in 0..<layers {
            table += [
                ("blk.\(layer).attn_norm.weight", [hidden]), ("blk.\(layer).attn_q.weight", [hidden, queries]),
                ("blk.\(layer).attn_k.weight", [hidden, keys]), ("blk.\(layer).attn_v.weight", [hidden, keys]),
                ("blk.\(layer).attn_output.weight", [queries, hidden]), ("blk.\(layer).ffn_norm.weight", [hidden]),
                ("blk.\(layer).ffn_gate.weight", [hidden, intermediate]),
                ("blk.\(layer).ffn_up.weight", [hidden, intermediate]),
                ("blk.\(layer).ffn_down.weight", [intermediate, hidden]),
            ]
            var features = LayerDescription(attentionScale: 1)
            feature(&features, layer)
            if features.queryKeyValueBias {
                table += [
                    ("blk.\(layer).attn_q.bias", [queries]), ("blk.\(layer).attn_k.bias", [keys]),
                    ("blk.\(layer).attn_v.bias", [keys]),
                ]
            }
            if features.queryKeyNorm {
                table += [
                    ("blk.\(layer).attn_q_norm.weight", [headDimension]),
                    ("blk.\(layer).attn_k_norm.weight", [headDimension]),
                ]
            }
            if features.postAttentionNorm { table.append(("blk.\(layer).post_attention_norm.weight", [hidden])) }
            if features.postFeedForwardNorm { table.append(("blk.\(layer).post_ffw_norm.weight", [hidden])) }
        }
        table.append(("output_norm.weight", [hidden]))
        if !tied { table.append(("output.weight", [hidden, vocabulary])) }

        if !rotaryFactors.isEmpty { table.append(("rope_freqs.weight", [rotaryFactors.count])) }

        var builder = GGUFBuilder()
        builder.add("general.architecture", .string(architecture))
        let integers = [
            ("embedding_length", hidden), ("block_count", layers), ("feed_forward_length", intermediate),
            ("attention.head_count", queryHeads), ("attention.head_count_kv", keyValueHeads),
            ("context_length", context), ("attention.key_length", headDimension),
            ("attention.value_length", headDimension),
        ]
        for (name, value) in integers {
            let key = "\(architecture).\(name)"
            if let value = overrides[key] ?? UInt32(value) { builder.add(key, .uint32(value)) }
        }
        builder.add("\(architecture).attention.layer_norm_rms_epsilon", .float32(1e-5))
        builder.add("\(architecture).rope.freq_base", .float32(ropeBase))
        for (name, shape) in table {
            let count = shape.reduce(1, *)
            let isVector = shape.count == 1
            let values =
                name == "rope_freqs.weight"
                ? rotaryFactors
                : (0..<count).map { _ in
                    isVector
                        ? 1 + 0.2 * random.nextFloat() : random.nextFloat() * (name.contains("embd") ? 0.3 : 0.35)
                }
            builder.addTensor(name, shape: shape, isVector ? .f32 : format, values: values)
        }
        return builder.build()
    }
}

/// A repeatable stream of numbers.
struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Between -1 and 1.
    mutating func nextFloat() -> Float { Float(Int64(bitPattern: next()) >> 40) / Float(1 << 23) }
}
