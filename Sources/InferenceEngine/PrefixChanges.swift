// Tandem — Apache-2.0

import Requests

/// What entered and left a prefix cache since somebody last asked: the net effect, so that a block that was stored and
/// evicted again in between does not show. It never holds more than two entries a block of the pool.
struct PrefixChanges: Sendable {
    private enum Change: Sendable {
        case stored
        case evicted
    }

    private var changes: [BlockHash: Change] = [:]

    var isEmpty: Bool { changes.isEmpty }

    mutating func reserveCapacity(_ count: Int) { changes.reserveCapacity(count) }

    mutating func noteStored(_ hash: BlockHash) {
        if changes[hash] == .evicted {
            changes[hash] = nil
        } else {
            changes[hash] = .stored
        }
    }

    mutating func noteEvicted(_ hash: BlockHash) {
        if changes[hash] == .stored {
            changes[hash] = nil
        } else {
            changes[hash] = .evicted
        }
    }

    mutating func take() -> (stored: [BlockHash], evicted: [BlockHash]) {
        var stored: [BlockHash] = []
        var evicted: [BlockHash] = []
        for (hash, change) in changes {
            if change == .stored { stored.append(hash) } else { evicted.append(hash) }
        }
        changes.removeAll(keepingCapacity: true)
        return (stored, evicted)
    }
}
