// Tandem — Apache-2.0

import InferenceEngine
import Requests
import TestSupport
import Testing

/// Prompts from which nothing is generated: packed whole, nothing kept.
@Suite struct ScoringTests {
    private func scored(
        _ id: RequestID, _ tokens: [TokenID], pooling: Pooling? = nil, labels: [TokenID] = [], promptTop: Int? = nil
    ) -> EngineRequest {
        EngineRequest(
            id: id, tokens: tokens, maximumNewTokens: 0, promptLogProbabilities: promptTop, pooling: pooling,
            labelTokens: labels)
    }

    @Test(arguments: [false, true]) func everyKindOfScoreIsReportedOnce(asynchronous: Bool) throws {
        var harness = try Harness(.small(tokensPerStep: 64, asynchronous: asynchronous))
        let requests = [
            scored(1, prompt(10), pooling: .last),
            scored(2, prompt(20, seed: 2), pooling: .mean),
            scored(3, prompt(9, seed: 3), labels: [5, 96, 5]),
            scored(4, prompt(12, seed: 4), promptTop: 2),
            scored(5, prompt(1, seed: 5), labels: [0]),
            scored(6, prompt(30, seed: 6), pooling: .last, labels: [1, 2], promptTop: 0),
            scored(7, prompt(5, seed: 7)),
        ]
        for request in requests { try harness.add(request) }
        try harness.runToEnd()
        harness.expectEmpty()
        for request in requests {
            #expect(harness.collected[request.id]?.answer == harness.expected(request), "request \(request.id)")
            #expect(harness.collected[request.id]?.answer.finish == .length)
        }
        #expect(harness.collected[3]?.answer.score?.labels.count == 3)
        #expect(harness.collected[2]?.answer.score?.pooled.count == 1)
        #expect(harness.collected[7]?.answer.score == nil)
    }

