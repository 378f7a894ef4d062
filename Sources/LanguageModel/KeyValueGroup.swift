// Tandem — Apache-2.0

/// Layers whose keys and values are kept and freed alike, so that they share one block table.
///
/// All groups of a model have equally many layers (``DecoderDescription/kvGroups``): a block of any group has the same
/// size, and one pool of blocks serves them all.
public struct KeyValueGroup: Sendable, Equatable {
    /// Indices of the layers, ascending.
    public var layers: [Int]
    /// Sliding window: how many tokens, its own included, a token sees; `nil` if it sees all before it.
    public var window: Int?

    public init(layers: [Int], window: Int?) {
        self.layers = layers
        self.window = window
    }

    /// Most blocks that a sequence holds in this group at any time of its life, alone and without a prefix cache. In a
    /// group with a window these are the tokens of one step and what the first of them sees.
    ///
    /// - Parameters:
    ///   - tokens: length of the sequence, generated tokens included.
    ///   - tokensPerStep: most tokens of the sequence that one step computes, at least 1.
    ///   - blockSize: tokens in a block.
    public func blocks(forSequenceOf tokens: Int, tokensPerStep: Int, blockSize: Int) -> Int {
        let all = tokens / blockSize + (tokens % blockSize == 0 ? 0 : 1)
        guard let window, window - 1 < tokens - tokensPerStep else { return all }
        // The span may start and end anywhere in a block.
        let span = window - 1 + tokensPerStep
        return min(all, (span + blockSize - 2) / blockSize + 1)
    }
}
