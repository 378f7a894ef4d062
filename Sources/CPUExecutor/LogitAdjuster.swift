// Tandem — Apache-2.0

import InferenceEngine
import Requests

/// Changes one slot's logits before a token is chosen; see `LogitAdjustments` for what and in which order.
///
/// Unchecked: steps run one after the other, and in a step a slot has one row. Only a row with guesses is sampled by
/// several threads, and then nothing is counted: what depends on counts is not guessed.
final class LogitAdjuster: @unchecked Sendable {
    private let sampling: SamplingParameters
    private let bannedBefore: Int
    private let banned: [TokenID]
    private let biases: [TokenBias]
    private var counts: TokenCounts?

    /// - Parameter contextLength: tokens of the longest sequence.
    init(_ adjustments: LogitAdjustments, sampling: SamplingParameters, contextLength: Int) {
        self.sampling = sampling
        bannedBefore = adjustments.promptCount + adjustments.minimumNewTokens
        banned = adjustments.minimumNewTokens > 0 ? adjustments.stopTokens : []
        biases = adjustments.biases
        guard sampling.isPenalised else { return }
        var counts = TokenCounts(capacity: contextLength)
        for (position, token) in adjustments.history.enumerated() {
            counts.note(token, isGenerated: position >= adjustments.promptCount)
        }
        self.counts = counts
    }

    /// - Parameters:
    ///   - logits: one for each token of the vocabulary.
    ///   - position: index in the sequence of the token that is chosen.
    func apply(to logits: UnsafeMutableBufferPointer<Float>, position: Int) {
        if position < bannedBefore {
            for token in banned where logits.indices.contains(Int(token)) { logits[Int(token)] = -.infinity }
        }
        for entry in biases where logits.indices.contains(Int(entry.token)) {
            logits[Int(entry.token)] += entry.bias
        }
        counts?.forEach { token, generated in
            guard logits.indices.contains(Int(token)) else { return }
            var logit = logits[Int(token)]
            if sampling.repetitionPenalty != 1 {
                logit = logit > 0 ? logit / sampling.repetitionPenalty : logit * sampling.repetitionPenalty
            }
            if generated > 0 {
                logit -= sampling.frequencyPenalty * Float(generated)
                logit -= sampling.presencePenalty
            }
            logits[Int(token)] = logit
        }
    }

    /// Counts a token that was chosen.
    func note(_ token: TokenID) { counts?.note(token, isGenerated: true) }
}
