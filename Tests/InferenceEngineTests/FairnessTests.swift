// Tandem — Apache-2.0

import Requests
import TestSupport
import Testing

@testable import InferenceEngine

/// Who waits for whom: short prompts beside long ones, prompts beside generation, and sequences that lost their blocks.
@Suite struct FairnessTests {
    private func request(_ id: RequestID, _ count: Int, new: Int = 4, priority: Int32 = 0) -> EngineRequest {
        EngineRequest(id: id, tokens: prompt(count, seed: id), maximumNewTokens: new, priority: priority)
    }

    /// How many steps it takes until a request has its first token.
    private func stepsToFirstToken(_ id: RequestID, _ harness: inout Harness) throws -> Int {
        var steps = 0
        while harness.collected[id] == nil {
            let worked = try harness.round()
            steps += 1
            try #require(worked && steps < 1000, "request \(id) gets no token")
        }
        return steps
    }

    // MARK: - Short prompts

    @Test func aShortPromptHasItsTokenInTheNextStepBesideLongOnes() throws {
        var harness = try Harness(.small(slots: 8, tokensPerStep: 64, contextLength: 1000), blocks: 500)
        for id in 1...4 as ClosedRange<RequestID> { try harness.add(request(id, 900)) }
        _ = try harness.round()
        let short = request(9, 30)
        try harness.add(short)
        #expect(try stepsToFirstToken(9, &harness) == 1)
        // The step was full, and more than half of it was for the first in order.
        #expect(harness.plans.last?.rows.map(\.tokenCount).sorted() == [30, 34])
        try harness.runToEnd()
        harness.expectEmpty()
        for id in 1...4 as ClosedRange<RequestID> {
            #expect(harness.collected[id]?.answer == harness.expected(request(id, 900)))
        }
        #expect(harness.collected[9]?.answer == harness.expected(short))
    }

    @Test func shortPromptsDoNotStopALongOne() throws {
        var harness = try Harness(.small(slots: 8, tokensPerStep: 64, contextLength: 1000), blocks: 500)
        try harness.add(request(1, 640, new: 1))
        var steps = 0
        var next: RequestID = 2
        while harness.collected[1] == nil {
            for _ in 0..<3 {
                try harness.add(request(next, 20, new: 1))
                next += 1
            }
            _ = try harness.round()
            steps += 1
            try #require(steps < 100)
        }
        // At least 32 of 64 tokens of each step are its own.
        #expect(steps <= 20)
        try harness.runToEnd()
        harness.expectEmpty()
    }

    @Test func aShortPromptOvertakesNoneThatWaitsForBlocksOrSlots() throws {
        // The second needs 8 blocks, of which the first leaves 7: what comes behind has to wait too.
        var harness = try Harness(.small(slots: 8, tokensPerStep: 32, contextLength: 256), blocks: 16)
        for id in 1...2 as ClosedRange<RequestID> { try harness.add(request(id, 128 + 16 * (2 - Int(id)), new: 1)) }
        try harness.add(request(3, 10, new: 1))
        _ = try harness.round()
        #expect(harness.plans.last?.rows.map(\.tokenCount) == [32])
        try harness.runToEnd()
        harness.expectEmpty()

        harness = try Harness(.small(slots: 2, tokensPerStep: 32, contextLength: 256), blocks: 64)
        for id in 1...2 as ClosedRange<RequestID> { try harness.add(request(id, 128, new: 1)) }
        try harness.add(request(3, 10, new: 1))
        _ = try harness.round()
        #expect(harness.plans.last?.rows.map(\.tokenCount) == [32])
        try harness.runToEnd()
        harness.expectEmpty()
    }

    @Test func aShortPromptOvertakesNoBetterPriority() throws {
        var harness = try Harness(.small(slots: 8, tokensPerStep: 32, contextLength: 256), blocks: 64)
        try harness.add(request(1, 200, new: 1, priority: -1))
        _ = try harness.round()
        try harness.add(request(2, 10, new: 1))
        _ = try harness.round()
        #expect(harness.plans.last?.rows.map(\.tokenCount) == [32])
        try harness.add(request(3, 10, new: 1, priority: -1))
        _ = try harness.round()
        #expect(harness.plans.last?.rows.map(\.tokenCount).sorted() == [10, 22])
    }

