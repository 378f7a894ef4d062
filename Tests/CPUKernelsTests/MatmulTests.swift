// Tandem — Apache-2.0
import CPUKernels
import Testing

/// A matrix product of any kind, packed and with its activations in place.
struct Product {
    let kernel: tandem_matmul
    let weights: Memory
    let activations: Memory
    let stride: Int
    let columns: Int
    let features: Int

    /// Rows `rows` of the product, as rows of `features` floats; what lies between and behind must stay untouched.
    func callAsFunction(rows: Range<Int>, panels: Range<Int>? = nil, into out: Memory, outStride: Int, flags: Int32 = 0)
    {
        let panels = panels ?? 0..<tandem_panel_count(features)
        kernel(
            weights.base, columns, features, panels.lowerBound, panels.upperBound,
            activations.base + rows.lowerBound * stride, rows.count, stride,
            out.floats(rows.lowerBound * outStride), outStride, UInt32(flags))
    }
}

enum ProductKind: String, CaseIterable, Sendable {
    case q4_0, q4_1, q8_0, affine4, affine5, affine8, bf16, f32

    func make(_ set: InstructionSet, rows: Int, columns: Int, features: Int, seed: UInt64) -> Product {
        var numbers = Numbers(seed)
        let kernels = set.kernels
        let inputs = numbers.floats(rows * columns, 2)
        let panels = tandem_panel_count(features)
        if let format = BlockFormat(rawValue: rawValue) {
            let matrix = QuantizedMatrix(format, rows: features, columns: columns, seed: seed + 1)
            let stride = tandem_row_bytes_int8(columns)
            let activations = Memory(bytes: rows * stride)
            for row in 0..<rows {
                inputs.withUnsafeBufferPointer {
                    kernels.quantize_row_int8(
                        $0.baseAddress! + row * columns, columns, activations.base + row * stride)
                }
            }
            return Product(
                kernel: matrix.matmul(set), weights: matrix.packed(set), activations: activations, stride: stride,
                columns: columns, features: features)
        }
        let weights = numbers.floats(features * columns)
        if self == .f32 {
            let packed = Memory(bytes: panels * tandem_panel_bytes_f32(columns))
            kernels.pack_f32_from_f32(weights, columns * 4, nil, features, columns, 0, panels, packed.base)
            return Product(
                kernel: kernels.matmul_f32, weights: packed, activations: Memory(inputs), stride: columns * 4,
                columns: columns, features: features)
        }
        let packed = Memory(bytes: panels * tandem_panel_bytes_bf16(columns))
        kernels.pack_bf16_from_f32(weights, columns * 4, nil, features, columns, 0, panels, packed.base)
        let stride = tandem_row_bytes_bf16(columns)
        let activations = Memory(bytes: rows * stride)
        for row in 0..<rows {
            inputs.withUnsafeBufferPointer {
                kernels.round_row_bf16($0.baseAddress! + row * columns, columns, activations.base + row * stride)
            }
        }
        return Product(
            kernel: kernels.matmul_bf16, weights: packed, activations: activations, stride: stride, columns: columns,
            features: features)
    }
}

@Suite struct MatmulTests {
    @Test(arguments: InstructionSet.available, BlockFormat.allCases)
    func int8FollowsTheDocumentedOrder(set: InstructionSet, format: BlockFormat) {
        let (rows, columns, features) = (5, 160, 40)
        let matrix = QuantizedMatrix(format, rows: features, columns: columns, seed: 11)
        let kind = ProductKind(rawValue: format.rawValue)!
        let product = kind.make(set, rows: rows, columns: columns, features: features, seed: 10)
        let out = Memory(bytes: rows * features * 4)
        product(rows: 0..<rows, into: out, outStride: features)
        for row in 0..<rows {
            let activation = UnsafeRawPointer(product.activations.base + row * product.stride)
            let expected = (0..<features).map { matrix.dot(set, row: $0, activation: activation) }
            #expect(bits(out.array(features, from: row * features)) == bits(expected))
        }
    }

