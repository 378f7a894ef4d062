// Tandem — Apache-2.0

import InferenceEngine
import Requests
import Testing

@testable import CPUExecutor

/// Checking guesses in one step yields the bits that single steps yield.
@Suite struct DraftInvarianceTests {
    @Test(arguments: [CPUCompute.f32, .bf16, .int8], ["llama-tied", "qwen2-untied", "gemma3-text"])
    func guessesChangeNoBit(compute: CPUCompute, name: String) throws {
        let checkpoint = try TinyCheckpoint(name)
        let tokens = checkpoint.cases.map(\.input_ids).max { $0.count < $1.count } ?? []
        let requests = (0..<8).map { index in
            // A prompt that says the same twice invites guesses. A model of random weights would never follow them: half
            // of the requests may only use two tokens, so that much repeats and much does not.
            let part = Array(tokens.prefix(4 + 2 * index))
            return EngineRequest(
                id: RequestID(index), tokens: part + part.prefix(3 + index),
                sampling: SamplingParameters(temperature: index % 3 == 2 ? 0.3 : 0, seed: UInt64(index)),
                maximumNewTokens: 60,
                logitBias: index % 2 == 0 ? [] : [3, 9].map { TokenBias(token: $0, bias: 100) },
                logProbabilities: index % 2 == 0 ? 2 : nil)
        }
        let plain = try SchedulerRunner(checkpoint, compute: compute)
        let expected = try plain.run(requests)
        for asynchronous in [false, true] {
            let drafting = try SchedulerRunner(
                checkpoint, compute: compute, asynchronous: asynchronous, drafts: 8)
            #expect(try drafting.run(requests) == expected)
            #expect(drafting.counters.acceptedTokens > 0)
            #expect(drafting.counters.acceptedTokens < drafting.counters.draftedTokens)
        }
    }
}
