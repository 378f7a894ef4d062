// Tandem — Apache-2.0

import CPUExecutor
import Grammar
import InferenceEngine
import LanguageModel
import Requests
import Testing

@testable import CPUExecutor

/// A scheduler and a CPU executor, driven as the step loop does it, without threads of its own.
final class SchedulerRunner {
    private let executor: CPUExecutor
    private let configuration: SchedulerConfiguration
    private let model: DecoderDescription
    private let prepared: PreparedExecutor
    private var scheduler: Scheduler
    private(set) var counters = SchedulerCounters()

    init(
        _ checkpoint: TinyCheckpoint, compute: CPUCompute, threads: Int = 2, slots: Int = 40,
        tokensPerStep: Int = 64, asynchronous: Bool = false, blocks: Int = 400,
        drafts: Int = 0, inspection: StepInspection? = nil
    ) throws {
        var options = CPUExecutor.Options(compute: compute, threads: threads)
        options.inspection = inspection
        model = checkpoint.model
        executor = try CPUExecutor(model: model, file: checkpoint.tensors, options: options)
        let contextLength = min(256, model.contextLength)
        let limits = ExecutorLimits(
            slots: slots, tokensPerStep: tokensPerStep, contextLength: contextLength,
            keyValueBytes: blocks * 16 * model.kvBytesPerToken(elementBytes: compute.keyValueElementBytes)
                / model.kvGroups.count)
        prepared = try executor.prepare(limits: limits, groups: model.kvGroups)
        configuration = SchedulerConfiguration(
            slots: slots, tokensPerStep: tokensPerStep, contextLength: contextLength,
            vocabularySize: model.vocabularySize, asynchronous: asynchronous,
            draftTokens: drafts, modelFingerprint: executor.modelFingerprint)
        scheduler = try Scheduler(configuration: configuration, groups: model.kvGroups, prepared: prepared)
    }

    deinit { executor.shutdown() }

    /// Runs requests to their ends and puts each one's outputs together.
    func run(_ requests: [EngineRequest], grammar: TokenGrammar? = nil) throws -> [RequestID: SequenceOutput] {
        for request in requests { try scheduler.add(request, grammar: request.grammar == nil ? nil : grammar) }
        var whole: [RequestID: SequenceOutput] = [:]
        var plan = StepPlan()
        var result = StepResult()
        var masks = TokenMasks(slots: [], words: [], wordsPerSlot: 0)
        var tickets: [StepTicket] = []
        var unsampled: StepTicket?
        func sample() throws {
            guard let ticket = unsampled, scheduler.fillMasks(&masks, vocabularySize: model.vocabularySize) else {
                return
            }
            unsampled = nil
            try executor.sample(ticket, masks: masks.slots.isEmpty ? nil : masks)
        }
        while true {
            let submitted = scheduler.schedule(into: &plan)
            if submitted {
                tickets.append(try executor.submit(plan))
                unsampled = tickets.last
                try sample()
            }
            if submitted, tickets.count < (configuration.asynchronous ? 2 : 1) { continue }
            if tickets.isEmpty {
                if !submitted { break }
            } else {
                try executor.result(of: tickets.removeFirst(), into: &result)
                var outputs: [SequenceOutput] = []
                try scheduler.finish(result, into: &outputs)
                try sample()
                scheduler.drainReady(into: &outputs)
                for output in outputs {
                    var sum = whole[output.id] ?? SequenceOutput(id: output.id)
                    for token in output.tokens { sum.tokens.append(token) }
                    sum.logProbabilities += output.logProbabilities
                    sum.promptLogProbabilities += output.promptLogProbabilities
                    if let score = output.score { sum.score = score }
                    if let finish = output.finish { sum.finish = finish }
                    if let failure = output.failure { sum.failure = failure }
                    whole[output.id] = sum
                }
            }
        }
        #expect(scheduler.unfinishedCount == 0)
        counters = scheduler.counters
        return whole
    }
}