    @Test(arguments: InstructionSet.available)
    func int8TakesTheExtremes(set: InstructionSet) {
        // All-ones quants against activations of both signs: sums of pairs do not fit 16 bits.
        for format in BlockFormat.allCases {
            let columns = 64
            var matrix = QuantizedMatrix(format, rows: 16, columns: columns, seed: 1)
            matrix = matrix.filled(with: format == .q8_0 ? 0x7f : 0xff)
            for sign in [Float(1), -1] {
                let inputs = (0..<columns).map { $0 < 32 ? sign : ($0 % 2 == 0 ? 1 : -1) }
                let activation = Memory(bytes: tandem_row_bytes_int8(columns))
                set.kernels.quantize_row_int8(inputs, columns, activation.base)
                let out = Memory(bytes: 64)
                matrix.matmul(set)(
                    matrix.packed(set).base, columns, 16, 0, 1, activation.base, 1, tandem_row_bytes_int8(columns),
                    out.floats(), 16, 0)
                let expected = (0..<16).map { matrix.dot(set, row: $0, activation: activation.base) }
                #expect(bits(out.array(16)) == bits(expected))
            }
        }
    }

    /// An inner dimension that does not fill its last block.
    @Test(arguments: InstructionSet.available, [1, 31, 50, 75])
    func eightBitPanelsOfFloatsArePadded(set: InstructionSet, columns: Int) {
        var numbers = Numbers(15)
        let (rows, features) = (3, 18)
        let weights = numbers.floats(features * columns)
        let inputs = numbers.floats(rows * columns)
        let packed = Memory(bytes: 2 * tandem_panel_bytes_u8(columns))
        set.kernels.pack_u8_from_f32(weights, columns * 4, nil, features, columns, 0, 2, packed.base)
        let stride = tandem_row_bytes_int8(columns)
        let activations = Memory(bytes: rows * stride)
        for row in 0..<rows {
            let input = Array(inputs[row * columns..<(row + 1) * columns])
            set.kernels.quantize_row_int8(input, columns, activations.base + row * stride)
        }
        let out = Memory(bytes: rows * features * 4)
        set.kernels.matmul_int8_u8(
            packed.base, columns, features, 0, 2, activations.base, rows, stride, out.floats(), features, 0)
        for row in 0..<rows {
            for feature in 0..<features {
                let pairs = (0..<columns).map { (weights[feature * columns + $0], inputs[row * columns + $0]) }
                let expected = pairs.reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
                // Half a step of 1/127 on either side of every product.
                let bound = 0.51 / 127 * pairs.reduce(0.0) { $0 + Double(abs($1.0) + abs($1.1) + 0.01) }
                #expect(abs(Double(out.floats()[row * features + feature]) - expected) <= bound)
            }
        }
    }

    @Test(arguments: InstructionSet.available, [1, 17, 64])
    func floatProductIsAChainInOrder(set: InstructionSet, columns: Int) {
        let (rows, features) = (7, 37)
        let product = ProductKind.f32.make(set, rows: rows, columns: columns, features: features, seed: 20)
        let out = Memory(bytes: rows * features * 4)
        product(rows: 0..<rows, into: out, outStride: features)
        var weights = [Float](repeating: 0, count: columns)
        for feature in 0..<features {
            set.kernels.unpack_row_f32(product.weights.base, columns, feature, &weights)
            for row in 0..<rows {
                let inputs = product.activations.array(columns, from: row * columns)
                var sum: Float = 0
                for i in 0..<columns { sum = set.multiplyAdd(weights[i], inputs[i], sum) }
                #expect(out.floats()[row * features + feature].bitPattern == sum.bitPattern)
            }
        }
    }

    @Test(arguments: InstructionSet.available, [1, 2, 33, 96])
    func bf16IsCloseToDouble(set: InstructionSet, columns: Int) {
        let (rows, features) = (13, 70)
        let product = ProductKind.bf16.make(set, rows: rows, columns: columns, features: features, seed: 30)
        let out = Memory(bytes: rows * features * 4)
        product(rows: 0..<rows, into: out, outStride: features)
        var expected = [Double](repeating: 0, count: rows * features)
        var weights = [Float](repeating: 0, count: columns)
        for feature in 0..<features {
            set.kernels.unpack_row_bf16(product.weights.base, columns, feature, &weights)
            for row in 0..<rows {
                var inputs = [Float](repeating: 0, count: columns)
                let at = product.activations.base + row * product.stride
                set.kernels.f32_from_bf16(at.assumingMemoryBound(to: UInt16.self), columns, &inputs)
                expected[row * features + feature] = zip(weights, inputs).reduce(0) {
                    $0 + Double($1.0) * Double($1.1)
                }
            }
        }
        #expect(relativeError(out.array(rows * features), expected) < 1e-5)
    }

