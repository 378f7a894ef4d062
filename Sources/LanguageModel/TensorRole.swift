// Tandem — Apache-2.0

/// What a tensor is for. Layer indices count from 0.
public enum TensorRole: Sendable, Hashable {
    case tokenEmbedding
    case outputNorm
    case output
    /// Divisors of the rotary frequencies.
    case rotaryFactors
    case attentionNorm(Int)
    case query(Int)
    case key(Int)
    case value(Int)
    case queryBias(Int)
    case keyBias(Int)
    case valueBias(Int)
    case queryNorm(Int)
    case keyNorm(Int)
    case attentionOutput(Int)
    case postAttentionNorm(Int)
    case feedForwardNorm(Int)
    case gate(Int)
    case up(Int)
    case down(Int)
    case postFeedForwardNorm(Int)
}

/// How files call tensors.
public enum TensorNaming: Sendable, Equatable {
    /// As in GGUF files (`gguf-py/gguf/constants.py` of ggml lists the names).
    case gguf
    /// As transformers' causal language models do, with `prefix` before the decoder's tensors, usually `model.`.
    case huggingFace(prefix: String)
}

extension DecoderDescription {
    /// The tensor's name in the model's files; see ``TensorNaming``.
    public func tensorName(_ role: TensorRole) -> String {
        switch tensorNaming {
        case .gguf: ggufName(role)
        case .huggingFace(let prefix): huggingFaceName(role, prefix: prefix)
        }
    }

    private func ggufName(_ role: TensorRole) -> String {
        switch role {
        case .tokenEmbedding: "token_embd.weight"
        case .outputNorm: "output_norm.weight"
        case .output: "output.weight"
        case .rotaryFactors: "rope_freqs.weight"
        case .attentionNorm(let layer): "blk.\(layer).attn_norm.weight"
        case .query(let layer): "blk.\(layer).attn_q.weight"
        case .key(let layer): "blk.\(layer).attn_k.weight"
        case .value(let layer): "blk.\(layer).attn_v.weight"
        case .queryBias(let layer): "blk.\(layer).attn_q.bias"
        case .keyBias(let layer): "blk.\(layer).attn_k.bias"
        case .valueBias(let layer): "blk.\(layer).attn_v.bias"
        case .queryNorm(let layer): "blk.\(layer).attn_q_norm.weight"
        case .keyNorm(let layer): "blk.\(layer).attn_k_norm.weight"
        case .attentionOutput(let layer): "blk.\(layer).attn_output.weight"
        case .postAttentionNorm(let layer): "blk.\(layer).post_attention_norm.weight"
        case .feedForwardNorm(let layer): "blk.\(layer).ffn_norm.weight"
        case .gate(let layer): "blk.\(layer).ffn_gate.weight"
        case .up(let layer): "blk.\(layer).ffn_up.weight"
        case .down(let layer): "blk.\(layer).ffn_down.weight"
        case .postFeedForwardNorm(let layer): "blk.\(layer).post_ffw_norm.weight"
        }
    }

    private func huggingFaceName(_ role: TensorRole, prefix: String) -> String {
        func layer(_ index: Int, _ name: String) -> String { "\(prefix)layers.\(index).\(name)" }
        return switch role {
        case .tokenEmbedding: "\(prefix)embed_tokens.weight"
        case .outputNorm: "\(prefix)norm.weight"
        // Beside the decoder, whose own prefix ends in one more name.
        case .output:
            prefix.hasSuffix("language_model.model.")
                ? "\(prefix.dropLast("model.".count))lm_head.weight" : "lm_head.weight"
        // No such tensor exists there: scaled frequencies are computed from the configuration.
        case .rotaryFactors: "\(prefix)rope_freqs.weight"
        case .attentionNorm(let index): layer(index, "input_layernorm.weight")
        case .query(let index): layer(index, "self_attn.q_proj.weight")
        case .key(let index): layer(index, "self_attn.k_proj.weight")
        case .value(let index): layer(index, "self_attn.v_proj.weight")
        case .queryBias(let index): layer(index, "self_attn.q_proj.bias")
        case .keyBias(let index): layer(index, "self_attn.k_proj.bias")
        case .valueBias(let index): layer(index, "self_attn.v_proj.bias")
        case .queryNorm(let index): layer(index, "self_attn.q_norm.weight")
        case .keyNorm(let index): layer(index, "self_attn.k_norm.weight")
        case .attentionOutput(let index): layer(index, "self_attn.o_proj.weight")
        case .postAttentionNorm(let index): layer(index, "post_attention_layernorm.weight")
        // With four norms a layer, the one before the feed-forward block has a name of its own.
        case .feedForwardNorm(let index):
            layer(
                index,
                layers[index].postAttentionNorm
                    ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight")
        case .gate(let index): layer(index, "mlp.gate_proj.weight")
        case .up(let index): layer(index, "mlp.up_proj.weight")
        case .down(let index): layer(index, "mlp.down_proj.weight")
        case .postFeedForwardNorm(let index): layer(index, "post_feedforward_layernorm.weight")
        }
    }

    /// The tensor's shape, the contiguous dimension first: `[inputs, outputs]` of a matrix.
    public func expectedShape(_ role: TensorRole) -> [Int] {
        let queries = queryHeads * headDimension
        let keys = keyValueHeads * headDimension
        return switch role {
        case .tokenEmbedding, .output: [hiddenSize, vocabularySize]
        case .outputNorm, .attentionNorm, .feedForwardNorm, .postAttentionNorm, .postFeedForwardNorm: [hiddenSize]
        case .rotaryFactors: [(ropes.first?.dimensions ?? 0) / 2]
        case .query: [hiddenSize, queries]
        case .key, .value: [hiddenSize, keys]
        case .queryBias: [queries]
        case .keyBias, .valueBias: [keys]
        case .queryNorm, .keyNorm: [headDimension]
        case .attentionOutput: [queries, hiddenSize]
        case .gate, .up: [hiddenSize, intermediateSize]
        case .down: [intermediateSize, hiddenSize]
        }
    }

    /// The tensors of one layer, those of parts that an ablation leaves out included.
    public func roles(ofLayer index: Int) -> [TensorRole] {
        attentionRoles(ofLayer: index) + feedForwardRoles(ofLayer: index)
    }

    /// Every tensor the model needs.
    public var roles: [TensorRole] {
        var roles: [TensorRole] = [.tokenEmbedding]
        for index in layers.indices { roles += self.roles(ofLayer: index) }
        roles.append(.outputNorm)
        if !tiedHead { roles.append(.output) }
        if ropes.contains(where: \.hasFrequencyFactors) { roles.append(.rotaryFactors) }
        return roles
    }

    func attentionRoles(ofLayer index: Int) -> [TensorRole] {
        let layer = layers[index]
        var roles: [TensorRole] = [
            .attentionNorm(index), .query(index), .key(index), .value(index), .attentionOutput(index),
        ]
        if layer.queryKeyValueBias { roles += [.queryBias(index), .keyBias(index), .valueBias(index)] }
        if layer.queryKeyNorm { roles += [.queryNorm(index), .keyNorm(index)] }
        if layer.postAttentionNorm { roles.append(.postAttentionNorm(index)) }
        return roles
    }

    func feedForwardRoles(ofLayer index: Int) -> [TensorRole] {
        var roles: [TensorRole] = [.feedForwardNorm(index), .gate(index), .up(index), .down(index)]
        if layers[index].postFeedForwardNorm { roles.append(.postFeedForwardNorm(index)) }
        return roles
    }
}
