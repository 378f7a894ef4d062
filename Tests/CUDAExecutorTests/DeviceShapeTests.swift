// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Testing

@testable import CUDAExecutor

@Suite struct DeviceShapeTests {
    @Test(arguments: [(16, 64), (64, 64), (80, 128), (96, 128), (128, 128), (192, 256), (256, 256)])
    func headsAreFilledUp(_ head: Int, _ padded: Int) throws {
        let shape = try DeviceShape(smallModel(head: head))
        #expect(shape.paddedHead == padded)
        #expect(shape.queryKeyValueWidth == 8 * padded)
        let rows = shape.fileRows(RotaryDescription(base: 1e4, dimensions: head, fileLayout: .interleaved))
        #expect(rows.compactMap(\.self).sorted() == Array(0..<head))
        // Pairs that are rotated together: 2i and 2i + 1 in the file.
        for element in 0..<padded / 2 {
            let (first, second) = (rows[element], rows[element + padded / 2])
            #expect((first == nil) == (second == nil))
            if let first, let second { #expect(second == first + 1 && first % 2 == 0) }
        }
    }

    @Test func unsupportedShapesAreNamed() {
        for (model, word) in [
            (smallModel(head: 512), "head dimension of 512"),
            (smallModel(head: 15), "head dimension of 15"),
            (smallModel(hidden: 60), "hidden size of 60"),
            (smallModel(intermediate: 100), "intermediate size of 100"),
            (smallModel(queryHeads: 34), "34 and 2 heads"),
            (smallModel(queryHeads: 3), "3 and 2 heads"),
            (smallModel { layer, _ in layer.window = 0 }, "window of 0"),
            (smallModel { layer, _ in layer.rope = 1 }, "rotary"),
        ] {
            let error = #expect(throws: ExecutorError.self) { try DeviceShape(model) }
            #expect(error?.kind == .unsupported)
            #expect(error?.message.contains(word) == true, "\(error?.message ?? "")")
        }
    }

    @Test func filledUpNormsAreTheSame() throws {
        let shape = try DeviceShape(smallModel(head: 80))
        let values = (0..<80).map { Float($0 % 7) - 2.5 }
        let weight: Float = 1.25
        let epsilon: Float = 1e-3
        func norm(_ value: Float, _ width: Int, _ epsilon: Float, _ weight: Float) -> Float {
            value / (values.reduce(0) { $0 + $1 * $1 } / Float(width) + epsilon).squareRoot() * weight
        }
        for value in values {
            let exact = norm(value, 80, epsilon, weight)
            let padded = norm(
                value, 128, epsilon * shape.headEpsilonFactor, weight * shape.headNormFactor)
            #expect(abs(exact - padded) <= 1e-6 * max(1, abs(exact)))
        }
    }

    @Test func rotaryRowsLeaveZerosAlone() throws {
        let model = smallModel(head: 80)
        let shape = try DeviceShape(model)
        let rotary = RotaryRows(model.ropes[0], factors: [], shape: shape)
        var row = [Float](repeating: .nan, count: 2 * rotary.width)
        row.withUnsafeMutableBufferPointer { rotary.fill(7..<9, into: $0) }
        for pair in 0..<40 {
            let (cosine, sine) = (row[pair], row[64 + pair])
            #expect(abs(cosine * cosine + sine * sine - 1) < 1e-6)
        }
        #expect(abs(row[0] - 0.7539022) < 1e-6)  // cos 7
        #expect(abs(row[128 + 64] - 0.9893582) < 1e-6)  // sin 8
        for pair in 40..<64 { #expect(row[pair] == 1 && row[64 + pair] == 0) }
    }

    @Test func sizesOfStepsAreFewAndCoverAll() {
        var sizes: Set<Int> = []
        for tokens in 1...8192 {
            let rows = BatchBuckets.productRows(tokens: tokens)
            #expect(rows >= tokens && Double(rows) <= max(Double(tokens) * 1.5, Double(tokens) + 8))
            sizes.insert(rows)
            if let graph = BatchBuckets.graph(rows: tokens) { #expect(graph >= tokens) }
        }
        #expect(sizes.count < 70)
        #expect(BatchBuckets.graph(rows: 1024) == 1024 && BatchBuckets.graph(rows: 1025) == nil)
    }
}
