// Tandem — Apache-2.0

import LanguageModel
import Requests

/// Which blocks of the pool sequences hold: a table for each KV group, and the rules of the groups.
///
/// A group without a window keeps the blocks of all positions. A group with a window keeps what the next row and those
/// after it see: for a row that starts at position `p` nothing before `p - window + 1`. Blocks behind that are given
/// back while the sequence runs; those that are registered stay in the prefix cache until their memory is needed.
struct KVCache: Sendable {
    private struct Group: Sendable {
        var window: Int?
        /// Most entries that a sequence's table needs at any time; no limit without a window.
        var mostEntries: Int

        /// The first entry that a row starting at `position` sees.
        func firstEntry(at position: Int, blockSize: Int) -> Int {
            guard let window, window <= position else { return 0 }
            return (position - window + 1) / blockSize
        }
    }

    let blockSize: Int
    let tokensPerStep: Int
    private let descriptions: [KeyValueGroup]
    private let groups: [Group]
    private(set) var pool: KVBlockPool

    /// - Parameters:
    ///   - groups: at least one.
    ///   - tokensPerStep: most tokens of one sequence in a step, at least 1.
    init(groups descriptions: [KeyValueGroup], blockSize: Int, tokensPerStep: Int, blockCount: Int) {
        self.descriptions = descriptions
        self.blockSize = blockSize
        self.tokensPerStep = tokensPerStep
        groups = descriptions.map { group in
            Group(
                window: group.window,
                mostEntries: group.window == nil
                    ? .max : group.blocks(forSequenceOf: .max, tokensPerStep: tokensPerStep, blockSize: blockSize))
        }
        // What a group with a window has forgotten may still be had with fewer tokens of it: the group that keeps all
        // says best which prefixes are here.
        let reported = descriptions.firstIndex { $0.window == nil } ?? 0
        pool = KVBlockPool(blockCount: blockCount, reportedGroup: reported)
    }

    var groupCount: Int { groups.count }

    /// Blocks that one sequence of so many tokens needs at most, over all groups.
    func blocks(forSequenceOf tokens: Int) -> Int {
        descriptions.reduce(0) {
            $0 + $1.blocks(forSequenceOf: tokens, tokensPerStep: tokensPerStep, blockSize: blockSize)
        }
    }

    /// The longest sequence, up to `limit` tokens, that can run if it has all blocks for itself.
    func capacityInTokens(upTo limit: Int) -> Int {
        var fits = 0
        var beyond = max(0, limit) + 1
        while beyond - fits > 1 {
            let middle = fits + (beyond - fits) / 2
            if blocks(forSequenceOf: middle) <= pool.blockCount { fits = middle } else { beyond = middle }
        }
        return fits
    }

    // MARK: - A sequence's blocks

    /// One empty table a group.
    func emptyTables() -> [BlockTable] { Array(repeating: BlockTable(), count: groups.count) }

    /// Gives a sequence its first blocks: the cached ones of its first `hits` blocks, as far as rows behind them see
    /// them, and new ones for its other known tokens; where a window gives blocks back on the way, only as many as are
    /// needed at once.
    ///
    /// - Parameters:
    ///   - tables: empty.
    ///   - tokens: known tokens.
    ///   - hits: what ``cachedBlocks(of:)`` said of these hashes.
    ///   - spare: blocks that must still be free afterwards.
    /// - Returns: `false`, and nothing changed, if there are too few free blocks.
    mutating func begin(
        _ tables: inout [BlockTable], tokens: Int, hits: Int, of hashes: [BlockHash], sparing spare: Int
    ) -> Bool {
        var taken = spare
        for group in groups.indices {
            let extent = extent(ofGroup: group, tokens: tokens, hits: hits)
            taken += extent.upperBound - hits
            for hash in hashes[extent.lowerBound..<hits] {
                guard let id = pool.block(of: hash, group: group) else { return false }
                if pool.references(to: id) == 0 { taken += 1 }
            }
        }
        guard taken <= pool.freeCount else { return false }
        // All cached blocks first: a new block could be one of them otherwise.
        for group in groups.indices {
            let extent = extent(ofGroup: group, tokens: tokens, hits: hits)
            tables[group].begin(at: extent.lowerBound)
            for hash in hashes[extent.lowerBound..<hits] {
                guard let id = pool.block(of: hash, group: group) else { break }
                pool.retain(id)
                tables[group].append(id)
            }
        }
        for group in groups.indices {
            let end = extent(ofGroup: group, tokens: tokens, hits: hits).upperBound
            while tables[group].end < end, let id = pool.allocate() { tables[group].append(id) }
        }
        return true
    }

