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

/// How often each token of a sequence was generated; tokens of the prompt are there with 0. Work is in proportion to the
/// distinct tokens, not to the vocabulary.
struct TokenCounts: Sendable {
    private var tokens: [TokenID] = []
    private var generated: [Int32] = []
    /// Indices of ``tokens`` by hash: open addressing, -1 is free; the length is a power of two.
    private var slots: [Int32]

    /// - Parameter capacity: most distinct tokens; with more the table grows.
    init(capacity: Int) {
        slots = Array(repeating: -1, count: 64)
        tokens.reserveCapacity(min(capacity, 1024))
        generated.reserveCapacity(min(capacity, 1024))
    }

    mutating func note(_ token: TokenID, isGenerated: Bool) {
        let slot = slot(of: token)
        if slots[slot] >= 0 {
            generated[Int(slots[slot])] += isGenerated ? 1 : 0
            return
        }
        slots[slot] = Int32(tokens.count)
        tokens.append(token)
        generated.append(isGenerated ? 1 : 0)
        if 2 * tokens.count > slots.count { grow() }
    }

    /// Calls `body` with each token and how often it was generated.
    func forEach(_ body: (TokenID, Int32) -> Void) {
        for index in tokens.indices { body(tokens[index], generated[index]) }
    }

    private func slot(of token: TokenID) -> Int {
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: (UInt64(UInt32(bitPattern: token)) &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
        while slots[slot] >= 0, tokens[Int(slots[slot])] != token { slot = (slot + 1) & mask }
        return slot
    }

    private mutating func grow() {
        slots = Array(repeating: -1, count: 2 * slots.count)
        for (index, token) in tokens.enumerated() { slots[slot(of: token)] = Int32(index) }
    }
}
