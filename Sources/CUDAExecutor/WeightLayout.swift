// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Requests

/// Where a model's numbers lie in one stretch of device memory, and which of the file's tensors they come from.
///
/// Matrices are bfloat16, row-major, a row for each output: queries, keys and values of a layer are one matrix, gate and
/// up projection another. Weights of norms are float32 with the model's offset added.
struct WeightLayout: Sendable {
    /// How numbers are stored.
    enum Element: Sendable {
        case bfloat16
        case float32

        var byteCount: Int { self == .bfloat16 ? 2 : 4 }
    }

    /// Rows of an entry that come from one tensor.
    struct Part: Sendable {
        var role: TensorRole
        /// The entry's rows.
        var rows: Range<Int>
        /// For each of these rows its row in the file, `nil` for zeros; `nil` if they are the file's in order, followed by
        /// zeros.
        var fileRows: [Int?]?
        /// For each column of the entry its column in the file, `nil` for zeros; `nil` if they are the same.
        var fileColumns: [Int?]?
        /// Added to and multiplied with each number, in this order: an offset of norms, and what filled-up heads need.
        var offset: Float = 0
        var factor: Float = 1
    }

    /// One matrix or vector on the device. A vector has one column.
    struct Entry: Sendable {
        /// Bytes from the beginning.
        var offset: Int
        var element: Element
        var rows: Int
        var columns: Int
        var parts: [Part]

        var rowBytes: Int { columns * element.byteCount }
        var byteCount: Int { rows * rowBytes }
    }

    /// Indices of a layer's entries; those that the layer, or the ablation, does without are `nil`.
    struct Layer: Sendable {
        var attentionNorm: Int?
        var queryKeyValue: Int?
        var queryKeyValueBias: Int?
        var queryNorm: Int?
        var keyNorm: Int?
        var attentionOutput: Int?
        var postAttentionNorm: Int?
        var feedForwardNorm: Int?
        var gateUp: Int?
        var down: Int?
        var postFeedForwardNorm: Int?
    }

    private(set) var entries: [Entry] = []
    private(set) var layers: [Layer] = []
    private(set) var embedding = 0
    private(set) var outputNorm = 0
    /// The embedding's entry, if the model's head is that.
    private(set) var head = 0
    /// Bytes of all of it.
    private(set) var byteCount = 0

    /// Addresses of entries are multiples of this.
    private static let alignment = 256

    init(_ model: DecoderDescription, shape: DeviceShape) {
        let hidden = model.hiddenSize
        embedding = add(
            .bfloat16, rows: shape.vocabularyStride, columns: hidden,
            [Part(role: .tokenEmbedding, rows: 0..<shape.vocabularyStride)])
        for index in model.layers.indices { layers.append(layer(index, model, shape)) }
        outputNorm = norm(.outputNorm, hidden, model)
        head =
            model.tiedHead
            ? embedding
            : add(
                .bfloat16, rows: shape.vocabularyStride, columns: hidden,
                [Part(role: .output, rows: 0..<shape.vocabularyStride)])
    }

    /// Of the places and sizes of all entries.
    var digest: UInt64 {
        var digest = StableHash.mix(UInt64(entries.count))
        for entry in entries {
            for number in [entry.offset, entry.element.byteCount, entry.rows, entry.columns] {
                digest = StableHash.mix(digest &* 31 &+ UInt64(number))
            }
        }
        return digest
    }

