// Tandem — Apache-2.0

import CPUExecutor
import Glibc
import InferenceEngine
import LanguageModel
import Requests
import TestSupport
import Testing
import Weights

/// What the scheduler does to a sequence (chunks of what the budget leaves, company, blocks shared through the prefix
/// cache, preemption, placeholders) does not change its bits: the executor alone is the measure.
@Suite(.serialized) struct SchedulerInvarianceTests {
    struct Totals {
        var cached: UInt64 = 0
        var preemptions: UInt64 = 0
    }

    /// Runs all requests through a scheduler and gives their outcomes in order.
    static func run(
        _ requests: [Request], on executor: CPUExecutor, prepared: PreparedExecutor, limits: ExecutorLimits,
        model: DecoderDescription, asynchronous: Bool
    ) throws -> ([Outcome], Totals) {
        var scheduler = try Scheduler(
            configuration: SchedulerConfiguration(
                slots: limits.slots, tokensPerStep: limits.tokensPerStep, contextLength: limits.contextLength,
                vocabularySize: model.vocabularySize, asynchronous: asynchronous,
                modelFingerprint: executor.modelFingerprint),
            groups: model.kvGroups, prepared: prepared)
        var outcomes = Array(repeating: Outcome(), count: requests.count)
        var plan = StepPlan()
        var result = StepResult()
        var outputs: [SequenceOutput] = []
        var tickets: [StepTicket] = []
        func take() throws {
            try executor.result(of: tickets.removeFirst(), into: &result)
            outputs.removeAll()
            try scheduler.finish(result, into: &outputs)
            for output in outputs {
                let index = Int(output.id) - 1
                outcomes[index].tokens += output.tokens
                outcomes[index].sampled += output.logProbabilities
                outcomes[index].prompt += output.promptLogProbabilities
                #expect(output.finish == nil || output.finish == .length)
            }
        }
        var added = 0
        var steps = 0
        repeat {
            // Arrivals go on while others run; the first ones leave their blocks to the prefix cache.
            while added < requests.count, added < 4 + 3 * steps {
                let request = requests[added]
                added += 1
                try scheduler.add(
                    EngineRequest(
                        id: RequestID(added), tokens: request.tokens, sampling: request.sampling,
                        maximumNewTokens: request.newTokens, logProbabilities: request.top,
                        promptLogProbabilities: request.promptTop))
            }
            while scheduler.schedule(into: &plan) {
                let ticket = try executor.submit(plan)
                try executor.sample(ticket, masks: nil)
                tickets.append(ticket)
            }
            try #require(!tickets.isEmpty, "sequences are left and nothing runs")
            try take()
            steps += 1
        } while scheduler.unfinishedCount > 0 || added < requests.count
        while !tickets.isEmpty { try take() }
        let counters = scheduler.counters
        return (outcomes, Totals(cached: counters.cachedPromptTokens, preemptions: counters.preemptions))
    }

    /// - Parameter blocks: so few that sequences are preempted.
    static func check(
        _ model: DecoderDescription, _ file: GGUFFile, _ compute: CPUCompute, requests: [Request], blocks: Int,
        slots: Int = 64, tokensPerStep: Int, contextLength: Int
    ) throws {
        let descriptor = try SharedWeightsTests.memoryFile()
        defer { close(descriptor) }
        func options(threads: Int) -> CPUExecutor.Options {
            CPUExecutor.Options(
                compute: compute, threads: threads, spinNanoseconds: 2000, weightsDescriptor: descriptor)
        }
        let harness = try Harness(
            model: model, file: file, options: options(threads: 1), slots: 1, contextLength: contextLength, blocks: 64)
        let alone = try requests.map { try harness.run([$0])[0] }
        for asynchronous in [false, true] {
            let executor = try CPUExecutor(model: model, file: file, options: options(threads: 2))
            defer { executor.shutdown() }
            let limits = ExecutorLimits(
                slots: slots, tokensPerStep: tokensPerStep, contextLength: contextLength,
                keyValueBytes: blocks * 16 * model.kvBytesPerToken(elementBytes: compute.keyValueElementBytes))
            let prepared = try executor.prepare(limits: limits, groups: model.kvGroups)
            let (outcomes, totals) = try run(
                requests, on: executor, prepared: prepared, limits: limits, model: model, asynchronous: asynchronous)
            for index in requests.indices {
                #expect(outcomes[index].bits == alone[index].bits, "request \(index), asynchronous \(asynchronous)")
            }
            // Else this tested less than it says.
            #expect(totals.cached > 0)
            #expect(totals.preemptions > 0)
        }
    }

    /// Prompts that begin alike in groups of eight, so that blocks are shared; some are scored from the first token on,
    /// which shares nothing.
    static func requests(_ count: Int, shared: Int, longest: Int, newTokens: Int, vocabulary: Int) -> [Request] {
        (0..<count).map { index in
            let start = RowInvarianceTests.request(
                shared, vocabulary: vocabulary, seed: UInt64(1000 + index / 8), newTokens: newTokens, sampled: false)
            var request = RowInvarianceTests.request(
                1 + (index * 37) % longest, vocabulary: vocabulary, seed: UInt64(2000 + index), newTokens: newTokens,
                sampled: index % 3 == 0)
            request.tokens = start.tokens + request.tokens
            request.newTokens = newTokens + index % 5
            if index % 4 != 1 { request.promptTop = nil }
            return request
        }
    }

    @Test(arguments: CPUCompute.allCases) func tinyModel(_ compute: CPUCompute) throws {
        let tiny = TinyModel(format: .q4_1, hidden: 128, queryHeads: 4, keyValueHeads: 2)
        let file = try tiny.file()
        let model = try DecoderDescription(gguf: file)
        try Self.check(
            model, file, compute,
            requests: Self.requests(
                64, shared: 70, longest: 150, newTokens: 24, vocabulary: model.vocabularySize), blocks: 40,
            tokensPerStep: 96, contextLength: 256)
    }

    /// Layers with windows of two sizes beside layers without: five groups over one pool of blocks.
    @Test(arguments: [CPUCompute.f32, .int8]) func windows(_ compute: CPUCompute) throws {
        let tiny = TinyModel(format: .q4_1, hidden: 128, layers: 5, queryHeads: 4, keyValueHeads: 2)
        let file = try tiny.file()
        var model = try DecoderDescription(gguf: file)
        for (layer, window) in [0: 40, 1: 40, 3: 70, 4: 9] { model.layers[layer].window = window }
        try Self.check(
            model, file, compute,
            requests: Self.requests(
                24, shared: 70, longest: 40, newTokens: 90, vocabulary: model.vocabularySize), blocks: 20,
            tokensPerStep: 96, contextLength: 320)
    }

    @Test func realModel() throws {
        guard let path = try ModelFixture.path() else { return }
        let file = try GGUFFile(path: path)
        let model = try DecoderDescription(gguf: file)
        var requests = Self.requests(8, shared: 70, longest: 20, newTokens: 30, vocabulary: model.vocabularySize)
        for index in requests.indices where index != 5 { requests[index].promptTop = nil }
        try Self.check(
            model, file, .int8, requests: requests, blocks: 14, slots: 16, tokensPerStep: 48, contextLength: 128)
    }
}
