// Tandem — Apache-2.0

import Foundation
import JSON
import TestSupport
import Testing
import Weights

/// Random blocks of every format, against the numbers that gguf-py makes of them (`Fixtures/quants`).
@Suite struct BlockReferenceTests {
    private struct Reference {
        let blocks: [UInt8]
        let values: [Float]
    }

    private func reference(_ type: TensorType) throws -> Reference {
        let path = ModelFixture.fixturePath("quants/blocks.json")
        let file = try JSONParser.parse(Array(Data(contentsOf: URL(fileURLWithPath: path))))
        let entry = try #require(file.object?[type.name]?.object, "no \(type) blocks in \(path)")
        let values = try bytes(entry["values"]).withUnsafeBytes { raw in
            (0..<raw.count / 4).map {
                Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
            }
        }
        return Reference(blocks: try bytes(entry["blocks"]), values: values)
    }

    private func bytes(_ hexadecimal: JSONValue?) throws -> [UInt8] {
        let digits = try #require(hexadecimal?.string).map { $0.hexDigitValue }
        return try stride(from: 0, to: digits.count, by: 2).map { index -> UInt8 in
            let high: Int = try #require(digits[index])
            let low: Int = try #require(digits[index + 1])
            return UInt8(16 * high + low)
        }
    }

    private struct View {
        var quants: [UInt8]
        var scales: [Float]
        var minima: [Float]
    }

    private func affine(_ type: TensorType, _ blocks: [UInt8]) -> View {
        let count = blocks.count / type.blockBytes * type.blockElements
        var view = View(
            quants: [UInt8](repeating: 0xFF, count: count), scales: [Float](repeating: .nan, count: count / 32),
            minima: [Float](repeating: .nan, count: count / 32))
        blocks.withUnsafeBytes { source in
            view.quants.withUnsafeMutableBufferPointer { quants in
                view.scales.withUnsafeMutableBufferPointer { scales in
                    view.minima.withUnsafeMutableBufferPointer { minima in
                        type.affine(source, quants: quants, scales: scales, minima: minima)
                    }
                }
            }
        }
        return view
    }

    @Test(arguments: TensorType.all) func numbersAreTheReferencesToTheBit(type: TensorType) throws {
        let reference = try reference(type)
        #expect(reference.values.count == reference.blocks.count / type.blockBytes * type.blockElements)
        #expect(reference.values.count >= 128)
        var values = [Float](repeating: .nan, count: reference.values.count)
        reference.blocks.withUnsafeBytes { source in
            values.withUnsafeMutableBufferPointer { type.dequantize(source, into: $0) }
        }
        let wrong = values.indices.filter { values[$0].bitPattern != reference.values[$0].bitPattern }
        #expect(wrong.isEmpty, "\(type): \(wrong.prefix(8))")
    }

    @Test func formatsOfRunsOf32HaveAnAffineView() {
        let bits = Dictionary(uniqueKeysWithValues: TensorType.all.map { ($0.name, $0.affineBits) })
        #expect(
            bits == [
                "F32": nil, "F16": nil, "BF16": nil, "Q6_K": nil, "Q4_0": 4, "Q4_1": 4, "Q4_K": 4, "Q5_0": 5,
                "Q5_1": 5, "Q5_K": 5, "Q8_0": 8,
            ])
    }

    @Test(arguments: TensorType.all.filter { $0.affineBits != nil }) func affineViewsGiveTheSameNumbers(
        type: TensorType
    ) throws {
        let reference = try reference(type)
        let view = affine(type, reference.blocks)
        let bits = try #require(type.affineBits)
        #expect(view.quants.allSatisfy { Int($0) < 1 << bits })
        #expect(Set(view.quants).count > 1 << (bits - 2))
        for index in view.quants.indices {
            let (scale, minimum) = (view.scales[index / 32], view.minima[index / 32])
            let product = scale * Float(view.quants[index])
            let error = (product + minimum - reference.values[index]).magnitude
            if !(error <= 1e-6 * max(product.magnitude, minimum.magnitude)) {
                Issue.record("\(type), element \(index): \(product) + \(minimum) is not \(reference.values[index])")
            }
        }
    }

    /// More than is decoded at a time, an odd number of blocks, an odd address.
    @Test(arguments: TensorType.all) func longRunsAreTheirBlocksInARow(type: TensorType) throws {
        let reference = try reference(type)
        let repeats = 9000 / reference.values.count + 1
        let blocks = [0xFF] + Array(repeatElement(reference.blocks, count: repeats).joined())
        var values = [Float](repeating: .nan, count: repeats * reference.values.count)
        blocks.withUnsafeBytes { source in
            values.withUnsafeMutableBufferPointer {
                type.dequantize(UnsafeRawBufferPointer(rebasing: source[1...]), into: $0)
            }
        }
        #expect(values == Array(repeatElement(reference.values, count: repeats).joined()))
    }
}
