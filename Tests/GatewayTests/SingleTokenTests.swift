// Tandem — Apache-2.0

import Requests
import Testing

@testable import Gateway

@Suite struct SingleTokenTests {
    private func position(_ token: TokenID) -> PositionLogProbabilities {
        PositionLogProbabilities(chosen: TokenLogProbability(token: token, logProbability: -1), top: [])
    }

    @Test func severalTokensOfAStepBecomeOneOutputEach() {
        let whole = SequenceOutput(
            id: 7, tokens: [1, 2, 3], logProbabilities: [position(1), position(2), position(3)],
            promptLogProbabilities: [position(9)], finish: .stop, cachedPromptTokens: 4)
        let parts = whole.singleTokens
        #expect(parts.map { Array($0.tokens) } == [[1], [2], [3]])
        #expect(parts.map(\.logProbabilities) == [[position(1)], [position(2)], [position(3)]])
        #expect(parts.map(\.promptLogProbabilities) == [[position(9)], [], []])
        #expect(parts.map(\.cachedPromptTokens) == [4, nil, nil])
        #expect(parts.map(\.finish) == [nil, nil, .stop])
        #expect(parts.allSatisfy { $0.id == 7 })
    }

    @Test func oneTokenOrNoneStaysAsItIs() {
        let one = SequenceOutput(id: 1, tokens: [5], finish: .length)
        #expect(one.singleTokens == [one])
        let none = SequenceOutput(id: 1, finish: .cancelled)
        #expect(none.singleTokens == [none])
    }
}
