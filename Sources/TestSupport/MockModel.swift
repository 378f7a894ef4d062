// Tandem — Apache-2.0

public import Requests

/// A model that is no more than a hash: every probability and every choice is a pure function of all tokens before it
/// and the sampling parameters.
public struct MockModel: Sendable {
    public let vocabularySize: Int
    /// Most tokens repeat the one so many places before; `nil` repeats nothing.
    public let period: Int?

    /// - Parameter vocabularySize: small values make stop tokens and equal histories likely.
    public init(vocabularySize: Int, period: Int? = nil) {
        self.vocabularySize = vocabularySize
        self.period = period
    }

    /// The token that follows `history`.
    ///
    /// - Parameter permitted: the tokens to choose from; `nil` for all.
    public func next(
        after history: some Collection<TokenID>, sampling: SamplingParameters, among permitted: [TokenID]? = nil
    ) -> TokenID {
        var hash = hash(history)
        if !sampling.isGreedy {
            hash.combine(sampling.seed)
            hash.combine(UInt64(sampling.choiceIndex))
            hash.combine(UInt64(sampling.temperature.bitPattern))
        }
        let word = hash.digest().low
        if let period, period <= history.count, word % 8 != 0, permitted == nil {
            return history[history.index(history.endIndex, offsetBy: -period)]
        }
        if let permitted, !permitted.isEmpty { return permitted[Int(word % UInt64(permitted.count))] }
        return TokenID(truncatingIfNeeded: word % UInt64(vocabularySize))
    }

    /// A hidden state, so to speak: one number that depends on all tokens of `history`.
    public func feature(of history: some Collection<TokenID>) -> Float {
        Float(hash(history).digest().high % 1024) / 16
    }

    /// The log-probability of `token` after `history`.
    public func logProbability(of token: TokenID, after history: some Collection<TokenID>) -> Float {
        var hash = hash(history)
        hash.combine(UInt64(UInt32(bitPattern: token)))
        return -Float(hash.digest().high % 4096) / 256
    }

    /// As many tokens as asked for; which ones depends on `history`.
    public func top(_ count: Int, after history: some Collection<TokenID>) -> [TokenLogProbability] {
        let first = hash(history).digest().high
        return (0..<UInt64(count)).map { index in
            let token = TokenID(truncatingIfNeeded: (first &+ index) % UInt64(vocabularySize))
            return TokenLogProbability(token: token, logProbability: logProbability(of: token, after: history))
        }
    }

    private func hash(_ history: some Collection<TokenID>) -> StableHash {
        var hash = StableHash(seed: 0x7A6E)
        hash.combine(history)
        return hash
    }
}

extension MockModel {
    /// What one request yields if it runs alone, computed without blocks, steps or batches.
    public struct Answer: Sendable, Equatable {
        public var tokens: [TokenID] = []
        public var logProbabilities: [PositionLogProbabilities] = []
        public var promptLogProbabilities: [PositionLogProbabilities] = []
        public var score: PromptScore?
        public var finish: FinishReason?

        public init() {}
    }

    /// Runs a request to its end.
    ///
    /// - Parameter limit: longest sequence.
    public func answer(_ request: EngineRequest, limit: Int) -> Answer {
        var answer = Answer()
        var history = request.tokens
        if let count = request.promptLogProbabilities, request.resumeOffset == 0 {
            for position in 1..<max(1, request.promptCount) {
                answer.promptLogProbabilities.append(
                    report(history[position], after: history[..<position], top: count))
            }
        }
        if request.pooling != nil || !request.labelTokens.isEmpty {
            let pooled: [Float] =
                switch request.pooling {
                case .last: [feature(of: history)]
                case .mean:
                    [history.indices.reduce(Float(0)) { $0 + feature(of: history[...$1]) } / Float(history.count)]
                case nil: []
                }
            let labels = request.labelTokens.map { logProbability(of: $0, after: history) }
            answer.score = PromptScore(labels: labels, pooled: pooled)
        }
        var generated = request.resumeOffset
        var stopped = generated > 0 && request.stopTokens.contains(history[history.count - 1])
        while !stopped, generated < request.maximumNewTokens, history.count < limit {
            let token = next(after: history, sampling: request.sampling)
            answer.tokens.append(token)
            if let count = request.logProbabilities {
                answer.logProbabilities.append(report(token, after: history[...], top: count))
            }
            history.append(token)
            generated += 1
            stopped = request.stopTokens.contains(token)
        }
        answer.finish = stopped ? .stop : .length
        return answer
    }

    private func report(_ token: TokenID, after history: ArraySlice<TokenID>, top: Int) -> PositionLogProbabilities {
        PositionLogProbabilities(
            chosen: TokenLogProbability(token: token, logProbability: logProbability(of: token, after: history)),
            top: self.top(top, after: history)
        )
    }
}
