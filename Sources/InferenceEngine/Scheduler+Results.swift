// Tandem — Apache-2.0

import Grammar
public import Requests

extension Scheduler {
    /// Tells how long the oldest step in flight took, from the end of the one before it if that was later than its
    /// start; called before the result is taken. What is planned later depends on it, what is generated does not.
    public mutating func firstStepTook(nanoseconds: UInt64) {
        guard let record = inFlight.first else { return }
        tokenBudget?.stepTook(nanoseconds: nanoseconds, tokens: record.tokens)
    }

    /// Takes the result of the oldest step in flight: appends sampled tokens, ends sequences, registers full blocks.
    ///
    /// - Parameters:
    ///   - outputs: what is new of each sequence is appended.
    ///   - time: now, in nanoseconds of the clock that ``schedule(into:at:)`` gets.
    /// - Throws: ``ExecutorError`` of kind ``ExecutorError/Kind/fatal`` if the result does not fit the plan; nothing
    ///   changed then.
    public mutating func finish(
        _ result: StepResult, into outputs: inout [SequenceOutput], at time: UInt64? = nil
    ) throws(ExecutorError) {
        try check(result)
        self.time = time
        var record = inFlight.removeFirst()
        totals.steps += 1
        totals.stepSizes.add(tokens: record.tokens)
        var next = 0
        for row in record.rows {
            let rowResult = row.expectsResult ? result.rows[next] : nil
            if row.expectsResult { next += 1 }
            guard sequences[row.handle].arrival == row.arrival else { continue }
            if let output = apply(row, rowResult, result) { outputs.append(output) }
        }
        record.rows.removeAll(keepingCapacity: true)
        spareRows.append(record.rows)
    }

    private func check(_ result: StepResult) throws(ExecutorError) {
        func fatal(_ message: String) -> ExecutorError { ExecutorError(kind: .fatal, message: message) }
        guard let record = inFlight.first, record.step == result.step else {
            throw fatal("the executor returned step \(result.step), expected \(inFlight.first?.step ?? 0)")
        }
        var next = result.rows.startIndex
        for row in record.rows where row.expectsResult {
            guard next < result.rows.endIndex, result.rows[next].slot == row.slot else {
                throw fatal("the executor's result of step \(result.step) lacks the row of slot \(row.slot)")
            }
            let entry = result.rows[next]
            guard (entry.token != nil) == row.samples else {
                throw fatal(
                    "the executor's row of slot \(row.slot) in step \(result.step) has no token or one too many")
            }
            guard entry.further.count == row.draft.count, entry.further.upperBound <= result.further.count,
                result.further[entry.further].allSatisfy({ $0.top.upperBound <= result.top.count })
            else {
                throw fatal(
                    "the executor's row of slot \(row.slot) in step \(result.step) lacks tokens behind its guesses")
            }
            guard entry.top.upperBound <= result.top.count, entry.prompt.upperBound <= result.prompt.count,
                result.prompt[entry.prompt].allSatisfy({ $0.top.upperBound <= result.promptTop.count }),
                entry.pooled.upperBound <= result.pooled.count, entry.labels.upperBound <= result.labels.count
            else {
                throw fatal("the executor's row of slot \(row.slot) in step \(result.step) points outside the result")
            }
            next += 1
        }
    }

    private mutating func apply(
        _ row: StepRecord.Row, _ rowResult: RowResult?, _ result: StepResult
    ) -> SequenceOutput? {
        let handle = row.handle
        var output = SequenceOutput(id: sequences[handle].id)
        sequences[handle].rowsInFlight -= 1
        var accepted = 0
        if row.samples, let token = rowResult?.token, let rowResult {
            sequences[handle].pending -= 1
            append(token, rowResult.logProbability, Array(result.top[rowResult.top]), to: handle, &output)
            if let failure = advanceGrammar(of: handle, by: token) {
                return retire(handle, finish: .failed, failure: failure)
            }
            accepted = acceptDraft(row, rowResult, result, into: &output)
            lookForDraft(of: handle)
        }
        if let first = row.firstPromptTarget, let rowResult {
            let already = max(0, sequences[handle].promptReported - first)
            for entry in result.prompt[rowResult.prompt].dropFirst(already) {
                output.promptLogProbabilities.append(
                    PositionLogProbabilities(
                        chosen: entry.chosen, top: Array(result.promptTop[entry.top]), rank: entry.rank)
                )
            }
            sequences[handle].promptReported += output.promptLogProbabilities.count
        }
        if row.scores, let rowResult {
            output.score = PromptScore(
                labels: Array(result.labels[rowResult.labels]), pooled: Array(result.pooled[rowResult.pooled]))
        }
        // What a preempted sequence's rows wrote is gone, only what they sampled counts; it gets no new slot before.
        if sequences[handle].slot != nil {
            sequences[handle].computed += accepted
            registerBlocks(of: handle, computed: row.end + accepted)
            // Not before: what was never registered cannot be found again.
            cache.trim(&sequences[handle].tables, before: row.end + accepted)
        }

        // The last row of a prompt that nothing is generated from samples nothing.
        let ended =
            row.samples
            ? sequences[handle].finishReason
            : row.end == sequences[handle].lengthLimit && sequences[handle].pending == 0 ? .length : nil
        if let ended {
            let last = retire(handle, finish: ended)
            output.finish = last.finish
            output.cachedPromptTokens = last.cachedPromptTokens
            output.prefillMicroseconds = last.prefillMicroseconds
            return output
        }
        guard !output.tokens.isEmpty || !output.promptLogProbabilities.isEmpty else { return nil }
        if !sequences[handle].hasReported {
            output.cachedPromptTokens = sequences[handle].cachedPromptTokens ?? 0
            output.prefillMicroseconds = prefillMicroseconds(of: handle)
            sequences[handle].hasReported = true
        }
        return output
    }

