// Tandem — Apache-2.0

import CPUKernels
import InferenceEngine
import LanguageModel
import Weights

/// One matrix of packed weights and the kernel that multiplies by it.
struct PackedMatrix {
    /// Output features.
    var rows: Int
    /// Inputs.
    var columns: Int
    var panels: Int
    var panelBytes: Int
    var base: UnsafeRawPointer
    var multiply: tandem_matmul
    var unpackRow: tandem_unpack_row
    /// What its activation rows are rounded to.
    var activations: ActivationFormat
}

/// One layer's weights; `nil` for what the layer does without.
struct PackedLayer {
    var attentionNorm: UnsafePointer<Float>
    var query: PackedMatrix
    var key: PackedMatrix
    var value: PackedMatrix
    var bias: (query: UnsafePointer<Float>, key: UnsafePointer<Float>, value: UnsafePointer<Float>)?
    /// Of one head each.
    var headNorms: (query: UnsafePointer<Float>, key: UnsafePointer<Float>)?
    var attentionOutput: PackedMatrix
    var postAttentionNorm: UnsafePointer<Float>?
    var feedForwardNorm: UnsafePointer<Float>
    var gate: PackedMatrix
    var up: PackedMatrix
    var down: PackedMatrix
    var postFeedForwardNorm: UnsafePointer<Float>?
}

/// A model ready to run: addresses into packed weights, which it keeps alive.
///
/// Unchecked: everything it points to is read-only.
final class PackedModel: @unchecked Sendable {
    let embedding: PackedMatrix
    let head: PackedMatrix
    let outputNorm: UnsafePointer<Float>
    let layers: [PackedLayer]
    /// Divisors of the rotary frequencies, or empty.
    let rotaryFactors: [Float]
    let weights: SharedWeights

    init(
        model: DecoderDescription, layout: PackedLayout, weights: SharedWeights,
        kernels: UnsafePointer<tandem_kernels>
    ) throws(ExecutorError) {
        let reader = Reader(model: model, layout: layout, base: weights.base, kernels: kernels.pointee)
        embedding = try reader.matrix(.tokenEmbedding)
        head = try reader.matrix(model.tiedHead ? .tokenEmbedding : .output)
        outputNorm = try reader.vector(.outputNorm)
        var layers: [PackedLayer] = []
        for (index, layer) in model.layers.enumerated() {
            layers.append(
                PackedLayer(
                    attentionNorm: try reader.vector(.attentionNorm(index)),
                    query: try reader.matrix(.query(index)),
                    key: try reader.matrix(.key(index)),
                    value: try reader.matrix(.value(index)),
                    bias: layer.queryKeyValueBias
                        ? (
                            try reader.vector(.queryBias(index)), try reader.vector(.keyBias(index)),
                            try reader.vector(.valueBias(index))
                        ) : nil,
                    headNorms: layer.queryKeyNorm
                        ? (try reader.vector(.queryNorm(index)), try reader.vector(.keyNorm(index))) : nil,
                    attentionOutput: try reader.matrix(.attentionOutput(index)),
                    postAttentionNorm: layer.postAttentionNorm ? try reader.vector(.postAttentionNorm(index)) : nil,
                    feedForwardNorm: try reader.vector(.feedForwardNorm(index)),
                    gate: try reader.matrix(.gate(index)),
                    up: try reader.matrix(.up(index)),
                    down: try reader.matrix(.down(index)),
                    postFeedForwardNorm: layer.postFeedForwardNorm
                        ? try reader.vector(.postFeedForwardNorm(index)) : nil))
        }
        self.layers = layers
        if let entry = layout.entry(.rotaryFactors) {
            let factors = try reader.vector(.rotaryFactors)
            rotaryFactors = Array(UnsafeBufferPointer(start: factors, count: entry.columns))
            guard rotaryFactors.allSatisfy({ $0.isFinite && $0 > 0 }) else {
                throw ExecutorError(
                    kind: .unsupported, message: "tensor rope_freqs.weight: factors must be positive numbers")
            }
        } else {
            rotaryFactors = []
        }
        self.weights = weights
    }

    private struct Reader {
        var model: DecoderDescription
        var layout: PackedLayout
        var base: UnsafeRawPointer
        var kernels: tandem_kernels

        func entry(_ role: TensorRole) throws(ExecutorError) -> PackedLayout.Entry {
            guard let entry = layout.entry(role) else {
                throw ExecutorError(
                    kind: .unsupported, message: "tensor \(model.tensorName(role)) is not among the packed weights")
            }
            return entry
        }

        func vector(_ role: TensorRole) throws(ExecutorError) -> UnsafePointer<Float> {
            let entry = try entry(role)
            guard entry.format == .vector else {
                throw ExecutorError(kind: .unsupported, message: "tensor \(model.tensorName(role)) is no vector")
            }
            return (base + entry.offset).assumingMemoryBound(to: Float.self)
        }

        func matrix(_ role: TensorRole) throws(ExecutorError) -> PackedMatrix {
            let entry = try entry(role)
            let multiply: tandem_matmul
            let unpackRow: tandem_unpack_row
            switch entry.format {
            case .vector:
                throw ExecutorError(kind: .unsupported, message: "tensor \(model.tensorName(role)) is no matrix")
            case .u4: (multiply, unpackRow) = (kernels.matmul_int8_u4, kernels.unpack_row_u4)
            case .u5: (multiply, unpackRow) = (kernels.matmul_int8_u5, kernels.unpack_row_u5)
            case .u8: (multiply, unpackRow) = (kernels.matmul_int8_u8, kernels.unpack_row_u8)
            case .bf16: (multiply, unpackRow) = (kernels.matmul_bf16, kernels.unpack_row_bf16)
            case .f32: (multiply, unpackRow) = (kernels.matmul_f32, kernels.unpack_row_f32)
            }
            return PackedMatrix(
                rows: entry.rows, columns: entry.columns, panels: entry.panels,
                panelBytes: entry.format.panelBytes(columns: entry.columns), base: base + entry.offset,
                multiply: multiply, unpackRow: unpackRow, activations: entry.activations)
        }
    }
}
