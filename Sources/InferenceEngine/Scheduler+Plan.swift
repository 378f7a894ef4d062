// Tandem — Apache-2.0

import Requests

/// Writing decisions down as a plan, and remembering what was planned.
extension Scheduler {
    mutating func write(_ plan: inout StepPlan) {
        lastStep += 1
        plan.step = lastStep
        plan.removedSlots.append(contentsOf: removedSlots)
        var record = StepRecord(step: lastStep, rows: spareRows.popLast() ?? [], removedSlots: removedSlots)
        if !removedSlots.isEmpty { removedSlots.removeAll(keepingCapacity: true) }
        for decision in decisions {
            record.rows.append(writeRow(decision, &plan))
        }
        record.tokens = plan.tokens.count
        inFlight.append(record)
        if sequencesAreScored(in: record) { handOverScored() }
    }

    private mutating func writeRow(_ decision: Decision, _ plan: inout StepPlan) -> StepRecord.Row {
        let handle = decision.handle
        guard let slot = sequences[handle].slot else { preconditionFailure("a sequence without a slot was planned") }
        let isNew = !sequences[handle].slotAnnounced
        if isNew {
            plan.addedSlots.append(
                SlotAddition(
                    slot: slot, sampling: sequences[handle].sampling, adjustments: sequences[handle].adjustments))
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
        if !decision.draft.isEmpty {
            plan.tokens.append(contentsOf: sequences[handle].tokens[decision.draft])
            row.tokenCount += Int32(decision.draft.count)
            row.output.draftCount = Int32(decision.draft.count)
            sequences[handle].isDrafting = true
        }
        let samples = sequences[handle].samples(rowEnd: end)
        let reportsPrompt = sequences[handle].reportsPrompt(rowEnd: end)
        if samples {
            row.output.sample = true
            row.output.isConstrained = sequences[handle].matcher != nil
            row.output.logProbabilities = sequences[handle].logProbabilities
        }
        if reportsPrompt {
            row.output.promptLogProbabilities = sequences[handle].promptLogProbabilities
            if end < sequences[handle].promptCount { row.output.nextPromptToken = sequences[handle].tokens[end] }
        }
        let scores = sequences[handle].scoresPrompt && end == sequences[handle].promptCount
        if sequences[handle].scoresPrompt { writeScores(of: handle, isLast: scores, &row.output, &plan) }
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
            scores: scores,
            draft: decision.draft,
            isConstrained: row.output.isConstrained,
            isNew: isNew
        )
    }

    private func sequencesAreScored(in record: StepRecord) -> Bool {
        record.rows.contains { sequences[$0.handle].isPrefillOnly }
    }

    private func writeScores(of handle: Int, isLast: Bool, _ output: inout RowOutput, _ plan: inout StepPlan) {
        if isLast || sequences[handle].pooling == .mean { output.pooling = sequences[handle].pooling }
        guard isLast else { return }
        output.reportsPooled = output.pooling != nil
        output.labelCount = Int32(sequences[handle].labelTokens.count)
        output.labelOffset = Int32(plan.labels.count)
        plan.labels.append(contentsOf: sequences[handle].labelTokens)
    }

    private mutating func announceBlocks(of handle: Int, slot: SlotIndex, _ plan: inout StepPlan) {
        for group in 0..<cache.groupCount {
            let (first, ids) = sequences[handle].tables[group].unannounced
            guard !ids.isEmpty else { continue }
            plan.blockTableUpdates.append(
                BlockTableUpdate(
                    slot: slot,
                    group: Int32(group),
                    firstEntry: Int32(first),
                    offset: Int32(plan.blockIDs.count),
                    count: Int32(ids.count)
                )
            )
            plan.blockIDs.append(contentsOf: ids)
            sequences[handle].tables[group].announced = first + ids.count
        }
    }
}
