// Tandem — Apache-2.0
import CPUKernels
import Foundation
import Testing

/// Lengths around the vector and unrolling widths.
private let lengths = [1, 15, 16, 17, 63, 64, 65, 100, 576]

@Suite struct RowTests {
    @Test(arguments: InstructionSet.available, [1, 32, 33, 96, 200])
    func quantizesPerBlock(set: InstructionSet, count: Int) {
        var numbers = Numbers(1)
        var x = numbers.floats(count, 3)
        x[0] = 0.5  // 0.5 * 127 / 127 hits a tie when the block's largest value is 127.
        if count > 64 { for i in 32..<64 { x[i] = 0 } }
        let row = Memory(bytes: tandem_row_bytes_int8(count))
        set.kernels.quantize_row_int8(x, count, row.base)
        for block in 0..<(count + 31) / 32 {
            let values = (0..<32).map { 32 * block + $0 < count ? x[32 * block + $0] : 0 }
            let largest = values.map(abs).max() ?? 0
            let scale = largest / 127
            let quants = values.map {
                largest == 0 ? 0 : Int(($0 * (127 / largest)).rounded(.toNearestOrEven))
            }
            let at = row.base + 40 * block
            #expect((0..<32).map { Int(at.load(fromByteOffset: $0, as: Int8.self)) } == quants)
            #expect(at.load(fromByteOffset: 32, as: Float.self) == scale)
            #expect(at.load(fromByteOffset: 36, as: Float.self) == Float(quants.reduce(0, +)) * scale)
        }
    }

    @Test(arguments: InstructionSet.available, [1, 32, 33, 96, 200])
    func sixteenBitRowsAreARowAndWhatItsRoundingLeft(set: InstructionSet, count: Int) {
        var numbers = Numbers(3)
        var x = numbers.floats(count, 3)
        if count > 64 { for i in 32..<64 { x[i] = 0 } }
        let rowBytes = tandem_row_bytes_int8(count)
        let coarse = Memory(bytes: rowBytes)
        set.kernels.quantize_row_int8(x, count, coarse.base)
        let row = Memory(bytes: 2 * rowBytes)
        set.kernels.quantize_row_int16(x, count, row.base)
        for block in 0..<(count + 31) / 32 {
            let at = row.base + 40 * block
            #expect(memcmp(at, coarse.base + 40 * block, 40) == 0)
            let scale = at.load(fromByteOffset: 32, as: Float.self)
            let fine = (at + rowBytes).load(fromByteOffset: 32, as: Float.self)
            #expect(fine <= scale / 250)
            for index in 0..<32 {
                let value = 32 * block + index < count ? x[32 * block + index] : 0
                let sum =
                    Float(at.load(fromByteOffset: index, as: Int8.self)) * scale
                    + Float((at + rowBytes).load(fromByteOffset: index, as: Int8.self)) * fine
                #expect(abs(sum - value) <= fine * 0.51 + 1e-7)
            }
        }
    }

    @Test(arguments: InstructionSet.available)
    func quantizationRoundsTiesToEven(set: InstructionSet) {
        var x = [Float](repeating: 0, count: 32)
        x.replaceSubrange(0..<7, with: [127, 0.5, 1.5, 2.5, -0.5, -1.5, -126.5])
        let row = Memory(bytes: 64)
        set.kernels.quantize_row_int8(x, 32, row.base)
        #expect((0..<7).map { row.base.load(fromByteOffset: $0, as: Int8.self) } == [127, 0, 2, 2, 0, -2, -126])
    }

    @Test(arguments: InstructionSet.available)
    func tinyBlocksAreZeroNotInfinite(set: InstructionSet) {
        let x = [Float](repeating: 1e-38, count: 32)
        let row = Memory(bytes: 64)
        set.kernels.quantize_row_int8(x, 32, row.base)
        #expect(row.raw.prefix(40).allSatisfy { $0 == 0 })
    }

    @Test(arguments: InstructionSet.available, [1, 16, 31, 33, 64])
    func roundsRowsToBFloat16(set: InstructionSet, count: Int) {
        var numbers = Numbers(2)
        var x = numbers.floats(count, 1000)
        x[0] = Float(bitPattern: 0x3f80_8000)  // a tie
        let row = Memory(bytes: tandem_row_bytes_bf16(count))
        row.raw.initializeMemory(as: UInt8.self, repeating: 0xee)
        set.kernels.round_row_bf16(x, count, row.base)
        let out = row.raw.bindMemory(to: UInt16.self)
        for i in 0..<out.count {
            #expect(Float(bitPattern: UInt32(out[i]) << 16) == (i < count ? roundedToBFloat16(x[i]) : 0))
        }
    }

    @Test(arguments: InstructionSet.available)
    func bFloat16KeepsNaNAndInfinity(set: InstructionSet) {
        let row = Memory(bytes: 64)
        set.kernels.round_row_bf16([.nan, .infinity, Float(bitPattern: 0x7f80_0001), -.infinity], 4, row.base)
        var out = [Float](repeating: 0, count: 4)
        set.kernels.f32_from_bf16(row.base.assumingMemoryBound(to: UInt16.self), 4, &out)
        #expect(out[0].isNaN && out[2].isNaN && out[1] == .infinity && out[3] == -.infinity)
    }

