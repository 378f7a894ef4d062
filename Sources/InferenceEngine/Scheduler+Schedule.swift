// Tandem — Apache-2.0

import Requests

extension Scheduler {
    /// Plans the next step.
    ///
    /// - Parameter plan: emptied, then filled.
    /// - Returns: `false` if there is nothing to compute now, or as many steps as permitted are in flight.
    public mutating func schedule(into plan: inout StepPlan) -> Bool {
        plan.removeAll()
        guard inFlight.count < (configuration.asynchronous ? 2 : 1) else { return false }
        decisions.removeAll(keepingCapacity: true)
        var budget = configuration.tokensPerStep
        let preempted = decideRunning(&budget)
        // What was just taken from a running sequence is not for one that waits, unless nothing else runs.
        if !preempted || decisions.isEmpty { decideWaiting(&budget) }
        guard !decisions.isEmpty else { return false }
        write(&plan)
        return true
    }

    // MARK: - Decisions

    /// Spends the budget on running sequences: first those that have one token to compute, so that long prompts never
    /// hold them up, then the others.
    ///
    /// - Returns: whether a sequence was preempted.
    private mutating func decideRunning(_ budget: inout Int) -> Bool {
        let preemptions = totals.preemptions
        for generating in [true, false] {
            for handle in running {
                guard budget > 0 else { break }
                guard sequences[handle].slot != nil, !sequences[handle].isPaused else { continue }
                let work = sequences[handle].work
                guard work > 0, (work == 1) == generating else { continue }
                let count = min(work, budget)
                guard makeRoom(for: handle, positions: sequences[handle].computed + count, &budget) else { continue }
                decisions.append(Decision(handle: handle, count: count))
                budget -= count
            }
        }
        guard totals.preemptions != preemptions else { return false }
        decisions.removeAll { $0.count == 0 }
        running.removeAll { sequences[$0].slot == nil }
        return true
    }

    /// Gives a running sequence the blocks it needs, if need be from others.
    ///
    /// - Returns: `false` if the sequence itself was the one to be preempted.
    private mutating func makeRoom(for handle: Int, positions: Int, _ budget: inout Int) -> Bool {
        let blocks = cache.blocks(forTokens: positions)
        while !cache.grow(&sequences[handle].tables, toBlocks: blocks) {
            guard let victim = pausedVictim() ?? running.last(where: { sequences[$0].slot != nil }) else {
                return false
            }
            for index in decisions.indices where decisions[index].handle == victim {
                budget += decisions[index].count
                decisions[index].count = 0
            }
            preempt(victim)
            if victim == handle { return false }
        }
        return true
    }

    /// The last paused sequence that holds a slot.
    private func pausedVictim() -> Int? {
        running.last { sequences[$0].slot != nil && sequences[$0].isPaused }
    }

    /// Takes slot and blocks from a running sequence. It stays in ``running``; the caller removes entries that have no
    /// slot.
    mutating func preempt(_ handle: Int) {
        releaseSlot(handle)
        cache.release(&sequences[handle].tables)
        sequences[handle].computed = 0
        totals.preemptions += 1
        if !sequences[handle].isPaused { enqueue(handle) }
    }

    /// Gives slots and what is left of the budget to waiting sequences, strictly in order.
    private mutating func decideWaiting(_ budget: inout Int) {
        while budget > 0, let handle = waiting.last {
            // A preempted sequence first learns what it sampled before it lost its slot.
            guard sequences[handle].rowsInFlight == 0 else { return }
            guard admit(handle) else {
                guard let victim = pausedVictim() else { return }
                preempt(victim)
                running.removeAll { $0 == victim }
                continue
            }
            waiting.removeLast()
            run(handle)
            let count = min(sequences[handle].work, budget)
            decisions.append(Decision(handle: handle, count: count))
            budget -= count
        }
    }

