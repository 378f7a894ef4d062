// Tandem — Apache-2.0
import CPUKernels

/// The GGUF block formats that are packed directly.
enum BlockFormat: String, CaseIterable, Sendable {
    case q4_0, q4_1, q8_0

    var blockBytes: Int {
        switch self {
        case .q4_0: 18
        case .q4_1: 20
        case .q8_0: 34
        }
    }
}

/// A matrix of random GGUF blocks, with its weights spelled out as w = d u + m.
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
            if format == .q4_1 { append(halfBits(numbers.float(0.2) + 0.0001)) }
            bytes += numbers.bytes(format == .q8_0 ? 32 : 16)
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
        }
    }

    func weights(_ row: Int) -> [Float] {
        (0..<columns / 32).flatMap { index -> [Float] in
            let (d, m, quants) = block(row, index)
            return quants.map { d * Float($0) + m }
        }
    }

    var panelBytes: Int { format == .q8_0 ? tandem_panel_bytes_u8(columns) : tandem_panel_bytes_u4(columns) }

    func packed(_ set: InstructionSet, order: [Int32]? = nil) -> Memory {
        let panels = tandem_panel_count(rows)
        let memory = Memory(bytes: panels * panelBytes)
        let kernels = set.kernels
        let pack =
            switch format {
            case .q4_0: kernels.pack_u4_from_q4_0
            case .q4_1: kernels.pack_u4_from_q4_1
            case .q8_0: kernels.pack_u8_from_q8_0
            }
        // In two halves, as two threads would.
        bytes.withUnsafeBytes { source in
            pack(source.baseAddress!, rowBytes, order, rows, columns, panels / 2, panels, memory.base)
            pack(source.baseAddress!, rowBytes, order, rows, columns, 0, panels / 2, memory.base)
        }
        return memory
    }

    func matmul(_ set: InstructionSet) -> tandem_matmul {
        format == .q8_0 ? set.kernels.matmul_int8_u8 : set.kernels.matmul_int8_u4
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
