// Tandem — Apache-2.0

public import Requests

/// How often each token of a sequence was generated; tokens of the prompt are there with 0. Work is in proportion to the
/// distinct tokens, not to the vocabulary.
public struct TokenCounts: Sendable {
    private var tokens: [TokenID] = []
    private var generated: [Int32] = []
    /// Indices of ``tokens`` by hash: open addressing, -1 is free; the length is a power of two.
    private var slots: [Int32]

    /// - Parameter capacity: most distinct tokens; with more the table grows.
    public init(capacity: Int) {
        slots = Array(repeating: -1, count: 64)
        tokens.reserveCapacity(min(capacity, 1024))
        generated.reserveCapacity(min(capacity, 1024))
    }

    /// Counts a token; one of the prompt is only known.
    public mutating func note(_ token: TokenID, isGenerated: Bool) {
        let slot = slot(of: token)
        if slots[slot] >= 0 {
            generated[Int(slots[slot])] += isGenerated ? 1 : 0
            return
        }
        slots[slot] = Int32(tokens.count)
        tokens.append(token)
        generated.append(isGenerated ? 1 : 0)
        if 2 * tokens.count > slots.count { grow() }
    }

    /// Calls `body` with each token and how often it was generated.
    public func forEach(_ body: (TokenID, Int32) -> Void) {
        for index in tokens.indices { body(tokens[index], generated[index]) }
    }

    private func slot(of token: TokenID) -> Int {
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: (UInt64(UInt32(bitPattern: token)) &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
        while slots[slot] >= 0, tokens[Int(slots[slot])] != token { slot = (slot + 1) & mask }
        return slot
    }

    private mutating func grow() {
        slots = Array(repeating: -1, count: 2 * slots.count)
        for (index, token) in tokens.enumerated() { slots[slot(of: token)] = Int32(index) }
    }
}
