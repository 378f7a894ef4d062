// Tandem — Apache-2.0

import InferenceEngine
import Requests
import TestSupport
import Testing

/// Random workloads on small machines: whatever the scheduler does, each request must get what it gets alone.
@Suite struct RandomWorkloadTests {
    @Test(arguments: 0..<40) func everyRequestGetsWhatItGetsAlone(seed: Int) throws {
        let workload = try RandomWorkload(seed: UInt64(seed) &* 7919, requests: 60)
        for asynchronous in [false, true] {
            check(try workload.run(asynchronous: asynchronous), workload)
        }
        // It does not matter how long steps take.
        check(try workload.run(asynchronous: seed % 2 == 0, timed: true), workload)
        // With a machine that has room for everything nothing is preempted, and nothing else changes.
        var roomy = workload
        roomy.blocks *= 20
        roomy.configuration.slots = 60
        let harness = try roomy.run(asynchronous: seed % 2 == 1)
        #expect(harness.scheduler.counters.preemptions == 0)
        check(harness, workload)
    }

    /// Guesses change how many steps it takes, and nothing else.
    @Test(arguments: 0..<20) func guessesChangeNothing(seed: Int) throws {
        let workload = try RandomWorkload(seed: UInt64(seed) &* 104_729, requests: 40)
        for asynchronous in [false, true] {
            check(try workload.run(asynchronous: asynchronous, drafts: 7, period: 9), workload)
        }
    }

    private func check(_ harness: Harness, _ workload: RandomWorkload) {
        harness.expectEmpty()
        #expect(harness.collected.count == workload.requests.count)
        for request in workload.requests {
            let name: Comment = "request \(request.id), asynchronous: \(harness.scheduler.configuration.asynchronous)"
            guard let collected = harness.collected[request.id] else { continue }
            let expected = harness.expected(request)
            if collected.answer.finish == .cancelled {
                #expect(workload.cancelled.contains(request.id), name)
                #expect(expected.tokens.starts(with: collected.answer.tokens), name)
                #expect(expected.promptLogProbabilities.starts(with: collected.answer.promptLogProbabilities), name)
            } else {
                #expect(collected.answer == expected, name)
            }
            let cached = min(harness.firstStarts[request.id] ?? 0, request.promptCount)
            #expect(collected.cachedPromptTokens == cached, name)
        }
    }

    /// The workloads above must reach what they are for.
    @Test func workloadsPreemptShareAndWaste() throws {
        var preemptions: UInt64 = 0
        var cached: UInt64 = 0
        var cachedBehindWindows: UInt64 = 0
        var trimmed = 0
        var resumedFromCache = 0
        var placeholders = 0
        var chunks = 0
        for seed in 0..<30 {
            let workload = try RandomWorkload(seed: UInt64(seed) &* 7919, requests: 60)
            let harness = try workload.run(asynchronous: true)
            let counters = harness.scheduler.counters
            preemptions += counters.preemptions
            cached += counters.cachedPromptTokens
            if workload.windows.contains(where: { $0 != nil }) { cachedBehindWindows += counters.cachedPromptTokens }
            for plan in harness.plans {
                if plan.blockTableUpdates.contains(where: { update in
                    update.firstEntry > 0 && plan.addedSlots.contains { $0.slot == update.slot }
                }) {
                    trimmed += 1
                }
                for row in plan.rows {
                    if row.firstToken != .given { placeholders += 1 }
                    if row.tokenCount > 1, !row.output.sample { chunks += 1 }
                }
            }
            resumedFromCache += harness.resumedFromCache
        }
        #expect(preemptions > 50)
        #expect(cached > 500)
        #expect(cachedBehindWindows > 500)
        #expect(trimmed > 20)
        #expect(resumedFromCache > 20)
        #expect(placeholders > 500)
        #expect(chunks > 100)
    }
}
