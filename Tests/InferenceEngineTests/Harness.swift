// Tandem — Apache-2.0

import Grammar
import LanguageModel
import Requests
import TestSupport
import Testing

@testable import InferenceEngine

/// Random numbers from a seed.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return StableHash.mix(state)
    }
}

/// Everything that was reported of one request.
struct Collected: Equatable {
    var answer = MockModel.Answer()
    var failure: RequestFailure?
    var cachedPromptTokens: Int?
    var prefillMicroseconds: UInt32?

    mutating func append(_ output: SequenceOutput, isFirst: Bool) {
        #expect(answer.finish == nil, "request \(output.id) had an output after its last")
        answer.tokens += output.tokens
        answer.logProbabilities += output.logProbabilities
        answer.promptLogProbabilities += output.promptLogProbabilities
        answer.score = output.score
        answer.finish = output.finish
        failure = output.failure
        #expect((output.finish == .failed) == (output.failure != nil))
        #expect((output.cachedPromptTokens != nil) == isFirst, "request \(output.id): cached tokens once, at first")
        #expect(isFirst || output.prefillMicroseconds == nil)
        guard isFirst else { return }
        cachedPromptTokens = output.cachedPromptTokens
        prefillMicroseconds = output.prefillMicroseconds
    }
}

/// A scheduler and a mock executor, driven as the step loop does it, without threads.
struct Harness {
    var scheduler: Scheduler
    let executor: MockExecutor
    var plan = StepPlan()
    var result = StepResult()
    var tickets: [StepTicket] = []
    var collected: [RequestID: Collected] = [:]
    /// All plans that were submitted.
    var plans: [StepPlan] = []
    /// Where each request's first row started: the tokens before it came from the prefix cache.
    var firstStarts: [RequestID: Int] = [:]
    /// How often a preempted request went on from the prefix cache.
    var resumedFromCache = 0
    /// The ticket of the step submitted last, while it waits for masks.
    var unsampled: StepTicket?
    /// How often masks had to wait for a result.
    var lateMasks = 0
    /// What a step took, for the scheduler's token budget; `nil` tells it nothing.
    var stepTime: ((StepPlan) -> UInt64)?
    /// What the clock shows, in nanoseconds; `nil` without one.
    var time: UInt64?

    /// - Parameters:
    ///   - blocks: KV blocks for all groups together.
    ///   - windows: one for each KV group.
    init(
        _ configuration: SchedulerConfiguration, blocks: Int = 64, windows: [Int?] = [nil], vocabularySize: Int = 97,
        period: Int? = nil
    ) throws {
        executor = MockExecutor(
            model: MockModel(vocabularySize: vocabularySize, period: period), blockCount: blocks)
        let groups = windows.enumerated().map { KeyValueGroup(layers: [$0], window: $1) }
        let limits = ExecutorLimits(
            slots: configuration.slots, tokensPerStep: configuration.tokensPerStep,
            contextLength: configuration.contextLength, blockSize: configuration.blockSize, keyValueBytes: 0)
        let prepared = try executor.prepare(limits: limits, groups: groups)
        scheduler = try Scheduler(configuration: configuration, groups: groups, prepared: prepared)
    }

    mutating func add(_ request: EngineRequest, grammar: TokenGrammar? = nil) throws {
        try scheduler.add(request, grammar: grammar)
        collectReady()
    }

    mutating func collect(_ outputs: [SequenceOutput]) {
        for output in outputs {
            let isFirst = collected[output.id] == nil
            collected[output.id, default: Collected()].append(output, isFirst: isFirst)
        }
    }

    mutating func collectReady() {
        var outputs: [SequenceOutput] = []
        scheduler.drainReady(into: &outputs)
        collect(outputs)
    }

    /// Plans and submits one step.
    ///
    /// - Returns: whether there was one.
    mutating func submit() throws -> Bool {
        let first = firstRunnable
        guard scheduler.schedule(into: &plan, at: time) else {
            let mayPlan = scheduler.stepsInFlight < (scheduler.configuration.asynchronous ? 2 : 1)
            #expect(!mayPlan || first == nil, "nothing runs although request \(first ?? 0) could")
            return false
        }
        if let first { expectRow(of: first) }
        for addition in plan.addedSlots {
            // By the record of the step: what is handed over with its plan has no slot any more.
            let record = scheduler.inFlight.last?.rows.first { $0.slot == addition.slot }
            let owner = record.map { scheduler.sequences[$0.handle] }
            let start = plan.rows.first { $0.slot == addition.slot }.map { Int($0.startPosition) }
            guard let owner, let start else { continue }
            if firstStarts[owner.id] == nil {
                firstStarts[owner.id] = start
            } else if start > 0 {
                resumedFromCache += 1
            }
        }
        plans.append(plan)
        let ticket = try executor.submit(plan)
        tickets.append(ticket)
        unsampled = ticket
        try sample()
        if unsampled != nil { lateMasks += 1 }
        return true
    }

