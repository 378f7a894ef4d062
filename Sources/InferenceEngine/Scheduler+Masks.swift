// Tandem — Apache-2.0

import Grammar
import Requests

/// Which tokens constrained rows may sample.
///
/// A mask depends on all tokens before the one that is chosen. With asynchronous scheduling the last of them is not known
/// when the step is submitted: the step computes its logits meanwhile, and its masks are made when the result before
/// has come, usually long before the logits are there.
extension Scheduler {
    /// The masks of the step planned last.
    ///
    /// - Parameters:
    ///   - masks: filled with one mask for each constrained row whose sequence has not ended.
    ///   - vocabularySize: tokens of the model.
    /// - Returns: `false` if they cannot be known before the results of earlier steps were taken; `masks` is empty then.
    public mutating func fillMasks(_ masks: inout TokenMasks, vocabularySize: Int) -> Bool {
        masks.removeAll(wordsPerSlot: (vocabularySize + 31) / 32)
        guard let record = inFlight.last else { return true }
        for row in record.rows where row.isConstrained && sequences[row.handle].arrival == row.arrival {
            // The row's own token is pending; any other one is still being sampled.
            if sequences[row.handle].pending > 1 {
                masks.removeAll(wordsPerSlot: masks.wordsPerSlot)
                return false
            }
        }
        for row in record.rows where row.isConstrained && sequences[row.handle].arrival == row.arrival {
            let sequence = sequences[row.handle]
            guard let matcher = sequence.matcher else { continue }
            masks.append(row.slot) { words in
                if matcher.fillMask(words) == nil { sequences[row.handle].isTooAmbiguous = true }
                guard sequence.mayStop else { return }
                for token in sequence.stopTokens where token >= 0 && Int(token) < vocabularySize {
                    words[Int(token) / 32] |= 1 << UInt32(token % 32)
                }
            }
        }
        return true
    }

    /// A matcher that stands behind the tokens that a request has generated already.
    func matcher(of request: EngineRequest, _ grammar: TokenGrammar?) throws(RequestFailure) -> GrammarMatcher? {
        guard request.grammar != nil else { return nil }
        guard let grammar else {
            throw RequestFailure(
                kind: .invalid, message: "the request has a grammar, and this engine was not told what tokens mean")
        }
        var matcher = GrammarMatcher(grammar)
        for token in request.tokens[request.promptCount...] {
            if request.stopTokens.contains(token) { break }
            guard matcher.accept(token) else {
                throw RequestFailure(
                    kind: .invalid, message: "the request's tokens so far do not follow its grammar (token \(token))")
            }
        }
        return matcher
    }
}

extension TokenMasks {
    /// Empties the masks and keeps their memory.
    mutating func removeAll(wordsPerSlot: Int) {
        slots.removeAll(keepingCapacity: true)
        words.removeAll(keepingCapacity: true)
        self.wordsPerSlot = wordsPerSlot
    }

    /// Appends the mask that `fill` writes into words that are all 0.
    mutating func append(_ slot: SlotIndex, fill: (UnsafeMutableBufferPointer<UInt32>) -> Void) {
        slots.append(slot)
        let start = words.count
        words.append(contentsOf: repeatElement(0, count: wordsPerSlot))
        words.withUnsafeMutableBufferPointer { fill(UnsafeMutableBufferPointer(rebasing: $0[start...])) }
    }
}
