// Tandem — Apache-2.0

import Glibc
import LanguageModel

/// Cosines and sines as kernels read them: for each position the cosines of a padded head's pairs, then their sines.
/// Pairs of zeros are not turned.
struct RotaryRows {
    private let frequencies: [Float]
    private let paddedPairs: Int

    /// - Parameter factors: the model's divisors of frequencies, empty if it has none.
    init(_ rope: RotaryDescription, factors: [Float], shape: DeviceShape) {
        frequencies = rope.frequencies(factors: rope.hasFrequencyFactors ? factors : [])
        paddedPairs = shape.paddedHead / 2
    }

    /// Floats of a position.
    var width: Int { 2 * paddedPairs }

    /// Fills rows of positions.
    ///
    /// - Parameter output: ``width`` floats a position.
    func fill(_ positions: Range<Int>, into output: UnsafeMutableBufferPointer<Float>) {
        precondition(output.count == positions.count * width, "\(output.count) floats for \(positions.count) positions")
        for (index, position) in positions.enumerated() {
            let row = index * width
            for pair in 0..<paddedPairs {
                // The angle is a single-precision product, as in the training code this must agree with.
                let angle = pair < frequencies.count ? Double(Float(position) * frequencies[pair]) : 0
                output[row + pair] = Float(cos(angle))
                output[row + paddedPairs + pair] = Float(sin(angle))
            }
        }
    }
}
