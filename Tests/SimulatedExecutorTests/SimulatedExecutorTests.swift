// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Requests
import Testing
import VirtualDevice

@testable import SimulatedExecutor

@Suite struct SimulatedExecutorTests {
    /// Shared prefixes, small pools, chunks of any size, guesses: every request yields what it would alone.
    @Test(arguments: 0..<40)
    func anyScheduleYieldsTheSameTokens(seed: UInt64) throws {
        var random = SplitMix(state: seed)
        let blockSize = [1, 4, 16].randomElement(using: &random) ?? 16
        let configuration = SchedulerConfiguration(
            slots: Int.random(in: 1...8, using: &random), tokensPerStep: Int.random(in: 1...48, using: &random),
            contextLength: Int.random(in: 60...120, using: &random), blockSize: blockSize, maximumWaiting: 1000,
            vocabularySize: testVocabulary, asynchronous: seed % 2 == 0,
            prefixCaching: Int.random(in: 0..<5, using: &random) > 0,
            draftTokens: Int.random(in: 0...1, using: &random) * 4, hashSeed: seed)
        let window = Int.random(in: 2...50, using: &random)
        let windows: [Int?] = [[nil], [nil], [window, nil], [nil, window, 2 * window], [window]][
            Int.random(in: 0..<5, using: &random)]
        var fixture = try ExecutorFixture(
            configuration, windows: windows,
            blocks: windows.count * Int.random(in: 130...300, using: &random) / blockSize)
        let bases = (0..<3).map { prompt(80, seed: seed &+ UInt64($0)) }
        var requests: [EngineRequest] = []
        for id in 1...24 {
            let base = bases.randomElement(using: &random) ?? []
            var request = EngineRequest(
                id: RequestID(id), tokens: Array(base.prefix(Int.random(in: 1...45, using: &random))),
                maximumNewTokens: Int.random(in: 1...12, using: &random))
            if Bool.random(using: &random) {
                request.sampling = SamplingParameters(
                    temperature: 1, seed: random.next(), choiceIndex: UInt32.random(in: 0...2, using: &random))
            }
            if Int.random(in: 0..<4, using: &random) == 0 { request.stopTokens = [3, 5, 8, 13] }
            if Int.random(in: 0..<6, using: &random) == 0 { request.minimumNewTokens = 4 }
            if Int.random(in: 0..<6, using: &random) == 0 {
                request.logitBias = [TokenBias(token: 1, bias: -100), TokenBias(token: 2, bias: -100)]
            }
            requests.append(request)
            try fixture.scheduler.add(request)
            for _ in 0..<Int.random(in: 0...3, using: &random) { _ = try fixture.round() }
        }
        try fixture.runToEnd()
        for request in requests {
            let expected = fixture.reference.tokens(
                of: request, limit: fixture.scheduler.maximumSequenceLength)
            #expect(fixture.tokens(request.id) == expected, "request \(request.id)")
        }
        #expect(fixture.scheduler.violations() == [])
        #expect(fixture.scheduler.counters.usedBlocks == 0)
    }

