// Tandem — Apache-2.0

import LanguageModel
import TestSupport
import Testing
import Weights

@Suite struct DecoderDescriptionTests {
    /// A file with the tensors of a small Llama (all zero) and this metadata.
    struct TinyFile {
        var strings = ["general.architecture": "llama", "general.name": "tiny"]
        var integers: [String: UInt64] = [
            "llama.embedding_length": 64, "llama.block_count": 2, "llama.feed_forward_length": 96,
            "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2, "llama.context_length": 128,
        ]
        var floats: [String: Float] = [
            "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 10000,
        ]
        var shapes: [String: [Int]] = {
            var shapes = ["token_embd.weight": [64, 100], "output_norm.weight": [64]]
            for layer in 0..<2 {
                shapes["blk.\(layer).attn_norm.weight"] = [64]
                shapes["blk.\(layer).attn_q.weight"] = [64, 64]
                shapes["blk.\(layer).attn_k.weight"] = [64, 32]
                shapes["blk.\(layer).attn_v.weight"] = [64, 32]
                shapes["blk.\(layer).attn_output.weight"] = [64, 64]
                shapes["blk.\(layer).ffn_norm.weight"] = [64]
                shapes["blk.\(layer).ffn_gate.weight"] = [64, 96]
                shapes["blk.\(layer).ffn_up.weight"] = [64, 96]
                shapes["blk.\(layer).ffn_down.weight"] = [96, 64]
            }
            return shapes
        }()

        func open() throws -> GGUFFile {
            var out: [UInt8] = Array("GGUF".utf8)
            func number(_ value: some FixedWidthInteger) { withUnsafeBytes(of: value.littleEndian) { out += $0 } }
            func text(_ value: String) {
                number(UInt64(value.utf8.count))
                out += value.utf8
            }
            number(UInt32(3))
            number(UInt64(shapes.count))
            number(UInt64(strings.count + integers.count + floats.count))
            for (key, value) in strings {
                text(key)
                number(UInt32(8))
                text(value)
            }
            for (key, value) in integers {
                text(key)
                number(UInt32(10))
                number(value)
            }
            for (key, value) in floats {
                text(key)
                number(UInt32(6))
                number(value.bitPattern)
            }
            var offset = 0
            let names = shapes.keys.sorted()
            for name in names {
                text(name)
                let shape = shapes[name] ?? []
                number(UInt32(shape.count))
                for extent in shape { number(UInt64(extent)) }
                number(UInt32(0))
                number(UInt64(offset))
                offset += (shape.reduce(4, *) + 31) & ~31
            }
            while out.count % 32 != 0 { out.append(0) }
            out += [UInt8](repeating: 0, count: offset)
            return try GGUFFile(bytes: out, name: "tiny.gguf")
        }

        func describe() throws -> DecoderDescription { try DecoderDescription(gguf: open()) }
    }

    @Test func readsALlama() throws {
        let model = try TinyFile().describe()
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
        var file = TinyFile()
        file.shapes["output.weight"] = [64, 100]
        file.shapes["rope_freqs.weight"] = [8]
        let model = try file.describe()
        #expect(!model.tiedHead)
        #expect(model.ropes[0].hasFrequencyFactors)
        #expect(model.roles.contains(.output) && model.roles.contains(.rotaryFactors))
    }

    @Test func costs() throws {
        let file = try TinyFile().open()
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
                KeyValueGroup(layers: [0], window: 512), KeyValueGroup(layers: [1], window: 512),
                KeyValueGroup(layers: [3], window: 512), KeyValueGroup(layers: [2], window: nil),
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

    static let hostile: [(String, @Sendable (inout TinyFile) -> Void)] = [
        ("general.architecture", { $0.strings["general.architecture"] = nil }),
        ("supported: llama", { $0.strings["general.architecture"] = "mamba" }),
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
        ("rope.scaling.type", { $0.strings["llama.rope.scaling.type"] = "yarn" }),
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
        ("rope_freqs.weight", { $0.shapes["rope_freqs.weight"] = [16] }),
    ]

    @Test func hostileFilesAreRefusedWithAReason() throws {
        for (reason, change) in Self.hostile {
            var file = TinyFile()
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
