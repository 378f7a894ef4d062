// Tandem — Apache-2.0

import Glibc

/// One rotary position embedding (Su et al., "RoFormer", 2021) as some layers of a model use it.
public struct RotaryDescription: Sendable, Equatable {
    /// How a file orders the rows of query and key projections within a head.
    public enum FileLayout: Sendable, Equatable {
        /// Element `i` is rotated with element `i + dimensions / 2`.
        case halfSplit
        /// Element `2i` is rotated with element `2i + 1`; rows are put into half-split order when they are packed.
        case interleaved
    }

    /// Base of the frequencies: pair `i` turns by `base ^ (-2i / dimensions)` per position.
    public var base: Float
    /// How many elements of a head are rotated.
    public var dimensions: Int
    /// Order of rows in the file.
    public var fileLayout: FileLayout
    /// Whether the file has a tensor ``TensorRole/rotaryFactors`` by which frequencies are divided (Llama 3's scaling).
    public var hasFrequencyFactors: Bool

    /// A rotary embedding.
    public init(base: Float, dimensions: Int, fileLayout: FileLayout, hasFrequencyFactors: Bool = false) {
        self.base = base
        self.dimensions = dimensions
        self.fileLayout = fileLayout
        self.hasFrequencyFactors = hasFrequencyFactors
    }

    /// Radians per position of each of the `dimensions / 2` pairs.
    ///
    /// - Parameter factors: divide the frequencies; as many as pairs, or empty.
    public func frequencies(factors: [Float] = []) -> [Float] {
        (0..<dimensions / 2).map { pair in
            let exponent = Double(2 * pair) / Double(dimensions)
            let frequency = Float(1 / pow(Double(base), exponent))
            return pair < factors.count ? frequency / factors[pair] : frequency
        }
    }

    /// For each row of a head in half-split order, its row in the file.
    ///
    /// - Parameter headDimension: rows of a head; those beyond ``dimensions`` keep their place.
    public func fileRows(headDimension: Int) -> [Int] {
        (0..<headDimension).map { row in
            guard fileLayout == .interleaved, row < dimensions else { return row }
            let half = dimensions / 2
            return row < half ? 2 * row : 2 * (row - half) + 1
        }
    }
}
