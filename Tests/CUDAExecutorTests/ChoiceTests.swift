// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Requests
import TestSupport
import Testing

@testable import CUDAExecutor

/// What bears on the choice of tokens beside the logits, through whole steps on the stand-in for a GPU.
@Suite(.serialized) struct ChoiceTests {
    static func request(_ checkpoint: Checkpoint, _ count: Int = 9, newTokens: Int = 12) -> Request {
        Request(
            tokens: ParityTests.tokens(count, seed: 5, vocabulary: checkpoint.description.vocabularySize),
            newTokens: newTokens, top: 1)
    }

    @Test(arguments: [false, true]) func penaltiesSeeTokensThatNeverReachedTheHost(_ asynchronous: Bool) throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        var request = Self.request(checkpoint)
        request.sampling.frequencyPenalty = 1000
        request.adjustments = LogitAdjustments(promptCount: request.tokens.count, history: request.tokens)
        var plain = request
        plain.sampling = SamplingParameters()
        plain.adjustments = nil
        let found = try DoubleGPU.harness(checkpoint).run([request, plain], asynchronous: asynchronous)
        // Nothing comes twice, and the first token is the one that comes without penalties.
        #expect(Set(found[0].tokens).count == 12)
        #expect(found[0].tokens[0] == found[1].tokens[0])
        // What is reported is the model's own: the same as without penalties, where the texts are the same.
        #expect(found[0].sampled[0] == found[1].sampled[0])
    }

    @Test(arguments: [false, true]) func biasesAndBansHold(_ asynchronous: Bool) throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        let plain = Self.request(checkpoint, newTokens: 3)
        let usual = try DoubleGPU.harness(checkpoint).run([plain])[0].tokens
        var forced = plain
        forced.adjustments = LogitAdjustments(
            promptCount: plain.tokens.count,
            biases: [TokenBias(token: 7, bias: 400), TokenBias(token: 7, bias: 400), TokenBias(token: 9, bias: 500)])
        var banned = plain
        banned.adjustments = LogitAdjustments(
            promptCount: plain.tokens.count, minimumNewTokens: 1, stopTokens: [usual[0], usual[0]])
        let found = try DoubleGPU.harness(checkpoint).run([forced, banned], asynchronous: asynchronous)
        #expect(found[0].tokens == [7, 7, 7])
        #expect(found[1].tokens[0] != usual[0])
    }

    @Test(arguments: [false, true]) func masksHold(_ asynchronous: Bool) throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        var constrained = Self.request(checkpoint)
        constrained.permitted = [3, 64, 319]
        constrained.sampling = SamplingParameters(temperature: 2, seed: 8)
        var greedy = Self.request(checkpoint)
        greedy.permitted = [31]
        let free = Self.request(checkpoint)
        let found = try DoubleGPU.harness(checkpoint).run([constrained, free, greedy], asynchronous: asynchronous)
        #expect(Set(found[0].tokens).isSubset(of: [3, 64, 319]) && Set(found[0].tokens).count > 1)
        #expect(Set(found[2].tokens) == [31])
        #expect(found[1].tokens == (try DoubleGPU.harness(checkpoint).run([free])[0].tokens))
    }

    @Test func seedsDecide() throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        var requests = [UInt64(1), 1, 2].map { seed in
            var request = Self.request(checkpoint)
            request.sampling = SamplingParameters(temperature: 1.5, seed: seed)
            return request
        }
        let found = try DoubleGPU.harness(checkpoint).run(requests)
        #expect(found[0].tokens == found[1].tokens && found[0].tokens != found[2].tokens)
        requests.reverse()
        let reversed = try DoubleGPU.harness(checkpoint).run(requests, chunk: 4, asynchronous: true)
        #expect(reversed[2].tokens == found[0].tokens && reversed[0].tokens == found[2].tokens)
    }

    /// Guesses behind which tokens are chosen at once give the tokens that come one by one.
    @Test func guessesGiveTheSameTokens() throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        let request = Self.request(checkpoint, 9, newTokens: 4)
        let harness = try DoubleGPU.harness(checkpoint)
        let tokens = try harness.run([request])[0].tokens
        var plan = StepPlan()
        plan.step = 1000
        plan.removedSlots = [0]
        plan.addedSlots = [SlotAddition(slot: 0, sampling: SamplingParameters())]
        plan.blockIDs = [20]
        plan.blockTableUpdates = [BlockTableUpdate(slot: 0, group: 0, firstEntry: 0, offset: 0, count: 1)]
        plan.tokens = request.tokens + tokens[..<3]
        plan.rows = [
            StepRow(
                slot: 0, tokenOffset: 0, tokenCount: Int32(plan.tokens.count), startPosition: 0,
                output: RowOutput(sample: true, draftCount: 3, logProbabilities: 0))
        ]
        let ticket = try harness.executor.submit(plan)
        try harness.executor.sample(ticket, masks: nil)
        var result = StepResult()
        try harness.executor.result(of: ticket, into: &result)
        #expect(result.rows[0].token == tokens[0])
        #expect(result.further.map(\.token) == Array(tokens[1...]))
    }
}
