// Tandem — Apache-2.0

import InferenceEngine
import Requests
import Testing

@testable import CPUExecutor

@Suite struct LogitAdjusterTests {
    private func adjusted(
        _ logits: [Float], _ adjustments: LogitAdjustments, _ sampling: SamplingParameters, noting: [TokenID] = [],
        position: Int
    ) -> [Float] {
        var logits = logits
        let adjuster = LogitAdjuster(adjustments, sampling: sampling, contextLength: 4096)
        for token in noting { adjuster.note(token) }
        logits.withUnsafeMutableBufferPointer { adjuster.apply(to: $0, position: position) }
        return logits
    }

    /// Straight from the definitions: of the repetition penalty by Keskar et al., "CTRL" (2019), with the correction for
    /// negative logits, and of the other two in OpenAI's API reference.
    @Test func penaltiesAreThoseOfTheirDefinitions() {
        var random = SplitMix(state: 5)
        for round in 0..<60 {
            let size = 50 + round
            let logits = (0..<size).map { _ in 10 * random.nextFloat() }
            let prompt = (0..<Int(random.next() % 40)).map { _ in TokenID(random.next() % UInt64(size)) }
            let generated = (0..<Int(random.next() % 400)).map { _ in TokenID(random.next() % UInt64(size)) }
            let split = generated.isEmpty ? 0 : Int(random.next() % UInt64(generated.count))
            let sampling = SamplingParameters(
                repetitionPenalty: round % 3 == 0 ? 1 : 1.3, frequencyPenalty: 0.25, presencePenalty: -0.5)
            let ours = adjusted(
                logits,
                LogitAdjustments(promptCount: prompt.count, history: prompt + generated.prefix(split)), sampling,
                noting: Array(generated.dropFirst(split)), position: prompt.count + generated.count)
            for token in 0..<size {
                var expected = logits[token]
                let count = generated.count { Int($0) == token }
                if count > 0 || prompt.contains(TokenID(token)) {
                    expected =
                        expected > 0
                        ? expected / sampling.repetitionPenalty : expected * sampling.repetitionPenalty
                }
                expected -= sampling.frequencyPenalty * Float(count)
                if count > 0 { expected -= sampling.presencePenalty }
                #expect(abs(ours[token] - expected) < 1e-5)
            }
        }
    }

    @Test func biasesAndBansTouchOnlyTheirTokens() {
        let adjustments = LogitAdjustments(
            promptCount: 10, minimumNewTokens: 3, stopTokens: [2, 4], biases: [TokenBias(token: 1, bias: -100)])
        let logits: [Float] = [1, 2, 3, 4, 5]
        #expect(
            adjusted(logits, adjustments, SamplingParameters(), position: 12) == [1, -98, -.infinity, 4, -.infinity])
        #expect(adjusted(logits, adjustments, SamplingParameters(), position: 13) == [1, -98, 3, 4, 5])
        // Out of the vocabulary: nothing is touched.
        let outside = LogitAdjustments(
            promptCount: 0, minimumNewTokens: 9, stopTokens: [-1, 5], biases: [TokenBias(token: 7, bias: 1)],
            history: [99, -3])
        let sampling = SamplingParameters(presencePenalty: 1)
        #expect(adjusted(logits, outside, sampling, position: 0) == logits)
    }
}
