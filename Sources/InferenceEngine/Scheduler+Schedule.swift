// Tandem — Apache-2.0

import Requests

/// What the next step computes: one token budget, spent in passes. Each pass goes through sequences in order of priority
/// and arrival.
///
/// 1. Running sequences with one token to compute, that is, those that generate: long prompts never hold them up.
/// 2. Prompts from which nothing is generated, from half of what is left if others have prompts to compute too.
/// 3. Short prompts, from half of what is left: long prompts do not hold those up either.
/// 4. Running sequences with more to compute.
/// 5. Waiting sequences, as long as there are slots and blocks for the first of them.
///
/// Running sequences take the blocks they need from those behind them, waiting ones only what is free.
extension Scheduler {
    /// Plans the next step.
    ///
    /// - Parameters:
    ///   - plan: emptied, then filled.
    ///   - time: now, in nanoseconds of a monotonic clock; only what outputs say of times depends on it.
    /// - Returns: `false` if there is nothing to compute now, or as many steps as permitted are in flight.
    public mutating func schedule(into plan: inout StepPlan, at time: UInt64? = nil) -> Bool {
        plan.removeAll()
        self.time = time
        guard inFlight.count < (configuration.asynchronous ? 2 : 1) else { return false }
        decisions.removeAll(keepingCapacity: true)
        let preemptions = totals.preemptions
        var budget = configuration.tokensPerStep
        decideGenerating(&budget)
        decideDrafts(&budget)
        limitPromptTokens(&budget)
        let othersHavePrompts = !waiting.isEmpty || running.contains { openWork(of: $0) > 0 }
        if !scoring.isEmpty, totals.preemptions == preemptions {
            var share = othersHavePrompts ? budget / 2 : budget
            budget -= share
            decideScoring(&share)
            budget += share
        }
        decideShort(&budget, admits: totals.preemptions == preemptions)
        decidePrompts(&budget)
        if totals.preemptions != preemptions {
            decisions.removeAll { $0.count == 0 }
            running.removeAll { sequences[$0].slot == nil }
        }
        // What was just taken from a running sequence is not for one that waits, unless nothing else runs.
        if totals.preemptions == preemptions || decisions.isEmpty {
            decideWaiting(&budget)
            if othersHavePrompts || decisions.isEmpty || pausedVictim() != nil {
                decideScoring(&budget, preempts: true)
            }
        }
        guard !decisions.isEmpty else { return false }
        write(&plan)
        return true
    }

    // MARK: - Running sequences

    /// Tokens that a running sequence could compute in this step; 0 if it has its row already.
    func openWork(of handle: Int) -> Int {
        guard sequences[handle].isActive, sequences[handle].decidedStep <= lastStep, !sequences[handle].isDrafting,
            !awaitsDraft(handle)
        else {
            return 0
        }
        return sequences[handle].work
    }

    mutating func decide(_ handle: Int, count: Int, _ budget: inout Int) {
        decisions.append(Decision(handle: handle, count: count))
        sequences[handle].decidedStep = lastStep + 1
        budget -= count
    }

    private mutating func decideGenerating(_ budget: inout Int) {
        for handle in running where budget > 0 && openWork(of: handle) == 1 {
            guard makeRoom(for: handle, end: sequences[handle].computed + 1, &budget) else { continue }
            decide(handle, count: 1, &budget)
        }
    }

    /// Leaves so much of the budget beside tokens that are generated that the step should end in time.
    private func limitPromptTokens(_ budget: inout Int) {
        guard let tokenBudget else { return }
        let generating = decisions.count { $0.count > 0 }
        guard generating > 0 else { return }
        budget = min(budget, max(tokenBudget.range.lowerBound, tokenBudget.limit - generating))
    }

    private mutating func decidePrompts(_ budget: inout Int) {
        for handle in running {
            guard budget > 0 else { return }
            let work = openWork(of: handle)
            guard work > 0 else { continue }
            let count = min(work, budget)
            guard makeRoom(for: handle, end: sequences[handle].computed + count, &budget) else { continue }
            decide(handle, count: count, &budget)
        }
    }