    /// Gives a waiting sequence a slot and blocks for all its known tokens, cached ones where there are.
    private mutating func admit(_ handle: Int) -> Bool {
        guard let slot = freeSlots.last else { return false }
        let blocks = cache.blocks(forTokens: sequences[handle].tokens.count)
        var hits = 0
        if configuration.prefixCaching {
            extendHashes(of: handle)
            if sequences[handle].promptLogProbabilities == nil {
                // The last token is always computed: its row samples.
                let most = (sequences[handle].tokens.count - 1) / configuration.blockSize
                hits = cache.cachedBlocks(of: sequences[handle].hashes.prefix(most))
            }
        }
        let prefix = sequences[handle].hashes.prefix(hits)
        guard cache.canTake(prefix: prefix, blocks: blocks) else { return false }
        cache.take(prefix: prefix, into: &sequences[handle].tables)
        guard cache.grow(&sequences[handle].tables, toBlocks: blocks) else {
            cache.release(&sequences[handle].tables)
            return false
        }
        freeSlots.removeLast()
        sequences[handle].reserveCapacity(blockSize: configuration.blockSize)
        sequences[handle].slot = slot
        sequences[handle].computed = hits * configuration.blockSize
        sequences[handle].registeredBlocks = hits
        if sequences[handle].cachedPromptTokens == nil {
            let cached = min(sequences[handle].computed, sequences[handle].promptCount)
            sequences[handle].cachedPromptTokens = cached
            totals.promptTokens += UInt64(sequences[handle].promptCount)
            totals.cachedPromptTokens += UInt64(cached)
        }
        return true
    }

    mutating func extendHashes(of handle: Int) {
        let salt = sequences[handle].cacheSalt
        let (model, seed) = (configuration.modelFingerprint, configuration.hashSeed)
        sequences[handle].extendHashes(
            blockSize: configuration.blockSize, root: .root(model: model, salt: salt, seed: seed))
    }

    // MARK: - The plan

    private mutating func write(_ plan: inout StepPlan) {
        lastStep += 1
        plan.step = lastStep
        plan.removedSlots.append(contentsOf: removedSlots)
        var record = StepRecord(step: lastStep, rows: spareRows.popLast() ?? [], removedSlots: removedSlots)
        if !removedSlots.isEmpty { removedSlots.removeAll(keepingCapacity: true) }
        for decision in decisions {
            record.rows.append(writeRow(decision, &plan))
        }
        inFlight.append(record)
    }

    private mutating func writeRow(_ decision: Decision, _ plan: inout StepPlan) -> StepRecord.Row {
        let handle = decision.handle
        guard let slot = sequences[handle].slot else { preconditionFailure("a sequence without a slot was planned") }
        let isNew = !sequences[handle].slotAnnounced
        if isNew {
            plan.addedSlots.append(SlotAddition(slot: slot, sampling: sequences[handle].sampling))
            sequences[handle].slotAnnounced = true
        }
        announceBlocks(of: handle, slot: slot, &plan)

        let start = sequences[handle].computed
        let end = start + decision.count
        let known = sequences[handle].tokens.count
        var row = StepRow(
            slot: slot,
            tokenOffset: Int32(plan.tokens.count),
            tokenCount: Int32(decision.count),
            startPosition: Int32(start)
        )
        if start < known {
            plan.tokens.append(contentsOf: sequences[handle].tokens[start..<end])
        } else {
            row.firstToken = .sampled(step: sequences[handle].lastSampledStep)
            plan.tokens.append(0)
        }
        let samples = sequences[handle].samples(rowEnd: end)
        let reportsPrompt = sequences[handle].reportsPrompt(rowEnd: end)
        if samples {
            row.output.sample = true
            row.output.logProbabilities = sequences[handle].logProbabilities
        }
        if reportsPrompt {
            row.output.promptLogProbabilities = sequences[handle].promptLogProbabilities
            if end < sequences[handle].promptCount { row.output.nextPromptToken = sequences[handle].tokens[end] }
        }
        plan.rows.append(row)

        sequences[handle].computed = end
        sequences[handle].rowsInFlight += 1
        if samples {
            sequences[handle].pending += 1
            sequences[handle].lastSampledStep = plan.step
            if sequences[handle].credits != UInt32.max { sequences[handle].credits -= 1 }
        }
        return StepRecord.Row(
            handle: handle,
            arrival: sequences[handle].arrival,
            slot: slot,
            end: end,
            samples: samples,
            firstPromptTarget: reportsPrompt ? start + 1 : nil,
            isNew: isNew
        )
    }

    private mutating func announceBlocks(of handle: Int, slot: SlotIndex, _ plan: inout StepPlan) {
        let first = sequences[handle].announcedEntries
        for group in cache.pools.indices {
            let new = sequences[handle].tables[group].dropFirst(first)
            guard !new.isEmpty else { continue }
            plan.blockTableUpdates.append(
                BlockTableUpdate(
                    slot: slot,
                    group: Int32(group),
                    firstEntry: Int32(first),
                    offset: Int32(plan.blockIDs.count),
                    count: Int32(new.count)
                )
            )
            plan.blockIDs.append(contentsOf: new)
        }
        sequences[handle].announcedEntries = sequences[handle].tables.first?.count ?? 0
    }
}
