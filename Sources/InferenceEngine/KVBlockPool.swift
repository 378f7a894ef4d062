// Tandem — Apache-2.0

public import Requests

/// The KV blocks that all groups share: which are free, who shares them and which prefixes they hold.
///
/// A block holds the keys and values of one group's layers. Blocks of all groups have the same size, so that a free
/// block serves any group. A block that is released keeps its contents; if it is registered it can be taken again by
/// ``retain(_:)`` until ``allocate()`` needs its memory. Free blocks are reused in this order: those that hold nothing
/// of use, then the least recently used.
public struct KVBlockPool: Sendable {
    private struct Block: Sendable {
        var references: Int32 = 0
        /// Neighbours in the free list, while the block is free.
        var previous: KVBlockID = KVBlockPool.none
        var next: KVBlockID = KVBlockPool.none
        var contents: Contents?
    }

    /// What a registered block holds: one group's keys and values of the block that ends a prefix.
    private struct Contents: Hashable, Sendable {
        var hash: BlockHash
        var group: Int
    }

    private static let none: KVBlockID = -1

    private var blocks: [Block]
    private var head: KVBlockID = KVBlockPool.none
    private var tail: KVBlockID = KVBlockPool.none
    private var cached: [Contents: KVBlockID] = [:]
    private let reportedGroup: Int
    private var changes = PrefixChanges()

    /// Blocks that nobody refers to, cached ones included.
    public private(set) var freeCount = 0

    /// - Parameters:
    ///   - blockCount: ids are `0 ..< blockCount`.
    ///   - reportedGroup: the group whose prefixes ``takeChanges()`` speaks of.
    public init(blockCount: Int, reportedGroup: Int = 0) {
        self.reportedGroup = reportedGroup
        blocks = Array(repeating: Block(), count: max(0, blockCount))
        for id in blocks.indices { appendFree(KVBlockID(id)) }
        // All they will ever need, so that no step allocates.
        cached.reserveCapacity(blocks.count)
        changes.reserveCapacity(blocks.count)
    }

    public var blockCount: Int { blocks.count }
    public var usedCount: Int { blocks.count - freeCount }
    /// Registered blocks, free ones included.
    public var cachedCount: Int { cached.count }

    /// Takes a free block for new contents, with one reference; what it held leaves the prefix cache.
    ///
    /// - Returns: `nil` if every block is in use.
    public mutating func allocate() -> KVBlockID? {
        guard head != Self.none else { return nil }
        let id = head
        unlink(id)
        if let contents = blocks[Int(id)].contents {
            cached[contents] = nil
            blocks[Int(id)].contents = nil
            if contents.group == reportedGroup { changes.noteEvicted(contents.hash) }
        }
        blocks[Int(id)].references = 1
        return id
    }

    /// Adds a reference to a block in use, or takes a free block with the contents it still has.
    public mutating func retain(_ id: KVBlockID) {
        if blocks[Int(id)].references == 0 { unlink(id) }
        blocks[Int(id)].references += 1
    }

    /// Gives a reference back; the last one frees the block.
    public mutating func release(_ id: KVBlockID) {
        precondition(blocks[Int(id)].references > 0, "KV block \(id) was released more often than taken")
        blocks[Int(id)].references -= 1
        guard blocks[Int(id)].references == 0 else { return }
        if blocks[Int(id)].contents == nil {
            prependFree(id)
        } else {
            appendFree(id)
        }
    }

    public func references(to id: KVBlockID) -> Int { Int(blocks[Int(id)].references) }

    // MARK: - Prefix cache

    /// The block that holds this group's part of the prefix's last block.
    public func block(of hash: BlockHash, group: Int = 0) -> KVBlockID? {
        cached[Contents(hash: hash, group: group)]
    }

    /// Registers a full block in use. If another block is registered for the same prefix and group that one stays.
    public mutating func register(_ id: KVBlockID, as hash: BlockHash, group: Int = 0) {
        let contents = Contents(hash: hash, group: group)
        guard cached[contents] == nil, blocks[Int(id)].contents == nil else { return }
        cached[contents] = id
        blocks[Int(id)].contents = contents
        if group == reportedGroup { changes.noteStored(hash) }
    }

    /// Net changes since the last call of the prefixes that the reported group holds.
    public mutating func takeChanges() -> (stored: [BlockHash], evicted: [BlockHash]) { changes.take() }

    // MARK: - Free list

    private mutating func unlink(_ id: KVBlockID) {
        let previous = blocks[Int(id)].previous
        let next = blocks[Int(id)].next
        if previous == Self.none { head = next } else { blocks[Int(previous)].next = next }
        if next == Self.none { tail = previous } else { blocks[Int(next)].previous = previous }
        blocks[Int(id)].previous = Self.none
        blocks[Int(id)].next = Self.none
        freeCount -= 1
    }

    private mutating func appendFree(_ id: KVBlockID) {
        blocks[Int(id)].previous = tail
        blocks[Int(id)].next = Self.none
        if tail == Self.none { head = id } else { blocks[Int(tail)].next = id }
        tail = id
        freeCount += 1
    }

    private mutating func prependFree(_ id: KVBlockID) {
        blocks[Int(id)].next = head
        blocks[Int(id)].previous = Self.none
        if head == Self.none { tail = id } else { blocks[Int(head)].previous = id }
        head = id
        freeCount += 1
    }

    // MARK: - Self-check

    /// What is wrong with the pool's own books; empty if nothing is. Walks all blocks.
    public func violations() -> [String] {
        var found: [String] = []
        var onList = 0
        var previous = Self.none
        var id = head
        while id != Self.none, onList <= blocks.count {
            let block = blocks[Int(id)]
            if block.references != 0 {
                found.append("block \(id) is on the free list with \(block.references) references")
            }
            if block.previous != previous { found.append("block \(id) has a wrong neighbour") }
            onList += 1
            previous = id
            id = block.next
        }
        if previous != tail { found.append("the free list ends at \(previous), not at \(tail)") }
        if onList != freeCount { found.append("\(onList) blocks on the free list, \(freeCount) counted") }
        let unused = blocks.count { $0.references == 0 }
        if unused != freeCount { found.append("\(unused) blocks without references, \(freeCount) counted") }
        for (contents, id) in cached where blocks[Int(id)].contents != contents {
            found.append("block \(id) is registered for contents that it does not have")
        }
        let full = blocks.count { $0.contents != nil }
        if full != cached.count { found.append("\(full) blocks have contents, \(cached.count) are registered") }
        return found
    }
}
