// Tandem — Apache-2.0

import Requests

/// Byte-pair encoding of one word: while two neighbours have a merge, the one of lowest rank is applied, the leftmost
/// first among equals (Sennrich, Haddow and Birch, 2016).
///
/// A value holds the work space of one `encode` call, so that words do not allocate.
struct BytePairEncoder {
    private let merges: MergeTable
    /// The token of each byte, or -1.
    private let byteTokens: [TokenID]

    private var symbols: [TokenID] = []
    /// The merge of each symbol with its right neighbour.
    private var candidates: [Merge] = []

    /// Longer words take the path that is n log n.
    private static let shortWord = 48

    init(merges: MergeTable, byteTokens: [TokenID]) {
        self.merges = merges
        self.byteTokens = byteTokens
    }

    /// Appends the tokens of `word`. Bytes that are not in the vocabulary are left out.
    mutating func encode(_ word: ArraySlice<UInt8>, into result: inout [TokenID]) {
        symbols.removeAll(keepingCapacity: true)
        for byte in word {
            let token = byteTokens[Int(byte)]
            if token >= 0 { symbols.append(token) }
        }
        if symbols.count > 1 {
            if symbols.count <= Self.shortWord { mergeShort() } else { mergeLong() }
        }
        result.append(contentsOf: symbols)
    }

    private mutating func fillCandidates() {
        candidates.removeAll(keepingCapacity: true)
        for index in 1..<symbols.count {
            candidates.append(merges.find(left: symbols[index - 1], right: symbols[index]))
        }
        candidates.append(.none)
    }

    private mutating func mergeShort() {
        fillCandidates()
        while true {
            var best = 0
            for index in 1..<candidates.count where candidates[index].bits < candidates[best].bits {
                best = index
            }
            let merge = candidates[best]
            if merge == .none { return }
            symbols[best] = merge.token
            symbols.remove(at: best + 1)
            candidates.remove(at: best + 1)
            if best > 0 {
                candidates[best - 1] = merges.find(left: symbols[best - 1], right: symbols[best])
            }
            candidates[best] =
                best + 1 < symbols.count
                ? merges.find(left: symbols[best], right: symbols[best + 1]) : .none
            if symbols.count == 1 { return }
        }
    }

    /// Symbols are a linked list over their first positions; a heap holds (rank, position). A heap entry is stale when
    /// the candidate at its position has another rank by now, and is then skipped.
    private mutating func mergeLong() {
        fillCandidates()
        let count = symbols.count
        var next = (0..<count).map { Int32(truncatingIfNeeded: $0 + 1) }
        var previous = (0..<count).map { Int32(truncatingIfNeeded: $0 - 1) }
        var heap = MinHeap(
            candidates.indices.compactMap {
                candidates[$0] == .none ? nil : Self.entry(candidates[$0], $0)
            })

        while let entry = heap.popSmallest() {
            let left = Int(entry & 0xFFFF_FFFF)
            let merge = candidates[left]
            guard merge != .none, UInt64(merge.rank) == entry >> 32 else { continue }
            let right = Int(next[left])
            symbols[left] = merge.token
            symbols[right] = -1
            candidates[right] = .none
            let after = Int(next[right])
            next[left] = Int32(truncatingIfNeeded: after)
            candidates[left] = .none
            if after < count {
                previous[after] = Int32(truncatingIfNeeded: left)
                update(left, with: after, &heap)
            }
            if previous[left] >= 0 { update(Int(previous[left]), with: left, &heap) }
        }
        symbols.removeAll { $0 < 0 }
    }

    private mutating func update(_ left: Int, with right: Int, _ heap: inout MinHeap) {
        let merge = merges.find(left: symbols[left], right: symbols[right])
        candidates[left] = merge
        if merge != .none { heap.push(Self.entry(merge, left)) }
    }

    private static func entry(_ merge: Merge, _ position: Int) -> UInt64 {
        UInt64(merge.rank) << 32 | UInt64(UInt32(truncatingIfNeeded: position))
    }
}

/// A binary heap of words, smallest first.
struct MinHeap {
    private var words: [UInt64]

    init(_ words: [UInt64]) {
        self.words = words
        for index in stride(from: words.count / 2 - 1, through: 0, by: -1) { siftDown(index) }
    }

    mutating func push(_ word: UInt64) {
        words.append(word)
        var index = words.count - 1
        while index > 0 {
            let parent = (index - 1) / 2
            if words[parent] <= word { break }
            words[index] = words[parent]
            index = parent
        }
        words[index] = word
    }

    mutating func popSmallest() -> UInt64? {
        guard let smallest = words.first, let last = words.popLast() else { return nil }
        if !words.isEmpty {
            words[0] = last
            siftDown(0)
        }
        return smallest
    }

    private mutating func siftDown(_ start: Int) {
        let word = words[start]
        var index = start
        while true {
            var child = index * 2 + 1
            if child >= words.count { break }
            if child + 1 < words.count, words[child + 1] < words[child] { child += 1 }
            if word <= words[child] { break }
            words[index] = words[child]
            index = child
        }
        words[index] = word
    }
}
