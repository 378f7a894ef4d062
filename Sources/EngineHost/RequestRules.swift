// Tandem — Apache-2.0

import Requests

/// What an engine accepts: the link checks that a frame can be read, this checks that what it says makes sense.
struct RequestRules: Equatable {
    /// Token ids are below.
    var vocabularySize: Int
    /// Longest sequence, in tokens.
    var contextLength: Int

    static let maximumStopTokens = 1024
    static let maximumCacheSaltBytes = 4096
    static let maximumBiases = 4096
    static let maximumLabels = 4096
    static let maximumGrammarBytes = 1 << 20
    static let maximumLogProbabilities = 20

    /// Why a request is refused, or `nil`.
    func refusal(of request: EngineRequest) -> RequestFailure? {
        invalidity(of: request).map { RequestFailure(kind: .invalid, message: $0) } ?? misfit(of: request)
    }

    private func misfit(of request: EngineRequest) -> RequestFailure? {
        guard request.tokens.count > contextLength else { return nil }
        return RequestFailure(
            kind: .doesNotFit,
            message: "the request has \(request.tokens.count) tokens, this engine's sequences at most \(contextLength)"
        )
    }

    private func invalidity(of request: EngineRequest) -> String? {
        guard !request.tokens.isEmpty else { return "the request has no tokens; at least 1 is needed" }
        if let token = request.tokens.first(where: { !isToken($0) }) {
            return "token id \(token) is outside the vocabulary of \(vocabularySize) tokens"
        }
        guard request.resumeOffset >= 0, request.resumeOffset < request.tokens.count else {
            return "resume offset \(request.resumeOffset) of \(request.tokens.count) tokens leaves no prompt"
        }
        guard request.maximumNewTokens >= 0 else {
            return "the maximum of new tokens is \(request.maximumNewTokens); it must be at least 0"
        }
        for (name, tokens, limit) in [
            ("stop token", request.stopTokens, Self.maximumStopTokens),
            ("biased token", request.logitBias.map(\.token), Self.maximumBiases),
            ("label", request.labelTokens, Self.maximumLabels),
        ] {
            guard tokens.count <= limit else {
                return "\(tokens.count) \(name)s are given; at most \(limit) are possible"
            }
            if let token = tokens.first(where: { !isToken($0) }) {
                return "\(name) id \(token) is outside the vocabulary of \(vocabularySize) tokens"
            }
        }
        if let entry = request.logitBias.first(where: { !$0.bias.isFinite }) {
            return "the bias of token \(entry.token) is \(entry.bias)"
        }
        guard (0...Int(Int32.max)).contains(request.minimumNewTokens) else {
            return "the minimum of new tokens is \(request.minimumNewTokens); it must be from 0 to \(Int32.max)"
        }
        if let grammar = request.grammar {
            let bytes = grammar.text.utf8.count + grammar.prefix.utf8.count + grammar.suffix.utf8.count
            guard bytes <= Self.maximumGrammarBytes else {
                return "the grammar takes \(bytes) bytes; at most \(Self.maximumGrammarBytes) are possible"
            }
        }
        for count in [request.logProbabilities, request.promptLogProbabilities] {
            guard let count, !(0...Self.maximumLogProbabilities).contains(count) else { continue }
            return "\(count) log-probabilities a token are asked for; 0 to \(Self.maximumLogProbabilities) are possible"
        }
        guard request.cacheSalt.utf8.count <= Self.maximumCacheSaltBytes else {
            return "the cache salt takes \(request.cacheSalt.utf8.count) bytes; "
                + "at most \(Self.maximumCacheSaltBytes) are possible"
        }
        return invalidity(of: request.sampling)
    }

    private func invalidity(of sampling: SamplingParameters) -> String? {
        guard sampling.temperature.isFinite, sampling.temperature >= 0 else {
            return "temperature \(sampling.temperature) is not a number of at least 0"
        }
        guard sampling.topK >= 0 else { return "top-k \(sampling.topK) is below 0" }
        // Comparisons with NaN are false.
        guard sampling.topP > 0, sampling.topP <= 1 else { return "top-p \(sampling.topP) is not in (0, 1]" }
        guard sampling.minP >= 0, sampling.minP <= 1 else { return "min-p \(sampling.minP) is not in [0, 1]" }
        guard sampling.repetitionPenalty > 0, sampling.repetitionPenalty.isFinite else {
            return "the repetition penalty \(sampling.repetitionPenalty) is not a number above 0"
        }
        for penalty in [sampling.frequencyPenalty, sampling.presencePenalty] where !penalty.isFinite {
            return "a penalty of \(penalty) is no number"
        }
        return nil
    }

    private func isToken(_ token: TokenID) -> Bool { token >= 0 && Int(token) < vocabularySize }
}
