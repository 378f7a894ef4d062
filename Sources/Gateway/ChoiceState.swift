// Tandem — Apache-2.0

import Requests
import Tokenization

/// How a choice ended, as clients are told.
struct ChoiceFinish: Equatable {
    enum StopReason: Equatable {
        case text(String)
        case token(TokenID)
    }

    /// `stop` or `length`.
    var reason: String
    /// Which stop string or `stop_token_ids` entry it was; `nil` at the end of the sequence or at the length limit.
    var stopReason: StopReason?
}

/// What one engine output means for the client.
struct ChoiceDelta: Equatable {
    var text = ""
    /// What the engine generated, with tokens that give no text.
    var tokens: OutputTokens = []
    var logProbabilities: [PositionLogProbabilities] = []
    var finish: ChoiceFinish?
    /// The choice ended here while the engine still generates.
    var mustCancel = false

    var isEmpty: Bool { text.isEmpty && tokens.isEmpty && logProbabilities.isEmpty && finish == nil }
}

/// One choice of a request: keeps every token id that the engine reported, and turns them into text.
///
/// It holds all that is needed to go on elsewhere: prompt and emitted ids, the detokenizer's and the stop matcher's
/// state.
struct ChoiceState {
    /// Which sequence of the request it is: prompt index times candidates a prompt, plus ``sampleIndex``.
    let index: Int
    let promptIndex: Int
    let sampleIndex: Int
    private(set) var emitted: [TokenID] = []
    private(set) var finish: ChoiceFinish?
    /// Log-probabilities of the prompt's second to last token, once known.
    private(set) var promptLogProbabilities: [PositionLogProbabilities] = []
    private(set) var cachedPromptTokens = 0
    private var detokenizer: IncrementalDetokenizer
    private var matcher: StopMatcher
    private let stop: [String]
    private let stopTokens: [TokenID]
    private let includesStop: Bool
    private let minimumTokens: Int
    private var logProbabilitySum: Double = 0

    /// - Parameter matcher: of the request's stop strings; choices share what it knows of them.
    init(index: Int, request: GenerationRequest, matcher: StopMatcher, tokenizer: Tokenizer) {
        self.index = index
        promptIndex = index / request.candidates
        sampleIndex = index % request.candidates
        detokenizer = IncrementalDetokenizer(tokenizer: tokenizer, skipSpecialTokens: request.skipSpecialTokens)
        self.matcher = matcher
        stop = request.stop
        stopTokens = request.stopTokens
        includesStop = request.includeStopText
        minimumTokens = request.minimumNewTokens
    }

    var completionTokens: Int { emitted.count }

    /// Of all generated tokens, as far as the engine reported log-probabilities.
    var meanLogProbability: Double { emitted.isEmpty ? 0 : logProbabilitySum / Double(emitted.count) }

    /// Prompt log-probabilities are reported anew when the prompt is computed again elsewhere.
    mutating func forgetPromptLogProbabilities() {
        promptLogProbabilities.removeAll()
    }

    /// Takes one engine output; nothing after the end of the choice counts.
    mutating func accept(_ output: SequenceOutput) -> ChoiceDelta {
        var delta = ChoiceDelta()
        guard finish == nil else { return delta }
        promptLogProbabilities.append(contentsOf: output.promptLogProbabilities)
        if let cached = output.cachedPromptTokens { cachedPromptTokens = max(cachedPromptTokens, cached) }
        for (offset, token) in output.tokens.enumerated() {
            emitted.append(token)
            delta.tokens.append(token)
            if offset < output.logProbabilities.count {
                delta.logProbabilities.append(output.logProbabilities[offset])
                logProbabilitySum += Double(output.logProbabilities[offset].chosen.logProbability)
            }
            let isStopToken = output.finish == .stop && offset == output.tokens.count - 1
            if isStopToken, !includesStop { break }
            if append(detokenizer.append(token), to: &delta) {
                delta.mustCancel = output.finish == nil
                return delta
            }
        }
        switch output.finish {
        case .stop:
            if flush(into: &delta) { return delta }
            let last = output.tokens.last
            end(
                ChoiceFinish(
                    reason: "stop",
                    stopReason: last.flatMap { stopTokens.contains($0) ? .token($0) : nil }),
                &delta)
        case .complete:
            if flush(into: &delta) { return delta }
            end(ChoiceFinish(reason: "stop", stopReason: nil), &delta)
        case .length:
            if flush(into: &delta) { return delta }
            end(ChoiceFinish(reason: "length", stopReason: nil), &delta)
        case .cancelled, .failed, nil:
            break
        }
        return delta
    }

    /// Adds text; returns whether a stop string ended the choice.
    private mutating func append(_ piece: String, to delta: inout ChoiceDelta) -> Bool {
        guard !piece.isEmpty else { return false }
        // As in vLLM: what ends among the first tokens is no stop string, what only begins there is.
        let match = matcher.append(piece, mayEnd: emitted.count > minimumTokens)
        delta.text += match.text
        guard let matched = match.stop else { return false }
        end(ChoiceFinish(reason: "stop", stopReason: .text(stop[matched])), &delta)
        return true
    }

    /// Adds what was held back; returns whether a stop string ended the choice.
    private mutating func flush(into delta: inout ChoiceDelta) -> Bool {
        if append(detokenizer.finish(), to: &delta) { return true }
        delta.text += matcher.finish()
        return false
    }

    private mutating func end(_ finish: ChoiceFinish, _ delta: inout ChoiceDelta) {
        self.finish = finish
        delta.finish = finish
    }
}
