// Tandem — Apache-2.0

import Foundation
import InferenceEngine
import LanguageModel
import Requests
import Synchronization
import TestSupport
import Testing

/// What a step loop reported, and waiting for it.
final class Reports: Sendable {
    private struct State {
        var outputs: [RequestID: [SequenceOutput]] = [:]
        var statistics: [StepStatistics] = []
        var fatal: [ExecutorError] = []
        var finished = 0
    }

    private let state = Mutex(State())
    private let finishes = DispatchSemaphore(value: 0)
    let ended = DispatchSemaphore(value: 0)

    var handlers: StepLoopHandlers {
        StepLoopHandlers(
            report: { report in
                let ended = self.state.withLock { state in
                    for output in report.outputs { state.outputs[output.id, default: []].append(output) }
                    if let statistics = report.statistics { state.statistics.append(statistics) }
                    return report.outputs.count { $0.finish != nil }
                }
                for _ in 0..<ended { self.finishes.signal() }
            },
            fatal: { error in self.state.withLock { $0.fatal.append(error) } }
        )
    }

    var fatal: [ExecutorError] { state.withLock { $0.fatal } }
    var statistics: [StepStatistics] { state.withLock { $0.statistics } }

    func outputs(_ id: RequestID) -> [SequenceOutput] { state.withLock { $0.outputs[id] ?? [] } }

    func tokens(_ id: RequestID) -> [TokenID] { outputs(id).flatMap(\.tokens) }

    /// Waits until so many more sequences ended; the time limit only ends a test that has failed anyhow.
    func waitForFinishes(_ count: Int) throws {
        for _ in 0..<count {
            try #require(finishes.wait(timeout: .now() + 20) == .success, "a sequence does not end")
        }
    }
}

@Suite struct StepLoopTests {
    private static let model = MockModel(vocabularySize: 97)

    private func makeLoop(
        _ reports: Reports, configuration: SchedulerConfiguration = .small(asynchronous: true),
        options: StepLoopOptions = StepLoopOptions(), faults: [MockExecutor.Fault] = [],
        onResult: (@Sendable (UInt64) -> Void)? = nil, onSubmit: (@Sendable (StepPlan) -> Void)? = nil
    ) throws -> StepLoop {
        let executor = MockExecutor(model: Self.model, blockCount: 64)
        executor.faults = faults
        executor.onSubmit = onSubmit
        executor.onResult = onResult
        executor.onShutdown = { reports.ended.signal() }
        return try StepLoop(
            executor: executor, configuration: configuration, keyValueBytes: 0,
            groups: [KeyValueGroup(layers: [0], window: nil)], options: options,
            now: FakeClock().now, handlers: reports.handlers)
    }

    /// A clock that goes on by a millisecond with every look at it.
    private final class FakeClock: Sendable {
        private let time = Atomic<UInt64>(0)

        var now: @Sendable () -> UInt64 {
            { self.time.wrappingAdd(1_000_000, ordering: .relaxed).newValue }
        }
    }

    private func end(_ loop: StepLoop, _ reports: Reports) {
        loop.stop()
        loop.join()
        #expect(reports.ended.wait(timeout: .now()) == .success, "the executor was shut down")
    }

    private func request(_ id: RequestID, count: Int = 20, new: Int = 10) -> EngineRequest {
        EngineRequest(id: id, tokens: prompt(count, seed: id), maximumNewTokens: new)
    }

    @Test(arguments: [false, true]) func servesRequestsAndDrains(asynchronous: Bool) throws {
        let reports = Reports()
        let loop = try makeLoop(reports, configuration: .small(asynchronous: asynchronous))
        #expect(loop.description.asynchronous == asynchronous)
        #expect(loop.description.blockCount == 64)
        #expect(loop.description.maximumSequenceLength == 256)
        let requests = (1...30).map { request($0) }
        loop.send(requests.map { StepCommand.submit($0) })
        try reports.waitForFinishes(30)
        for request in requests {
            #expect(reports.tokens(request.id) == Self.model.answer(request, limit: 256).tokens)
            #expect(reports.outputs(request.id).count { $0.finish != nil } == 1)
        }
        let drained = DispatchSemaphore(value: 0)
        loop.drain { drained.signal() }
        #expect(drained.wait(timeout: .now() + 20) == .success)
        loop.submit(request(31))
        try reports.waitForFinishes(1)
        #expect(reports.outputs(31).last?.failure?.kind == .draining)
        end(loop, reports)

        let last = try #require(reports.statistics.last)
        #expect(last.counters.generatedTokens == 300)
        #expect(last.counters.promptTokens == 600)
        #expect(last.counters.runningSequences == 0)
        #expect(last.counters.usedBlocks == 0)
        #expect(last.profile.steps == last.counters.steps)
        #expect(last.times.device > 0)
        #expect(last.times.host > 0)
    }