    /// The entries with which a sequence begins in a group.
    private func extent(ofGroup index: Int, tokens: Int, hits: Int) -> Range<Int> {
        let group = groups[index]
        let first = group.firstEntry(at: hits * blockSize, blockSize: blockSize)
        let end = (tokens + blockSize - 1) / blockSize
        return first..<(end - first > group.mostEntries ? first + group.mostEntries : end)
    }

    /// Appends new blocks until the tables reach position `end`.
    ///
    /// - Returns: `false`, and nothing changed, if there are too few free blocks.
    mutating func grow(_ tables: inout [BlockTable], to end: Int) -> Bool {
        let end = (end + blockSize - 1) / blockSize
        let missing = tables.reduce(0) { $0 + max(0, end - $1.end) }
        guard missing <= pool.freeCount else { return false }
        for group in groups.indices {
            while tables[group].end < end, let id = pool.allocate() { tables[group].append(id) }
        }
        return true
    }

    /// Gives back what no row that starts at `position` or later sees.
    ///
    /// - Returns: whether there was any.
    @discardableResult
    mutating func trim(_ tables: inout [BlockTable], before position: Int) -> Bool {
        var trimmed = false
        for group in groups.indices where groups[group].window != nil {
            let first = groups[group].firstEntry(at: position, blockSize: blockSize)
            let count = min(first - tables[group].first, tables[group].ids.count)
            guard count > 0 else { continue }
            for id in tables[group].ids.prefix(count) { pool.release(id) }
            tables[group].dropFirst(count)
            trimmed = true
        }
        return trimmed
    }

    /// Gives all blocks of a sequence back, last ones first, so that the start of a prefix outlives its end; and the
    /// same entry of all groups together, because one is of little use without the others.
    mutating func release(_ tables: inout [BlockTable]) {
        var entry = tables.reduce(0) { max($0, $1.end) }
        while entry > 0 {
            entry -= 1
            for group in groups.indices {
                if let id = tables[group][entry] { pool.release(id) }
            }
        }
        for group in groups.indices { tables[group].removeAll() }
    }

    // MARK: - Prefix cache

    /// How many leading blocks of a sequence need not be computed: the most for which every group has what a row behind
    /// them sees. That is all of them without a window, and the last ones with one.
    func cachedBlocks(of hashes: ArraySlice<BlockHash>) -> Int {
        var count = hashes.count
        for group in groups.indices where groups[group].window == nil {
            var cached = 0
            while cached < count, pool.block(of: hashes[hashes.startIndex + cached], group: group) != nil {
                cached += 1
            }
            count = cached
        }
        // Walks back from the end of the prefix: a block that is missing there ends a shorter one.
        var entry = count
        while entry > 0 {
            entry -= 1
            var isSeen = false
            for group in groups.indices where groups[group].window != nil {
                guard entry >= groups[group].firstEntry(at: count * blockSize, blockSize: blockSize) else { continue }
                isSeen = true
                if pool.block(of: hashes[hashes.startIndex + entry], group: group) == nil {
                    count = entry
                    break
                }
            }
            guard isSeen else { break }
        }
        return count
    }

    /// Registers entry `entry` of a sequence's tables, which is full and written, under its hash.
    mutating func register(_ hash: BlockHash, entry: Int, of tables: [BlockTable]) {
        for group in groups.indices {
            if let id = tables[group][entry] { pool.register(id, as: hash, group: group) }
        }
    }

    /// Prefix blocks that became available and that went away since the last call. A block counts while the first group
    /// without a window has it, or the first group if all have one.
    mutating func takeChanges() -> (stored: [BlockHash], evicted: [BlockHash]) { pool.takeChanges() }
}
