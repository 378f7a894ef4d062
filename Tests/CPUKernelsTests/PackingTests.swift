// Tandem — Apache-2.0
import CPUKernels
import Testing

@Suite struct PackingTests {
    @Test(arguments: InstructionSet.available, BlockFormat.allCases)
    func blocksReadBackAsTheirWeights(set: InstructionSet, format: BlockFormat) {
        let matrix = QuantizedMatrix(format, rows: 40, columns: 96, seed: 1)
        let order = (0..<40).map { Int32(($0 * 7 + 3) % 40) }
        let memory = matrix.packed(set, order: order)
        let unpack = matrix.unpackRow(set)
        var out = [Float](repeating: .nan, count: 96)
        for feature in 0..<40 {
            unpack(memory.base, 96, feature, &out)
            #expect(out == matrix.weights(Int(order[feature])))
        }
        for feature in 40..<48 {
            unpack(memory.base, 96, feature, &out)
            #expect(out.allSatisfy { $0 == 0 })
        }
    }

    @Test(arguments: BlockFormat.allCases)
    func everyInstructionSetPacksTheSameBytes(format: BlockFormat) {
        let matrix = QuantizedMatrix(format, rows: 33, columns: 64, seed: 2)
        let expected = Array(matrix.packed(.portable).raw)
        for set in InstructionSet.available { #expect(Array(matrix.packed(set).raw) == expected) }
    }

    /// One panel at a time, as from a file's rows: the same bytes as the whole matrix.
    @Test(arguments: InstructionSet.available)
    func packsAffineBlocksFromScratch(set: InstructionSet) {
        var numbers = Numbers(6)
        let (rows, columns) = (20, 64)
        let quants = numbers.bytes(rows * columns)
        let scales = numbers.floats(rows * 2)
        let minima = numbers.floats(rows * 2)
        let panelBytes = tandem_panel_bytes_u5(columns)
        let whole = Memory(bytes: 2 * panelBytes)
        let pieces = Memory(bytes: 2 * panelBytes)
        set.kernels.pack_u5_from_affine(quants, scales, minima, nil, rows, columns, 0, 2, whole.base)
        for first in [0, 16] {
            let last = min(first + 16, rows)
            let panelScales = Array(scales[2 * first..<2 * last])
            let panelMinima = Array(minima[2 * first..<2 * last])
            let panelQuants = Array(quants[first * columns..<last * columns])
            set.kernels.pack_u5_from_affine(
                panelQuants, panelScales, panelMinima, nil, last - first, columns, 0, 1,
                pieces.base + first / 16 * panelBytes)
        }
        #expect(Array(whole.raw) == Array(pieces.raw))
    }

    @Test(arguments: InstructionSet.available)
    func affineScalesStayFinite(set: InstructionSet) {
        let scales: [Float] = [1e9, .infinity, .nan, 1]
        let minima: [Float] = [-1e9, -.infinity, 0, .nan]
        let packed = Memory(bytes: tandem_panel_bytes_u8(32))
        set.kernels.pack_u8_from_affine(
            [UInt8](repeating: 1, count: 4 * 32), scales, minima, nil, 4, 32, 0, 1, packed.base)
        let halves = (packed.base + 512).assumingMemoryBound(to: UInt16.self)
        #expect(halves[0] == halfBits(65504) && halves[1] == halfBits(65504) && halves[3] == halfBits(1))
        #expect(halves[16] == halfBits(-65504) && halves[17] == halfBits(-65504) && halves[18] == 0)
        #expect(halfValue(halves[2]).isFinite && halfValue(halves[19]).isFinite)
    }

    /// An inner dimension that does not fill its last block.
    @Test(arguments: InstructionSet.available)
    func padsEightBitAffineRows(set: InstructionSet) {
        let columns = 40
        let quants = (0..<2 * columns).map { UInt8($0) }
        let packed = Memory(bytes: tandem_panel_bytes_u8(columns))
        set.kernels.pack_u8_from_affine(quants, [1, 2, 3, 4], [0, 0.5, 0, -1], nil, 2, columns, 0, 1, packed.base)
        var out = [Float](repeating: .nan, count: columns)
        set.kernels.unpack_row_u8(packed.base, columns, 1, &out)
        for i in 0..<columns {
            let quant = Float(40 + i)
            #expect(out[i] == (i < 32 ? 3 * quant : 4 * quant - 1))
        }
    }

    @Test(arguments: InstructionSet.available, [1, 31, 32, 50, 96])
    func floatsBecomeEightBitPanels(set: InstructionSet, columns: Int) {
        var numbers = Numbers(3)
        let rows = 21
        var weights = numbers.floats(rows * columns, 0.05)
        // One row of tiny weights, whose scale is a subnormal half, and one of zeros.
        for i in 0..<columns {
            weights[2 * columns + i] *= 1e-3
            weights[3 * columns + i] = 0
        }
        let memory = Memory(bytes: 2 * tandem_panel_bytes_u8(columns))
        set.kernels.pack_u8_from_f32(weights, columns * 4, nil, rows, columns, 0, 2, memory.base)
        var out = [Float](repeating: .nan, count: columns)
        for row in 0..<rows {
            set.kernels.unpack_row_u8(memory.base, columns, row, &out)
            for first in stride(from: 0, to: columns, by: 32) {
                let range = first..<min(first + 32, columns)
                let largest = range.map { abs(weights[row * columns + $0]) }.max() ?? 0
                // Half a step, and the scale's own rounding (at most 2^-25 for subnormal halves) at the largest quant.
                let bound = largest / 127 * 0.502 + 127 * 0x1p-25
                for i in range { #expect(abs(out[i] - weights[row * columns + i]) <= bound) }
            }
        }
        let portable = Memory(bytes: 2 * tandem_panel_bytes_u8(columns))
        InstructionSet.portable.kernels.pack_u8_from_f32(weights, columns * 4, nil, rows, columns, 0, 2, portable.base)
        #expect(Array(memory.raw) == Array(portable.raw))
    }

    @Test(arguments: InstructionSet.available, [1, 2, 31, 48, 65])
    func floatsBecomeFloatPanels(set: InstructionSet, columns: Int) {
        var numbers = Numbers(4)
        let rows = 35
        let weights = numbers.floats(rows * columns)
        let order = (0..<rows).map { Int32(rows - 1 - $0) }
        let kernels = set.kernels
        let f32 = Memory(bytes: 3 * tandem_panel_bytes_f32(columns))
        let bf16 = Memory(bytes: 3 * tandem_panel_bytes_bf16(columns))
        kernels.pack_f32_from_f32(weights, columns * 4, order, rows, columns, 0, 3, f32.base)
        kernels.pack_bf16_from_f32(weights, columns * 4, order, rows, columns, 0, 3, bf16.base)
        var out = [Float](repeating: .nan, count: columns)
        for feature in 0..<rows {
            let row = Array(weights[(rows - 1 - feature) * columns..<(rows - feature) * columns])
            kernels.unpack_row_f32(f32.base, columns, feature, &out)
            #expect(out == row)
            kernels.unpack_row_bf16(bf16.base, columns, feature, &out)
            #expect(out == row.map(roundedToBFloat16))
        }
        kernels.unpack_row_f32(f32.base, columns, rows, &out)
        #expect(out.allSatisfy { $0 == 0 })
    }

    @Test(arguments: InstructionSet.available)
    func packsOnePanelFromScratch(set: InstructionSet) {
        var numbers = Numbers(5)
        let weights = numbers.floats(40 * 24)
        let whole = Memory(bytes: 3 * tandem_panel_bytes_bf16(24))
        let pieces = Memory(bytes: 3 * tandem_panel_bytes_bf16(24))
        set.kernels.pack_bf16_from_f32(weights, 96, nil, 40, 24, 0, 3, whole.base)
        for panel in 0..<3 {
            let scratch = Array(weights.dropFirst(panel * 16 * 24).prefix(16 * 24))
            let at = pieces.base + panel * tandem_panel_bytes_bf16(24)
            set.kernels.pack_bf16_from_f32(scratch, 96, nil, scratch.count / 24, 24, 0, 1, at)
        }
        #expect(Array(whole.raw) == Array(pieces.raw))
    }
}