    @Test(arguments: [(false, [64, 32, 17, 17]), (true, [64, 64, 32, 17])])
    func measuredStepsLimitPrompts(asynchronous: Bool, sizes: [Int]) throws {
        let reports = Reports()
        let submitted = Mutex<[Int]>([])
        var configuration = SchedulerConfiguration.small(tokensPerStep: 64, asynchronous: asynchronous)
        // The clock goes on by milliseconds in each step, which is always too long: half the tokens, down to a block.
        configuration.targetStepNanoseconds = 1
        let loop = try makeLoop(
            reports, configuration: configuration,
            onSubmit: { plan in submitted.withLock { $0.append(plan.tokens.count) } })
        loop.send([.submit(request(1, count: 20, new: 30)), .submit(request(2, count: 200))])
        try reports.waitForFinishes(2)
        end(loop, reports)
        // A step may have one token to generate beside a block of the prompt.
        #expect(submitted.withLock { Array($0.prefix(4)) } == sizes)
        #expect(reports.tokens(2) == Self.model.answer(request(2, count: 200), limit: 256).tokens)
    }

    @Test func refusalsAreReported() throws {
        let reports = Reports()
        let loop = try makeLoop(reports)
        loop.submit(request(1, count: 1000))
        try reports.waitForFinishes(1)
        #expect(reports.outputs(1).map(\.failure?.kind) == [.doesNotFit])
        end(loop, reports)
    }

    @Test func aCancelWithAStepInFlightYieldsOneLastOutput() throws {
        let reports = Reports()
        let inStep = DispatchSemaphore(value: 0)
        let goOn = DispatchSemaphore(value: 0)
        let loop = try makeLoop(reports) { step in
            guard step == 3 else { return }
            inStep.signal()
            _ = goOn.wait(timeout: .now() + 20)
        }
        loop.submit(request(1, new: 100))
        #expect(inStep.wait(timeout: .now() + 20) == .success)
        loop.cancel(1)
        goOn.signal()
        try reports.waitForFinishes(1)
        loop.submit(request(2))
        try reports.waitForFinishes(1)
        end(loop, reports)
        let outputs = reports.outputs(1)
        #expect(outputs.last?.finish == .cancelled)
        #expect(outputs.count { $0.finish != nil } == 1)
        #expect(reports.tokens(1).count == 3)
        #expect(reports.tokens(2) == Self.model.answer(request(2), limit: 256).tokens)
    }

    @Test func pauseAndResumeReachTheScheduler() throws {
        let reports = Reports()
        let loop = try makeLoop(reports)
        loop.send([.submit(request(1)), .pause(1), .submit(request(2))])
        try reports.waitForFinishes(1)
        #expect(reports.outputs(1).isEmpty)
        loop.resume(1, credits: .max)
        try reports.waitForFinishes(1)
        #expect(reports.tokens(1) == Self.model.answer(request(1), limit: 256).tokens)
        end(loop, reports)
    }

    @Test func passingFaultsAreRetried() throws {
        let reports = Reports()
        let retry = ExecutorError(kind: .retry, message: "again")
        let calls: [MockExecutor.Call] = [.submit, .sample, .result]
        let loop = try makeLoop(
            reports, faults: calls.flatMap { call in [2, 3].map { .init(call: call, number: $0, error: retry) } })
        loop.submit(request(1))
        try reports.waitForFinishes(1)
        #expect(reports.tokens(1) == Self.model.answer(request(1), limit: 256).tokens)
        end(loop, reports)
    }

