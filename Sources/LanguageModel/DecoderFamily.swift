// Tandem — Apache-2.0

import JSON

/// What the models of a family have in common, beyond the numbers that their files state. A family is an entry of
/// ``all`` and nothing else: no other code knows one by name.
struct DecoderFamily: Sendable {
    /// Whether projections of queries, keys and values have a bias.
    enum Bias: Sendable {
        case never
        case always
        /// If the file holds one for the first layer.
        case ifStored
    }

    /// Which layers see a window of the tokens before them, if the files say nothing of single layers.
    enum WindowedLayers: Sendable {
        case none
        case all
        /// All but each `n`-th.
        case allButEvery(Int)
        /// Those from the one on that the configuration names, if it switches windows on at all.
        case fromStatedLayer
    }

    /// ``DecoderDescription/architecture``, in GGUF files `general.architecture`.
    var name: String
    /// Whether GGUF files have this architecture; some families go by another's name there.
    var isInGGUF = true
    /// Names in `architectures` of a `config.json`.
    var configurationNames: [String]
    var queryKeyValueBias = Bias.never
    var queryKeyNorm = false
    /// Norms of both blocks' outputs.
    var postNorms = false
    var activation = LayerDescription.Activation.silu
    /// Order of query and key rows in GGUF files; safetensors have half-split order throughout.
    var ggufRotaryLayout = RotaryDescription.FileLayout.halfSplit
    /// Whether embeddings are multiplied by the root of the hidden size, in single precision, not rounded further.
    var scalesEmbeddings = false
    /// ``DecoderDescription/normOffset`` of safetensors; converters to GGUF add it.
    var configurationNormOffset: Float = 0
    var windowedLayers = WindowedLayers.none
    /// Base of the rotary embedding of layers with a window, unless stated; without one they have that of the others,
    /// its scaling included.
    var localRotaryBase: Float?
    /// The one count of layers at which GGUF files mean that query·key is divided by the root of hidden size over heads
    /// and not of the head dimension; they do not state it.
    var layersScaledByWidth: Int?
    /// Base of the rotary embedding, unless stated.
    var rotaryBase: Float = 10000
    /// What a key of `config.json` means that is not there; keys without an entry are needed.
    var configurationDefaults: [String: JSONValue] = [:]

    /// All families that can be described.
    static let all = [
        DecoderFamily(
            name: "llama",
            configurationNames: ["LlamaForCausalLM"],
            queryKeyValueBias: .ifStored,
            ggufRotaryLayout: .interleaved,
            configurationDefaults: ["rms_norm_eps": .number(1e-6)]
        ),
        DecoderFamily(
            name: "mistral",
            isInGGUF: false,
            configurationNames: ["MistralForCausalLM"],
            windowedLayers: .all,
            configurationDefaults: ["rms_norm_eps": .number(1e-6), "sliding_window": .integer(4096)]
        ),
        DecoderFamily(
            name: "qwen2",
            configurationNames: ["Qwen2ForCausalLM"],
            queryKeyValueBias: .always,
            windowedLayers: .fromStatedLayer,
            configurationDefaults: ["rms_norm_eps": .number(1e-6)]
        ),
        DecoderFamily(
            name: "qwen3",
            configurationNames: ["Qwen3ForCausalLM"],
            queryKeyNorm: true,
            windowedLayers: .fromStatedLayer,
            configurationDefaults: ["rms_norm_eps": .number(1e-6), "head_dim": .integer(128)]
        ),
        DecoderFamily(
            name: "gemma3",
            configurationNames: ["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
            queryKeyNorm: true,
            postNorms: true,
            activation: .geluTanh,
            scalesEmbeddings: true,
            configurationNormOffset: 1,
            windowedLayers: .allButEvery(6),
            localRotaryBase: 10000,
            layersScaledByWidth: 62,
            rotaryBase: 1e6,
            // Published configurations leave out what equals these.
            configurationDefaults: [
                "vocab_size": .integer(262_208), "num_attention_heads": .integer(8),
                "num_key_value_heads": .integer(4), "head_dim": .integer(256),
                "max_position_embeddings": .integer(131_072), "rms_norm_eps": .number(1e-6),
                "query_pre_attn_scalar": .integer(256), "sliding_window": .integer(4096),
                "hidden_activation": .string("gelu_pytorch_tanh"), "tie_word_embeddings": .bool(true),
            ]
        ),
    ]
}
