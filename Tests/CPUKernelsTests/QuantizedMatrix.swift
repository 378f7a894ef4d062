// Tandem — Apache-2.0
import CPUKernels

/// What quantized panels are packed from: GGUF block formats, and blocks given as quants, scale and minimum.
enum BlockFormat: String, CaseIterable, Sendable {
    case q4_0, q4_1, q8_0, affine4, affine5, affine8

    /// An affine block is kept here as d and m (f16) and a byte a quant.
    var blockBytes: Int {
        switch self {
        case .q4_0: 18
        case .q4_1: 20
        case .q8_0: 34
        case .affine4, .affine5, .affine8: 36
        }
    }

    /// Bits of a quant in the panels.
    var bits: Int {
        switch self {
        case .q4_0, .q4_1, .affine4: 4
        case .affine5: 5
        case .q8_0, .affine8: 8
        }
    }

    var isAffine: Bool { blockBytes == 36 }
    /// Bytes of a block's quants.
    var quantBytes: Int { self == .q4_0 || self == .q4_1 ? 16 : 32 }
}

/// A matrix of random blocks, with its weights spelled out as w = d u + m.
struct QuantizedMatrix {
    let format: BlockFormat
    let rows: Int
    let columns: Int
    let bytes: [UInt8]

    var rowBytes: Int { columns / 32 * format.blockBytes }

    init(_ format: BlockFormat, rows: Int, columns: Int, seed: UInt64) {
        self.format = format
        self.rows = rows
        self.columns = columns
        var numbers = Numbers(seed)
        var bytes: [UInt8] = []
        for _ in 0..<rows * columns / 32 {
            func append(_ half: UInt16) { bytes += [UInt8(half & 255), UInt8(half >> 8)] }
            append(halfBits(0.01 + abs(numbers.float(0.02))))
            if format == .q4_1 || format.isAffine { append(halfBits(numbers.float(0.2) + 0.0001)) }
            bytes += numbers.bytes(format.quantBytes)
        }
        self.bytes = bytes
    }

    private func half(_ at: Int) -> Float { halfValue(UInt16(bytes[at]) | UInt16(bytes[at + 1]) << 8) }

    /// d, m and the 32 unsigned quants of one block.
    func block(_ row: Int, _ index: Int) -> (d: Float, m: Float, quants: [Int]) {
        let at = row * rowBytes + index * format.blockBytes
        let d = half(at)
        func nibbles(_ first: Int) -> [Int] {
            (0..<32).map { $0 < 16 ? Int(bytes[first + $0] & 15) : Int(bytes[first + $0 - 16] >> 4) }
        }
        switch format {
        case .q4_0: return (d, -8 * d, nibbles(at + 2))
        case .q4_1: return (d, half(at + 2), nibbles(at + 4))
        case .q8_0: return (d, -128 * d, (0..<32).map { Int(Int8(bitPattern: bytes[at + 2 + $0])) + 128 })
        case .affine4, .affine5, .affine8:
            // Bits beyond the panel's are there, and dropped.
            return (d, half(at + 2), (0..<32).map { Int(bytes[at + 4 + $0]) & ((1 << format.bits) - 1) })
        }
    }

    func weights(_ row: Int) -> [Float] {
        (0..<columns / 32).flatMap { index -> [Float] in
            let (d, m, quants) = block(row, index)
            return quants.map { d * Float($0) + m }
        }
    }

    var panelBytes: Int {
        switch format.bits {
        case 4: tandem_panel_bytes_u4(columns)
        case 5: tandem_panel_bytes_u5(columns)
        default: tandem_panel_bytes_u8(columns)
        }
    }

    func packed(_ set: InstructionSet, order: [Int32]? = nil) -> Memory {
        let panels = tandem_panel_count(rows)
        let memory = Memory(bytes: panels * panelBytes)
        let kernels = set.kernels
        let pack: tandem_pack
        switch format {
        case .q4_0: pack = kernels.pack_u4_from_q4_0
        case .q4_1: pack = kernels.pack_u4_from_q4_1
        case .q8_0: pack = kernels.pack_u8_from_q8_0
        case .affine4, .affine5, .affine8:
            packAffine(set, order: order, into: memory)
            return memory
        }
        // In two halves, as two threads would.
        bytes.withUnsafeBytes { source in
            pack(source.baseAddress!, rowBytes, order, rows, columns, panels / 2, panels, memory.base)
            pack(source.baseAddress!, rowBytes, order, rows, columns, 0, panels / 2, memory.base)
        }
        return memory
    }

    private func packAffine(_ set: InstructionSet, order: [Int32]?, into memory: Memory) {
        let panels = tandem_panel_count(rows)
        let pack =
            switch format {
            case .affine4: set.kernels.pack_u4_from_affine
            case .affine5: set.kernels.pack_u5_from_affine
            default: set.kernels.pack_u8_from_affine
            }
        var quants: [UInt8] = []
        var scales: [Float] = []
        var minima: [Float] = []
        for at in stride(from: 0, to: bytes.count, by: format.blockBytes) {
            scales.append(half(at))
            minima.append(half(at + 2))
            quants += bytes[at + 4..<at + 36]
        }
        pack(quants, scales, minima, order, rows, columns, panels / 2, panels, memory.base)
        pack(quants, scales, minima, order, rows, columns, 0, panels / 2, memory.base)
    }

    func matmul(_ set: InstructionSet) -> tandem_matmul {
        switch format.bits {
        case 4: set.kernels.matmul_int8_u4
        case 5: set.kernels.matmul_int8_u5
        default: set.kernels.matmul_int8_u8
        }
    }

    func unpackRow(_ set: InstructionSet) -> tandem_unpack_row {
        switch format.bits {
        case 4: set.kernels.unpack_row_u4
        case 5: set.kernels.unpack_row_u5
        default: set.kernels.unpack_row_u8
        }
    }

    /// The dot product in the documented order, from an int8 activation row.
    func dot(_ set: InstructionSet, row: Int, activation: UnsafeRawPointer) -> Float {
        var sum: Float = 0
        for index in 0..<columns / 32 {
            let (d, m, quants) = block(row, index)
            let at = activation + 40 * index
            var integer = 0
            for i in 0..<32 { integer += quants[i] * Int(at.load(fromByteOffset: i, as: Int8.self)) }
            let scale = at.load(fromByteOffset: 32, as: Float.self)
            let total = at.load(fromByteOffset: 36, as: Float.self)
            sum = set.multiplyAdd(Float(integer), d * scale, sum)
            sum = set.multiplyAdd(m, total, sum)
        }
        return sum
    }
}
