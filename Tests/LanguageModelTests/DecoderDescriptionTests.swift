// Tandem — Apache-2.0

import LanguageModel
import TestSupport
import Testing
import Weights

@Suite struct DecoderDescriptionTests {
    @Test func readsALlama() throws {
        let model = try TinyGGUF().describe()
        #expect(model.name == "tiny")
        #expect(model.architecture == "llama")
        #expect([model.hiddenSize, model.intermediateSize, model.vocabularySize] == [64, 96, 100])
        #expect([model.queryHeads, model.keyValueHeads, model.headDimension] == [4, 2, 16])
        #expect(model.layers.count == 2 && model.layers[0] == LayerDescription(attentionScale: 0.25))
        #expect(model.tiedHead && model.contextLength == 128)
        #expect(model.ropes == [RotaryDescription(base: 10000, dimensions: 16, fileLayout: .interleaved)])
        #expect(model.kvGroups == [KeyValueGroup(layers: [0, 1], window: nil)])
        #expect(model.tensorName(.down(1)) == "blk.1.ffn_down.weight")
    }

    @Test func anUntiedHeadAndRotaryFactorsAreFoundByTheirTensors() throws {
        var file = TinyGGUF()
        file.shapes["output.weight"] = [64, 100]
        file.shapes["rope_freqs.weight"] = [8]
        let model = try file.describe()
        #expect(!model.tiedHead)
        #expect(model.ropes[0].hasFrequencyFactors)
        #expect(model.roles.contains(.output) && model.roles.contains(.rotaryFactors))
    }

    @Test func costs() throws {
        let file = try TinyGGUF().open()
        let model = try DecoderDescription(gguf: file)
        let attention = 64 * 64 * 2 + 64 * 32 * 2
        let mlp = 3 * 64 * 96
        #expect(model.parameterCount == 64 * 100 + 64 + 2 * (attention + mlp + 128))
        #expect(model.flopsPerToken(head: false) == 2 * 2 * (attention + mlp))
        #expect(model.flopsPerToken(head: true, context: 10) == 2 * (2 * (attention + mlp) + 6400) + 2 * 4 * 64 * 10)
        #expect(model.kvBytesPerToken(elementBytes: 2) == 2 * 2 * 2 * 16 * 2)
        #expect(model.weightBytesPerStep(in: file) == model.parameterCount * 4)
        let mlpOnly = try DecoderDescription(gguf: file, ablation: .mlpOnly)
        #expect(mlpOnly.flopsPerToken(head: false, context: 99) == 2 * 2 * mlp)
        #expect(mlpOnly.parameterCount == model.parameterCount)
        #expect(mlpOnly.weightBytesPerStep(in: file) == 4 * (6400 + 64 + 2 * (mlp + 64)))
        let attentionOnly = try DecoderDescription(gguf: file, ablation: .attentionOnly)
        #expect(attentionOnly.flopsPerToken(head: false) == 2 * 2 * attention)
    }

    @Test func theRealModelsCosts() throws {
        guard let path = try ModelFixture.path() else { return }
        let file = try GGUFFile(path: path)
        let model = try DecoderDescription(gguf: file)
        #expect(model.parameterCount == 134_515_008)
        #expect(model.kvBytesPerToken(elementBytes: 2) == 23040)
        #expect(model.layers.count == 30)
        #expect((96_000_000...97_500_000).contains(model.weightBytesPerStep(in: file)))
    }

