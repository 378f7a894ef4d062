// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Requests
import TestSupport
import Testing

@testable import CUDAExecutor

/// Whole models on the stand-in for a GPU against the CPU in single precision.
@Suite(.serialized) struct ParityTests {
    /// What bfloat16 may change of a log-probability.
    static let tolerance: Float = 2e-2

    static let families = ["llama-tied", "llama3-rope-untied", "qwen2-tied", "qwen2-untied", "gemma3-text"]

    /// Repeatable tokens.
    static func tokens(_ count: Int, seed: UInt64, vocabulary: Int) -> [TokenID] {
        (0..<count).map { index in
            var word = StableHash.mix(seed &+ UInt64(index) &* 0x9E37_79B9_7F4A_7C15)
            word ^= word >> 29
            return TokenID(word % UInt64(vocabulary))
        }
    }

    static func compare(_ found: [PositionLogProbabilities], _ exact: [PositionLogProbabilities]) -> Float {
        zip(found, exact).reduce(0) { largest, pair in
            let difference = abs(pair.0.chosen.logProbability - pair.1.chosen.logProbability)
            return difference.isNaN ? .infinity : max(largest, difference)
        }
    }

    @Test(arguments: families) func everyFamilyAgreesWithSinglePrecision(_ name: String) throws {
        let checkpoint = try DoubleGPU.tiny(name)
        let requests = [40, 17, 3].enumerated().map { index, count in
            Request(
                tokens: Self.tokens(count, seed: UInt64(index), vocabulary: checkpoint.description.vocabularySize),
                promptTop: 4)
        }
        let exact = try DoubleGPU.cpuHarness(checkpoint).run(requests)
        // In one chunk, in several, and a token at a time.
        for chunk in [256, 13, 1] {
            let found = try DoubleGPU.harness(checkpoint).run(requests, chunk: chunk)
            for (found, exact) in zip(found, exact) {
                try #require(found.prompt.count == exact.prompt.count && !found.prompt.isEmpty)
                let difference = Self.compare(found.prompt, exact.prompt)
                print(name, chunk, zip(found.prompt, exact.prompt).map { Int(($0.chosen.logProbability - $1.chosen.logProbability) * 1000) })
                #expect(difference <= Self.tolerance, "\(name), chunks of \(chunk): \(difference)")
            }
        }
    }
}
