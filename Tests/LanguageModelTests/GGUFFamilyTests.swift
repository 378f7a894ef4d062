// Tandem — Apache-2.0

import LanguageModel
import TestSupport
import Testing
import Weights

@Suite struct GGUFFamilyTests {
    /// Six layers of a small Gemma whose heads are wider than hidden size over heads.
    static func gemma(layers: Int = 6) -> TinyGGUF {
        var file = TinyGGUF(architecture: "gemma3", layers: layers)
        file.integers["gemma3.attention.key_length"] = 32
        file.integers["gemma3.attention.value_length"] = 32
        file.integers["gemma3.attention.head_count_kv"] = 1
        file.integers["gemma3.attention.sliding_window"] = 16
        file.floats["gemma3.rope.freq_base"] = 1e6
        file.addToLayers([
            "attn_q.weight": [64, 128], "attn_k.weight": [64, 32], "attn_v.weight": [64, 32],
            "attn_output.weight": [128, 64], "attn_q_norm.weight": [32], "attn_k_norm.weight": [32],
            "post_attention_norm.weight": [64], "post_ffw_norm.weight": [64],
        ])
        return file
    }

    @Test func qwen2HasBiasesAndEitherHead() throws {
        var file = TinyGGUF(architecture: "qwen2")
        #expect(throws: LanguageModelError.self) { try file.describe() }
        file.addToLayers(["attn_q.bias": [64], "attn_k.bias": [32], "attn_v.bias": [32]])
        var model = try file.describe()
        #expect(model.layers == Array(repeating: .init(queryKeyValueBias: true, attentionScale: 0.25), count: 2))
        #expect(model.ropes == [RotaryDescription(base: 10000, dimensions: 16, fileLayout: .halfSplit)])
        #expect(model.tiedHead && model.embeddingScale == 1 && model.normOffset == 0)
        file.shapes["output.weight"] = [64, 100]
        model = try file.describe()
        #expect(!model.tiedHead)
    }

    @Test func qwen3NormalisesQueriesAndKeysOfAnyDimension() throws {
        var file = TinyGGUF(architecture: "qwen3")
        file.integers["qwen3.attention.key_length"] = 64
        file.addToLayers([
            "attn_q.weight": [64, 256], "attn_k.weight": [64, 128], "attn_v.weight": [64, 128],
            "attn_output.weight": [256, 64], "attn_q_norm.weight": [64], "attn_k_norm.weight": [64],
        ])
        let model = try file.describe()
        #expect(model.headDimension == 64)
        #expect(model.layers == Array(repeating: .init(queryKeyNorm: true, attentionScale: 0.125), count: 2))
        #expect(model.ropes == [RotaryDescription(base: 10000, dimensions: 64, fileLayout: .halfSplit)])
        file.shapes["blk.1.attn_k_norm.weight"] = nil
        #expect(throws: LanguageModelError.self) { try file.describe() }
    }

    @Test func gemmaHasWindowsNormsAndTwoRotaryEmbeddings() throws {
        let model = try Self.gemma().describe()
        var full = LayerDescription(
            queryKeyNorm: true, postAttentionNorm: true, postFeedForwardNorm: true, activation: .geluTanh,
            attentionScale: 1 / Float(32).squareRoot())
        let global = full
        full.window = 16
        full.rope = 1
        #expect(model.layers == Array(repeating: full, count: 5) + [global])
        #expect(
            model.ropes == [
                RotaryDescription(base: 1e6, dimensions: 32, fileLayout: .halfSplit),
                RotaryDescription(base: 1e4, dimensions: 32, fileLayout: .halfSplit),
            ])
        #expect(model.embeddingScale == 8 && model.normOffset == 0 && model.tiedHead)
    }

    @Test func gemmaTakesStatedPatternsAndBases() throws {
        var file = Self.gemma()
        file.integers["gemma3.attention.sliding_window_pattern"] = 2
        file.floats["gemma3.rope.freq_base_swa"] = 5000
        var model = try file.describe()
        #expect(model.layers.map(\.window) == [16, nil, 16, nil, 16, nil])
        #expect(model.ropes[1].base == 5000)

        file.integers["gemma3.attention.sliding_window_pattern"] = nil
        file.flags["gemma3.attention.sliding_window_pattern"] = [false, true, true, false, true, true]
        model = try file.describe()
        #expect(model.layers.map(\.window) == [nil, 16, 16, nil, 16, 16])
        #expect(model.layers.map(\.rope) == [0, 1, 1, 0, 1, 1])

        file.flags["gemma3.attention.sliding_window_pattern"] = [false, true]
        #expect(throws: LanguageModelError.self) { try file.describe() }
    }

    @Test func gemmaWithoutAWindowHasOneRotaryEmbedding() throws {
        var file = Self.gemma()
        file.integers["gemma3.attention.sliding_window"] = nil
        let model = try file.describe()
        #expect(model.layers.allSatisfy { $0.window == nil && $0.rope == 0 } && model.ropes.count == 1)
    }

    /// The largest Gemma 3 divides by the root of 5376 / 32, here of 64 / 4; its files say so by nothing but the layers.
    @Test func theLargestGemmaScalesByItsWidth() throws {
        #expect(try Self.gemma(layers: 62).describe().layers[0].attentionScale == 0.25)
        #expect(try Self.gemma(layers: 61).describe().layers[0].attentionScale == 1 / Float(32).squareRoot())
    }

    @Test func linearScalingIsForLayersWithoutAWindow() throws {
        var file = Self.gemma()
        file.strings["gemma3.rope.scaling.type"] = "linear"
        file.floats["gemma3.rope.scaling.factor"] = 8
        let model = try file.describe()
        #expect(model.ropes.map(\.scaling) == [.linear(factor: 8), .none])

        var llama = TinyGGUF()
        llama.floats["llama.rope.scale_linear"] = 4
        #expect(try llama.describe().ropes[0].scaling == .linear(factor: 4))
        llama.strings["llama.rope.scaling.type"] = "none"
        #expect(try llama.describe().ropes[0].scaling == .none)
    }

    @Test func llamaMayHaveBiases() throws {
        var file = TinyGGUF()
        file.addToLayers(["attn_q.bias": [64], "attn_k.bias": [32], "attn_v.bias": [32]])
        #expect(try file.describe().layers[0].queryKeyValueBias)
    }

    @Test func tensorsBeyondTheLastLayerAndDerivedOnesAreIgnored() throws {
        var file = TinyGGUF()
        file.shapes["blk.0.attn_rot_embd.weight"] = [16]
        file.shapes["blk.2.nextn.weight"] = [16]
        file.shapes["other.weight"] = [16]
        #expect(try file.describe() == TinyGGUF().describe())
    }
}
