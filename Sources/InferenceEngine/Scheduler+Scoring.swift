// Tandem — Apache-2.0

import Requests

/// Prompts from which nothing is generated: embeddings, labels, log-probabilities of the prompt itself.
///
/// They are packed whole into a step, as many as its tokens, slots and free blocks permit, and nothing of them is kept:
/// slot and blocks are free again as soon as the step is planned, since steps run in order. So they take no memory from
/// those that generate, push nothing out of the prefix cache, and need no slot beyond their step. Only a prompt longer
/// than what a step can take is computed in chunks, like any other.
///
/// A prefix that several of them share (an instruction, a query before many documents) is worth keeping: it enters the
/// prefix cache once a second prompt with it has come.
extension Scheduler {
    /// Plans prompts that are only scored, in order of priority and arrival; shorter ones overtake those that do not fit
    /// into what is left of the step.
    ///
    /// - Parameter preempts: whether paused sequences give way, which is for when those that generate had their turn.
    mutating func decideScoring(_ budget: inout Int, preempts: Bool = false) {
        var favours = favoursScoring
        var kept = keptForOthers(favours: favours)
        var misfits = 0
        var isFirst = true
        var index = scoring.count - 1
        while index >= 0, budget > 0, misfits < Self.mostMisfits {
            let handle = scoring[index]
            index -= 1
            // A preempted one first learns what came of its rows.
            guard sequences[handle].rowsInFlight == 0, !awaitsBlock(handle) else { continue }
            let work = sequences[handle].tokens.count - cachedBlocks(of: handle) * configuration.blockSize
            guard work <= budget || isFirst else {
                misfits += 1
                continue
            }
            sequences[handle].registrationLimit = sharedBlocks(of: handle)
            if favours, handle != scoring.last {
                favours = false
                kept = keptForOthers()
            }
            guard admit(handle, keeping: kept) else {
                guard preempts, let victim = pausedVictim() else { return }
                preempt(victim)
                running.removeAll { $0 == victim }
                kept = keptForOthers(favours: favours)
                index += 1
                continue
            }
            if favours {
                favours = false
                favouredStep = lastStep + 1
                kept = keptForOthers()
            }
            isFirst = false
            scoring.remove(at: index + 1)
            let count = min(sequences[handle].work, budget)
            // One that is handed over once the plan is written never becomes one of those that run.
            if !isHandedOverAfter(handle, count: count) {
                run(handle)
                kept = keptForOthers()
            }
            decide(handle, count: count, &budget)
        }
    }

    /// Whether the first scored prompt may take what the first sequence that generates waits for, since it came before
    /// it: at most every other step, so that each gets its turn.
    private var favoursScoring: Bool {
        guard let first = scoring.last, let other = waiting.last, favouredStep.map({ $0 < lastStep }) ?? true else {
            return false
        }
        return sequences[first].precedes(sequences[other])
    }

    /// Prompts that may be too long for what is left before the search ends.
    private static let mostMisfits = 32

    /// Gives slots and blocks of prompts back that the plan just written computes to their end.
    mutating func handOverScored() {
        for decision in decisions
        where sequences[decision.handle].isPrefillOnly && sequences[decision.handle].work == 0
            && isHandedOverAfter(decision.handle, count: 0)
        {
            let handle = decision.handle
            // A prompt in chunks was among those that run.
            running.removeAll { $0 == handle }
            releaseSlot(handle)
            cache.release(&sequences[handle].tables)
            sequences[handle].isHandedOver = true
            handedOverCount += 1
        }
    }

    /// Whether nothing of a prompt is kept once `count` more tokens are planned.
    private func isHandedOverAfter(_ handle: Int, count: Int) -> Bool {
        sequences[handle].work == count
            && sequences[handle].registeredBlocks
                >= min(
                    sequences[handle].registrationLimit, sequences[handle].hashes.count)
    }

    /// What must stay free for the first sequence of those that generate, so that a stream of scored prompts never keeps
    /// it out: the blocks that the first running prompt takes next, or all that the first waiting one needs, if they
    /// are there at all.
    ///
    /// - Parameter favours: whether the waiting one has to wait this time.
    private func keptForOthers(favours: Bool = false) -> (blocks: Int, slots: Int) {
        var blocks = 0
        if let first = running.first(where: { openWork(of: $0) > 0 }) {
            let tokens = min(openWork(of: first), configuration.tokensPerStep)
            blocks = (tokens / configuration.blockSize + 2) * cache.groupCount
        }
        guard !favours, let first = waiting.last else { return (blocks, 0) }
        let needed = cache.blocks(forSequenceOf: sequences[first].tokens.count)
        if needed <= cache.pool.freeCount {
            // And what it is asked to leave to those that run, of which there may be one more.
            let growing = running.count { sequences[$0].isActive } + 1
            blocks = max(blocks, min(needed + growing * cache.groupCount, cache.pool.freeCount))
        }
        return (blocks, 1)
    }

    /// How many leading blocks of a prompt others have too, so that they are worth keeping.
    private func sharedBlocks(of handle: Int) -> Int {
        guard configuration.prefixCaching else { return 0 }
        return sequences[handle].hashes.prefix { seenPrefixes.isShared($0) }.count
    }

    /// Remembers the prefixes of a prompt that has come.
    mutating func notePrefixes(of handle: Int) {
        guard configuration.prefixCaching, sequences[handle].isPrefillOnly else { return }
        extendHashes(of: handle)
        for hash in sequences[handle].hashes { seenPrefixes.note(hash) }
    }
}

/// Prefixes of prompts that were scored a while ago: a table in which a newer one takes an older one's place.
struct SeenPrefixes: Sendable {
    private struct Entry {
        var hash: BlockHash
        var isShared = false
    }

    private var table: [Entry?] = []
    private static let size = 4096

    /// Whether at least two prompts had the prefix.
    func isShared(_ hash: BlockHash) -> Bool {
        guard !table.isEmpty, let entry = table[Self.place(hash)] else { return false }
        return entry.hash == hash && entry.isShared
    }

    /// Notes that one more prompt has the prefix.
    mutating func note(_ hash: BlockHash) {
        if table.isEmpty { table = Array(repeating: nil, count: Self.size) }
        let place = Self.place(hash)
        table[place] = Entry(hash: hash, isShared: table[place]?.hash == hash)
    }

    private static func place(_ hash: BlockHash) -> Int { Int(hash.digest.low % UInt64(size)) }
}