    // MARK: - Target time

    /// A device of 1 ms a token.
    private func timed(target: UInt64?, asynchronous: Bool = false) throws -> Harness {
        var configuration = SchedulerConfiguration.small(
            slots: 8, tokensPerStep: 512, contextLength: 2000, asynchronous: asynchronous)
        configuration.targetStepNanoseconds = target
        var harness = try Harness(configuration, blocks: 600)
        harness.stepTime = { UInt64($0.tokens.count) * 1_000_000 }
        return harness
    }

    @Test(arguments: [false, true]) func stepsThatGenerateStayUnderTheTarget(asynchronous: Bool) throws {
        var harness = try timed(target: 100_000_000, asynchronous: asynchronous)
        // Without generation there is nobody to hold up.
        try harness.add(request(1, 512, new: 300))
        _ = try stepsToFirstToken(1, &harness)
        #expect(harness.plans.first?.tokens.count == 512)
        try harness.add(request(2, 1500))
        while harness.collected[2] == nil { _ = try harness.round() }
        let mixed = harness.plans.dropFirst(3).filter { $0.rows.count > 1 }.map(\.tokens.count)
        // Halved in every step until they fit.
        #expect(mixed.count > 10)
        #expect(mixed.dropFirst(4).allSatisfy { $0 <= 100 })
        #expect(mixed.dropFirst(4).dropLast(2).allSatisfy { $0 >= 90 })
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.collected[2]?.answer == harness.expected(request(2, 1500)))
    }

    @Test func aHopelessTargetLeavesABlock() throws {
        var harness = try timed(target: 1)
        try harness.add(request(1, 16, new: 200))
        _ = try stepsToFirstToken(1, &harness)
        for _ in 0..<10 { _ = try harness.round() }
        try harness.add(request(2, 160))
        #expect(try stepsToFirstToken(2, &harness) == 10)
    }

    @Test func withoutATargetNothingIsLimited() throws {
        var harness = try timed(target: nil)
        #expect(harness.scheduler.tokenBudget == nil)
        try harness.add(request(1, 16, new: 200))
        _ = try stepsToFirstToken(1, &harness)
        try harness.add(request(2, 1000))
        _ = try harness.round()
        #expect(harness.plans.last?.tokens.count == 512)
    }

    // MARK: - Preemption

    @Test(arguments: [false, true]) func aPreemptedSequenceGoesOnFromItsOwnBlocks(asynchronous: Bool) throws {
        var harness = try Harness(.small(asynchronous: asynchronous), blocks: 10)
        let requests = [request(1, 30, new: 90), request(2, 60, new: 60)]
        for request in requests { try harness.add(request) }
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.scheduler.counters.preemptions == 1)
        #expect(harness.resumedFromCache == 1)
        for request in requests {
            #expect(harness.collected[request.id]?.answer == harness.expected(request))
            // What it found of its own says nothing of what the request found.
            #expect(harness.collected[request.id]?.cachedPromptTokens == 0)
        }
        let computed = harness.plans.reduce(0) { $0 + $1.tokens.count }
        // It had about 95 tokens when it was preempted.
        #expect(computed < 119 + 119 + 70)
    }

    @Test func aNewcomerLeavesThoseThatRunABlockEach() throws {
        var harness = try Harness(.small(slots: 4), blocks: 5)
        try harness.add(request(1, 30, new: 30))
        _ = try harness.round()
        // 2 blocks are taken, 3 free, and 3 are needed: the first one could not go on for long.
        try harness.add(request(2, 40, new: 2))
        _ = try harness.round()
        #expect(harness.scheduler.counters.runningSequences == 1)
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.scheduler.counters.preemptions == 0)
    }
}
