// Tandem — Apache-2.0

import CUDAKernels
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
final class SlotAdjuster {
    let sampling: SamplingParameters
    private let bannedBefore: Int
    /// Without repetitions, as the kernels want all of these lists.
    private let banned: [TokenID]
    let biases: [TokenBiasEntry]
    /// The sequence's tokens when it took its slot, if the choice depends on them. The device counts on from there.
    let counts: TokenCounts?

    init(_ adjustments: LogitAdjustments, sampling: SamplingParameters) {
        self.sampling = sampling
        bannedBefore = adjustments.promptCount + adjustments.minimumNewTokens
        banned = adjustments.minimumNewTokens > 0 ? Set(adjustments.stopTokens).sorted() : []
        var sums: [TokenID: Float] = [:]
        for entry in adjustments.biases { sums[entry.token, default: 0] += entry.bias }
        biases = sums.sorted { $0.key < $1.key }.map { TokenBiasEntry(token: $0.key, bias: $0.value) }
        guard sampling.isPenalised else {
            counts = nil
            return
        }
        var counts = TokenCounts(capacity: adjustments.history.count)
        for (position, token) in adjustments.history.enumerated() {
            counts.note(token, isGenerated: position >= adjustments.promptCount)
        }
        self.counts = counts
    }

    /// Tokens that must not be chosen at a position.
    func banned(at position: Int) -> [TokenID] { position < bannedBefore ? banned : [] }

    /// Whether a choice at a position is touched at all.
    func applies(at position: Int) -> Bool {
        counts != nil || !biases.isEmpty || (position < bannedBefore && !banned.isEmpty)
    }
}
