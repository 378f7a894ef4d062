// Tandem — Apache-2.0

import Testing
import Weights

/// Blocks written down and computed by hand.
@Suite struct TensorTypeTests {
    private func decode(_ type: TensorType, _ bytes: [UInt8]) -> [Float] {
        var result = [Float](repeating: .nan, count: bytes.count / type.blockBytes * type.blockElements)
        bytes.withUnsafeBytes { source in
            result.withUnsafeMutableBufferPointer { type.dequantize(source, into: $0) }
        }
        return result
    }

    @Test func singlePrecisionKeepsItsBits() {
        let values = decode(
            .f32, [0, 0, 0x80, 0x3F, 0, 0, 0, 0x80, 1, 0, 0, 0, 0, 0, 0x80, 0xFF, 0x01, 0, 0x80, 0x7F])
        #expect(values[0] == 1)
        #expect(values[1].bitPattern == 0x8000_0000)
        #expect(values[2] == .leastNonzeroMagnitude)
        #expect(values[3] == -.infinity)
        #expect(values[4].isNaN)
    }

    @Test func halfPrecisionCoversSubnormalsAndLimits() {
        let patterns: [(bits: UInt16, value: Float)] = [
            (0x3C00, 1), (0xC000, -2), (0x3555, 0.333251953125), (0x7BFF, 65504), (0xFBFF, -65504),
            (0x0400, 0x1p-14),  // smallest normal number
            (0x0001, 0x1p-24), (0x8001, -0x1p-24), (0x03FF, 0x1.FF8p-15), (0x0200, 0x1p-15),
            (0x7C00, .infinity), (0xFC00, -.infinity), (0x0000, 0),
        ]
        let bytes = patterns.flatMap { [UInt8(truncatingIfNeeded: $0.bits), UInt8($0.bits >> 8)] }
        #expect(decode(.f16, bytes) == patterns.map(\.value))
        #expect(decode(.f16, [0x00, 0x80])[0].sign == .minus)
        #expect(decode(.f16, [0x01, 0x7E])[0].isNaN)
    }

    @Test func everyHalfPrecisionNumberIsConvertedExactly() {
        let patterns = UInt16.min...UInt16.max
        let values = decode(.f16, patterns.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] })
        let wrong = zip(patterns, values).filter { pattern, value in
            let expected = Float(Float16(bitPattern: pattern))
            return expected.isNaN ? !value.isNaN : value.bitPattern != expected.bitPattern
        }
        #expect(wrong.isEmpty, "\(wrong.prefix(4))")
    }

    @Test func brainFloatIsTheUpperHalf() {
        #expect(decode(.bf16, [0x80, 0x3F, 0x49, 0x40, 0x80, 0xFF]) == [1, 3.140625, -.infinity])
        #expect(decode(.bf16, [0x01, 0x00]) == [Float(bitPattern: 0x0001_0000)])
    }

    @Test func q8BlockIsScaleTimesSignedByte() {
        // Scale −0.5; bytes −128, −16, …, then the second block with the subnormal scale 2^-24.
        var block: [UInt8] = [0x00, 0xB8]
        block += (0..<32).map { UInt8(bitPattern: Int8(-128 + 8 * $0)) }
        block += [0x01, 0x00] + [127, 0x80] + [UInt8](repeating: 1, count: 30)
        let values = decode(.q8_0, block)
        #expect(values[0] == 64)
        #expect(values[..<32].elementsEqual((0..<32).map { -0.5 * Float(-128 + 8 * $0) }))
        #expect(values[32] == 127 * 0x1p-24)
        #expect(values[33] == -128 * 0x1p-24)
        #expect(values[34...].allSatisfy { $0 == 0x1p-24 })
    }

    @Test func q4BlockWithoutMinimumIsCentredOnEight() {
        // Scale −2; byte i holds i (low: element i) and 15 − i (high: element i + 16).
        let block = [0x00, 0xC0] + (0..<16).map { UInt8($0 | (15 - $0) << 4) }
        let low = (0..<16).map { Float($0 - 8) * -2 }
        let high = (0..<16).map { Float(7 - $0) * -2 }
        #expect(decode(.q4_0, block) == low + high)
        #expect(decode(.q4_0, block).first == 16)
        #expect(decode(.q4_0, block).last == 16)
    }

    @Test func q4BlockWithMinimumAddsIt() {
        // Scale 0.25, minimum −1.5.
        let block = [0x00, 0x34, 0x00, 0xBE] + (0..<16).map { UInt8($0 | (15 - $0) << 4) }
        let low = (0..<16).map { Float($0) * 0.25 - 1.5 }
        let high = (0..<16).map { Float(15 - $0) * 0.25 - 1.5 }
        #expect(decode(.q4_1, block) == low + high)
        #expect(decode(.q4_1, block)[15] == 2.25)
        // A negative scale and a subnormal minimum.
        let second: [UInt8] = [0x00, 0xBC, 0x01, 0x80] + [UInt8](repeating: 0x3F, count: 16)
        let values = decode(.q4_1, second)
        #expect(values[0] == -15 - 0x1p-24)
        #expect(values[16] == -3 - 0x1p-24)
    }

    @Test func blocksMayStandAtAnyAddress() {
        let block = [0xFF, 0x00, 0x34, 0x00, 0xBE] + (0..<16).map { UInt8($0 | (15 - $0) << 4) }
        var values = [Float](repeating: .nan, count: 32)
        block.withUnsafeBytes { source in
            values.withUnsafeMutableBufferPointer {
                TensorType.q4_1.dequantize(UnsafeRawBufferPointer(rebasing: source[1...]), into: $0)
            }
        }
        #expect(values == decode(.q4_1, Array(block[1...])))
    }

    @Test func codesFindTheirFormats() {
        for type in TensorType.all { #expect(TensorType.ggufCode(type.ggufCode) == type) }
        #expect(Set(TensorType.all.map(\.ggufCode)) == [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30])
        #expect(TensorType.ggufCode(10) == nil)
        #expect(TensorType.ggufCode(.max) == nil)
    }
}
