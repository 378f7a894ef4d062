// Tandem — Apache-2.0

import Requests
import TestSupport
import Testing

@testable import InferenceEngine

/// Guesses from what stands in a sequence already.
@Suite struct DraftTests {
    @Test func aGuessIsWhatFollowedTheLastTokensBefore() {
        #expect(PromptLookup.source(in: [1, 2, 3, 4, 5, 1, 2, 3], hint: 0) == 3)
        // The latest of several passages; three equal tokens before two.
        #expect(PromptLookup.source(in: [1, 2, 3, 9, 1, 2, 3, 8, 1, 2, 3], hint: 0) == 7)
        #expect(PromptLookup.source(in: [1, 2, 3, 9, 7, 2, 3, 8, 1, 2, 3], hint: 0) == 3)
        #expect(PromptLookup.source(in: [7, 2, 3, 9, 8, 1, 2, 3], hint: 0) == 3)
        // One token is too little.
        #expect(PromptLookup.source(in: [3, 9, 8, 7, 6, 3], hint: 0) == nil)
        #expect(PromptLookup.source(in: [1, 1, 1], hint: 0) == nil)
        #expect(PromptLookup.source(in: [1, 1, 1, 1], hint: 0) == 3)
        // Where a copy was left it goes on, though a later passage fits too.
        #expect(PromptLookup.source(in: [1, 2, 3, 9, 5, 2, 3, 8, 5, 2, 3], hint: 2) == 3)
        #expect(PromptLookup.source(in: [1, 2], hint: 9) == nil)
        #expect(PromptLookup.source(in: [1, 2, 3, 4, 5], hint: 9) == nil)
    }

    @Test func guessesGrowWhileTheyAreRightAndPauseWhenTheyAreWrong() {
        var state = DraftState()
        let tokens: [TokenID] = [1, 2, 3, 4, 5, 1, 2, 3]
        for expected in [8, 16, 16] {
            state.verified(source: 3, drafted: 4, accepted: 4, most: 16, count: 8)
            #expect(state.length == expected)
        }
        state.verified(source: 3, drafted: 16, accepted: 3, most: 16, count: 8)
        #expect(state.length == 5)
        #expect(state.hint == 7)
        state.verified(source: 3, drafted: 5, accepted: 0, most: 16, count: 8)
        #expect(state.length == 2)
        state.look(in: tokens)
        #expect(state.source == nil)
        state.look(in: tokens + [9, 1, 2, 3])
        #expect(state.source != nil)
    }

    private func run(drafts: Int, asynchronous: Bool, requests: [EngineRequest]) throws -> Harness {
        var configuration = SchedulerConfiguration.small(slots: 8, tokensPerStep: 64, asynchronous: asynchronous)
        configuration.draftTokens = drafts
        var harness = try Harness(configuration, blocks: 200, period: 20)
        for request in requests { try harness.add(request) }
        try harness.runToEnd()
        harness.expectEmpty()
        return harness
    }

    @Test(arguments: [false, true]) func copiesTakeFewerSteps(asynchronous: Bool) throws {
        let requests = [
            EngineRequest(
                id: 1, tokens: prompt(40, seed: 1), maximumNewTokens: 100, stopTokens: [50], logProbabilities: 2),
            EngineRequest(id: 2, tokens: prompt(40, seed: 2), maximumNewTokens: 100),
        ]
        let plain = try run(drafts: 0, asynchronous: asynchronous, requests: requests)
        let drafted = try run(drafts: 8, asynchronous: asynchronous, requests: requests)
        for request in requests {
            #expect(drafted.collected[request.id]?.answer == plain.collected[request.id]?.answer)
            #expect(drafted.collected[request.id]?.answer == drafted.expected(request))
        }
        #expect(drafted.plans.count * 2 < plain.plans.count)
        let counters = drafted.scheduler.counters
        #expect(counters.acceptedTokens > 50)
        #expect(counters.draftedTokens >= counters.acceptedTokens)
        #expect(plain.scheduler.counters.draftedTokens == 0)
    }

    @Test func stepsOfManySequencesHaveNoGuesses() throws {
        var configuration = SchedulerConfiguration.small(slots: 8, tokensPerStep: 64)
        configuration.draftTokens = 8
        configuration.draftStepTokens = 10
        var harness = try Harness(configuration, blocks: 200, period: 20)
        for id in 1...8 {
            try harness.add(
                EngineRequest(id: RequestID(id), tokens: prompt(40, seed: UInt64(id)), maximumNewTokens: 60))
        }
        try harness.runToEnd()
        harness.expectEmpty()
        for plan in harness.plans where plan.rows.contains(where: { $0.output.draftCount > 0 }) {
            let generating = plan.rows.filter { $0.tokenCount - $0.output.draftCount == 1 }
            #expect(generating.reduce(0) { $0 + $1.tokenCount } <= 10)
        }
    }
}
