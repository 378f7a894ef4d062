// Tandem — Apache-2.0

import Requests

/// Guessed tokens, checked in the step that would have computed only the first of them.
///
/// A row with a draft computes the last token and the guesses behind it, and chooses a token after each. As long as what
/// was chosen is what was guessed, the next choice is the one that the sequence would have made by itself: the same bits,
/// because a row's bits do not depend on how it is cut into steps. The keys of wrong guesses are overwritten.
///
/// A sequence with a guess is not planned ahead: what it generates decides what comes next. Drafts only use what is left
/// of ``SchedulerConfiguration/draftStepTokens``: a step of many sequences has no time to spare.
extension Scheduler {
    /// Whether a sequence's tokens may be guessed. Penalties and grammars depend on each token before.
    private func mayDraft(_ handle: Int) -> Bool {
        configuration.draftTokens > 0 && sequences[handle].credits == .max && !sequences[handle].sampling.isPenalised
            && sequences[handle].matcher == nil
    }

    /// Whether a sequence waits for results, in order to go on with a draft.
    func awaitsDraft(_ handle: Int) -> Bool {
        sequences[handle].drafts.source != nil && sequences[handle].pending > 0
    }

    /// Looks for a guess once a sequence has new tokens.
    mutating func lookForDraft(of handle: Int) {
        guard mayDraft(handle), sequences[handle].lengthLimit - sequences[handle].tokens.count > 1 else {
            sequences[handle].drafts.source = nil
            return
        }
        // With many sequences there is no room for any.
        guard running.count < configuration.draftStepTokens / 2 else {
            sequences[handle].drafts.source = nil
            return
        }
        sequences[handle].drafts.look(in: sequences[handle].tokens)
    }

    /// Adds drafts to rows that generate, from what is left of the step, without taking anything from anybody.
    mutating func decideDrafts(_ budget: inout Int) {
        guard configuration.draftTokens > 0 else { return }
        // Prompts get the other half.
        var left = min(budget / 2, configuration.draftStepTokens - decisions.reduce(0) { $0 + $1.count })
        for index in decisions.indices where left > 0 && decisions[index].count == 1 {
            let handle = decisions[index].handle
            guard let source = sequences[handle].drafts.source, sequences[handle].pending == 0 else { continue }
            let known = sequences[handle].tokens.count
            // The last token is chosen, not guessed.
            let most = min(sequences[handle].lengthLimit - known - 1, configuration.draftTokens)
            let count = min(sequences[handle].drafts.length, most, left, known - source)
            guard count > 0, cache.grow(&sequences[handle].tables, to: known + count) else { continue }
            decisions[index].draft = source..<source + count
            left -= count
            budget -= count
        }
    }

    /// Takes what a row with a draft chose, as far as it was guessed rightly.
    ///
    /// - Returns: how many tokens beyond the first were taken.
    mutating func acceptDraft(
        _ row: StepRecord.Row, _ rowResult: RowResult, _ result: StepResult, into output: inout SequenceOutput
    ) -> Int {
        let handle = row.handle
        sequences[handle].isDrafting = false
        guard !row.draft.isEmpty else { return 0 }
        let first = sequences[handle].tokens.count - 1
        var accepted = 0
        for entry in result.further[rowResult.further] {
            let guess = sequences[handle].tokens[row.draft.lowerBound + accepted]
            guard sequences[handle].tokens[first + accepted] == guess, sequences[handle].finishReason == nil else {
                break
            }
            append(entry.token, entry.logProbability, Array(result.top[entry.top]), to: handle, &output)
            accepted += 1
        }
        totals.draftedTokens += UInt64(row.draft.count)
        totals.acceptedTokens += UInt64(accepted)
        sequences[handle].drafts.verified(
            source: row.draft.lowerBound, drafted: row.draft.count, accepted: accepted,
            most: configuration.draftTokens, count: sequences[handle].tokens.count)
        return accepted
    }

    /// Appends a chosen token to a sequence and to what is reported of it.
    mutating func append(
        _ token: TokenID, _ logProbability: Float, _ top: @autoclosure () -> [TokenLogProbability], to handle: Int,
        _ output: inout SequenceOutput
    ) {
        sequences[handle].tokens.append(token)
        totals.generatedTokens += 1
        output.tokens.append(token)
        guard sequences[handle].logProbabilities != nil else { return }
        output.logProbabilities.append(
            PositionLogProbabilities(
                chosen: TokenLogProbability(token: token, logProbability: logProbability), top: top()))
    }
}
