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

    /// How frequencies are changed for contexts longer than those of the first training.
    public enum Scaling: Sendable, Equatable {
        case none
        /// All frequencies are divided by a factor ("position interpolation").
        case linear(factor: Float)
        /// Llama 3.1's: low frequencies are divided by `factor`, high ones kept, those between blended, by how often a
        /// pair turns within `originalContext` positions (`highFrequencyFactor` times and more: kept;
        /// `lowFrequencyFactor` times and less: divided).
        case llama3(factor: Float, lowFrequencyFactor: Float, highFrequencyFactor: Float, originalContext: Int)
    }

    /// Base of the frequencies: pair `i` turns by `base ^ (-2i / dimensions)` per position.
    public var base: Float
    /// How many elements of a head are rotated.
    public var dimensions: Int
    /// Order of rows in the file.
    public var fileLayout: FileLayout
    /// Whether the file has a tensor ``TensorRole/rotaryFactors`` by which frequencies are divided (Llama 3's scaling).
    public var hasFrequencyFactors: Bool
    /// How frequencies are scaled; applied before ``hasFrequencyFactors``.
    public var scaling: Scaling

    /// A rotary embedding.
    public init(
        base: Float, dimensions: Int, fileLayout: FileLayout, hasFrequencyFactors: Bool = false,
        scaling: Scaling = .none
    ) {
        self.base = base
        self.dimensions = dimensions
        self.fileLayout = fileLayout
        self.hasFrequencyFactors = hasFrequencyFactors
        self.scaling = scaling
    }

    /// Radians per position of each of the `dimensions / 2` pairs.
    ///
    /// - Parameter factors: divide the frequencies; as many as pairs, or empty.
    public func frequencies(factors: [Float] = []) -> [Float] {
        (0..<dimensions / 2).map { pair in
            let exponent = Double(2 * pair) / Double(dimensions)
            let frequency = scaled(Float(1 / pow(Double(base), exponent)))
            return pair < factors.count ? frequency / factors[pair] : frequency
        }
    }

    private func scaled(_ frequency: Float) -> Float {
        switch scaling {
        case .none:
            return frequency
        case .linear(let factor):
            return frequency / factor
        case .llama3(let factor, let low, let high, let originalContext):
            let turns = Float(originalContext) * frequency / (2 * Float.pi)
            if turns > high { return frequency }
            if turns < low { return frequency / factor }
            let blend = (turns - low) / (high - low)
            return (1 - blend) * frequency / factor + blend * frequency
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