    /// One row alone, in any batch, and over any split of panels: the same bits.
    @Test(arguments: InstructionSet.available, ProductKind.allCases)
    func aRowsBitsDoNotDependOnTheBatch(set: InstructionSet, kind: ProductKind) {
        let (rows, columns, features) = (41, 64, 120)
        let product = kind.make(set, rows: rows, columns: columns, features: features, seed: 40)
        let whole = Memory(bytes: rows * features * 4)
        product(rows: 0..<rows, into: whole, outStride: features)
        let expected = bits(whole.array(rows * features))
        for batch in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 25] {
            let out = Memory(bytes: rows * features * 4)
            for first in stride(from: 0, to: rows, by: batch) {
                let range = first..<min(first + batch, rows)
                // Odd cuts, so that panels pair up in other ways than in the whole.
                product(rows: range, panels: 0..<3, into: out, outStride: features)
                product(rows: range, panels: 3..<4, into: out, outStride: features)
                product(rows: range, panels: 4..<8, into: out, outStride: features)
            }
            #expect(bits(out.array(rows * features)) == expected, "batch \(batch)")
        }
    }

    /// More rows than one group that stays in the cache.
    @Test(arguments: InstructionSet.available.filter { $0 != .portable })
    func manyRowsEqualFewRows(set: InstructionSet) {
        let (rows, columns, features) = (200, 2048, 16)
        let product = ProductKind.f32.make(set, rows: rows, columns: columns, features: features, seed: 50)
        let whole = Memory(bytes: rows * features * 4)
        let pieces = Memory(bytes: rows * features * 4)
        product(rows: 0..<rows, into: whole, outStride: features)
        for first in stride(from: 0, to: rows, by: 40) {
            product(rows: first..<first + 40, into: pieces, outStride: features)
        }
        #expect(bits(whole.array(rows * features)) == bits(pieces.array(rows * features)))
    }

    @Test(arguments: InstructionSet.available, ProductKind.allCases)
    func accumulatesAndWritesNothingElse(set: InstructionSet, kind: ProductKind) {
        let (rows, columns, features, outStride) = (14, 32, 20, 29)
        let product = kind.make(set, rows: rows, columns: columns, features: features, seed: 60)
        let plain = Memory(bytes: rows * outStride * 4)
        let sums = Memory(bytes: rows * outStride * 4)
        var numbers = Numbers(61)
        let before = numbers.floats(rows * outStride)
        for i in 0..<rows * outStride { (plain.floats()[i], sums.floats()[i]) = (-77, before[i]) }
        product(rows: 0..<rows, into: plain, outStride: outStride)
        product(rows: 0..<rows, into: sums, outStride: outStride, flags: TANDEM_MATMUL_ACCUMULATE)
        for row in 0..<rows {
            for column in 0..<outStride {
                let i = row * outStride + column
                if column < features {
                    #expect(sums.floats()[i] == before[i] + plain.floats()[i])
                } else {
                    #expect(plain.floats()[i] == -77 && sums.floats()[i] == before[i])
                }
            }
        }
    }
}

extension QuantizedMatrix {
    /// The same scales, every quant byte replaced.
    func filled(with byte: UInt8) -> QuantizedMatrix {
        let quantsAt = format.blockBytes - format.quantBytes
        let bytes = self.bytes.enumerated().map { $0 % format.blockBytes >= quantsAt ? byte : $1 }
        return QuantizedMatrix(format: format, rows: rows, columns: columns, bytes: bytes)
    }

    private init(format: BlockFormat, rows: Int, columns: Int, bytes: [UInt8]) {
        self.format = format
        self.rows = rows
        self.columns = columns
        self.bytes = bytes
    }
}
