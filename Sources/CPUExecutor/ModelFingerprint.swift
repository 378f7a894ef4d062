// Tandem — Apache-2.0

import LanguageModel
import Requests
import Weights

/// Digests that tell models apart. They cover the description, the tensor table and a sample of each tensor's bytes,
/// not every byte: files that were made to collide can.
enum ModelFingerprint {
    /// Bytes sampled at the beginning, in the middle and at the end of each tensor.
    private static let sampleBytes = 64

    /// The digest of a model's weights and shape; the same for all ablations.
    static func weights(model: DecoderDescription, file: any TensorSource) -> Digest128 {
        var hash = StableHash(seed: 0x7461_6E64_656D)
        hash.combine(bytes: model.architecture.utf8)
        for number in [
            model.vocabularySize, model.hiddenSize, model.intermediateSize, model.queryHeads, model.keyValueHeads,
            model.headDimension, model.layers.count,
        ] {
            hash.combine(UInt64(number))
        }
        hash.combine(UInt64(model.normEpsilon.bitPattern))
        hash.combine(UInt64(model.normOffset.bitPattern))
        hash.combine(UInt64(model.embeddingScale.bitPattern))
        for rope in model.ropes { hash.combine(UInt64(rope.base.bitPattern)) }
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

    /// The digest of a model as it is run: keys and values of different ablations differ.
    static func model(weights: Digest128, ablation: Ablation) -> Digest128 {
        var hash = StableHash(seed: weights.high)
        hash.combine(weights.low)
        hash.combine(bytes: ablation.rawValue.utf8)
        return hash.digest()
    }
}
