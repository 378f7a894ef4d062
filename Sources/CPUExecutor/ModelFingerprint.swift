// Tandem — Apache-2.0

public import LanguageModel
public import Requests
public import Weights

/// Digests that tell models apart. They cover the description, the tensor table and a sample of each tensor's bytes,
/// not every byte: files that were made to collide can.
public enum ModelFingerprint {
    /// Bytes sampled at the beginning, in the middle and at the end of each tensor.
    private static let sampleBytes = 64

    /// The digest of a model's weights and shape; the same for all ablations.
    public static func weights(model: DecoderDescription, file: any TensorSource) -> Digest128 {
        var hash = StableHash(seed: 0x7461_6E64_656D)
        combine(model, into: &hash)
        for role in model.roles {
            guard let tensor = file.tensor(named: model.tensorName(role)) else { continue }
            hash.combine(bytes: tensor.name.utf8)
            hash.combine(UInt64(tensor.type.ggufCode))
            for extent in tensor.shape { hash.combine(UInt64(extent)) }
            let bytes = file.bytes(of: tensor)
            for start in [0, bytes.count / 2, bytes.count - sampleBytes] {
                let first = max(0, min(start, bytes.count))
                hash.combine(bytes: bytes[first..<min(first + sampleBytes, bytes.count)])
            }
        }
        return hash.digest()
    }

    /// Everything of a description that results depend on, but for the ablation. Optional values are preceded by
    /// whether they are there.
    private static func combine(_ model: DecoderDescription, into hash: inout StableHash) {
        func combine(_ numbers: Int...) { for number in numbers { hash.combine(UInt64(bitPattern: Int64(number))) } }
        func combine(_ numbers: Float...) { for number in numbers { hash.combine(UInt64(number.bitPattern)) } }
        func combine(_ flags: Bool...) { for flag in flags { hash.combine(flag ? 1 : 0) } }
        hash.combine(bytes: model.architecture.utf8)
        combine(
            model.vocabularySize, model.hiddenSize, model.intermediateSize, model.queryHeads, model.keyValueHeads,
            model.headDimension, model.layers.count, model.ropes.count)
        combine(model.normEpsilon, model.normOffset, model.embeddingScale)
        combine(model.tiedHead)
        for rope in model.ropes {
            combine(rope.base)
            combine(rope.dimensions)
            combine(rope.fileLayout == .interleaved, rope.hasFrequencyFactors)
            switch rope.scaling {
            case .none: combine(0)
            case .linear(let factor):
                combine(1)
                combine(factor)
            case .llama3(let factor, let low, let high, let originalContext):
                combine(2, originalContext)
                combine(factor, low, high)
            }
        }
        for layer in model.layers {
            combine(
                layer.queryKeyValueBias, layer.queryKeyNorm, layer.postAttentionNorm, layer.postFeedForwardNorm,
                layer.activation == .geluTanh, layer.window != nil)
            combine(layer.window ?? 0, layer.rope)
            combine(layer.attentionScale)
        }
    }

    /// The digest of a model as it is run: keys and values of different ablations differ.
    public static func model(weights: Digest128, ablation: Ablation) -> Digest128 {
        var hash = StableHash(seed: weights.high)
        hash.combine(weights.low)
        hash.combine(bytes: ablation.rawValue.utf8)
        return hash.digest()
    }
}
