// Tandem — Apache-2.0

/// The identity of one full KV block: its own tokens and, through the chain, all tokens before them.
///
/// Two blocks with equal hashes hold the same keys and values, so a prefix cache may share them.
public struct BlockHash: Hashable, Sendable {
    public let digest: Digest128

    public init(_ digest: Digest128) {
        self.digest = digest
    }

    /// The hash that the first block of a sequence is chained to.
    ///
    /// - Parameters:
    ///   - model: fingerprint of the weights, so that engines of different models never agree.
    ///   - salt: a request's cache salt; requests with different salts share nothing.
    ///   - seed: the serving group's hash seed.
    public static func root(model: Digest128, salt: String, seed: UInt64) -> BlockHash {
        var hash = StableHash(seed: seed)
        hash.combine(model.high)
        hash.combine(model.low)
        hash.combine(bytes: salt.utf8)
        return BlockHash(hash.digest())
    }

    /// The hash of the block that follows this one.
    ///
    /// - Parameter tokens: exactly one block of token ids.
    @inlinable
    public func next(tokens: some Sequence<TokenID>) -> BlockHash {
        var hash = StableHash(seed: digest.high)
        hash.combine(digest.low)
        hash.combine(tokens)
        return BlockHash(hash.digest())
    }
}
