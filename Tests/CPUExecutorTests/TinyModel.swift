// Tandem — Apache-2.0

import Foundation
import LanguageModel
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

    var family = Family.llama
    /// How matrices are stored.
    enum Format: UInt32, CaseIterable {
        case f32 = 0
        case f16 = 1
        case q4_0 = 2
        case q4_1 = 3
        case q8_0 = 8
        case bf16 = 30
    }

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
    /// Given tensors in file layout instead of random ones.
    var tensors: [String: [Float]] = [:]
    /// Divisors of the rotary frequencies.
    var rotaryFactors: [Float] = []
    /// Metadata to replace, or to leave out when nil.
    var overrides: [String: UInt32?] = [:]
    var architecture = "llama"

    var headDimension: Int { family == .gemma3 ? 2 * hidden / queryHeads : hidden / queryHeads }

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

        var writer = GGUFWriter()
        writer.strings = [("general.architecture", architecture)]
        writer.integers = [
            ("\(architecture).embedding_length", UInt32(hidden)), ("\(architecture).block_count", UInt32(layers)),
            ("\(architecture).feed_forward_length", UInt32(intermediate)),
            ("\(architecture).attention.head_count", UInt32(queryHeads)),
            ("\(architecture).attention.head_count_kv", UInt32(keyValueHeads)),
            ("\(architecture).context_length", UInt32(context)),
            ("\(architecture).attention.key_length", UInt32(headDimension)),
            ("\(architecture).attention.value_length", UInt32(headDimension)),
        ].compactMap { key, value in
            switch overrides[key] {
            case .some(.some(let other)): (key, other)
            case .some(.none): nil
            case .none: (key, value)
            }
        }
        writer.floats = [
            ("\(architecture).attention.layer_norm_rms_epsilon", 1e-5), ("\(architecture).rope.freq_base", ropeBase),
        ]
        for (name, shape) in table {
            let count = shape.reduce(1, *)
            let isNorm = shape.count == 1
            let values =
                name == "rope_freqs.weight"
                ? rotaryFactors
                : tensors[name]
                    ?? (0..<count).map { _ in
                        isNorm
                            ? 1 + 0.2 * random.nextFloat() : random.nextFloat() * (name.contains("embd") ? 0.3 : 0.35)
                    }
            writer.tensors.append(
                (name, shape, (isNorm ? Format.f32 : format).rawValue, (isNorm ? Format.f32 : format).encode(values)))
        }
        return writer.bytes()
    }
}

extension TinyModel.Format {
    func encode(_ values: [Float]) -> [UInt8] {
        var bytes: [UInt8] = []
        func append(_ half: Float16) { withUnsafeBytes(of: half.bitPattern) { bytes += $0 } }
        switch self {
        case .f32:
            for value in values { withUnsafeBytes(of: value.bitPattern) { bytes += $0 } }
        case .f16:
            for value in values { append(Float16(value)) }
        case .bf16:
            for value in values { withUnsafeBytes(of: UInt16(value.bitPattern >> 16)) { bytes += $0 } }
        case .q8_0, .q4_0, .q4_1:
            for start in stride(from: 0, to: values.count, by: 32) {
                let block = values[start..<start + 32]
                let least = block.min() ?? 0
                let most = block.max() ?? 0
                let largest = max(abs(least), abs(most), 1e-6)
                switch self {
                case .q8_0:
                    append(Float16(largest / 127))
                    bytes += block.map { UInt8(bitPattern: Int8(($0 / largest * 127).rounded())) }
                default:
                    let scale = self == .q4_0 ? largest / 7 : max(most - least, 1e-6) / 15
                    append(Float16(scale))
                    if self == .q4_1 { append(Float16(least)) }
                    let quants = block.map { value -> UInt8 in
                        let quant = self == .q4_0 ? value / scale + 8 : (value - least) / scale
                        return UInt8(max(0, min(15, quant.rounded())))
                    }
                    for index in 0..<16 { bytes.append(quants[index] | quants[index + 16] << 4) }
                }
            }
        }
        return bytes
    }
}

/// Writes GGUF version 3.
struct GGUFWriter {
    var strings: [(String, String)] = []
    var integers: [(String, UInt32)] = []
    var floats: [(String, Float)] = []
    var tensors: [(name: String, shape: [Int], type: UInt32, data: [UInt8])] = []

    func bytes() -> [UInt8] {
        var out: [UInt8] = Array("GGUF".utf8)
        func number(_ value: some FixedWidthInteger) { withUnsafeBytes(of: value.littleEndian) { out += $0 } }
        func text(_ value: String) {
            number(UInt64(value.utf8.count))
            out += value.utf8
        }
        number(UInt32(3))
        number(UInt64(tensors.count))
        number(UInt64(strings.count + integers.count + floats.count))
        for (key, value) in strings {
            text(key)
            number(UInt32(8))
            text(value)
        }
        for (key, value) in integers {
            text(key)
            number(UInt32(4))
            number(value)
        }
        for (key, value) in floats {
            text(key)
            number(UInt32(6))
            number(value.bitPattern)
        }
        var offset = 0
        for tensor in tensors {
            text(tensor.name)
            number(UInt32(tensor.shape.count))
            for extent in tensor.shape { number(UInt64(extent)) }
            number(tensor.type)
            number(UInt64(offset))
            offset = (offset + tensor.data.count + 31) & ~31
        }
        func pad() { while out.count % 32 != 0 { out.append(0) } }
        pad()
        for tensor in tensors {
            out += tensor.data
            pad()
        }
        return out
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
