// Tandem — Apache-2.0

package import Requests

/// The blocks that were used last, as a guess at what an engine has cached that tells nothing of its cache.
package struct RecentBlocks: Sendable {
    private struct Node: Sendable {
        var hash: BlockHash
        /// Neighbours by time of use; ``none`` at the ends.
        var newer = none
        var older = none
    }

    /// A position in ``nodes``, counted from 1.
    private struct Position: Vacatable, Sendable {
        var rawValue: Int32
        static let vacant = Position(rawValue: 0)
        var isVacant: Bool { rawValue == 0 }
    }

    private static let none: Int32 = -1

    private var nodes: [Node] = []
    private var positions: BlockHashTable<Position>
    private var newest = none
    private var oldest = none
    private let capacity: Int

    /// - Parameter capacity: most blocks; one takes up to 72 bytes.
    package init(capacity: Int) {
        self.capacity = min(max(1, capacity), 1 << 24)
        // Twice what the entries need, so that there is always room.
        positions = BlockHashTable(maximumBytes: self.capacity * 4 * 24)
    }

    package var count: Int { nodes.count }

    /// Whether a block is among them.
    package func contains(_ hash: BlockHash) -> Bool { !positions[hash].isVacant }

    /// A block is used now.
    ///
    /// - Returns: the block that had to make room for it, if one had.
    package mutating func use(_ hash: BlockHash) -> BlockHash? {
        let position = positions[hash]
        if !position.isVacant {
            let index = position.rawValue - 1
            guard index != newest else { return nil }
            unlink(index)
            link(index)
            return nil
        }
        var evicted: BlockHash?
        let index: Int32
        if nodes.count < capacity {
            index = Int32(nodes.count)
            nodes.append(Node(hash: hash))
        } else {
            index = oldest
            let gone = nodes[Int(index)].hash
            evicted = gone
            positions.update(gone) { $0 = .vacant }
            unlink(index)
            nodes[Int(index)].hash = hash
        }
        positions.update(hash) { $0 = Position(rawValue: index + 1) }
        link(index)
        return evicted
    }

    private mutating func unlink(_ index: Int32) {
        let (newer, older) = (nodes[Int(index)].newer, nodes[Int(index)].older)
        if newer == Self.none { newest = older } else { nodes[Int(newer)].older = older }
        if older == Self.none { oldest = newer } else { nodes[Int(older)].newer = newer }
    }

    private mutating func link(_ index: Int32) {
        nodes[Int(index)].newer = Self.none
        nodes[Int(index)].older = newest
        if newest == Self.none { oldest = index } else { nodes[Int(newest)].newer = index }
        newest = index
    }
}
