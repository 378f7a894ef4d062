// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Requests
import TestSupport
import Testing

@Suite struct SchedulerTests {
    private func failure(_ configuration: SchedulerConfiguration, blocks: Int = 64, _ request: EngineRequest) throws
        -> RequestFailure?
    {
        var harness = try Harness(configuration, blocks: blocks)
        do throws(RequestFailure) {
            try harness.scheduler.add(request)
            return nil
        } catch {
            #expect(harness.scheduler.unfinishedCount == 0)
            return error
        }
    }

    // MARK: - Refusals

    @Test func refusesWhatNeverFitsTheContextWithBothNumbers() throws {
        let request = EngineRequest(id: 1, tokens: prompt(100), maximumNewTokens: 5)
        let refused = try failure(.small(contextLength: 100), request)
        #expect(refused?.kind == .doesNotFit)
        #expect(refused?.message.contains("101") == true)
        #expect(refused?.message.contains("context length is 100 ") == true)
        #expect(try failure(.small(contextLength: 101), request) == nil)
    }

    @Test func refusesWhatNeverFitsTheCacheWithBothNumbers() throws {
        let request = EngineRequest(id: 1, tokens: prompt(32), maximumNewTokens: 1)
        let refused = try failure(.small(), blocks: 2, request)
        #expect(refused?.kind == .doesNotFit)
        #expect(refused?.message.contains("33") == true)
        #expect(refused?.message.contains("holds 32 ") == true)
        var promptOnly = request
        promptOnly.maximumNewTokens = 0
        #expect(try failure(.small(), blocks: 2, promptOnly) == nil)
    }

    @Test func refusesInvalidValues() throws {
        let good = EngineRequest(id: 1, tokens: [1, 2, 3], maximumNewTokens: 4)
        let changes: [(inout EngineRequest) -> Void] = [
            { $0.tokens = [] }, { $0.resumeOffset = 3 }, { $0.resumeOffset = -1 }, { $0.maximumNewTokens = -1 },
            { $0.logProbabilities = 21 }, { $0.promptLogProbabilities = -1 }, { $0.tokens = [1, 97] },
            { $0.tokens = [-1] },
        ]
        for change in changes {
            var request = good
            change(&request)
            #expect(try failure(.small(), request)?.kind == .invalid)
        }
        var huge = good
        huge.maximumNewTokens = .max
        #expect(try failure(.small(), huge) == nil)
    }

