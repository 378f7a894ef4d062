// Tandem — Apache-2.0

/// The formats of ``TensorType`` turned into single precision, one function a format.
///
/// Sizes were checked by the caller; addresses may be unaligned. Product and sum are rounded separately, as in ggml's
/// reference functions.
enum BlockDecoding {
    @Sendable static func f32(_ blocks: UnsafeRawBufferPointer, _ output: UnsafeMutableBufferPointer<Float>) {
        for index in 0..<output.count {
            output[index] = Float(bitPattern: word(blocks, 4 * index))
        }
    }

    @Sendable static func f16(_ blocks: UnsafeRawBufferPointer, _ output: UnsafeMutableBufferPointer<Float>) {
        for index in 0..<output.count { output[index] = half(blocks, 2 * index) }
    }

    @Sendable static func bf16(_ blocks: UnsafeRawBufferPointer, _ output: UnsafeMutableBufferPointer<Float>) {
        for index in 0..<output.count {
            let bits: UInt16 = word(blocks, 2 * index)
            output[index] = Float(bitPattern: UInt32(bits) << 16)
        }
    }

    @Sendable static func q8(_ blocks: UnsafeRawBufferPointer, _ output: UnsafeMutableBufferPointer<Float>) {
        var source = 0
        for start in stride(from: 0, to: output.count, by: 32) {
            let scale = half(blocks, source)
            for index in 0..<32 {
                output[start + index] = Float(Int8(bitPattern: blocks[source + 2 + index])) * scale
            }
            source += 34
        }
    }

    @Sendable static func q4(_ blocks: UnsafeRawBufferPointer, _ output: UnsafeMutableBufferPointer<Float>) {
        var source = 0
        for start in stride(from: 0, to: output.count, by: 32) {
            let scale = half(blocks, source)
            for index in 0..<16 {
                let pair = blocks[source + 2 + index]
                output[start + index] = Float(Int(pair & 0x0F) - 8) * scale
                output[start + index + 16] = Float(Int(pair >> 4) - 8) * scale
            }
            source += 18
        }
    }

    @Sendable static func q5(_ blocks: UnsafeRawBufferPointer, _ output: UnsafeMutableBufferPointer<Float>) {
        var source = 0
        for start in stride(from: 0, to: output.count, by: 32) {
            let scale = half(blocks, source)
            let high: UInt32 = word(blocks, source + 2)
            for index in 0..<16 {
                let pair = blocks[source + 6 + index]
                let low = UInt32(pair & 0x0F) | (high >> UInt32(index) & 1) << 4
                let upper = UInt32(pair >> 4) | (high >> UInt32(index + 16) & 1) << 4
                output[start + index] = Float(Int(low) - 16) * scale
                output[start + index + 16] = Float(Int(upper) - 16) * scale
            }
            source += 22
        }
    }

    @Sendable static func q6K(_ blocks: UnsafeRawBufferPointer, _ output: UnsafeMutableBufferPointer<Float>) {
        var source = 0
        for start in stride(from: 0, to: output.count, by: 256) {
            let scale = half(blocks, source + 208)
            // Each half of 128 elements has 64 bytes of nibbles, 32 bytes of upper bits and 8 scales.
            for part in 0..<2 {
                let low = source + 64 * part
                let high = source + 128 + 32 * part
                for run in 0..<4 {
                    // Runs 0 and 1 are the lower nibbles of the two times 32 bytes, runs 2 and 3 the upper ones.
                    let nibbles = low + 32 * (run & 1)
                    let shift = UInt8(4 * (run >> 1))
                    for index in 0..<32 {
                        let upper = (blocks[high + index] >> UInt8(2 * run) & 3) << 4
                        let quant = Int(blocks[nibbles + index] >> shift & 0x0F | upper) - 32
                        let step = Int8(bitPattern: blocks[source + 192 + 8 * part + 2 * run + index / 16])
                        output[start + 128 * part + 32 * run + index] = scale * Float(step) * Float(quant)
                    }
                }
            }
            source += 210
        }
    }

    /// Decodes a format by its affine view. The numbers are those of ggml to the bit if the format has a minimum; without
    /// one, zeros may differ in sign.
    static func throughAffineView(
        _ blocks: UnsafeRawBufferPointer, _ output: UnsafeMutableBufferPointer<Float>, blockElements: Int,
        blockBytes: Int, unpack: AffineUnpacking.Function
    ) {
        let elements = 4096
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: elements) { quants in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: elements / 16) { steps in
                for start in stride(from: 0, to: output.count, by: elements) {
                    let count = min(elements, output.count - start)
                    let source = start / blockElements * blockBytes
                    let scales = UnsafeMutableBufferPointer(rebasing: steps[..<(count / 32)])
                    let minima = UnsafeMutableBufferPointer(rebasing: steps[(count / 32)..<(count / 16)])
                    unpack(
                        UnsafeRawBufferPointer(rebasing: blocks[source..<source + count / blockElements * blockBytes]),
                        UnsafeMutableBufferPointer(rebasing: quants[..<count]), scales, minima)
                    for block in 0..<count / 32 {
                        let (scale, minimum) = (scales[block], minima[block])
                        for index in 32 * block..<32 * block + 32 {
                            output[start + index] = Float(quants[index]) * scale + minimum
                        }
                    }
                }
            }
        }
    }

    static func word<Word: FixedWidthInteger & BitwiseCopyable>(
        _ bytes: UnsafeRawBufferPointer, _ offset: Int
    ) -> Word {
        Word(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Word.self))
    }

    /// A half-precision number by integer arithmetic: without instructions for the conversion, which the oldest machines
    /// of the architecture lack, the standard library calls a function a number.
    static func half(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> Float {
        let bits = UInt32(word(bytes, offset) as UInt16)
        let magnitude = bits & 0x7FFF
        let subnormal = (Float(Int32(truncatingIfNeeded: magnitude)) * 0x1p-24).bitPattern
        // Exponents are biased by 127 instead of 15; the greatest, of infinity and NaN, by as much again.
        let rebased = magnitude << 13 &+ (magnitude < 0x7C00 ? 112 << 23 : 224 << 23)
        return Float(bitPattern: (magnitude < 0x0400 ? subnormal : rebased) | (bits & 0x8000) << 16)
    }
}