    /// Lets the step submitted last sample if its masks are known.
    private mutating func sample() throws {
        var masks = TokenMasks(slots: [], words: [], wordsPerSlot: 0)
        let size = scheduler.configuration.vocabularySize ?? 0
        guard let ticket = unsampled, scheduler.fillMasks(&masks, vocabularySize: size) else { return }
        unsampled = nil
        try executor.sample(ticket, masks: masks.slots.isEmpty ? nil : masks)
    }

    /// The request that must go on in the next step: the first in order of those that run, if it has work, or the first
    /// of those that wait if none runs.
    private var firstRunnable: RequestID? {
        let sequences = scheduler.sequences
        if let running = scheduler.running.first(where: { !sequences[$0].isPaused }) {
            return scheduler.openWork(of: running) > 0 ? sequences[running].id : nil
        }
        return scheduler.waiting.last.flatMap { sequences[$0].rowsInFlight == 0 ? sequences[$0].id : nil }
    }

    private func expectRow(of id: RequestID) {
        let handle = scheduler.handles[id]
        let hasRow = scheduler.inFlight.last?.rows.contains { $0.handle == handle } == true
        // Sequences that generate go first; there may be as many as a step has tokens.
        let isFull = plan.rows.count == scheduler.configuration.tokensPerStep
        // It may wait for a block that one before it in order computes in this very step.
        let awaited = handle.flatMap { scheduler.sequences[$0].awaited }
        let isComing = awaited.map { block in
            scheduler.inFlight.last?.rows.contains { $0.handle == block.owner } == true
        }
        // Or a scored prompt that came before it has its turn.
        let waits = scheduler.favouredStep == plan.step
        #expect(
            hasRow || isFull || isComing == true || waits,
            "request \(id) is the first in order and has no row in step \(plan.step)")
    }

    mutating func mustSubmit() throws {
        let submitted = try submit()
        #expect(submitted)
    }

    /// Takes the oldest result.
    mutating func takeResult() throws {
        let ticket = tickets.removeFirst()
        try executor.result(of: ticket, into: &result)
        if let stepTime, let plan = plans.first(where: { $0.step == ticket.step }) {
            scheduler.firstStepTook(nanoseconds: stepTime(plan))
        }
        var outputs: [SequenceOutput] = []
        try scheduler.finish(result, into: &outputs, at: time)
        try sample()
        collect(outputs)
        collectReady()
    }

    /// One round of the loop.
    ///
    /// - Returns: `false` if there was nothing to do.
    mutating func round() throws -> Bool {
        let submitted = try submit()
        let takes = !tickets.isEmpty && (!submitted || tickets.count == (scheduler.configuration.asynchronous ? 2 : 1))
        if takes { try takeResult() }
        #expect(scheduler.violations() == [])
        return submitted || takes
    }

    mutating func runToEnd(rounds: Int = 100_000) throws {
        var left = rounds
        while try round() {
            left -= 1
            try #require(left > 0, "the scheduler does not come to an end")
        }
    }

    func expectEmpty() {
        #expect(scheduler.unfinishedCount == 0)
        #expect(scheduler.stepsInFlight == 0)
        #expect(scheduler.counters.usedBlocks == 0)
        #expect(scheduler.counters.runningSequences == 0)
        #expect(scheduler.counters.waitingSequences == 0)
        #expect(scheduler.violations() == [])
        #expect(executor.violations == [])
    }

    func expected(_ request: EngineRequest) -> MockModel.Answer {
        executor.model.answer(request, limit: scheduler.maximumSequenceLength)
    }
}

extension SchedulerConfiguration {
    static func small(
        slots: Int = 4, tokensPerStep: Int = 32, contextLength: Int = 256, maximumWaiting: Int = 1000,
        asynchronous: Bool = false, prefixCaching: Bool = true
    ) -> SchedulerConfiguration {
        SchedulerConfiguration(
            slots: slots, tokensPerStep: tokensPerStep, contextLength: contextLength, maximumWaiting: maximumWaiting,
            vocabularySize: 97, asynchronous: asynchronous, prefixCaching: prefixCaching)
    }
}

/// `count` tokens that depend on `seed`.
func prompt(_ count: Int, seed: UInt64 = 1) -> [TokenID] {
    var random = SplitMix(state: seed)
    return (0..<count).map { _ in TokenID.random(in: 0..<97, using: &random) }
}
