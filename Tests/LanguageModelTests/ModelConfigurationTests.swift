// Tandem — Apache-2.0

import JSON
import LanguageModel
import TestSupport
import Testing
import Weights

@Suite struct ModelConfigurationTests {
    /// The description of a configuration in the fixtures.
    static func describe(fixture: String, prefix: String = "model.") throws -> DecoderDescription {
        try ModelConfiguration(path: ModelFixture.fixturePath("tiny/\(fixture)/config.json"))
            .description(name: fixture, prefix: prefix)
    }

    static func describe(_ text: String) throws -> DecoderDescription {
        let json = try #require(JSONParser.parse(Array(text.utf8)).object)
        return try ModelConfiguration(json: json, path: "config.json").description(name: "n")
    }

    /// The sizes that most of the fixtures share.
    static func expected(
        _ name: String, architecture: String, keyValueHeads: Int = 2, headDimension: Int = 16, epsilon: Float = 1e-6,
        tied: Bool, ropes: [RotaryDescription], layers: [LayerDescription]
    ) -> DecoderDescription {
        DecoderDescription(
            architecture: architecture, name: name, vocabularySize: 320, hiddenSize: 64, intermediateSize: 160,
            queryHeads: 4, keyValueHeads: keyValueHeads, headDimension: headDimension, contextLength: 512,
            normEpsilon: epsilon, tiedHead: tied, ropes: ropes, layers: layers,
            tensorNaming: .huggingFace(prefix: "model."))
    }

    static func rope(_ base: Float, _ dimensions: Int = 16) -> RotaryDescription {
        RotaryDescription(base: base, dimensions: dimensions, fileLayout: .halfSplit)
    }

