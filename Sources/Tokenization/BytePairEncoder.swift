// Tandem — Apache-2.0

import Requests

/// A piece of a word while pairs of its neighbours are merged.
struct Symbol {
    /// -1 for a character that has no token.
    var token: TokenID
    /// Where it stands in the text.
    var start: Int32
    var end: Int32
}

/// What two neighbours merge to.
protocol PairRanking {
    /// The merge of two neighbours of a word of `text`, or `Merge.none`.
    func merge(_ left: Symbol, _ right: Symbol, in text: ArraySlice<UInt8>) -> Merge
}

/// Byte-pair encoding of one word: while two neighbours have a merge, the one of lowest rank is applied, the leftmost
/// first among equals (Sennrich, Haddow and Birch, 2016).
///
/// A value holds the work space of one `encode` call, so that words do not allocate.
struct BytePairEncoder<Ranking: PairRanking> {
    private let ranking: Ranking
    private let atoms: SymbolReader
    private var symbols: [Symbol] = []
    /// The merge of each symbol with its right neighbour.
    private var candidates: [Merge] = []

    /// Longer words take the path that is n log n.
    private static var shortWord: Int { 48 }

    init(ranking: Ranking, atoms: SymbolReader) {
        self.ranking = ranking
        self.atoms = atoms
    }

    /// Appends the tokens of `text[word]`.
    ///
    /// - Parameter textStart: where in `result` the tokens of the text begin; unknown ones are fused back to there.
    mutating func encode(
        _ word: Range<Int>, of text: ArraySlice<UInt8>, from textStart: Int, into result: inout [TokenID]
    ) {
        symbols.removeAll(keepingCapacity: true)
        atoms.read(word, of: text, into: &symbols)
        if symbols.count > 1 {
            if symbols.count <= Self.shortWord { mergeShort(text) } else { mergeLong(text) }
        }
        for symbol in symbols { atoms.append(symbol, of: text, from: textStart, into: &result) }
    }

    private mutating func fillCandidates(_ text: ArraySlice<UInt8>) {
        candidates.removeAll(keepingCapacity: true)
        for index in 1..<symbols.count {
            candidates.append(ranking.merge(symbols[index - 1], symbols[index], in: text))
        }
        candidates.append(.none)
    }

    private mutating func mergeShort(_ text: ArraySlice<UInt8>) {
        fillCandidates(text)
        while true {
            var best = 0
            for index in 1..<candidates.count where candidates[index].rank < candidates[best].rank { best = index }
            let merge = candidates[best]
            if merge == .none { return }
            symbols[best] = Symbol(token: merge.token, start: symbols[best].start, end: symbols[best + 1].end)
            symbols.remove(at: best + 1)
            candidates.remove(at: best + 1)
            if best > 0 { candidates[best - 1] = ranking.merge(symbols[best - 1], symbols[best], in: text) }
            candidates[best] =
                best + 1 < symbols.count ? ranking.merge(symbols[best], symbols[best + 1], in: text) : .none
            if symbols.count == 1 { return }
        }
    }

    /// Symbols are a linked list over their first positions; a heap holds (rank, position). A heap entry is stale when
    /// the candidate at its position has another rank by now, and is then skipped.
    private mutating func mergeLong(_ text: ArraySlice<UInt8>) {
        fillCandidates(text)
        let count = symbols.count
        var next = (0..<count).map { Int32(truncatingIfNeeded: $0 + 1) }
        var previous = (0..<count).map { Int32(truncatingIfNeeded: $0 - 1) }
        var isMerged = [Bool](repeating: false, count: count)
        var heap = MinHeap(
            candidates.indices.compactMap {
                candidates[$0] == .none ? nil : Self.entry(candidates[$0], $0)
            })

        while let entry = heap.popSmallest() {
            let left = Int(entry & 0xFFFF_FFFF)
            let merge = candidates[left]
            guard merge != .none, UInt64(merge.rank) == entry >> 32 else { continue }
            let right = Int(next[left])
            symbols[left] = Symbol(token: merge.token, start: symbols[left].start, end: symbols[right].end)
            isMerged[right] = true
            candidates[right] = .none
            let after = Int(next[right])
            next[left] = Int32(truncatingIfNeeded: after)
            candidates[left] = .none
            if after < count {
                previous[after] = Int32(truncatingIfNeeded: left)
                update(left, with: after, &heap, text)
            }
            if previous[left] >= 0 { update(Int(previous[left]), with: left, &heap, text) }
        }
        var kept = 0
        for index in 0..<count where !isMerged[index] {
            symbols[kept] = symbols[index]
            kept += 1
        }
        symbols.removeSubrange(kept...)
    }

    private mutating func update(_ left: Int, with right: Int, _ heap: inout MinHeap, _ text: ArraySlice<UInt8>) {
        let merge = ranking.merge(symbols[left], symbols[right], in: text)
        candidates[left] = merge
        if merge != .none { heap.push(Self.entry(merge, left)) }
    }

    private static func entry(_ merge: Merge, _ position: Int) -> UInt64 {
        UInt64(merge.rank) << 32 | UInt64(UInt32(truncatingIfNeeded: position))
    }
}
