// Tandem — Apache-2.0

/// The formats of ``TensorType`` that can be seen as d·u + m per 32 elements, taken apart, one function a format.
///
/// Sizes were checked by the caller; source addresses may be unaligned.
enum AffineUnpacking {
    /// Blocks in; u per element, d and m per 32 elements out.
    typealias Function =
        @Sendable (
            UnsafeRawBufferPointer, UnsafeMutableBufferPointer<UInt8>, UnsafeMutableBufferPointer<Float>,
            UnsafeMutableBufferPointer<Float>
        ) -> Void

    @Sendable static func q8(
        _ blocks: UnsafeRawBufferPointer, _ quants: UnsafeMutableBufferPointer<UInt8>,
        _ scales: UnsafeMutableBufferPointer<Float>, _ minima: UnsafeMutableBufferPointer<Float>
    ) {
        let output = UnsafeMutableRawBufferPointer(quants)
        for block in 0..<scales.count {
            let source = 34 * block
            scales[block] = BlockDecoding.half(blocks, source)
            minima[block] = -128 * scales[block]
            store(bytes(blocks, source + 2) ^ 0x80, bytes(blocks, source + 18) ^ 0x80, output, block)
        }
    }

    @Sendable static func q4(
        _ blocks: UnsafeRawBufferPointer, _ quants: UnsafeMutableBufferPointer<UInt8>,
        _ scales: UnsafeMutableBufferPointer<Float>, _ minima: UnsafeMutableBufferPointer<Float>
    ) {
        let output = UnsafeMutableRawBufferPointer(quants)
        for block in 0..<scales.count {
            let source = 18 * block
            scales[block] = BlockDecoding.half(blocks, source)
            minima[block] = -8 * scales[block]
            let (low, high) = nibbles(blocks, source + 2)
            store(low, high, output, block)
        }
    }

    @Sendable static func q4WithMinimum(
        _ blocks: UnsafeRawBufferPointer, _ quants: UnsafeMutableBufferPointer<UInt8>,
        _ scales: UnsafeMutableBufferPointer<Float>, _ minima: UnsafeMutableBufferPointer<Float>
    ) {
        let output = UnsafeMutableRawBufferPointer(quants)
        for block in 0..<scales.count {
            let source = 20 * block
            scales[block] = BlockDecoding.half(blocks, source)
            minima[block] = BlockDecoding.half(blocks, source + 2)
            let (low, high) = nibbles(blocks, source + 4)
            store(low, high, output, block)
        }
    }

    @Sendable static func q5(
        _ blocks: UnsafeRawBufferPointer, _ quants: UnsafeMutableBufferPointer<UInt8>,
        _ scales: UnsafeMutableBufferPointer<Float>, _ minima: UnsafeMutableBufferPointer<Float>
    ) {
        let output = UnsafeMutableRawBufferPointer(quants)
        for block in 0..<scales.count {
            let source = 22 * block
            scales[block] = BlockDecoding.half(blocks, source)
            minima[block] = -16 * scales[block]
            let (low, high) = nibbles(blocks, source + 6)
            store(low | fifthBits(blocks, source + 2), high | fifthBits(blocks, source + 4), output, block)
        }
    }

    @Sendable static func q5WithMinimum(
        _ blocks: UnsafeRawBufferPointer, _ quants: UnsafeMutableBufferPointer<UInt8>,
        _ scales: UnsafeMutableBufferPointer<Float>, _ minima: UnsafeMutableBufferPointer<Float>
    ) {
        let output = UnsafeMutableRawBufferPointer(quants)
        for block in 0..<scales.count {
            let source = 24 * block
            scales[block] = BlockDecoding.half(blocks, source)
            minima[block] = BlockDecoding.half(blocks, source + 2)
            let (low, high) = nibbles(blocks, source + 8)
            store(low | fifthBits(blocks, source + 4), high | fifthBits(blocks, source + 6), output, block)
        }
    }

    @Sendable static func q4K(
        _ blocks: UnsafeRawBufferPointer, _ quants: UnsafeMutableBufferPointer<UInt8>,
        _ scales: UnsafeMutableBufferPointer<Float>, _ minima: UnsafeMutableBufferPointer<Float>
    ) {
        let output = UnsafeMutableRawBufferPointer(quants)
        for block in 0..<quants.count / 256 {
            let source = 144 * block
            scalesOfK(blocks, source, scales, minima, 8 * block)
            for pair in 0..<4 {
                let (low0, high0) = nibbles(blocks, source + 16 + 32 * pair)
                let (low1, high1) = nibbles(blocks, source + 32 + 32 * pair)
                store(low0, low1, output, 8 * block + 2 * pair)
                store(high0, high1, output, 8 * block + 2 * pair + 1)
            }
        }
    }

