// Tandem — Apache-2.0

import InferenceEngine
import Requests
import VirtualDevice

extension HashCache {
    /// Runs a plan's rows, which were applied before.
    mutating func run(
        _ plan: StepPlan, masks: TokenMasks?, model: HashModel, width: Int, into result: inout StepResult
    ) {
        result.removeAll()
        result.step = plan.step
        for row in plan.rows { run(row, plan, masks, model, width, into: &result) }
    }

    private mutating func run(
        _ row: StepRow, _ plan: StepPlan, _ masks: TokenMasks?, _ model: HashModel, _ width: Int,
        into result: inout StepResult
    ) {
        let index = Int(row.slot)
        guard let slot = slots[index] else { return }
        let (start, end) = (Int(row.startPosition), Int(row.startPosition + row.tokenCount))
        if row.output.pooling == .mean {
            for position in start..<end {
                pool(model, width: width, slot: index, position: position, digest: digest(slot, at: position))
            }
        }
        guard row.output.expectsResult else { return }
        var output = RowResult(slot: row.slot)
        if let count = row.output.promptLogProbabilities {
            output.prompt = prompt(row, plan, slot, model, count, into: &result)
        }
        if row.output.sample {
            let drafted = Int(row.output.draftCount)
            for place in 0...drafted {
                let position = end - drafted - 1 + place
                let chosen = choose(row, slot, model, masks, after: position, into: &result)
                if place == 0 {
                    output.token = chosen.token
                    output.logProbability = chosen.logProbability
                    output.top = chosen.top
                    output.further = result.further.count..<result.further.count + drafted
                    sampled(drafted == 0 ? chosen.token : nil, slot: row.slot, step: plan.step)
                } else {
                    result.further.append(chosen)
                }
            }
        }
        if row.output.labelCount > 0 {
            let first = result.labels.count
            let last = digest(slot, at: end - 1)
            for label in 0..<Int(row.output.labelCount) {
                result.labels.append(
                    model.logProbability(of: plan.labels[Int(row.output.labelOffset) + label], last))
            }
            output.labels = first..<result.labels.count
        }
        if row.output.reportsPooled { output.pooled = pooled(row, slot, model, width, end, into: &result) }
        result.rows.append(output)
    }

    private func choose(
        _ row: StepRow, _ slot: Slot, _ model: HashModel, _ masks: TokenMasks?, after position: Int,
        into result: inout StepResult
    ) -> SampledToken {
        let digest = digest(slot, at: position)
        var token: TokenID?
        if row.output.isConstrained, let masks, let place = masks.slots.firstIndex(of: row.slot) {
            let first = place * masks.wordsPerSlot
            token = model.next(
                digest, sampling: slot.sampling, position: position + 1,
                mask: masks.words[first..<first + masks.wordsPerSlot])
        }
        var chosen = SampledToken(
            token: token
                ?? model.next(
                    digest, sampling: slot.sampling, adjustments: slot.adjustments, position: position + 1))
        if let count = row.output.logProbabilities {
            chosen.logProbability = model.logProbability(of: chosen.token, digest)
            let first = result.top.count
            for rank in 0..<count { result.top.append(likeliest(rank, model, digest)) }
            chosen.top = first..<result.top.count
        }
        return chosen
    }

    private func likeliest(_ rank: Int, _ model: HashModel, _ digest: UInt64) -> TokenLogProbability {
        let token = model.token(ofRank: rank, digest)
        return TokenLogProbability(token: token, logProbability: model.logProbability(of: token, digest))
    }

    private func prompt(
        _ row: StepRow, _ plan: StepPlan, _ slot: Slot, _ model: HashModel, _ count: Int,
        into result: inout StepResult
    ) -> Range<Int> {
        let first = result.prompt.count
        for offset in 0..<Int(row.tokenCount) {
            let isLast = offset == Int(row.tokenCount) - 1
            guard
                let target = isLast
                    ? row.output.nextPromptToken : plan.tokens[Int(row.tokenOffset) + offset + 1]
            else { break }
            let digest = digest(slot, at: Int(row.startPosition) + offset)
            let top = result.promptTop.count
            for rank in 0..<count { result.promptTop.append(likeliest(rank, model, digest)) }
            result.prompt.append(
                PromptLogProbability(
                    chosen: TokenLogProbability(
                        token: target, logProbability: model.logProbability(of: target, digest)),
                    top: top..<result.promptTop.count))
        }
        return first..<result.prompt.count
    }

    private func pooled(
        _ row: StepRow, _ slot: Slot, _ model: HashModel, _ width: Int, _ end: Int, into result: inout StepResult
    ) -> Range<Int> {
        let first = result.pooled.count
        switch row.output.pooling {
        case .mean:
            guard let slot = slots[Int(row.slot)] else { break }
            for value in slot.pooled { result.pooled.append(value / Float(max(1, slot.pooledCount))) }
        case .last:
            let last = digest(slot, at: end - 1)
            for place in 0..<width { result.pooled.append(model.feature(last, place)) }
        case nil: break
        }
        return first..<result.pooled.count
    }
}

extension StepPlan {
    /// What the plan computes, for the device's time. A row of several tokens is a piece of a prompt unless all but its
    /// first are guesses; a piece's attention to what came before it is not counted.
    var work: StepWork {
        var work = StepWork()
        var (seen, length) = (0.0, 0.0)
        for row in rows {
            let count = Double(row.tokenCount)
            if row.tokenCount == 1 || (row.output.sample && row.tokenCount == row.output.draftCount + 1) {
                work.decoding += count
                seen += count * Double(row.startPosition + row.tokenCount)
            } else {
                work.prompts += 1
                length += count
            }
        }
        if work.decoding > 0 { work.context = seen / work.decoding }
        if work.prompts > 0 { work.promptLength = length / work.prompts }
        return work
    }

    /// Becomes the same plan, in memory of its own.
    mutating func take(_ other: StepPlan) {
        removeAll()
        step = other.step
        removedSlots.append(contentsOf: other.removedSlots)
        addedSlots.append(contentsOf: other.addedSlots)
        blockTableUpdates.append(contentsOf: other.blockTableUpdates)
        blockIDs.append(contentsOf: other.blockIDs)
        blockCopies.append(contentsOf: other.blockCopies)
        rows.append(contentsOf: other.rows)
        tokens.append(contentsOf: other.tokens)
        labels.append(contentsOf: other.labels)
    }
}
