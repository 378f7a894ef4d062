// Tandem — Apache-2.0

import CPUKernels
import LanguageModel
import Synchronization
import Weights

/// Repacks a model's tensors into panels, a few panels at a time on every thread of a pool.
///
/// Unchecked: items write disjoint pieces of the destination and read an immutable file.
final class WeightPacker: @unchecked Sendable {
    private struct Item {
        var entry: Int
        var panels: Range<Int>
    }

    private let model: DecoderDescription
    private let file: any TensorSource
    private let layout: PackedLayout
    private let kernels: UnsafePointer<tandem_kernels>
    private let destination: UnsafeMutableRawPointer
    private let items: [Item]
    private let fileRows: [Int: [Int32]]
    private let next = Atomic<Int>(0)
    private let packedBytes = Atomic<Int>(0)
    private let progress: (@Sendable (Double) -> Void)?

    /// - Parameters:
    ///   - destination: `layout.totalBytes` writable bytes, aligned to 64.
    ///   - progress: called now and then on one of the threads with the fraction done.
    init(
        model: DecoderDescription, file: any TensorSource, layout: PackedLayout, kernels: UnsafePointer<tandem_kernels>,
        destination: UnsafeMutableRawPointer, progress: (@Sendable (Double) -> Void)?
    ) {
        self.model = model
        self.file = file
        self.layout = layout
        self.kernels = kernels
        self.destination = destination
        self.progress = progress
        var items: [Item] = []
        var fileRows: [Int: [Int32]] = [:]
        for (index, entry) in layout.entries.enumerated() {
            if let order = Self.fileRows(of: entry, model: model) { fileRows[index] = order }
            for start in stride(from: 0, to: entry.panels, by: 32) {
                items.append(Item(entry: index, panels: start..<min(start + 32, entry.panels)))
            }
        }
        self.items = items
        self.fileRows = fileRows
    }

    /// Packs until nothing is left; every thread calls it.
    func run() {
        var scratch: [Float] = []
        while true {
            let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
            guard index < items.count else { return }
            let item = items[index]
            let entry = layout.entries[item.entry]
            if entry.format == .vector {
                packVector(entry, fileRows: fileRows[item.entry])
            } else {
                pack(entry, panels: item.panels, fileRows: fileRows[item.entry], scratch: &scratch)
            }
            let share = entry.byteCount / entry.panels * item.panels.count
            let done = packedBytes.wrappingAdd(share, ordering: .relaxed).newValue
            if let progress, index % 16 == 15 || index == items.count - 1 {
                progress(min(1, Double(done) / Double(max(1, layout.totalBytes - PackedLayout.headerBytes))))
            }
        }
    }

    private func packVector(_ entry: PackedLayout.Entry, fileRows: [Int32]?) {
        let output = (destination + entry.offset).bindMemory(to: Float.self, capacity: entry.columns)
        let values = file.floats(of: entry.tensor)
        // A norm's offset is an addition in single precision, as in the models' definition.
        let offset = entry.role.isNorm ? model.normOffset : 0
        for index in 0..<entry.columns { output[index] = values[fileRows.map { Int($0[index]) } ?? index] + offset }
    }

    private func pack(
        _ entry: PackedLayout.Entry, panels: Range<Int>, fileRows: [Int32]?, scratch: inout [Float]
    ) {
        let source = file.bytes(of: entry.tensor)
        let rowBytes = source.count / entry.rows
        let packed = destination + entry.offset
        let type = entry.tensor.type
        guard let base = source.baseAddress else { return }
        let direct: tandem_pack? =
            switch (entry.format, type) {
            case (.u4, .q4_0): kernels.pointee.pack_u4_from_q4_0
            case (.u4, .q4_1): kernels.pointee.pack_u4_from_q4_1
            case (.u8, .q8_0): kernels.pointee.pack_u8_from_q8_0
            default: nil
            }
        if let direct {
            direct(base, rowBytes, fileRows, entry.rows, entry.columns, panels.lowerBound, panels.upperBound, packed)
            return
        }
        let throughFloats: tandem_pack =
            switch entry.format {
            case .bf16: kernels.pointee.pack_bf16_from_f32
            case .f32: kernels.pointee.pack_f32_from_f32
            default: kernels.pointee.pack_u8_from_f32
            }
        let columns = entry.columns
        if scratch.count < 16 * columns { scratch = [Float](repeating: 0, count: 16 * columns) }
        let panelBytes = entry.format.panelBytes(columns: columns)
        scratch.withUnsafeMutableBufferPointer { buffer in
            guard let floats = buffer.baseAddress else { return }
            for panel in panels {
                let first = panel * 16
                let count = min(16, entry.rows - first)
                for row in 0..<count {
                    let fileRow = fileRows.map { Int($0[first + row]) } ?? (first + row)
                    type.dequantize(
                        UnsafeRawBufferPointer(start: base + fileRow * rowBytes, count: rowBytes),
                        into: UnsafeMutableBufferPointer(start: floats + row * columns, count: columns))
                }
                throughFloats(floats, columns * 4, nil, count, columns, 0, 1, packed + panel * panelBytes)
            }
        }
    }

    /// The file's row (or element) of each packed one, where they differ: rotary embeddings of interleaved pairs.
    private static func fileRows(of entry: PackedLayout.Entry, model: DecoderDescription) -> [Int32]? {
        let layer: Int
        switch entry.role {
        case .query(let index), .key(let index), .queryBias(let index), .keyBias(let index), .queryNorm(let index),
            .keyNorm(let index):
            layer = index
        default: return nil
        }
        let rope = model.ropes[model.layers[layer].rope]
        guard rope.fileLayout == .interleaved else { return nil }
        let head = rope.fileRows(headDimension: model.headDimension)
        return (0..<(entry.format == .vector ? entry.columns : entry.rows)).map { row in
            let (index, within) = row.quotientAndRemainder(dividingBy: model.headDimension)
            return Int32(index * model.headDimension + head[within])
        }
    }
}

extension TensorRole {
    /// Whether the tensor holds the weights of an RMS norm.
    fileprivate var isNorm: Bool {
        switch self {
        case .outputNorm, .attentionNorm, .queryNorm, .keyNorm, .postAttentionNorm, .feedForwardNorm,
            .postFeedForwardNorm:
            true
        default: false
        }
    }
}
