// Tandem — Apache-2.0

import Foundation
import Testing

@testable import Gateway

@Suite struct VectorTests {
    /// Against Foundation's encoder.
    @Test(arguments: 0...7) func base64(count: Int) throws {
        let numbers = (0..<count).map { Float($0) * -1.37 + 0.2 }
        let bytes = numbers.flatMap { number in (0..<4).map { UInt8(truncatingIfNeeded: number.bitPattern >> (8 * $0)) }
        }
        #expect(Vector.base64(numbers) == Data(bytes).base64EncodedString())
    }

    @Test func vectorsAreCutAndNormalised() {
        #expect(Vector.finished([3, 4], dimensions: nil, normalizes: true) == [0.6, 0.8])
        #expect(Vector.finished([3, 4, 12], dimensions: 2, normalizes: true) == [0.6, 0.8])
        #expect(Vector.finished([3, 4, 12], dimensions: 2, normalizes: false) == [3, 4])
        #expect(Vector.finished([0, 0], dimensions: nil, normalizes: true) == [0, 0])
        let large = Vector.finished([3e30, 4e30], dimensions: nil, normalizes: true)
        #expect(abs(large[0] - 0.6) < 1e-6 && abs(large[1] - 0.8) < 1e-6)
    }

    @Test func cosine() {
        #expect(Vector.cosine([1, 0], [0, 2]) == 0)
        #expect(Vector.cosine([1, 2], [2, 4]) == 1)
        #expect(Vector.cosine([1, 2], [-2, -4]) == -1)
        #expect(Vector.cosine([0, 0], [1, 1]) == 0)
        #expect(abs(Vector.cosine([1, 0], [1, 1]) - 0.5.squareRoot()) < 1e-15)
    }

    /// numpy: exp(x) / exp(x).sum() of [-1, -2, -0.5].
    @Test func softmax() {
        let probabilities = Probability.softmax([-1, -2, -0.5])
        for (probability, expected) in zip(probabilities, [0.33149896, 0.12195165, 0.54654939]) {
            #expect(abs(probability - expected) < 1e-8)
        }
        #expect(Probability.softmax([-1000, -1001, -.infinity])[2] == 0)
        #expect(Probability.softmax([-.infinity, -.infinity]) == [0.5, 0.5])
        #expect(Probability.softmax([]).isEmpty)
        #expect(Probability.each([0, -.infinity]) == [1, 0])
    }
}
