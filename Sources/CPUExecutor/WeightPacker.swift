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
        var scratch = Scratch()
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

    private func pack(_ entry: PackedLayout.Entry, panels: Range<Int>, fileRows: [Int32]?, scratch: inout Scratch) {
        let source = file.bytes(of: entry.tensor)
        guard let base = source.baseAddress else { return }
        let rowBytes = source.count / entry.rows
        let packed = destination + entry.offset
        let type = entry.tensor.type
        let kernels = kernels.pointee
        let direct: tandem_pack? =
            switch (entry.format, type) {
            case (.u4, .q4_0): kernels.pack_u4_from_q4_0
            case (.u4, .q4_1): kernels.pack_u4_from_q4_1
            case (.u8, .q8_0): kernels.pack_u8_from_q8_0
            case (.f32, .f32): kernels.pack_f32_from_f32
            case (.bf16, .f32): kernels.pack_bf16_from_f32
            default: nil
            }
        if let direct {
            direct(base, rowBytes, fileRows, entry.rows, entry.columns, panels.lowerBound, panels.upperBound, packed)
            return
        }
        let columns = entry.columns
        let panelBytes = entry.format.panelBytes(columns: columns)
        for panel in panels {
            let count = min(16, entry.rows - panel * 16)
            let rows = (0..<count).lazy.map { row in
                let place = fileRows.map { Int($0[panel * 16 + row]) } ?? (panel * 16 + row)
                return UnsafeRawBufferPointer(start: base + place * rowBytes, count: rowBytes)
            }
            let output = packed + panel * panelBytes
            switch entry.format {
            case .u4: scratch.pack(rows, type, columns, kernels.pack_u4_from_affine, output)
            case .u5: scratch.pack(rows, type, columns, kernels.pack_u5_from_affine, output)
            case .bf16: scratch.pack(rows, type, columns, kernels.pack_bf16_from_f32, output)
            case .f32: scratch.pack(rows, type, columns, kernels.pack_f32_from_f32, output)
            case .u8, .vector: scratch.pack(rows, type, columns, kernels.pack_u8_from_f32, output)
            }
        }
    }

    /// One thread's room for the rows of a panel, taken from the file's format.
    private struct Scratch {
        private var floats: [Float] = []
        private var quants: [UInt8] = []
        private var scales: [Float] = []
        private var minima: [Float] = []

        /// Packs one panel by way of floats.
        mutating func pack(
            _ rows: some Collection<UnsafeRawBufferPointer>, _ type: TensorType, _ columns: Int, _ pack: tandem_pack,
            _ output: UnsafeMutableRawPointer
        ) {
            if floats.count < 16 * columns { floats = [Float](repeating: 0, count: 16 * columns) }
            floats.withUnsafeMutableBufferPointer { floats in
                for (index, row) in rows.enumerated() {
                    type.dequantize(row, into: .init(rebasing: floats[index * columns..<(index + 1) * columns]))
                }
                guard let base = floats.baseAddress else { return }
                pack(base, columns * 4, nil, rows.count, columns, 0, 1, output)
            }
        }

        /// Packs one panel without rounding anything but scales and minima.
        mutating func pack(
            _ rows: some Collection<UnsafeRawBufferPointer>, _ type: TensorType, _ columns: Int,
            _ pack: tandem_pack_affine, _ output: UnsafeMutableRawPointer
        ) {
            let blocks = columns / Int(TANDEM_QUANT_BLOCK)
            if quants.count < 16 * columns {
                quants = [UInt8](repeating: 0, count: 16 * columns)
                scales = [Float](repeating: 0, count: 16 * blocks)
                minima = scales
            }
            quants.withUnsafeMutableBufferPointer { quants in
                scales.withUnsafeMutableBufferPointer { scales in
                    minima.withUnsafeMutableBufferPointer { minima in
                        for (index, row) in rows.enumerated() {
                            let blockRange = index * blocks..<(index + 1) * blocks
                            type.affine(
                                row, quants: .init(rebasing: quants[index * columns..<(index + 1) * columns]),
                                scales: .init(rebasing: scales[blockRange]), minima: .init(rebasing: minima[blockRange])
                            )
                        }
                        guard let quants = quants.baseAddress, let scales = scales.baseAddress,
                            let minima = minima.baseAddress
                        else { return }
                        pack(quants, scales, minima, nil, rows.count, columns, 0, 1, output)
                    }
                }
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
