// Tandem — Apache-2.0

/// Layers whose keys and values are kept and freed alike, so that they share one block table.
public struct KeyValueGroup: Sendable, Equatable {
    /// Indices of the layers, ascending.
    public var layers: [Int]
    /// Sliding window in tokens; `nil` if every token before the row is seen.
    public var window: Int?

    public init(layers: [Int], window: Int?) {
        self.layers = layers
        self.window = window
    }
}
