// Tandem — Apache-2.0

/// What all values of one quantity say together.
public struct Statistics: Sendable, Equatable {
    /// How many values there are.
    public var count: Int
    public var mean: Double
    /// Standard deviation, of the values themselves and not of what they are a sample of.
    public var deviation: Double
    private var sorted: [Double]

    /// Nil without values.
    public init?(_ values: [Double]) {
        guard !values.isEmpty else { return nil }
        count = values.count
        mean = values.reduce(0, +) / Double(values.count)
        let center = mean
        let squares = values.reduce(0) { $0 + ($1 - center) * ($1 - center) }
        deviation = (squares / Double(values.count)).squareRoot()
        sorted = values.sorted()
    }

    public var median: Double { percentile(50) }
    public var maximum: Double { sorted[sorted.count - 1] }

    /// Exact, from all values: between two neighbours it lies on the straight line, as numpy's default has it, and so
    /// vLLM's benchmark.
    ///
    /// - Parameter percent: 0 to 100.
    public func percentile(_ percent: Double) -> Double {
        let position = min(max(percent, 0), 100) / 100 * Double(sorted.count - 1)
        let below = Int(position)
        let above = min(below + 1, sorted.count - 1)
        return sorted[below] + (sorted[above] - sorted[below]) * (position - Double(below))
    }
}
