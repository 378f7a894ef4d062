// Tandem — Apache-2.0

import Requests

/// A block that another sequence is about to compute.
struct AwaitedBlock: Sendable, Equatable {
    var owner: Int
    /// Which sequence the handle named.
    var arrival: UInt64
    /// Index of the block in both sequences.
    var entry: Int
}

/// Prefixes that are being computed: the choices of one request, or requests with the same long beginning, that arrive
/// together would each compute what the prefix cache does not hold yet. All but the first wait until it does, if at
/// least half of what they have to compute is in that prefix.
///
/// Whoever waits does so only for sequences before it in order, and only while the owner of the block runs: a sequence
/// that is paused, preempted or ended gives its claims up, and the next one computes the prefix.
extension Scheduler {
    /// Whether a waiting sequence had better not run in this step.
    mutating func awaitsBlock(_ handle: Int) -> Bool {
        guard configuration.prefixCaching, !claims.isEmpty else { return false }
        if let awaited = sequences[handle].awaited {
            if isComing(awaited) { return true }
            sequences[handle].awaited = nil
        }
        let hits = cachedBlocks(of: handle)
        guard !sequences[handle].needsWholePrompt, hits < mostCachedBlocks(of: handle),
            let owner = claims[sequences[handle].hashes[hits]], owner != handle, sequences[owner].isActive,
            sequences[owner].registeredBlocks <= hits, sequences[owner].precedes(sequences[handle])
        else { return false }
        var shared = hits
        while shared < mostCachedBlocks(of: handle), claims[sequences[handle].hashes[shared]] == owner { shared += 1 }
        let work = sequences[handle].tokens.count - hits * configuration.blockSize
        guard 2 * (shared - hits) * configuration.blockSize >= work else { return false }
        sequences[handle].awaited = AwaitedBlock(owner: owner, arrival: sequences[owner].arrival, entry: hits)
        return true
    }

    private func isComing(_ block: AwaitedBlock) -> Bool {
        let owner = sequences[block.owner]
        return owner.arrival == block.arrival && owner.isActive && owner.registeredBlocks <= block.entry
    }

    /// Tells others which full blocks of known tokens a sequence that was just admitted will compute and register.
    mutating func claimBlocks(of handle: Int, from hits: Int) {
        guard configuration.prefixCaching else { return }
        let end = min(sequences[handle].hashes.count, sequences[handle].registrationLimit)
        guard hits < end else { return }
        sequences[handle].claimed = hits..<end
        for entry in hits..<end where claims[sequences[handle].hashes[entry]] == nil {
            claims[sequences[handle].hashes[entry]] = handle
        }
    }

    /// Nobody need wait for a sequence any more, because its blocks are registered or will not be.
    mutating func dropClaims(of handle: Int) {
        for entry in sequences[handle].claimed where claims[sequences[handle].hashes[entry]] == handle {
            claims[sequences[handle].hashes[entry]] = nil
        }
        sequences[handle].claimed = 0..<0
    }
}
