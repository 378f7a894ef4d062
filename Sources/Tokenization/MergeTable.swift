// Tandem — Apache-2.0

import Requests

/// What two neighbouring tokens merge to, and how early.
struct MergeTable: Sendable {
    /// Pairs of a key (left token, right token) and a value (rank, merged token), so that a look-up touches one cache
    /// line. Open addressing with linear probing; the length is twice a power of two.
    private var slots: [UInt64]

    /// Marks a free slot. As a key it would be the pair (-1, -1), which are no tokens.
    private static let free = UInt64.max

    init(capacity: Int) {
        var length = 16
        while length < capacity * 2 { length *= 2 }
        slots = [UInt64](repeating: Self.free, count: length * 2)
    }

    /// - Returns: false if the pair has a merge already.
    mutating func insert(left: TokenID, right: TokenID, rank: UInt32, merged: TokenID) -> Bool {
        let key = Self.key(left, right)
        let slot = slot(of: key)
        guard slots[slot] == Self.free else { return false }
        slots[slot] = key
        slots[slot + 1] = UInt64(rank) << 32 | UInt64(UInt32(bitPattern: merged))
        return true
    }

    /// The merge of two tokens, or `Merge.none`.
    @inline(__always)
    func find(left: TokenID, right: TokenID) -> Merge {
        let slot = slot(of: Self.key(left, right))
        return Merge(bits: slots[slot + 1])
    }

    @inline(__always)
    private func slot(of key: UInt64) -> Int {
        let mask = slots.count / 2 - 1
        var slot = Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
        while slots[slot * 2] != key, slots[slot * 2] != Self.free { slot = (slot + 1) & mask }
        return slot * 2
    }

    @inline(__always)
    private static func key(_ left: TokenID, _ right: TokenID) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    }
}

/// A merge's rank (smaller is earlier) and result.
struct Merge: Equatable {
    var bits: UInt64

    static let none = Merge(bits: .max)

    var rank: UInt32 { UInt32(truncatingIfNeeded: bits >> 32) }
    var token: TokenID { TokenID(truncatingIfNeeded: bits) }
}

/// Merges that a vocabulary lists.
struct RankedPairs: PairRanking, Sendable {
    let merges: MergeTable

    @inline(__always)
    func merge(_ left: Symbol, _ right: Symbol, in text: ArraySlice<UInt8>) -> Merge {
        merges.find(left: left.token, right: right.token)
    }
}

/// Merges that follow from a vocabulary with scores, as in SentencePiece: two neighbours merge if their text is a token,
/// the one of highest score first.
struct ScoredPairs: PairRanking, Sendable {
    let table: TokenTable
    let ranks: [UInt32]

    @inline(__always)
    func merge(_ left: Symbol, _ right: Symbol, in text: ArraySlice<UInt8>) -> Merge {
        guard let token = table.find(text[Int(left.start)..<Int(right.end)]) else { return .none }
        return Merge(bits: UInt64(ranks[Int(token)]) << 32 | UInt64(UInt32(bitPattern: token)))
    }

    /// Smaller for higher scores, and more than any token id, so that ids can go before all scores.
    static func rank(of score: Float) -> UInt32 {
        // Floats of one sign compare as their bits do; adding zero makes -0 the same as 0.
        let bits = (score + 0).bitPattern
        let ascending = bits >> 31 == 1 ? ~bits : bits | 0x8000_0000
        return ~ascending
    }
}
