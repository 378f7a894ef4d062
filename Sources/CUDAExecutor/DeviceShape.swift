// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel

/// A model's sizes as they are on the device.
///
/// Attention kernels know heads of 64, 128 and 256 elements. Other heads are filled up with zeros to the next of these:
/// rows of zeros in the projections of queries, keys and values, columns of zeros in the output projection. Scores and
/// outputs stay what they are.
struct DeviceShape: Sendable, Equatable {
    /// Elements of a head that mean something.
    var headDimension: Int
    /// Elements of a head as kernels see it: 64, 128 or 256.
    var paddedHead: Int
    var queryHeads: Int
    var keyValueHeads: Int
    var hiddenSize: Int
    var intermediateSize: Int
    var vocabularySize: Int

    /// Head dimensions of the attention kernels.
    static let heads = [64, 128, 256]
    /// Rows and columns of matrices are multiples of this (16 bytes of bfloat16).
    static let alignment = 8
    /// Most query heads that share a head of keys and values.
    static let largestGroup = 16

    /// Most elements of the residual stream that the norms' kernels hold.
    static let largestHidden = 8192

    /// Query heads that share a head of keys and values.
    var group: Int { queryHeads / keyValueHeads }
    /// Outputs of the projection of queries.
    var queryWidth: Int { queryHeads * paddedHead }
    /// Outputs of the joint projection of queries, keys and values.
    var queryKeyValueWidth: Int { (queryHeads + 2 * keyValueHeads) * paddedHead }
    /// Floats from one row of logits to the next.
    var vocabularyStride: Int { roundedUp(vocabularySize, to: Self.alignment) }
    /// By what an epsilon is multiplied where the mean square of a head is taken over the padded elements.
    var headEpsilonFactor: Float { Float(headDimension) / Float(paddedHead) }
    /// By what the weights of a head's norm are multiplied for the same reason.
    var headNormFactor: Float { headEpsilonFactor.squareRoot() }

    /// - Throws: ``ExecutorError`` of kind `unsupported`, saying what the device cannot compute.
    init(_ model: DecoderDescription) throws(ExecutorError) {
        func refuse(_ what: String) -> ExecutorError {
            ExecutorError(
                kind: .unsupported,
                message: "\(model.name) (\(model.architecture)): \(what) is not supported on a GPU; use --device cpu")
        }
        let dimension = model.headDimension
        guard let padded = Self.heads.first(where: { $0 >= dimension }), dimension >= 2, dimension % 2 == 0 else {
            throw refuse("a head dimension of \(dimension)")
        }
        guard
            model.keyValueHeads > 0, model.queryHeads > 0, model.queryHeads % model.keyValueHeads == 0,
            model.queryHeads / model.keyValueHeads <= Self.largestGroup
        else {
            throw refuse("attention with \(model.queryHeads) and \(model.keyValueHeads) heads")
        }
        for (name, size) in [("hidden", model.hiddenSize), ("intermediate", model.intermediateSize)] {
            guard size > 0, size % Self.alignment == 0 else {
                throw refuse("a \(name) size of \(size), no multiple of \(Self.alignment),")
            }
        }
        guard model.hiddenSize <= Self.largestHidden else { throw refuse("a hidden size of \(model.hiddenSize)") }
        for layer in model.layers {
            guard model.ropes.indices.contains(layer.rope) else { throw refuse("a layer without a rotary embedding") }
            if let window = layer.window, window < 1 { throw refuse("a window of \(window) tokens") }
        }
        guard model.ropes.allSatisfy({ $0.dimensions == dimension }) else {
            throw refuse("a partial rotary embedding")
        }
        headDimension = dimension
        paddedHead = padded
        queryHeads = model.queryHeads
        keyValueHeads = model.keyValueHeads
        hiddenSize = model.hiddenSize
        intermediateSize = model.intermediateSize
        vocabularySize = model.vocabularySize
    }

    /// Bytes of keys and values that one token takes in all layers of a model, in one of its blocks.
    func keyValueBytesPerToken(layers: Int) -> Int { layers * 2 * keyValueHeads * paddedHead * 2 }

    /// For each element of a padded head, its row of the head in the file; `nil` for zeros. Rotated pairs are half a
    /// head apart, in the file's head as in the padded one.
    func fileRows(_ rope: RotaryDescription) -> [Int?] {
        let rows = rope.fileRows(headDimension: headDimension)
        let half = headDimension / 2
        return (0..<paddedHead).map { element in
            let (part, within) = element.quotientAndRemainder(dividingBy: paddedHead / 2)
            return within < half ? rows[part * half + within] : nil
        }
    }

    /// The same for values, whose elements are not rotated and keep the file's order; and for columns of the output
    /// projection.
    var valueRows: [Int?] { (0..<paddedHead).map { $0 < headDimension ? $0 : nil } }
}

/// The least multiple of `step` that is not below `number`.
func roundedUp(_ number: Int, to step: Int) -> Int { (number + step - 1) / step * step }