    @Sendable static func q5K(
        _ blocks: UnsafeRawBufferPointer, _ quants: UnsafeMutableBufferPointer<UInt8>,
        _ scales: UnsafeMutableBufferPointer<Float>, _ minima: UnsafeMutableBufferPointer<Float>
    ) {
        let output = UnsafeMutableRawBufferPointer(quants)
        for block in 0..<quants.count / 256 {
            let source = 176 * block
            scalesOfK(blocks, source, scales, minima, 8 * block)
            // Shifted by two a pair of runs, so that bits 0 and 1 are always those of the two runs at hand.
            var fifth0 = bytes(blocks, source + 16)
            var fifth1 = bytes(blocks, source + 32)
            for pair in 0..<4 {
                let (low0, high0) = nibbles(blocks, source + 48 + 32 * pair)
                let (low1, high1) = nibbles(blocks, source + 64 + 32 * pair)
                let run = 8 * block + 2 * pair
                store(low0 | (fifth0 & 1) &<< 4, low1 | (fifth1 & 1) &<< 4, output, run)
                store(high0 | (fifth0 & 2) &<< 3, high1 | (fifth1 & 2) &<< 3, output, run + 1)
                fifth0 = fifth0 &>> 2
                fifth1 = fifth1 &>> 2
            }
        }
    }

    /// The 8 scales and minima of a K block, of 6 bits each in 12 bytes: bytes 0 to 3 and 4 to 7 hold the first four of
    /// either and, in their upper two bits, the upper bits of the last four, whose nibbles are bytes 8 to 11.
    private static func scalesOfK(
        _ blocks: UnsafeRawBufferPointer, _ source: Int, _ scales: UnsafeMutableBufferPointer<Float>,
        _ minima: UnsafeMutableBufferPointer<Float>, _ start: Int
    ) {
        let scale = BlockDecoding.half(blocks, source)
        let minimum = -BlockDecoding.half(blocks, source + 2)
        for run in 0..<4 {
            let first = blocks[source + 4 + run]
            let second = blocks[source + 8 + run]
            let third = blocks[source + 12 + run]
            scales[start + run] = scale * Float(first & 0x3F)
            minima[start + run] = minimum * Float(second & 0x3F)
            scales[start + run + 4] = scale * Float(third & 0x0F | (first >> 6) << 4)
            minima[start + run + 4] = minimum * Float(third >> 4 | (second >> 6) << 4)
        }
    }

    // Vectors of 16: the compiler has instructions for them everywhere, and takes wider ones apart element by element.
    private static func bytes(_ blocks: UnsafeRawBufferPointer, _ offset: Int) -> SIMD16<UInt8> {
        blocks.loadUnaligned(fromByteOffset: offset, as: SIMD16<UInt8>.self)
    }

    private static func nibbles(
        _ blocks: UnsafeRawBufferPointer, _ offset: Int
    ) -> (low: SIMD16<UInt8>, high: SIMD16<UInt8>) {
        let pairs = bytes(blocks, offset)
        return (pairs & 0x0F, pairs &>> 4)
    }

    /// The bits of two bytes, each as 16 or 0.
    private static func fifthBits(_ blocks: UnsafeRawBufferPointer, _ offset: Int) -> SIMD16<UInt8> {
        let bytes = SIMD16(
            lowHalf: SIMD8(repeating: blocks[offset]), highHalf: SIMD8(repeating: blocks[offset + 1]))
        let shifts = SIMD16<UInt8>(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7)
        return (bytes &>> shifts & 1) &<< 4
    }

    /// Stores the two halves of a run of 32.
    private static func store(
        _ first: SIMD16<UInt8>, _ second: SIMD16<UInt8>, _ output: UnsafeMutableRawBufferPointer, _ run: Int
    ) {
        output.storeBytes(of: first, toByteOffset: 32 * run, as: SIMD16<UInt8>.self)
        output.storeBytes(of: second, toByteOffset: 32 * run + 16, as: SIMD16<UInt8>.self)
    }
}