    @Test func refusesADuplicateIDAndAFullQueue() throws {
        var harness = try Harness(.small(slots: 1, maximumWaiting: 2))
        try harness.add(EngineRequest(id: 1, tokens: [1], maximumNewTokens: 8))
        _ = try harness.round()
        try harness.add(EngineRequest(id: 2, tokens: [1], maximumNewTokens: 8))
        try harness.add(EngineRequest(id: 3, tokens: [1], maximumNewTokens: 8))
        #expect(throws: RequestFailure.self) {
            try harness.add(EngineRequest(id: 2, tokens: [1], maximumNewTokens: 8))
        }
        do {
            try harness.add(EngineRequest(id: 4, tokens: [1], maximumNewTokens: 8))
            Issue.record("a full queue took a request")
        } catch let error as RequestFailure {
            #expect(error.kind == .overloaded)
        }
    }

    @Test func refusesAMachineThatRunsNothing() throws {
        #expect(throws: ExecutorError.self) { _ = try Harness(.small(), blocks: 0) }
        #expect(throws: ExecutorError.self) { _ = try Harness(.small(slots: 0)) }
        #expect(throws: ExecutorError.self) { _ = try Harness(.small(tokensPerStep: 0)) }
    }

    // MARK: - Ends

    @Test(arguments: [false, true]) func endsAtStopTokenLengthAndContext(asynchronous: Bool) throws {
        var harness = try Harness(.small(contextLength: 40, asynchronous: asynchronous))
        let base = EngineRequest(id: 1, tokens: prompt(10), maximumNewTokens: 20)
        let free = harness.expected(base).tokens
        var stopping = base
        stopping.id = 2
        stopping.stopTokens = [free[5]]
        var long = base
        long.id = 3
        long.maximumNewTokens = 1000
        for request in [base, stopping, long] { try harness.add(request) }
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.collected[1]?.answer.finish == .length)
        #expect(harness.collected[1]?.answer.tokens.count == 20)
        #expect(harness.collected[2]?.answer.finish == .stop)
        #expect(harness.collected[2]?.answer.tokens.last == free[5])
        #expect(harness.collected[3]?.answer.finish == .length)
        #expect(harness.collected[3]?.answer.tokens.count == 30)
    }

    @Test func aLengthKnownAheadWastesNoRow() throws {
        var harness = try Harness(.small(asynchronous: true))
        try harness.add(EngineRequest(id: 1, tokens: prompt(10), maximumNewTokens: 6))
        try harness.runToEnd()
        #expect(harness.plans.flatMap(\.rows).count == 6)
    }

    @Test func aStopTokenIsNoticedOneStepLate() throws {
        var harness = try Harness(.small(asynchronous: true))
        var request = EngineRequest(id: 1, tokens: prompt(10), maximumNewTokens: 20)
        let free = harness.expected(request).tokens
        let stop = try #require(free.indices.first { $0 > 2 && !free[..<$0].contains(free[$0]) })
        request.stopTokens = [free[stop]]
        try harness.add(request)
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.collected[1]?.answer == harness.expected(request))
        #expect(harness.plans.flatMap(\.rows).count == stop + 2)
    }

    @Test func promptOnlyComputesAndReportsThePrompt() throws {
        var harness = try Harness(.small(tokensPerStep: 7))
        let request = EngineRequest(
            id: 1, tokens: prompt(30), maximumNewTokens: 0, promptLogProbabilities: 2)
        try harness.add(request)
        try harness.runToEnd()
        harness.expectEmpty()
        let answer = try #require(harness.collected[1]?.answer)
        #expect(answer.promptLogProbabilities.count == 29)
        #expect(answer == harness.expected(request))
        #expect(harness.plans.reduce(0) { $0 + $1.tokens.count } == 30)
    }

    @Test func aResumedSequenceCountsWhatItHad() throws {
        var harness = try Harness(.small())
        let request = EngineRequest(
            id: 1, tokens: prompt(10), sampling: SamplingParameters(temperature: 1, seed: 5), maximumNewTokens: 12)
        let whole = harness.expected(request)
        var resumed = request
        resumed.tokens += whole.tokens.prefix(7)
        resumed.resumeOffset = 7
        try harness.add(resumed)
        try harness.runToEnd()
        #expect(harness.collected[1]?.answer.tokens == Array(whole.tokens.dropFirst(7)))

        var done = request
        done.id = 2
        done.tokens += whole.tokens
        done.resumeOffset = 12
        try harness.add(done)
        #expect(harness.collected[2]?.answer.finish == .length)
        var stopped = resumed
        stopped.id = 3
        stopped.stopTokens = [whole.tokens[6]]
        try harness.add(stopped)
        #expect(harness.collected[3]?.answer.finish == .stop)
        #expect(harness.collected[3]?.answer.tokens == [])
        harness.expectEmpty()
    }

    // MARK: - Order and budget

    @Test func generatingSequencesGoOnBesideALongPrompt() throws {
        var harness = try Harness(.small(tokensPerStep: 16), blocks: 64)
        try harness.add(EngineRequest(id: 1, tokens: prompt(4), maximumNewTokens: 30))
        _ = try harness.round()
        try harness.add(EngineRequest(id: 2, tokens: prompt(200, seed: 2), maximumNewTokens: 1))
        for _ in 0..<10 {
            _ = try harness.round()
            let rows = try #require(harness.plans.last).rows
            #expect(rows.map(\.tokenCount) == [1, 15])
        }
        #expect(harness.collected[1]?.answer.tokens.count == 11)
    }

    @Test func smallerPriorityRunsFirstThenArrival() throws {
        var harness = try Harness(.small(slots: 1))
        for (id, priority) in [(1, 5), (2, 0), (3, -1), (4, 0)] as [(RequestID, Int32)] {
            try harness.add(EngineRequest(id: id, tokens: [TokenID(id)], maximumNewTokens: 1, priority: priority))
        }
        try harness.runToEnd()
        #expect(harness.plans.flatMap(\.tokens) == [3, 2, 4, 1])
    }

    @Test(arguments: [false, true]) func theLastInOrderIsPreemptedAndLosesNothing(asynchronous: Bool) throws {
        var harness = try Harness(.small(asynchronous: asynchronous, prefixCaching: false), blocks: 5)
        let requests = (1...2).map {
            EngineRequest(id: $0, tokens: prompt(20, seed: $0), maximumNewTokens: 40, priority: -Int32($0))
        }
        for request in requests { try harness.add(request) }
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.scheduler.counters.preemptions == 1)
        for request in requests { #expect(harness.collected[request.id]?.answer == harness.expected(request)) }
        // The preempted one is request 1: 2 is computed once.
        let starts = harness.plans.flatMap(\.rows).filter { $0.startPosition == 0 }
        #expect(starts.count == 3)
    }

    // MARK: - Cancel, pause, resume

    @Test(arguments: [false, true]) func cancelFreesBlocksAtOnceWithAStepInFlight(asynchronous: Bool) throws {
        var harness = try Harness(.small(asynchronous: asynchronous), blocks: 4)
        try harness.add(EngineRequest(id: 1, tokens: prompt(60), maximumNewTokens: 3))
        try harness.mustSubmit()
        #expect(harness.scheduler.counters.usedBlocks == 4)
        harness.scheduler.cancel(1)
        harness.scheduler.cancel(1)
        harness.scheduler.cancel(99)
        harness.collectReady()
        #expect(harness.scheduler.counters.usedBlocks == 0)
        #expect(harness.collected[1]?.answer.finish == .cancelled)
        // Slot and blocks are used again while the step is still in flight.
        let next = EngineRequest(id: 2, tokens: prompt(50, seed: 9), maximumNewTokens: 3)
        try harness.add(next)
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.collected[2]?.answer == harness.expected(next))
    }

    @Test(arguments: [false, true]) func creditsLetSoManyTokensThrough(asynchronous: Bool) throws {
        var harness = try Harness(.small(asynchronous: asynchronous))
        let request = EngineRequest(id: 1, tokens: prompt(10), maximumNewTokens: 12)
        try harness.add(request)
        harness.scheduler.pause(1)
        try harness.runToEnd()
        #expect(harness.collected[1] == nil)
        for credits in [3, 2] as [UInt32] {
            harness.scheduler.resume(1, credits: credits)
            try harness.runToEnd()
        }
        #expect(harness.collected[1]?.answer.tokens.count == 5)
        #expect(harness.scheduler.counters.usedBlocks == 1)
        harness.scheduler.resume(1, credits: .max)
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.collected[1]?.answer == harness.expected(request))
    }

    @Test func aPausedSequenceGivesWayToOneThatRuns() throws {
        var harness = try Harness(.small(slots: 1), blocks: 4)
        let paused = EngineRequest(id: 1, tokens: prompt(10), maximumNewTokens: 12, priority: -1)
        let other = EngineRequest(id: 2, tokens: prompt(10, seed: 2), maximumNewTokens: 12)
        try harness.add(paused)
        _ = try harness.round()
        harness.scheduler.pause(1)
        try harness.add(other)
        try harness.runToEnd()
        #expect(harness.collected[2]?.answer == harness.expected(other))
        harness.scheduler.resume(1, credits: .max)
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.collected[1]?.answer == harness.expected(paused))
    }

    // MARK: - Prefix cache

    @Test func aPrefixIsSharedUpToTheLastToken() throws {
        var harness = try Harness(.small(tokensPerStep: 64))
        let tokens = prompt(48)
        func expectCached(_ id: RequestID, _ count: Int, _ change: (inout EngineRequest) -> Void = { _ in }) throws {
            var request = EngineRequest(id: id, tokens: tokens, maximumNewTokens: 2)
            change(&request)
            try harness.add(request)
            try harness.runToEnd()
            #expect(harness.collected[id]?.answer == harness.expected(request))
            #expect(harness.collected[id]?.cachedPromptTokens == count, "request \(id)")
        }
        try expectCached(1, 0)
        try expectCached(2, 32)
        try expectCached(3, 48) { $0.tokens.append(5) }
        try expectCached(4, 16) { $0.tokens[20] = ($0.tokens[20] + 1) % 97 }
        try expectCached(5, 0) { $0.cacheSalt = "other" }
        try expectCached(6, 0) { $0.promptLogProbabilities = 0 }
        let changes = harness.scheduler.takePrefixChanges()
        #expect(changes.stored.count == 3 + 2 + 3)
        harness.expectEmpty()
    }

    @Test func withoutPrefixCachingNothingIsShared() throws {
        var harness = try Harness(.small(prefixCaching: false))
        for id in 1...2 as ClosedRange<RequestID> {
            try harness.add(EngineRequest(id: id, tokens: prompt(40), maximumNewTokens: 2))
            try harness.runToEnd()
        }
        #expect(harness.collected[2]?.cachedPromptTokens == 0)
        let changes = harness.scheduler.takePrefixChanges()
        #expect(changes.stored.isEmpty)
    }

    // MARK: - Failed steps

    @Test func aRefusedStepFailsWhatItWouldHaveStarted() throws {
        var harness = try Harness(.small(asynchronous: true))
        let old = EngineRequest(id: 1, tokens: prompt(20), maximumNewTokens: 10)
        try harness.add(old)
        try harness.mustSubmit()
        try harness.add(EngineRequest(id: 2, tokens: prompt(20, seed: 2), maximumNewTokens: 10))
        let planned = harness.scheduler.schedule(into: &harness.plan)
        #expect(planned)
        harness.scheduler.lastStepWasRefused(RequestFailure(kind: .engine, message: "no memory"))
        harness.collectReady()
        #expect(harness.scheduler.violations() == [])
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.collected[1]?.answer == harness.expected(old))
        #expect(harness.collected[2]?.failure?.message == "no memory")
    }

    @Test func aLostStepFailsItsSequences() throws {
        var harness = try Harness(.small(asynchronous: true))
        try harness.add(EngineRequest(id: 1, tokens: prompt(20), maximumNewTokens: 10))
        try harness.mustSubmit()
        let second = EngineRequest(id: 2, tokens: prompt(20, seed: 2), maximumNewTokens: 10)
        try harness.add(second)
        try harness.mustSubmit()
        try harness.executor.result(of: harness.tickets.removeFirst(), into: &harness.result)
        harness.scheduler.firstStepFailed(RequestFailure(kind: .engine, message: "lost"))
        harness.collectReady()
        #expect(harness.scheduler.violations() == [])
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.collected[1]?.failure?.message == "lost")
        #expect(harness.collected[2]?.answer == harness.expected(second))
    }

    @Test func aResultThatDoesNotFitThePlanIsAnError() throws {
        var harness = try Harness(.small())
        try harness.add(EngineRequest(id: 1, tokens: prompt(20), maximumNewTokens: 10))
        try harness.mustSubmit()
        try harness.executor.result(of: harness.tickets.removeFirst(), into: &harness.result)
        let good = harness.result
        let changes: [(inout StepResult) -> Void] = [
            { $0.step += 1 }, { $0.rows = [] }, { $0.rows[0].slot = 3 }, { $0.rows[0].token = nil },
            { $0.rows[0].top = 0..<4 }, { $0.rows[0].prompt = 0..<1 },
        ]
        for change in changes {
            var bad = good
            change(&bad)
            var outputs: [SequenceOutput] = []
            #expect(throws: ExecutorError.self) { try harness.scheduler.finish(bad, into: &outputs) }
            #expect(outputs.isEmpty)
        }
        var outputs: [SequenceOutput] = []
        try harness.scheduler.finish(good, into: &outputs)
        #expect(outputs.count == 1)
    }
}