    @Test func otherFamiliesCanBeDescribed() {
        let window = LayerDescription(
            queryKeyNorm: true, postAttentionNorm: true, postFeedForwardNorm: true, activation: .geluTanh, window: 512,
            rope: 1, attentionScale: 0.0625)
        var full = window
        full.window = nil
        full.rope = 0
        let model = DecoderDescription(
            architecture: "gemma3", name: "g", vocabularySize: 1000, hiddenSize: 640, intermediateSize: 2048,
            queryHeads: 4, keyValueHeads: 1, headDimension: 256, contextLength: 32768, normEpsilon: 1e-6,
            embeddingScale: 25.3, tiedHead: true,
            ropes: [
                RotaryDescription(base: 1e6, dimensions: 256, fileLayout: .halfSplit),
                RotaryDescription(base: 1e4, dimensions: 256, fileLayout: .halfSplit),
            ],
            layers: [window, window, full, window])
        #expect(
            model.kvGroups == [
                KeyValueGroup(layers: [0, 1, 3], window: 512), KeyValueGroup(layers: [2], window: nil),
            ])
        #expect(model.roles.contains(.queryNorm(2)) && model.roles.contains(.postFeedForwardNorm(0)))
        // Keys beyond the window cost nothing.
        let attention = model.flopsPerToken(head: false, context: 1000) - model.flopsPerToken(head: false)
        #expect(attention == 4 * 1024 * (3 * 512 + 1000))
    }

    @Test func rotaryRowsAndFrequencies() {
        let rope = RotaryDescription(base: 100, dimensions: 8, fileLayout: .interleaved)
        #expect(rope.fileRows(headDimension: 8) == [0, 2, 4, 6, 1, 3, 5, 7])
        #expect(rope.fileRows(headDimension: 10).suffix(2) == [8, 9])
        var half = rope
        half.fileLayout = .halfSplit
        #expect(half.fileRows(headDimension: 8) == Array(0..<8))
        let plain = rope.frequencies()
        #expect(plain.count == 4 && plain[0] == 1 && abs(plain[2] - 0.1) < 1e-7)
        #expect(rope.frequencies(factors: [1, 1, 4, 1])[2] == plain[2] / 4)
    }

    static let hostile: [(String, @Sendable (inout TinyGGUF) -> Void)] = [
        ("general.architecture", { $0.strings["general.architecture"] = nil }),
        ("supported: llama, qwen2, qwen3, gemma3", { $0.strings["general.architecture"] = "mamba" }),
        ("block_count", { $0.integers["llama.block_count"] = 0 }),
        ("block_count", { $0.integers["llama.block_count"] = .max }),
        ("block_count", { $0.integers["llama.block_count"] = nil }),
        ("head_count", { $0.integers["llama.attention.head_count"] = 0 }),
        ("head_count", { $0.integers["llama.attention.head_count"] = 1 << 40 }),
        ("head_count_kv", { $0.integers["llama.attention.head_count_kv"] = 0 }),
        ("head_count", { $0.integers["llama.attention.head_count_kv"] = 3 }),
        ("head_count", { $0.integers["llama.attention.head_count"] = 6 }),
        ("multiple of 16", { $0.integers["llama.attention.head_count"] = 8 }),
        ("key_length", { $0.integers["llama.attention.key_length"] = 0 }),
        ("multiple of 16", { $0.integers["llama.attention.key_length"] = 512 }),
        ("value_length", { $0.integers["llama.attention.value_length"] = 32 }),
        ("rope.dimension_count", { $0.integers["llama.rope.dimension_count"] = 8 }),
        ("\"yarn\" is not supported", { $0.strings["llama.rope.scaling.type"] = "yarn" }),
        ("\"longrope\" is not supported", { $0.strings["llama.rope.scaling.type"] = "longrope" }),
        ("rope.scaling.factor", { $0.floats["llama.rope.scaling.factor"] = -2 }),
        ("rope.scaling.factor", { $0.floats["llama.rope.scaling.factor"] = .nan }),
        ("rope.scale_linear: missing", { $0.strings["llama.rope.scaling.type"] = "linear" }),
        ("attn_factor", { $0.floats["llama.rope.scaling.attn_factor"] = 1.2 }),
        ("attention.causal", { $0.flags["llama.attention.causal"] = [false] }),
        ("final_logit_softcapping", { $0.floats["llama.final_logit_softcapping"] = 30 }),
        ("expert_count", { $0.integers["llama.expert_count"] = 8 }),
        ("embedding_length", { $0.integers["llama.embedding_length"] = 0 }),
        ("embedding_length", { $0.integers["llama.embedding_length"] = .max }),
        ("feed_forward_length", { $0.integers["llama.feed_forward_length"] = 0 }),
        ("expected the shape [64, 97], found [64, 96]", { $0.integers["llama.feed_forward_length"] = 97 }),
        ("context_length", { $0.integers["llama.context_length"] = 0 }),
        ("epsilon", { $0.floats["llama.attention.layer_norm_rms_epsilon"] = .nan }),
        ("epsilon", { $0.floats["llama.attention.layer_norm_rms_epsilon"] = -1 }),
        ("freq_base", { $0.floats["llama.rope.freq_base"] = .infinity }),
        ("freq_base", { $0.floats["llama.rope.freq_base"] = 0 }),
        ("token_embd.weight", { $0.shapes["token_embd.weight"] = nil }),
        ("token_embd.weight", { $0.shapes["token_embd.weight"] = [6400] }),
        ("blk.1.ffn_up.weight: missing", { $0.shapes["blk.1.ffn_up.weight"] = nil }),
        (
            "blk.0.attn_v.weight: expected the shape [64, 32], found [32, 64]",
            {
                $0.shapes["blk.0.attn_v.weight"] = [32, 64]
            }
        ),
        ("tensor blk.0.attn_output.bias", { $0.shapes["blk.0.attn_output.bias"] = [64] }),
        ("tensor output.bias", { $0.shapes["output.bias"] = [100] }),
        ("tensor blk.1.ffn_gate_inp.weight", { $0.shapes["blk.1.ffn_gate_inp.weight"] = [64, 8] }),
        ("rope_freqs.weight", { $0.shapes["rope_freqs.weight"] = [16] }),
    ]

    @Test func hostileFilesAreRefusedWithAReason() throws {
        for (reason, change) in Self.hostile {
            var file = TinyGGUF()
            change(&file)
            do {
                _ = try file.describe()
                Issue.record("accepted: \(reason)")
            } catch let error as LanguageModelError {
                #expect("\(error)".contains(reason), "\(error) lacks \(reason)")
                #expect("\(error)".hasPrefix("tiny.gguf: "))
            }
        }
    }
}