    @Test(arguments: [
        (ExecutorError.Kind.outOfMemory, MockExecutor.Call.submit), (.unsupported, .submit), (.retry, .submit),
        (.outOfMemory, .result), (.unsupported, .result),
    ])
    func aFailedStepFailsItsRequestsOnly(kind: ExecutorError.Kind, call: MockExecutor.Call) throws {
        let reports = Reports()
        let error = ExecutorError(kind: kind, message: "this step fails")
        // A fault that asks to be retried has to outlast the retries.
        let loop = try makeLoop(
            reports, options: StepLoopOptions(maximumRetries: 1),
            faults: (kind == .retry ? [2, 3] : [2]).map { .init(call: call, number: $0, error: error) })
        loop.submit(request(1))
        try reports.waitForFinishes(1)
        #expect(reports.outputs(1).last?.failure == RequestFailure(kind: .engine, message: "this step fails"))
        loop.submit(request(2))
        try reports.waitForFinishes(1)
        #expect(reports.tokens(2) == Self.model.answer(request(2), limit: 256).tokens)
        #expect(reports.fatal.isEmpty)
        end(loop, reports)
    }

    @Test(arguments: [MockExecutor.Call.submit, .sample, .result])
    func aFatalErrorFailsEverything(call: MockExecutor.Call) throws {
        let reports = Reports()
        let fatal = ExecutorError(kind: .fatal, message: "the device is gone")
        let loop = try makeLoop(reports, faults: [.init(call: call, number: 3, error: fatal)])
        loop.send((1...9).map { .submit(request($0)) })
        try reports.waitForFinishes(9)
        for id in 1...9 as ClosedRange<RequestID> {
            #expect(reports.outputs(id).last?.failure?.message == "the device is gone")
        }
        loop.submit(request(10))
        try reports.waitForFinishes(1)
        #expect(reports.outputs(10).last?.failure?.kind == .draining)
        #expect(reports.fatal == [fatal])
        end(loop, reports)
    }

    @Test func aResultThatIsNeverThereIsFatal() throws {
        let reports = Reports()
        let retry = ExecutorError(kind: .retry, message: "not yet")
        let loop = try makeLoop(
            reports, options: StepLoopOptions(maximumRetries: 1),
            faults: [2, 3].map { .init(call: .result, number: $0, error: retry) })
        loop.submit(request(1))
        try reports.waitForFinishes(1)
        end(loop, reports)
        #expect(reports.fatal == [retry])
    }

    @Test func stopFailsWhatIsLeft() throws {
        let reports = Reports()
        let loop = try makeLoop(reports)
        loop.send([.submit(request(1)), .pause(1), .stop])
        loop.join()
        try reports.waitForFinishes(1)
        #expect(reports.outputs(1).map(\.finish) == [.failed])
        #expect(reports.ended.wait(timeout: .now()) == .success)
    }

    /// The clock goes on by a millisecond a look, so a stall of n ms takes n + 1.
    @Test(arguments: [false, true]) func stallsCostTimeAndChangeNothing(asynchronous: Bool) throws {
        let millisecond: UInt64 = 1_000_000
        let stalls = HostStalls(
            perStep: 3 * millisecond, perSequence: 2 * millisecond, perRequest: millisecond,
            perPromptToken: millisecond / 10)
        let reports = Reports()
        let loop = try makeLoop(
            reports, configuration: .small(asynchronous: asynchronous), options: StepLoopOptions(stalls: stalls))
        loop.submit(request(1))
        try reports.waitForFinishes(1)
        end(loop, reports)
        #expect(reports.tokens(1) == Self.model.answer(request(1), limit: 256).tokens)
        let last = try #require(reports.statistics.last)
        let steps = last.counters.steps
        // One sequence a step; 20 prompt tokens.
        #expect(last.times.stall == (steps * (3 + 2 + 1) + (1 + 2 + 1)) * millisecond)
        #expect(last.times.host + last.times.wait == last.times.device + last.times.gap)
        // Steps planned one ahead stall while the device works.
        if asynchronous {
            #expect(last.times.gap < last.times.stall)
        } else {
            #expect(last.times.gap > last.times.stall)
        }
    }

    @Test func anExecutorThatCannotPrepareThrows() throws {
        let reports = Reports()
        let error = ExecutorError(kind: .outOfMemory, message: "no memory for keys and values")
        #expect(throws: error) {
            _ = try makeLoop(reports, faults: [.init(call: .prepare, number: 1, error: error)])
        }
        #expect(reports.ended.wait(timeout: .now()) == .success)
    }
}