    @Test(arguments: InstructionSet.available)
    func readsEveryHalf(set: InstructionSet) {
        let halves = (0...UInt16.max).map { $0 }
        var out = [Float](repeating: 0, count: halves.count)
        set.kernels.f32_from_f16(halves, halves.count, &out)
        for (half, value) in zip(halves, out) {
            let expected = halfValue(half)
            #expect(value.bitPattern == expected.bitPattern || (value.isNaN && expected.isNaN))
        }
        var back = [UInt16](repeating: 0, count: halves.count)
        set.kernels.f16_from_f32(out, out.count, &back)
        for (half, again) in zip(halves, back) where !halfValue(half).isNaN { #expect(half == again) }
    }

    @Test(arguments: InstructionSet.available)
    func roundsHalvesToEven(set: InstructionSet) {
        let cases: [(Float, UInt16)] = [
            (1 + 0x1p-11, 0x3c00), (1 + 0x1.8p-10, 0x3c02), (1 + 0x1.004p-11, 0x3c01),
            (65519, 0x7bff), (65520, 0x7c00), (-1e9, 0xfc00), (.infinity, 0x7c00),
            // Subnormals count units of 2^-24; 1023.5 of them is a tie that goes up to the smallest normal.
            (0x1p-25, 0), (0x1.000002p-25, 1), (0x1.8p-24, 2), (1023.5 * 0x1p-24, 0x0400), (1022.5 * 0x1p-24, 0x03fe),
            (-0.0, 0x8000), (0x1p-130, 0),
        ]
        var out = [UInt16](repeating: 0xffff, count: cases.count)
        set.kernels.f16_from_f32(cases.map(\.0), cases.count, &out)
        #expect(out == cases.map(\.1))
    }

    @Test(arguments: InstructionSet.available, lengths)
    func normalizesByRootMeanSquare(set: InstructionSet, count: Int) {
        var numbers = Numbers(3)
        var x = numbers.floats(count, 5)
        let weight = numbers.floats(count)
        let mean = x.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(count)
        let expected = zip(x, weight).map { Double($0) / (mean + 1e-5).squareRoot() * Double($1) }
        var out = [Float](repeating: 0, count: count)
        set.kernels.rmsnorm(x, weight, count, 1e-5, &out)
        #expect(relativeError(out, expected) < 1e-6)
        x.withUnsafeMutableBufferPointer { set.kernels.rmsnorm($0.baseAddress!, weight, count, 1e-5, $0.baseAddress!) }
        #expect(x == out)
    }

    @Test(arguments: InstructionSet.available, [2, 16, 32, 64, 80, 128])
    func rotatesHalves(set: InstructionSet, headDimension: Int) {
        var numbers = Numbers(4)
        let heads = 3
        let half = headDimension / 2
        var x = numbers.floats(heads * headDimension)
        let angles = numbers.floats(half, 3)
        let cosines = angles.map { Float(cos(Double($0))) }
        let sines = angles.map { Float(sin(Double($0))) }
        var expected = x.map(Double.init)
        for head in 0..<heads {
            for i in 0..<half {
                let (a, b) = (head * headDimension + i, head * headDimension + half + i)
                expected[a] = Double(x[a]) * Double(cosines[i]) - Double(x[b]) * Double(sines[i])
                expected[b] = Double(x[b]) * Double(cosines[i]) + Double(x[a]) * Double(sines[i])
            }
        }
        set.kernels.rope_rows(&x, heads, headDimension, cosines, sines)
        #expect(relativeError(x, expected) < 3e-7)
    }

    @Test(arguments: InstructionSet.available, lengths)
    func gatesActivations(set: InstructionSet, count: Int) {
        var numbers = Numbers(5)
        var gate = numbers.floats(count, 12)
        gate[0] = -200
        if count > 1 { gate[1] = 200 }
        let up = numbers.floats(count)
        var out = [Float](repeating: .nan, count: count)
        func check(_ activation: (Double) -> Double) {
            for i in 0..<count {
                let expected = activation(Double(gate[i])) * Double(up[i])
                #expect(abs(Double(out[i]) - expected) <= 2e-6 * abs(expected) + 1e-6 * abs(Double(up[i])))
            }
        }
        set.kernels.silu_mul(gate, up, count, &out)
        check { $0 / (1 + exp(-$0)) }
        set.kernels.gelu_tanh_mul(gate, up, count, &out)
        check { 0.5 * $0 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) }
    }

    @Test(arguments: InstructionSet.available, lengths)
    func adds(set: InstructionSet, count: Int) {
        var numbers = Numbers(6)
        var x = numbers.floats(count)
        let y = numbers.floats(count)
        let expected = zip(x, y).map { $0 + $1 }
        set.kernels.add(&x, y, count)
        #expect(x == expected)
    }

    @Test(arguments: InstructionSet.available)
    func exponentialIsAccurate(set: InstructionSet) {
        let x = (0..<20_000).map { Float($0) * (88.37 + 87.33) / 20_000 - 87.33 }
        var out = [Float](repeating: 0, count: x.count)
        set.kernels.exp_row(x, x.count, &out)
        for (value, result) in zip(x, out) {
            let expected = exp(Double(value))
            #expect(abs(Double(result) - expected) <= 1e-6 * expected)
        }
        var edges: [Float] = [0, -0.0, -.infinity, -100, -87.4, 100, .infinity, .nan]
        set.kernels.exp_row(edges, edges.count, &edges)
        #expect(edges[0...4] == [1, 1, 0, 0, 0])
        #expect(edges[5].isFinite && edges[5] == edges[6] && edges[5] > 2e38 && edges[7].isNaN)
    }
}
