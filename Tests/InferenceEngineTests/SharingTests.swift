// Tandem — Apache-2.0

import InferenceEngine
import Requests
import TestSupport
import Testing

/// Sequences that arrive together and begin alike.
@Suite struct SharingTests {
    private func choices(_ count: Int, of tokens: [TokenID], new: Int = 5) -> [EngineRequest] {
        (0..<count).map { index in
            EngineRequest(
                id: RequestID(index + 1), tokens: tokens,
                sampling: SamplingParameters(temperature: 0.5, seed: 7, choiceIndex: UInt32(index)),
                maximumNewTokens: new)
        }
    }

    private func promptTokens(_ harness: Harness) -> Int {
        harness.plans.flatMap(\.rows).reduce(0) { $0 + ($1.tokenCount > 1 ? Int($1.tokenCount) : 0) }
    }

    @Test(arguments: [false, true]) func choicesComputeTheirPromptOnce(asynchronous: Bool) throws {
        var harness = try Harness(.small(slots: 8, tokensPerStep: 128, asynchronous: asynchronous))
        let requests = choices(8, of: prompt(100))
        for request in requests { try harness.add(request) }
        try harness.runToEnd()
        harness.expectEmpty()
        for request in requests {
            #expect(harness.collected[request.id]?.answer == harness.expected(request))
        }
        // Six full blocks are shared, four tokens are each one's own.
        #expect(promptTokens(harness) == 100 + 7 * 4)
        #expect(requests.dropFirst().allSatisfy { harness.collected[$0.id]?.cachedPromptTokens == 96 })
    }

    @Test func whoeverSharesLittleDoesNotWait() throws {
        var harness = try Harness(.small(slots: 4, tokensPerStep: 128))
        let head = prompt(16, seed: 3)
        for id in 1...3 {
            try harness.add(
                EngineRequest(
                    id: RequestID(id), tokens: head + prompt(20, seed: UInt64(10 + id)), maximumNewTokens: 1))
        }
        try harness.mustSubmit()
        #expect(harness.plans[0].rows.count == 3)
        try harness.runToEnd()
        harness.expectEmpty()
    }

    @Test func othersRunWhileSomeWait() throws {
        var harness = try Harness(.small(slots: 4, tokensPerStep: 128))
        for request in choices(2, of: prompt(64)) { try harness.add(request) }
        try harness.add(EngineRequest(id: 9, tokens: prompt(30, seed: 8), maximumNewTokens: 2))
        try harness.mustSubmit()
        // The second choice waits for the first, the request behind it does not.
        #expect(harness.plans[0].rows.map(\.tokenCount) == [64, 30])
        try harness.runToEnd()
        harness.expectEmpty()
    }

    @Test func whoWaitsGoesOnWhenTheOwnerIsGone() throws {
        for ending in 0..<3 {
            var harness = try Harness(.small(slots: 4, tokensPerStep: 32))
            let requests = choices(2, of: prompt(100))
            for request in requests { try harness.add(request) }
            try harness.mustSubmit()
            #expect(harness.plans[0].rows.count == 1)
            switch ending {
            case 0: harness.scheduler.cancel(1)
            case 1: harness.scheduler.pause(1)
            default:
                harness.scheduler.firstStepFailed(RequestFailure(kind: .engine, message: "lost"))
                harness.tickets.removeAll()
                harness.collectReady()
            }
            harness.collectReady()
            #expect(harness.scheduler.violations() == [])
            if ending == 2 {
                // The executor's step is still to be redeemed.
                _ = try? harness.executor.result(of: StepTicket(step: 1), into: &harness.result)
            }
            try harness.runToEnd()
            #expect(harness.collected[2]?.answer == harness.expected(requests[1]))
            harness.scheduler.cancel(1)
            harness.collectReady()
            harness.expectEmpty()
        }
    }

    @Test func differentSaltsShareNothing() throws {
        var harness = try Harness(.small(slots: 4, tokensPerStep: 128))
        var requests = choices(2, of: prompt(64))
        requests[1].cacheSalt = "other"
        for request in requests { try harness.add(request) }
        try harness.mustSubmit()
        #expect(harness.plans[0].rows.count == 2)
        try harness.runToEnd()
        harness.expectEmpty()
    }
}
