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

extension DecoderDescription {
    /// The tensor's name in a GGUF file (`gguf-py/gguf/constants.py` of ggml lists them).
    public func tensorName(_ role: TensorRole) -> String {
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