    @Test(arguments: [3, 16, 200])
    func probabilitiesVectorsAndLabelsAreTheSameInAnyChunks(tokensPerStep: Int) throws {
        let configuration = SchedulerConfiguration(
            slots: 4, tokensPerStep: tokensPerStep, contextLength: 128, vocabularySize: testVocabulary)
        var fixture = try ExecutorFixture(configuration, windows: [nil, 20])
        let tokens = prompt(50, seed: 4)
        var first = EngineRequest(id: 1, tokens: tokens, maximumNewTokens: 3)
        first.logProbabilities = 4
        first.promptLogProbabilities = 2
        var second = EngineRequest(id: 2, tokens: tokens, maximumNewTokens: 0)
        second.pooling = .mean
        var third = EngineRequest(id: 3, tokens: tokens, maximumNewTokens: 0)
        third.pooling = .last
        third.labelTokens = [5, 6, 7]
        for request in [first, second, third] { try fixture.scheduler.add(request) }
        try fixture.runToEnd()
        let (reference, model) = (fixture.reference, fixture.reference.model)
        let answer = fixture.tokens(1)
        #expect(answer == reference.tokens(of: first, limit: 128))
        let prompted = (fixture.outputs[1] ?? []).flatMap(\.promptLogProbabilities)
        #expect(prompted.count == 49)
        for (index, entry) in prompted.enumerated() {
            let digest = reference.digest(tokens[...index])
            #expect(entry.chosen.token == tokens[index + 1])
            #expect(entry.chosen.logProbability == model.logProbability(of: tokens[index + 1], digest))
            #expect(entry.top.map(\.token) == (0..<2).map { model.token(ofRank: $0, digest) })
        }
        let chosen = (fixture.outputs[1] ?? []).flatMap(\.logProbabilities)
        #expect(chosen.map(\.chosen.token) == answer)
        for entry in chosen {
            #expect(entry.top.count == 4)
            #expect(entry.top.map(\.logProbability) == entry.top.map(\.logProbability).sorted(by: >))
            #expect(entry.top[0].token == entry.chosen.token)
        }
        let mean = try #require(fixture.outputs[2]?.last?.score).pooled
        let digests = tokens.indices.map { reference.digest(tokens[...$0]) }
        #expect(
            mean
                == (0..<testWidth).map { place in
                    digests.reduce(Float(0)) { $0 + model.feature($1, place) } / Float(tokens.count)
                })
        let score = try #require(fixture.outputs[3]?.last?.score)
        let last = reference.digest(tokens)
        #expect(score.pooled == (0..<testWidth).map { model.feature(last, $0) })
        #expect(score.labels == [5, 6, 7].map { model.logProbability(of: $0, last) })
    }

    private func executor(
        blocks: Int = 8, link: AnsweringLink = AnsweringLink()
    ) throws -> SimulatedExecutor {
        let executor = try ExecutorFixture.executor(testModel([nil]), link)
        _ = try executor.prepare(
            limits: ExecutorLimits(
                slots: 2, tokensPerStep: 64, contextLength: 64, blockSize: 4, keyValueBytes: blocks * 4 * 2 * 4 * 2),
            groups: testModel([nil]).kvGroups)
        return executor
    }

    private func plan(_ step: UInt64, tokens: [TokenID], from start: Int = 0, blocks: [KVBlockID]) -> StepPlan {
        var plan = StepPlan()
        plan.step = step
        if start == 0 { plan.addedSlots = [SlotAddition(slot: 0, sampling: SamplingParameters())] }
        plan.blockIDs = blocks
        plan.blockTableUpdates = [
            BlockTableUpdate(slot: 0, group: 0, firstEntry: 0, offset: 0, count: Int32(blocks.count))
        ]
        plan.tokens = tokens
        plan.rows = [
            StepRow(
                slot: 0, tokenOffset: 0, tokenCount: Int32(tokens.count), startPosition: Int32(start),
                output: RowOutput(sample: true))
        ]
        return plan
    }

    private func run(_ executor: SimulatedExecutor, _ plan: StepPlan) throws -> TokenID? {
        var result = StepResult()
        let ticket = try executor.submit(plan)
        try executor.sample(ticket, masks: nil)
        try executor.result(of: ticket, into: &result)
        return result.rows.first?.token
    }

    /// A wrong block in a table is seen, wherever it stands.
    @Test func aWrongBlockTableChangesTheOutput() throws {
        func second(_ blocks: [KVBlockID]) throws -> TokenID? {
            let executor = try executor()
            _ = try run(executor, plan(1, tokens: prompt(11, seed: 1), blocks: [2, 5, 1]))
            return try run(executor, plan(2, tokens: [7], from: 11, blocks: blocks))
        }
        let right = try second([2, 5, 1])
        let reference = Reference(windows: [nil], blockSize: 4)
        #expect(right == reference.model.first(reference.digest(prompt(11, seed: 1) + [7])))
        for wrong: [KVBlockID] in [[5, 2, 1], [3, 5, 1], [2, 0, 1], [2, 5, 4]] {
            #expect(try second(wrong) != right, "\(wrong)")
        }
    }

    @Test func copiedBlocksAreTheSame() throws {
        let executor = try executor()
        _ = try run(executor, plan(1, tokens: prompt(8, seed: 1), blocks: [2, 5]))
        var copy = plan(2, tokens: [7], from: 8, blocks: [6, 7, 3])
        copy.blockCopies = [BlockCopy(source: 2, destination: 6), BlockCopy(source: 5, destination: 7)]
        let reference = Reference(windows: [nil], blockSize: 4)
        #expect(try run(executor, copy) == reference.model.first(reference.digest(prompt(8, seed: 1) + [7])))
    }

    @Test func plansOutOfRangeAreRefusedAndNothingCrashes() throws {
        let good = plan(1, tokens: [1, 2, 3], blocks: [0])
        var bad: [StepPlan] = []
        func add(_ change: (inout StepPlan) -> Void) {
            var plan = good
            change(&plan)
            bad.append(plan)
        }
        add { $0.rows[0].slot = 9 }
        add { $0.rows[0].slot = -1 }
        add { $0.rows[0].tokenCount = 4 }
        add { $0.rows[0].tokenCount = 0 }
        add { $0.rows[0].tokenOffset = -1 }
        add { $0.rows[0].startPosition = 62 }
        add { $0.rows[0].startPosition = -1 }
        add { $0.rows[0].output.draftCount = 3 }
        add { $0.rows[0].output.labelCount = 2 }
        add { $0.rows[0].firstToken = .sampled(step: 4) }
        add { $0.blockIDs = [8] }
        add { $0.blockIDs = [-1] }
        add { $0.blockIDs = [] }
        add { $0.blockTableUpdates = [] }
        add { $0.blockTableUpdates[0].firstEntry = 100 }
        add { $0.blockTableUpdates[0].group = 1 }
        add { $0.blockCopies = [BlockCopy(source: 0, destination: 99)] }
        add { $0.addedSlots[0].slot = 77 }
        for plan in bad {
            let executor = try executor()
            #expect(throws: ExecutorError.self) { try run(executor, plan) }
        }
        #expect(try run(try executor(), good) != nil)
    }

    @Test func atMostTwoStepsAreInFlightAndResultsComeInOrder() throws {
        let executor = try executor()
        let first = try executor.submit(plan(1, tokens: [1, 2, 3], blocks: [0]))
        try executor.sample(first, masks: nil)
        var next = plan(2, tokens: [0], from: 3, blocks: [0])
        next.rows[0].firstToken = .sampled(step: 1)
        let second = try executor.submit(next)
        #expect(throws: ExecutorError.self) { try executor.submit(next) }
        try executor.sample(second, masks: nil)
        var result = StepResult()
        #expect(throws: ExecutorError.self) { try executor.result(of: second, into: &result) }
        try executor.result(of: first, into: &result)
        let token = try #require(result.rows.first?.token)
        try executor.result(of: second, into: &result)
        let reference = Reference(windows: [nil], blockSize: 4)
        #expect(result.rows.first?.token == reference.model.first(reference.digest([1, 2, 3, token])))
        #expect(executor.profile() == StepProfile(steps: 2, attention: 6, mlp: 8, rest: 10))
        #expect(executor.profile() == StepProfile())
    }

    @Test func errorsOfTheDeviceArePassedOn() throws {
        let link = AnsweringLink()
        link.failures[1] = DeviceFailure(code: 700, concernsAll: true, message: "CUDA error 700")
        let executor = try executor(link: link)
        #expect(throws: ExecutorError(kind: .fatal, message: "CUDA error 700", concernsAll: true)) {
            try run(executor, plan(1, tokens: [1], blocks: [0]))
        }
        let lonely = AnsweringLink()
        let other = try self.executor(link: lonely)
        lonely.isGone = true
        let error = #expect(throws: ExecutorError.self) { try run(other, plan(1, tokens: [1], blocks: [0])) }
        #expect(error?.kind == .fatal)
        #expect(error?.concernsAll == true)
    }

    @Test func memoryThatIsRefusedIsOutOfMemory() throws {
        let link = AnsweringLink()
        link.allocation = .failed(DeviceFailure(code: 2, message: "out of memory on the simulated h100"))
        let error = #expect(throws: ExecutorError.self) { try executor(link: link) }
        #expect(error?.kind == .outOfMemory)
        #expect(error?.message == "out of memory on the simulated h100")
    }

    @Test func theDeviceIsToldWhatAStepComputes() {
        var plan = StepPlan()
        func row(_ tokens: Int32, _ start: Int32, _ output: RowOutput = RowOutput()) -> StepRow {
            StepRow(slot: 0, tokenOffset: 0, tokenCount: tokens, startPosition: start, output: output)
        }
        plan.rows = [
            row(1, 99, RowOutput(sample: true)), row(1, 299, RowOutput(sample: true)), row(100, 0), row(50, 200),
            row(3, 97, RowOutput(sample: true, draftCount: 2)),
        ]
        #expect(plan.work == StepWork(decoding: 5, context: (100 + 300 + 3 * 100) / 5, prompts: 2, promptLength: 75))
        #expect(StepPlan().work == StepWork())
    }

    @Test func theClientSaysWhoItIs() throws {
        let link = AnsweringLink()
        let executor = try executor(link: link)
        guard case .hello(let hello) = link.sent.first else {
            Issue.record("no hello")
            return
        }
        #expect(hello.engine == 3 && hello.pid == 7 && hello.percent == 100)
        #expect(hello.model.description.kvGroups == testModel([nil]).kvGroups)
        #expect(executor.capabilities.device == "simulated h100 (test, MPS)")
        #expect(executor.capabilities.rowInvariant)
    }
}
