// Tandem — Apache-2.0

/// What the engines of one model want for their KV caches.
public struct KeyValueWish: Sendable, Equatable {
    public var engines: Int
    /// Bytes an engine that the user asked for; null for a share of what is there.
    public var requested: UInt64?
    /// KV bytes of the longest sequence over all layers.
    public var sequenceBytes: UInt64
    /// Tokens of the longest sequence.
    public var contextLength: Int

    public init(engines: Int, requested: UInt64?, sequenceBytes: UInt64, contextLength: Int) {
        self.engines = engines
        self.requested = requested
        self.sequenceBytes = sequenceBytes
        self.contextLength = contextLength
    }

    /// - Throws: ``SupervisionError/keyValueMemoryTooSmall(givenBytes:neededBytes:contextLength:)`` if what was asked
    ///   for does not hold one full sequence.
    public func check() throws(SupervisionError) {
        guard let requested, requested < sequenceBytes else { return }
        throw .keyValueMemoryTooSmall(
            givenBytes: requested, neededBytes: sequenceBytes, contextLength: contextLength)
    }
}

extension MemoryPlan {
    /// Most that an engine takes by itself: more only pays with long contexts and many of them.
    public static let defaultMaximumBytes: UInt64 = 1 << 30

    /// KV bytes of each engine, model by model.
    ///
    /// What was asked for is taken. Engines without a wish share a fifth of the rest evenly, at most
    /// ``defaultMaximumBytes`` each, but have room for one full sequence in any case.
    ///
    /// - Parameter availableBytes: what is there for KV caches and for nothing else.
    /// - Throws: ``SupervisionError`` if one full sequence does not fit.
    public static func keyValueBytes(
        _ wishes: [KeyValueWish], availableBytes: UInt64
    ) throws(SupervisionError) -> [UInt64] {
        for wish in wishes { try wish.check() }
        let requested = wishes.reduce(UInt64(0)) { sum($0, product($1.requested ?? 0, $1.engines)) }
        let rest = availableBytes - min(availableBytes, requested)
        let open = wishes.filter { $0.requested == nil }
        let engineCount = UInt64(max(1, open.reduce(0) { $0 + $1.engines }))
        let share = min(defaultMaximumBytes, rest / 5 / engineCount)
        let bytes = wishes.map { $0.requested ?? most(of: share, for: $0) }
        let taken = zip(wishes, bytes).reduce(UInt64(0)) { sum($0, product($1.1, $1.0.engines)) }
        // A sum at the largest number is beyond what there is.
        if open.isEmpty || (taken <= sum(rest, requested) && taken < .max) { return bytes }
        // A small machine: the one sequence that each must be able to serve, and nothing beyond.
        let least = open.reduce(UInt64(0)) { sum($0, product($1.sequenceBytes, $1.engines)) }
        if least > rest || least == .max, let largest = open.max(by: { $0.sequenceBytes < $1.sequenceBytes }) {
            throw .notEnoughMemory(
                neededBytes: largest.sequenceBytes, availableBytes: rest / engineCount,
                contextLength: largest.contextLength)
        }
        return wishes.map { $0.requested ?? $0.sequenceBytes }
    }

    /// The share in whole MiB, unless a sequence takes more than that.
    private static func most(of share: UInt64, for wish: KeyValueWish) -> UInt64 {
        let rounded = share / (1 << 20) * (1 << 20)
        return [rounded, share].first { $0 >= wish.sequenceBytes } ?? wish.sequenceBytes
    }
}