    @Test func llama() throws {
        let layer = LayerDescription(attentionScale: 0.25)
        #expect(
            try Self.describe(fixture: "llama-tied")
                == Self.expected(
                    "llama-tied", architecture: "llama", keyValueHeads: 1, epsilon: 1e-5, tied: true,
                    ropes: [Self.rope(1e5)], layers: [layer, layer]))
        var rope = Self.rope(5e5)
        rope.scaling = .llama3(factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 64)
        #expect(
            try Self.describe(fixture: "llama3-rope-untied")
                == Self.expected(
                    "llama3-rope-untied", architecture: "llama", epsilon: 1e-5, tied: false, ropes: [rope],
                    layers: [layer, layer]))
    }

    @Test func qwen2() throws {
        let layer = LayerDescription(queryKeyValueBias: true, attentionScale: 0.25)
        for (name, tied) in [("qwen2-tied", true), ("qwen2-untied", false)] {
            #expect(
                try Self.describe(fixture: name)
                    == Self.expected(
                        name, architecture: "qwen2", tied: tied, ropes: [Self.rope(1e6)], layers: [layer, layer]))
        }
    }

    @Test func qwen3() throws {
        let layer = LayerDescription(queryKeyNorm: true, attentionScale: 1 / Float(32).squareRoot())
        for (name, tied) in [("qwen3-tied", true), ("qwen3-untied", false)] {
            #expect(
                try Self.describe(fixture: name)
                    == Self.expected(
                        name, architecture: "qwen3", headDimension: 32, tied: tied, ropes: [Self.rope(1e6, 32)],
                        layers: [layer, layer]))
        }
    }

    @Test func gemma3() throws {
        let global = LayerDescription(
            queryKeyNorm: true, postAttentionNorm: true, postFeedForwardNorm: true, activation: .geluTanh,
            attentionScale: 1 / Float(32).squareRoot())
        var local = global
        local.window = 16
        local.rope = 1
        var expected = Self.expected(
            "gemma3-text", architecture: "gemma3", keyValueHeads: 1, headDimension: 32, tied: true,
            ropes: [Self.rope(1e6, 32), Self.rope(1e4, 32)], layers: Array(repeating: local, count: 5) + [global])
        expected.normOffset = 1
        expected.embeddingScale = 8
        #expect(try Self.describe(fixture: "gemma3-text") == expected)
        // The decoder of a model that also sees images.
        expected.name = "gemma3-mm"
        expected.tensorNaming = .huggingFace(prefix: "language_model.model.")
        #expect(try Self.describe(fixture: "gemma3-mm", prefix: "language_model.model.") == expected)
        #expect(expected.tensorName(.output) == "language_model.lm_head.weight")
    }

    /// Gemma 3 4B as it was published: what equals the defaults is left out.
    @Test func defaultsOfGemma() throws {
        let model = try Self.describe(
            """
            {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16",
             "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
              "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
              "sliding_window": 1024}, "vision_config": {"hidden_size": 1152}}
            """)
        #expect([model.vocabularySize, model.hiddenSize, model.intermediateSize] == [262_208, 2560, 10240])
        #expect([model.queryHeads, model.keyValueHeads, model.headDimension] == [8, 4, 256])
        #expect(model.contextLength == 131_072 && model.normEpsilon == 1e-6 && model.tiedHead)
        #expect(model.layers[0].attentionScale == 0.0625)
        #expect(model.layers.enumerated().allSatisfy { $1.window == ($0 % 6 == 5 ? nil : 1024) })
        #expect(model.ropes.map(\.base) == [1e6, 1e4])
        #expect(model.ropes.map(\.scaling) == [.linear(factor: 8), .none])
        #expect(model.embeddingScale == Float(2560).squareRoot())
    }

    static let llama = """
        "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 512, "vocab_size": 320
        """

    @Test func llamaWithLittleStated() throws {
        let model = try Self.describe("{\(Self.llama)}")
        #expect(model.keyValueHeads == 4 && model.headDimension == 16 && !model.tiedHead && model.normEpsilon == 1e-6)
        #expect(model.ropes == [Self.rope(10000)])
    }

    static let spellings: [(old: String, new: String)] = [
        (#""rope_theta": 500000"#, #""rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}"#),
        (
            #""rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}"#,
            #""rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2}"#
        ),
        (
            #""rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "#
                + #""high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#,
            #""rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "#
                + #""high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#
        ),
        (#""rope_scaling": null"#, #""rope_parameters": null"#),
    ]

    @Test func oldAndNewSpellingsAreTheSame() throws {
        for (old, new) in Self.spellings {
            let first = try Self.describe("{\(Self.llama), \(old)}")
            #expect(try first == Self.describe("{\(Self.llama), \(new)}"))
            if old.contains("linear") { #expect(first.ropes[0].scaling == .linear(factor: 2)) }
            if old.contains("5") { #expect(first.ropes[0].base == 5e5) }
        }
        let gemma = Self.llama.replacingLlama(with: "Gemma3ForCausalLM")
        let old = try Self.describe(
            """
            {\(gemma), "rope_theta": 2e6, "rope_local_base_freq": 5000, "sliding_window_pattern": 2,
             "rope_scaling": {"rope_type": "linear", "factor": 8}}
            """)
        let new = try Self.describe(
            """
            {\(gemma), "layer_types": ["sliding_attention", "full_attention"], "rope_parameters": {
             "full_attention": {"rope_theta": 2e6, "rope_type": "linear", "factor": 8},
             "sliding_attention": {"rope_theta": 5000, "rope_type": "default"}}}
            """)
        #expect(old == new)
        #expect(old.ropes.map(\.base) == [2e6, 5000] && old.layers.map(\.window) == [4096, nil])
    }

    @Test func qwen3AndItsWindows() throws {
        let qwen = Self.llama.replacingLlama(with: "Qwen3ForCausalLM")
        let plain = try Self.describe(#"{\#(qwen), "use_sliding_window": false, "sliding_window": 8}"#)
        #expect(plain.headDimension == 128 && plain.layers.allSatisfy { $0.queryKeyNorm && $0.window == nil })
        let windowed = try Self.describe(
            #"{\#(qwen), "use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1}"#)
        #expect(windowed.layers.map(\.window) == [nil, 8] && windowed.ropes.count == 1)
        let listed = try Self.describe(
            """
            {\(qwen), "use_sliding_window": true, "sliding_window": 8,
             "layer_types": ["sliding_attention", "full_attention"]}
            """)
        #expect(listed.layers.map(\.window) == [8, nil])
    }

    @Test func mistralIsALlamaWithAWindow() throws {
        let mistral = Self.llama.replacingLlama(with: "MistralForCausalLM")
        #expect(try Self.describe("{\(mistral)}").layers.map(\.window) == [4096, 4096])
        #expect(try Self.describe(#"{\#(mistral), "sliding_window": 32}"#).layers.map(\.window) == [32, 32])
        let full = try Self.describe(#"{\#(mistral), "sliding_window": null}"#)
        #expect(full.kvGroups == [KeyValueGroup(layers: [0, 1], window: nil)])
    }

    @Test func queryScale() throws {
        let gemma = Self.llama.replacingLlama(with: "Gemma3ForCausalLM")
        let model = try Self.describe(#"{\#(gemma), "query_pre_attn_scalar": 144}"#)
        #expect(model.layers[0].attentionScale == 1 / Float(12))
    }

    @Test func storedTypes() throws {
        let types = [#""dtype": "float16""#: "F16", #""torch_dtype": "float32""#: "F32", #""dtype": null"#: "BF16"]
        for (text, name) in types {
            let json = try #require(JSONParser.parse(Array("{\(Self.llama), \(text)}".utf8)).object)
            #expect(try ModelConfiguration(json: json, path: "c").storedType().name == name)
        }
        let json = try #require(JSONParser.parse(Array(#"{\#(Self.llama), "dtype": "int8"}"#.utf8)).object)
        #expect(throws: LanguageModelError.self) { try ModelConfiguration(json: json, path: "c").storedType() }
    }

    /// A part of the message, and what is added to a Llama's configuration.
    static let refusals: [(String, String)] = [
        ("vocab_size: missing", #""vocab_size": null"#),
        ("vocab_size: 0 is out of range", #""vocab_size": 0"#),
        ("vocab_size", #""vocab_size": -3"#),
        ("hidden_size", #""hidden_size": 1e300"#),
        ("hidden_size", #""hidden_size": "64""#),
        ("num_hidden_layers", #""num_hidden_layers": 100000"#),
        ("num_attention_heads: 4 is not a multiple of 3", #""num_key_value_heads": 3"#),
        ("head_dim: a head dimension of 24", #""head_dim": 24"#),
        ("rms_norm_eps", #""rms_norm_eps": 2"#),
        ("max_position_embeddings", #""max_position_embeddings": 0"#),
        ("attention_bias: only false", #""attention_bias": true"#),
        ("mlp_bias: only false", #""mlp_bias": true"#),
        ("attn_logit_softcapping: capped logits", #""attn_logit_softcapping": 50.0"#),
        ("final_logit_softcapping: capped logits", #""final_logit_softcapping": 30"#),
        ("use_bidirectional_attention", #""use_bidirectional_attention": true"#),
        ("partial_rotary_factor: only 1", #""partial_rotary_factor": 0.5"#),
        ("quantization_config: quantized safetensors", #""quantization_config": {"quant_method": "awq"}"#),
        (#"hidden_act: "relu" is not supported"#, #""hidden_act": "relu""#),
        ("tie_word_embeddings: not a boolean", #""tie_word_embeddings": 1"#),
        ("rope_theta", #""rope_theta": 0"#),
        ("rope_parameters: not an object", #""rope_parameters": []"#),
        (#"rope_scaling.type: "yarn" is not supported"#, #""rope_scaling": {"type": "yarn", "factor": 4}"#),
        (#"rope_scaling.rope_type: "longrope""#, #""rope_scaling": {"rope_type": "longrope"}"#),
        (#"rope_parameters.rope_type: "dynamic""#, #""rope_parameters": {"rope_type": "dynamic"}"#),
        ("rope_scaling.factor: missing", #""rope_scaling": {"rope_type": "linear"}"#),
        ("rope_scaling.factor: 0.0 is out", #""rope_scaling": {"rope_type": "linear", "factor": 0}"#),
        (
            "rope_scaling.high_freq_factor: 1.0 is not above",
            #""rope_scaling": {"rope_type": "llama3", "low_freq_factor": 4, "high_freq_factor": 1}"#
        ),
        (
            "rope_scaling.original_max_position_embeddings: missing",
            #""rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}"#
        ),
        ("rope_parameters.partial_rotary_factor", #""rope_parameters": {"partial_rotary_factor": 0.25}"#),
        ("rope_parameters.full_attention: not an object", #""rope_parameters": {"full_attention": 3}"#),
        ("layer_types: expected a list", #""layer_types": ["full_attention"]"#),
        (#"layer_types: "linear_attention""#, #""layer_types": ["full_attention", "linear_attention"]"#),
        ("layer_types: models of", #""layer_types": ["full_attention", "sliding_attention"]"#),
        ("architectures: missing or empty", #""architectures": []"#),
        (#"architectures: "T5Model" is not supported; supported: Llama"#, #""architectures": ["T5Model"]"#),
    ]

    @Test func whatNoLayerDoesIsRefused() throws {
        for (reason, addition) in Self.refusals {
            var json = try #require(JSONParser.parse(Array("{\(Self.llama)}".utf8)).object)
            let added = try #require(JSONParser.parse(Array("{\(addition)}".utf8)).object)
            for (key, value) in added.entries { json[key] = value }
            do {
                _ = try ModelConfiguration(json: json, path: "config.json").description(name: "n")
                Issue.record("accepted: \(addition)")
            } catch {
                #expect("\(error)".hasPrefix("config.json: "))
                #expect("\(error)".contains(reason), "\(error) lacks \(reason)")
            }
        }
        let gemma = Self.llama.replacingLlama(with: "Gemma3ForCausalLM")
        #expect(throws: LanguageModelError.self) { try Self.describe(#"{\#(gemma), "hidden_activation": "gelu"}"#) }
        #expect(throws: LanguageModelError.self) { try Self.describe(#"{\#(gemma), "sliding_window": null}"#) }
    }
}

extension String {
    fileprivate func replacingLlama(with architecture: String) -> String {
        let parts = split(separator: "LlamaForCausalLM", maxSplits: 1, omittingEmptySubsequences: false)
        return parts.joined(separator: architecture)
    }
}