    /// Gives a running sequence the blocks it needs, if need be from those behind it. The last in order has none behind
    /// it: it keeps what it has and waits until others end or take that too. The first always gets what it needs.
    ///
    /// - Parameter end: the position it computes up to.
    /// - Returns: whether it has them.
    private mutating func makeRoom(for handle: Int, end: Int, _ budget: inout Int) -> Bool {
        while !cache.grow(&sequences[handle].tables, to: end) {
            if trimRunning() { continue }
            let victim = pausedVictim() ?? running.last { sequences[$0].slot != nil }
            guard let victim, victim != handle else { return false }
            for index in decisions.indices where decisions[index].handle == victim {
                budget += decisions[index].count + decisions[index].draft.count
                decisions[index].count = 0
            }
            preempt(victim)
        }
        return true
    }

    /// Gives back what only steps in flight still see. It is otherwise kept until their results are there, when it can
    /// be registered in the prefix cache.
    ///
    /// - Returns: whether there was any.
    private mutating func trimRunning() -> Bool {
        var trimmed = false
        for handle in running where sequences[handle].slot != nil {
            let computed = sequences[handle].computed
            if cache.trim(&sequences[handle].tables, before: computed) { trimmed = true }
        }
        return trimmed
    }

    /// The last paused sequence that holds a slot.
    func pausedVictim() -> Int? {
        running.last { sequences[$0].slot != nil && sequences[$0].isPaused }
    }

    /// Takes slot and blocks from a running sequence. It stays in ``running``; the caller removes entries that have no
    /// slot.
    mutating func preempt(_ handle: Int) {
        releaseSlot(handle)
        cache.release(&sequences[handle].tables)
        sequences[handle].computed = 0
        sequences[handle].isDrafting = false
        sequences[handle].decidedStep = lastStep + 1
        totals.preemptions += 1
        if !sequences[handle].isPaused { enqueue(handle) }
    }

    // MARK: - Short prompts

    /// If the first prompt in order could take more than half of the budget, half of it is for prompts of the same
    /// priority behind it that are short enough to be done with in this step.
    ///
    /// They take nothing from those they overtake but tokens of this step: one that waits is admitted only if the first
    /// that it passes could still be.
    ///
    /// - Parameter admits: whether sequences that wait may be admitted.
    private mutating func decideShort(_ budget: inout Int, admits: Bool) {
        let runningFirst = running.first { openWork(of: $0) > 0 }
        guard let first = runningFirst ?? (admits ? firstAdmissible() : nil) else { return }
        var share = budget / 2
        guard sequences[first].work > budget - share else { return }
        let whole = share
        let priority = sequences[first].priority
        for handle in running where handle != first && sequences[handle].priority == priority {
            let work = openWork(of: handle)
            guard work > 0, work <= share else { continue }
            guard cache.grow(&sequences[handle].tables, to: sequences[handle].computed + work) else { continue }
            decide(handle, count: work, &share)
        }
        if admits { admitShort(&share, besides: first, priority: priority) }
        budget -= whole - share
    }

    private mutating func admitShort(_ share: inout Int, besides first: Int, priority: Int32) {
        // Blocks and slots that have to stay free for those passed over: for `first`, which gets its row in this step,
        // and for the one that is the first to wait then.
        var kept: (blocks: Int, slots: Int) = (0, 0)
        let most = waiting.last == first ? 2 : 1
        for index in waiting.indices.reversed() where share > 0 {
            let handle = waiting[index]
            guard sequences[handle].priority == priority else { return }
            if handle != first, sequences[handle].tokens.count <= share, sequences[handle].rowsInFlight == 0 {
                if awaitsBlock(handle) { continue }
                guard admit(handle, keeping: kept) else { return }
                waiting.remove(at: index)
                run(handle)
                decide(handle, count: sequences[handle].work, &share)
            } else if kept.slots < most {
                // Its own blocks, and one a group for the newcomer beside it.
                kept.blocks += cache.blocks(forSequenceOf: sequences[handle].tokens.count) + cache.groupCount
                kept.slots += 1
            }
        }
    }

