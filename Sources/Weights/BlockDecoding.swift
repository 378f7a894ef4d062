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

    @Sendable static func q4WithMinimum(_ blocks: UnsafeRawBufferPointer, _ output: UnsafeMutableBufferPointer<Float>) {
        var source = 0
        for start in stride(from: 0, to: output.count, by: 32) {
            let scale = half(blocks, source)
            let minimum = half(blocks, source + 2)
            for index in 0..<16 {
                let pair = blocks[source + 4 + index]
                output[start + index] = Float(pair & 0x0F) * scale + minimum
                output[start + index + 16] = Float(pair >> 4) * scale + minimum
            }
            source += 20
        }
    }

    private static func word<Word: FixedWidthInteger & BitwiseCopyable>(
        _ bytes: UnsafeRawBufferPointer, _ offset: Int
    ) -> Word {
        Word(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Word.self))
    }

    private static func half(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> Float {
        Float(Float16(bitPattern: word(bytes, offset)))
    }
}
