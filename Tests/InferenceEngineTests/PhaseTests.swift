// Tandem — Apache-2.0

import InferenceEngine
import Requests
import TestSupport
import Testing

/// What first outputs say of how long the engine had computed, and what steps computed.
@Suite struct PhaseTests {
    @Test func theFirstOutputSaysHowLongThePromptTook() throws {
        var harness = try Harness(.small(slots: 1))
        harness.time = 1_000_000
        // Two steps of 32 tokens and one of 16; the other one waits for the only slot meanwhile.
        try harness.add(EngineRequest(id: 1, tokens: prompt(80), maximumNewTokens: 3))
        try harness.add(EngineRequest(id: 2, tokens: prompt(8, seed: 2), maximumNewTokens: 1))
        harness.time = 5_000_000
        while try harness.round() { harness.time = harness.time.map { $0 + 10_000_999 } }
        // Planned at 5 ms; the third step's result is taken two rounds later.
        #expect(harness.collected[1]?.prefillMicroseconds == 20_001)
        // The result of a single step is taken in the round that plans it.
        #expect(harness.collected[2]?.prefillMicroseconds == 0)
        #expect(harness.scheduler.counters.stepSizes.counts.reduce(0, +) == harness.scheduler.counters.steps)
        #expect(harness.scheduler.counters.stepSizes.tokens == 80 + 2 + 8)
        // 32, 32, 16, 1, 1, 8
        #expect(harness.scheduler.counters.stepSizes.counts.prefix(4) == [2, 1, 1, 2])
        harness.expectEmpty()
    }

    @Test func whatNeverRanOrHasNoClockSaysNothing() throws {
        var harness = try Harness(.small(slots: 1))
        harness.time = 1000
        try harness.add(EngineRequest(id: 1, tokens: prompt(8), maximumNewTokens: 2))
        try harness.add(EngineRequest(id: 2, tokens: prompt(8), maximumNewTokens: 2))
        try harness.mustSubmit()
        harness.scheduler.cancel(2)
        try harness.runToEnd()
        #expect(harness.collected[2]?.answer.finish == .cancelled && harness.collected[2]?.prefillMicroseconds == nil)
        #expect(harness.collected[1]?.prefillMicroseconds == 0)
        harness.time = nil
        try harness.add(EngineRequest(id: 3, tokens: prompt(8), maximumNewTokens: 2))
        try harness.runToEnd()
        #expect(harness.collected[3]?.prefillMicroseconds == nil)
    }
}