    @Test func promptsArePackedWholeAndNothingIsKept() throws {
        var harness = try Harness(.small(slots: 8, tokensPerStep: 64))
        for id in 1...6 { try harness.add(scored(RequestID(id), prompt(20, seed: UInt64(id)), pooling: .last)) }
        try harness.mustSubmit()
        // Three of 20 tokens fit into 64; they have given everything back although their step still runs.
        #expect(harness.plans[0].rows.map(\.tokenCount) == [20, 20, 20])
        #expect(harness.scheduler.counters.usedBlocks == 0)
        #expect(harness.scheduler.counters.runningSequences == 3)
        #expect(harness.scheduler.counters.waitingSequences == 3)
        #expect(harness.scheduler.violations() == [])
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.plans.count == 2)
        #expect(harness.scheduler.takePrefixChanges().stored.isEmpty)
    }

    @Test func shortPromptsOvertakeOneThatDoesNotFit() throws {
        var harness = try Harness(.small(slots: 8, tokensPerStep: 64))
        for (id, count) in [(1, 50), (2, 40), (3, 10)] {
            try harness.add(scored(RequestID(id), prompt(count, seed: UInt64(id)), pooling: .last))
        }
        try harness.mustSubmit()
        #expect(harness.plans[0].rows.map(\.tokenCount) == [50, 10])
        try harness.runToEnd()
        harness.expectEmpty()
    }

    @Test(arguments: [Pooling.last, .mean]) func aPromptLongerThanAStepIsComputedInChunks(pooling: Pooling) throws {
        var harness = try Harness(.small(tokensPerStep: 16, asynchronous: true))
        let request = scored(1, prompt(100), pooling: pooling, labels: [4])
        try harness.add(request)
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.plans.count == 7)
        #expect(harness.collected[1]?.answer == harness.expected(request))
    }

    @Test func aSharedPrefixIsKeptTheSecondTimeItIsSeen() throws {
        var harness = try Harness(.small(slots: 1, tokensPerStep: 64))
        let instruction = prompt(48, seed: 9)
        let requests = (1...3).map { id in
            scored(RequestID(id), instruction + prompt(5, seed: UInt64(20 + id)), labels: [7])
        }
        for request in requests {
            try harness.add(request)
            try harness.runToEnd()
            #expect(harness.collected[request.id]?.answer == harness.expected(request))
        }
        harness.expectEmpty()
        #expect(requests.map { harness.collected[$0.id]?.cachedPromptTokens } == [0, 0, 48])
        // The instruction's three blocks, and nothing of what follows it.
        #expect(harness.scheduler.takePrefixChanges().stored.count == 3)
        // A mean needs every token's state, whatever is cached.
        let mean = scored(9, instruction, pooling: .mean)
        try harness.add(mean)
        try harness.runToEnd()
        #expect(harness.collected[9]?.answer == harness.expected(mean))
        #expect(harness.collected[9]?.cachedPromptTokens == 0)
    }

    @Test func generationGoesOnBesideAStreamOfPrompts() throws {
        var harness = try Harness(.small(slots: 4, tokensPerStep: 32, asynchronous: true), blocks: 24)
        let generated = EngineRequest(id: 1000, tokens: prompt(60, seed: 50), maximumNewTokens: 20)
        for id in 1...200 { try harness.add(scored(RequestID(id), prompt(30, seed: UInt64(id)), pooling: .mean)) }
        try harness.add(generated)
        var rounds = 0
        while harness.collected[1000]?.answer.finish == nil {
            _ = try harness.round()
            rounds += 1
            try #require(rounds < 60, "a stream of prompts keeps a generation out")
        }
        #expect(harness.scheduler.counters.waitingSequences > 0)
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.collected[1000]?.answer == harness.expected(generated))
    }

    @Test func cancelPauseAndResumeReachPromptsThatAreHandedOver() throws {
        var harness = try Harness(.small(slots: 4, tokensPerStep: 64))
        for id in 1...3 { try harness.add(scored(RequestID(id), prompt(10, seed: UInt64(id)), pooling: .last)) }
        try harness.mustSubmit()
        harness.scheduler.cancel(1)
        harness.scheduler.pause(2)
        harness.scheduler.resume(2, credits: .max)
        harness.collectReady()
        #expect(harness.scheduler.violations() == [])
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.plans.count == 1)
        #expect(harness.collected[1]?.answer.finish == .cancelled)
        #expect(harness.collected[2]?.answer.finish == .length)
        #expect(harness.collected[3]?.answer.finish == .length)
    }

    @Test func pausedSequencesKeepNoPromptOut() throws {
        // All slots are taken by sequences that are paused, then all blocks.
        for (slots, blocks) in [(2, 64), (8, 2)] {
            var harness = try Harness(.small(slots: slots), blocks: blocks)
            let paused = (1...2).map {
                EngineRequest(id: RequestID($0), tokens: prompt(10, seed: UInt64($0)), maximumNewTokens: 12)
            }
            for request in paused { try harness.add(request) }
            _ = try harness.round()
            for request in paused { harness.scheduler.pause(request.id) }
            try harness.add(scored(3, prompt(14, seed: 3), pooling: .last))
            try harness.runToEnd()
            #expect(harness.collected[3]?.answer.finish == .length)
            for request in paused { harness.scheduler.resume(request.id, credits: .max) }
            try harness.runToEnd()
            harness.expectEmpty()
            for request in paused { #expect(harness.collected[request.id]?.answer == harness.expected(request)) }
        }
    }

    @Test func aRefusedStepFailsItsPrompts() throws {
        var harness = try Harness(.small(slots: 4, tokensPerStep: 64))
        for id in 1...2 { try harness.add(scored(RequestID(id), prompt(10, seed: UInt64(id)), pooling: .last)) }
        var plan = StepPlan()
        let planned = harness.scheduler.schedule(into: &plan)
        try #require(planned)
        harness.scheduler.lastStepWasRefused(RequestFailure(kind: .engine, message: "no memory"))
        harness.collectReady()
        #expect(harness.collected[1]?.failure?.message == "no memory")
        #expect(harness.scheduler.violations() == [])
        #expect(harness.scheduler.unfinishedCount == 0)
        // The executor never heard of their slots.
        let next = scored(3, prompt(10, seed: 3), pooling: .last)
        try harness.add(next)
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.collected[3]?.answer == harness.expected(next))
    }

    /// One slot, and always another sequence that wants it.
    @Test(arguments: [false, true]) func aBacklogOfGenerationsKeepsNoPromptOut(asynchronous: Bool) throws {
        var harness = try Harness(.small(slots: 1, tokensPerStep: 32, asynchronous: asynchronous))
        let generated = (1...6).map {
            EngineRequest(id: RequestID($0), tokens: prompt(10, seed: UInt64($0)), maximumNewTokens: 4)
        }
        for request in generated.prefix(2) { try harness.add(request) }
        let early = (11...13).map { scored(RequestID($0), prompt(12, seed: UInt64($0)), pooling: .last) }
        for request in early { try harness.add(request) }
        for request in generated.dropFirst(2) { try harness.add(request) }
        while harness.collected[4]?.answer.finish == nil { _ = try harness.round() }
        // Those that came before the third generation took turns with the ones behind it.
        #expect(harness.collected[11]?.answer.finish == .length)
        #expect(harness.collected[12]?.answer.finish == .length)
        try harness.runToEnd()
        harness.expectEmpty()
        for request in generated + early { #expect(harness.collected[request.id]?.answer == harness.expected(request)) }
    }

    @Test func aSlotThatWasHandedOverBeforeARefusedStepIsStillRemoved() throws {
        var harness = try Harness(.small(slots: 1, tokensPerStep: 64))
        try harness.add(scored(1, prompt(10, seed: 1), pooling: .last))
        _ = try harness.round()
        try harness.add(scored(2, prompt(10, seed: 2), pooling: .last))
        var plan = StepPlan()
        let planned = harness.scheduler.schedule(into: &plan)
        try #require(planned && plan.removedSlots == [0])
        harness.scheduler.lastStepWasRefused(RequestFailure(kind: .engine, message: "no memory"))
        harness.collectReady()
        #expect(harness.scheduler.violations() == [])
        try harness.add(scored(3, prompt(10, seed: 3), pooling: .last))
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.collected[3]?.answer.finish == .length)
        #expect(harness.plans.last?.removedSlots == [0])
    }

    @Test(arguments: [false, true]) func aLastChunkInARefusedStepIsComputedAgain(cancels: Bool) throws {
        var harness = try Harness(.small(slots: 4, tokensPerStep: 32))
        let long = scored(1, prompt(50, seed: 1), pooling: .last)
        try harness.add(long)
        _ = try harness.round()
        let new = EngineRequest(id: 2, tokens: prompt(4, seed: 2), maximumNewTokens: 2)
        try harness.add(new)
        var plan = StepPlan()
        let planned = harness.scheduler.schedule(into: &plan)
        try #require(planned && plan.rows.count == 2)
        harness.scheduler.lastStepWasRefused(RequestFailure(kind: .engine, message: "no memory"))
        harness.collectReady()
        #expect(harness.scheduler.violations() == [])
        #expect(harness.collected[2]?.failure != nil)
        if cancels { harness.scheduler.cancel(1) }
        harness.collectReady()
        try harness.runToEnd()
        harness.expectEmpty()
        if cancels {
            #expect(harness.collected[1]?.answer.finish == .cancelled)
        } else {
            #expect(harness.collected[1]?.answer == harness.expected(long))
        }
    }

    @Test func whatCannotBeIsRefused() throws {
        var harness = try Harness(.small())
        var request = scored(1, prompt(10), pooling: .last)
        request.maximumNewTokens = 1
        #expect(throws: RequestFailure.self) { try harness.add(request) }
        #expect(throws: RequestFailure.self) { try harness.add(scored(1, prompt(10), labels: [97])) }
        request = scored(1, prompt(10))
        request.grammar = GrammarSource(kind: .jsonObject, text: "")
        #expect(throws: RequestFailure.self) { try harness.add(request) }
    }
}