    /// Moves a constrained sequence's grammar on; says why it cannot.
    private mutating func advanceGrammar(of handle: Int, by token: TokenID) -> RequestFailure? {
        guard !sequences[handle].isTooAmbiguous else {
            return RequestFailure(
                kind: .invalid,
                message:
                    "the request's grammar is too ambiguous: finding the tokens that may follow takes too long; use "
                    + "fewer rules that can read the same text")
        }
        guard sequences[handle].matcher != nil, !sequences[handle].stopTokens.contains(token) else { return nil }
        guard sequences[handle].matcher?.accept(token) != true else { return nil }
        return RequestFailure(
            kind: .invalid,
            message: "no token of the model's vocabulary can follow what was generated so far by the request's grammar")
    }

    /// Offers the full blocks among a sequence's first `computed` positions to others.
    private mutating func registerBlocks(of handle: Int, computed: Int) {
        guard configuration.prefixCaching else { return }
        let known = min(computed, sequences[handle].tokens.count) / configuration.blockSize
        let full = min(known, sequences[handle].registrationLimit)
        guard full > sequences[handle].registeredBlocks else { return }
        extendHashes(of: handle)
        for entry in sequences[handle].registeredBlocks..<full {
            cache.register(sequences[handle].hashes[entry], entry: entry, of: sequences[handle].tables)
        }
        sequences[handle].registeredBlocks = full
        if full >= sequences[handle].claimed.upperBound { dropClaims(of: handle) }
    }

    // MARK: - Failed steps

    /// Takes back the step planned last, which the executor refused without any effect. Sequences that it would have
    /// started are failed as the likeliest cause, or all its sequences if it started none; the others are computed
    /// again.
    public mutating func lastStepWasRefused(_ failure: RequestFailure) {
        guard let record = inFlight.popLast() else { return }
        let blamesNew = record.rows.contains { $0.isNew }
        for row in record.rows {
            sequences[row.handle].rowsInFlight -= 1
            sequences[row.handle].isDrafting = false
            if row.isNew {
                sequences[row.handle].slotAnnounced = false
                // The executor never heard of it, though it was given back already.
                if sequences[row.handle].isHandedOver { removedSlots.removeAll { $0 == row.slot } }
            }
            if row.samples {
                sequences[row.handle].pending -= 1
                if sequences[row.handle].credits != UInt32.max { sequences[row.handle].credits += 1 }
            }
            if row.isNew || !blamesNew {
                ready.append(retire(row.handle, finish: .failed, failure: failure))
            } else {
                // Its last rows are still to be computed.
                if sequences[row.handle].isHandedOver {
                    sequences[row.handle].isHandedOver = false
                    handedOverCount -= 1
                }
                preempt(row.handle)
            }
        }
        // Those that a slot of this step had before are still the executor's.
        removedSlots.insert(contentsOf: record.removedSlots, at: 0)
        running.removeAll { sequences[$0].slot == nil }
    }

    /// Drops the oldest step in flight, whose result is lost: all its sequences are failed.
    public mutating func firstStepFailed(_ failure: RequestFailure) {
        guard !inFlight.isEmpty else { return }
        let record = inFlight.removeFirst()
        totals.steps += 1
        for row in record.rows where sequences[row.handle].arrival == row.arrival {
            ready.append(retire(row.handle, finish: .failed, failure: failure))
        }
    }
}
