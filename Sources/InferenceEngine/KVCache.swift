// Tandem — Apache-2.0

import Requests

/// The block pools of all KV groups, used in step: entry `i` of a sequence's table covers the same positions in every
/// group. A group with a sliding window keeps the blocks behind its window too.
struct KVCache: Sendable {
    let blockSize: Int
    private(set) var pools: [KVBlockPool]

    init(blockSize: Int, blockCounts: [Int]) {
        self.blockSize = blockSize
        pools = blockCounts.map { KVBlockPool(blockCount: $0) }
    }

    var totalBlocks: Int { pools.reduce(0) { $0 + $1.blockCount } }
    var usedBlocks: Int { pools.reduce(0) { $0 + $1.usedCount } }
    /// Most positions that one sequence can have if it has all pools for itself.
    var capacityInTokens: Int { (pools.map(\.blockCount).min() ?? 0) * blockSize }

    func blocks(forTokens count: Int) -> Int { (count + blockSize - 1) / blockSize }

    /// One empty table a group.
    func emptyTables() -> [[KVBlockID]] { Array(repeating: [], count: pools.count) }

    /// Appends new blocks until every table has `count` entries.
    ///
    /// - Returns: `false`, and nothing changed, if a pool has too few free blocks.
    mutating func grow(_ tables: inout [[KVBlockID]], toBlocks count: Int) -> Bool {
        for group in pools.indices where count - tables[group].count > pools[group].freeCount { return false }
        for group in pools.indices {
            while tables[group].count < count, let id = pools[group].allocate() { tables[group].append(id) }
        }
        return true
    }

    /// Releases all blocks of a sequence, last ones first, so that the start of a prefix outlives its end.
    mutating func release(_ tables: inout [[KVBlockID]]) {
        for group in pools.indices {
            for id in tables[group].reversed() { pools[group].release(id) }
            tables[group].removeAll(keepingCapacity: true)
        }
    }

    // MARK: - Prefix cache

    /// How many of the leading blocks are cached in every group.
    func cachedBlocks(of hashes: some RandomAccessCollection<BlockHash>) -> Int {
        var count = 0
        for hash in hashes {
            for pool in pools where pool.block(of: hash) == nil { return count }
            count += 1
        }
        return count
    }

    /// Whether tables of `count` blocks can be had when they start with the cached blocks of `prefix`.
    func canTake(prefix: some RandomAccessCollection<BlockHash>, blocks count: Int) -> Bool {
        for pool in pools {
            var available = pool.freeCount
            if available < count - prefix.count { return false }
            for hash in prefix {
                if let id = pool.block(of: hash), pool.references(to: id) == 0 { available -= 1 }
            }
            if available < count - prefix.count { return false }
        }
        return true
    }

    /// Shares the cached blocks of `prefix`; the tables are empty before.
    mutating func take(prefix: some RandomAccessCollection<BlockHash>, into tables: inout [[KVBlockID]]) {
        for group in pools.indices {
            for hash in prefix {
                guard let id = pools[group].block(of: hash) else { break }
                pools[group].retain(id)
                tables[group].append(id)
            }
        }
    }

    /// Registers entry `entry` of a sequence's tables, which is full and written, under its hash.
    mutating func register(_ hash: BlockHash, entry: Int, of tables: [[KVBlockID]]) {
        for group in pools.indices { pools[group].register(tables[group][entry], as: hash) }
    }

    /// Net changes since the last call, of the first group: a prefix is only of use if all groups have it, and they
    /// store alike.
    mutating func takeChanges() -> (stored: [BlockHash], evicted: [BlockHash]) {
        for group in pools.indices.dropFirst() { _ = pools[group].takeChanges() }
        guard !pools.isEmpty else { return ([], []) }
        return pools[0].takeChanges()
    }
}
