// Tandem — Apache-2.0

import InferenceEngine
import Requests

/// What the host knows of each slot: how its sequence samples, and what changes its logits.
///
/// It changes with each plan that is submitted, before the plan's step runs: a step in flight keeps what it needs.
struct SlotBook {
    private(set) var sampling: [SamplingParameters]
    private(set) var adjusters: [SlotAdjuster?]

    init(slots: Int) {
        sampling = Array(repeating: SamplingParameters(), count: slots)
        adjusters = Array(repeating: nil, count: slots)
    }

    /// Applies a plan's changes of slots.
    mutating func apply(_ plan: StepPlan) {
        for slot in plan.removedSlots { adjusters[Int(slot)] = nil }
        for addition in plan.addedSlots {
            sampling[Int(addition.slot)] = addition.sampling
            adjusters[Int(addition.slot)] = addition.adjustments.map {
                SlotAdjuster($0, sampling: addition.sampling)
            }
        }
    }
}

/// What changes one sequence's logits before a token is chosen; see `LogitAdjustments`.
///
/// A reference, because a step in flight counts its token when its result is taken, and by then the slot may belong to
/// another sequence.
final class SlotAdjuster {
    let sampling: SamplingParameters
    private let bannedBefore: Int
    private let banned: [TokenID]
    let biases: [TokenBias]
    private(set) var counts: TokenCounts?

    init(_ adjustments: LogitAdjustments, sampling: SamplingParameters) {
        self.sampling = sampling
        bannedBefore = adjustments.promptCount + adjustments.minimumNewTokens
        banned = adjustments.minimumNewTokens > 0 ? adjustments.stopTokens : []
        biases = adjustments.biases
        guard sampling.isPenalised else { return }
        var counts = TokenCounts(capacity: adjustments.history.count)
        for (position, token) in adjustments.history.enumerated() {
            counts.note(token, isGenerated: position >= adjustments.promptCount)
        }
        self.counts = counts
    }

    /// Tokens that must not be chosen at a position.
    func banned(at position: Int) -> [TokenID] { position < bannedBefore ? banned : [] }

    /// Whether the choice depends on tokens chosen before.
    var dependsOnHistory: Bool { counts != nil }

    /// Counts a token that was chosen.
    func note(_ token: TokenID) { counts?.note(token, isGenerated: true) }
}