    // MARK: - Waiting sequences

    /// The first waiting sequence that waits for nothing but its turn.
    private mutating func firstAdmissible() -> Int? {
        for handle in waiting.reversed() where !awaitsBlock(handle) { return handle }
        return nil
    }

    /// Gives slots and what is left of the budget to waiting sequences, strictly in order but for those that wait for
    /// blocks of a running one.
    private mutating func decideWaiting(_ budget: inout Int) {
        var index = waiting.count - 1
        while budget > 0, index >= 0 {
            let handle = waiting[index]
            // A preempted sequence first learns what it sampled before it lost its slot.
            guard sequences[handle].rowsInFlight == 0 else { return }
            if awaitsBlock(handle) {
                index -= 1
                continue
            }
            guard admit(handle, keeping: (0, 0)) else {
                guard let victim = pausedVictim() else { return }
                preempt(victim)
                running.removeAll { $0 == victim }
                continue
            }
            waiting.remove(at: index)
            index -= 1
            run(handle)
            decide(handle, count: min(sequences[handle].work, budget), &budget)
        }
    }

    /// Gives a waiting sequence a slot and blocks for its known tokens, cached ones where there are.
    ///
    /// Beside sequences that run, each of those must find another block a group when it needs one: else the newcomer
    /// would soon be preempted again, and computed again, and so on.
    ///
    /// - Parameter keeping: blocks and slots that must still be free afterwards.
    mutating func admit(_ handle: Int, keeping: (blocks: Int, slots: Int)) -> Bool {
        guard let slot = freeSlots.last, freeSlots.count > keeping.slots else { return false }
        let hits = cachedBlocks(of: handle)
        let growing = running.count { sequences[$0].slot != nil && !sequences[$0].isPaused }
        guard
            cache.begin(
                &sequences[handle].tables, tokens: sequences[handle].tokens.count, hits: hits,
                of: sequences[handle].hashes, sparing: keeping.blocks + growing * cache.groupCount)
        else { return false }
        freeSlots.removeLast()
        sequences[handle].reserveCapacity(blockSize: configuration.blockSize)
        sequences[handle].slot = slot
        sequences[handle].computed = hits * configuration.blockSize
        sequences[handle].registeredBlocks = hits
        claimBlocks(of: handle, from: hits)
        if sequences[handle].cachedPromptTokens == nil {
            let cached = min(sequences[handle].computed, sequences[handle].promptCount)
            sequences[handle].cachedPromptTokens = cached
            sequences[handle].firstScheduled = time
            totals.promptTokens += UInt64(sequences[handle].promptCount)
            totals.cachedPromptTokens += UInt64(cached)
        }
        return true
    }

    /// How many leading blocks of a waiting sequence need not be computed.
    mutating func cachedBlocks(of handle: Int) -> Int {
        guard configuration.prefixCaching else { return 0 }
        extendHashes(of: handle)
        guard !sequences[handle].needsWholePrompt else { return 0 }
        return cache.cachedBlocks(of: sequences[handle].hashes.prefix(mostCachedBlocks(of: handle)))
    }

    /// The last token is always computed: its row samples.
    func mostCachedBlocks(of handle: Int) -> Int {
        (sequences[handle].tokens.count - 1) / configuration.blockSize
    }

    mutating func extendHashes(of handle: Int) {
        let salt = sequences[handle].cacheSalt
        let (model, seed) = (configuration.modelFingerprint, configuration.hashSeed)
        sequences[handle].extendHashes(
            blockSize: configuration.blockSize, root: .root(model: model, salt: salt, seed: seed))
    }
}