    private mutating func layer(_ index: Int, _ model: DecoderDescription, _ shape: DeviceShape) -> Layer {
        let description = model.layers[index]
        let hidden = model.hiddenSize
        var layer = Layer()
        if model.computesAttention {
            layer.attentionNorm = norm(.attentionNorm(index), hidden, model)
            layer.queryKeyValue = add(
                .bfloat16, rows: shape.queryKeyValueWidth, columns: hidden,
                Self.projections(shape, model.ropes[description.rope], .query(index), .key(index), .value(index)))
            if description.queryKeyValueBias {
                layer.queryKeyValueBias = add(
                    .bfloat16, rows: shape.queryKeyValueWidth, columns: 1,
                    Self.projections(
                        shape, model.ropes[description.rope], .queryBias(index), .keyBias(index), .valueBias(index)))
            }
            if description.queryKeyNorm {
                let rows = shape.fileRows(model.ropes[description.rope])
                func headNorm(_ role: TensorRole) -> Int {
                    add(
                        .float32, rows: shape.paddedHead, columns: 1,
                        [
                            Part(
                                role: role, rows: 0..<shape.paddedHead, fileRows: rows, offset: model.normOffset,
                                factor: shape.headNormFactor)
                        ])
                }
                layer.queryNorm = headNorm(.queryNorm(index))
                layer.keyNorm = headNorm(.keyNorm(index))
            }
            let columns =
                shape.paddedHead == shape.headDimension
                ? nil : Self.repeated(shape.valueRows, heads: shape.queryHeads, of: shape.headDimension)
            layer.attentionOutput = add(
                .bfloat16, rows: hidden, columns: shape.queryWidth,
                [Part(role: .attentionOutput(index), rows: 0..<hidden, fileColumns: columns)])
            if description.postAttentionNorm {
                layer.postAttentionNorm = norm(.postAttentionNorm(index), hidden, model)
            }
        }
        if model.computesFeedForward {
            let width = model.intermediateSize
            layer.feedForwardNorm = norm(.feedForwardNorm(index), hidden, model)
            layer.gateUp = add(
                .bfloat16, rows: 2 * width, columns: hidden,
                [
                    Part(role: .gate(index), rows: 0..<width),
                    Part(role: .up(index), rows: width..<2 * width),
                ])
            layer.down = add(.bfloat16, rows: hidden, columns: width, [Part(role: .down(index), rows: 0..<hidden)])
            if description.postFeedForwardNorm {
                layer.postFeedForwardNorm = norm(.postFeedForwardNorm(index), hidden, model)
            }
        }
        return layer
    }

    private mutating func norm(_ role: TensorRole, _ width: Int, _ model: DecoderDescription) -> Int {
        add(.float32, rows: width, columns: 1, [Part(role: role, rows: 0..<width, offset: model.normOffset)])
    }

    private mutating func add(_ element: Element, rows: Int, columns: Int, _ parts: [Part]) -> Int {
        let entry = Entry(offset: byteCount, element: element, rows: rows, columns: columns, parts: parts)
        entries.append(entry)
        byteCount = roundedUp(byteCount + entry.byteCount, to: Self.alignment)
        return entries.count - 1
    }

    /// Rows of queries, keys and values one after the other.
    private static func projections(
        _ shape: DeviceShape, _ rope: RotaryDescription, _ query: TensorRole, _ key: TensorRole, _ value: TensorRole
    ) -> [Part] {
        let (queries, keys) = (shape.queryWidth, shape.keyValueHeads * shape.paddedHead)
        let rotated = shape.fileRows(rope)
        func rows(_ head: [Int?], _ heads: Int) -> [Int?]? {
            if head == (0..<shape.headDimension).map({ $0 }) { return nil }
            return repeated(head, heads: heads, of: shape.headDimension)
        }
        return [
            Part(role: query, rows: 0..<queries, fileRows: rows(rotated, shape.queryHeads)),
            Part(role: key, rows: queries..<queries + keys, fileRows: rows(rotated, shape.keyValueHeads)),
            Part(
                role: value, rows: queries + keys..<queries + 2 * keys,
                fileRows: rows(shape.valueRows, shape.keyValueHeads)),
        ]
    }

    /// One head's places for all heads.
    private static func repeated(_ head: [Int?], heads: Int, of dimension: Int) -> [Int?] {
        (0..<heads).flatMap { index in head.map { $0.map { $0 + index * dimension } } }
    }
}
