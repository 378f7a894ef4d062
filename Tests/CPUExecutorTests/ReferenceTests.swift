// Tandem — Apache-2.0

import CPUExecutor
import Foundation
import LanguageModel
import Requests
import TestSupport
import Testing
import Weights

/// The real model against float32 of another implementation, teacher-forced.
@Suite(.serialized) struct ReferenceTests {
    /// Differences, absolute.
    struct Difference: CustomStringConvertible {
        var count = 0
        var sum = 0.0
        var largest = 0.0
        var mean: Double { count == 0 ? 0 : sum / Double(count) }

        mutating func add(_ ours: Float, _ truth: Double) {
            let difference = abs(Double(ours) - truth)
            count += 1
            sum += difference
            largest = difference.isNaN ? .infinity : max(largest, difference)
        }

        var description: String { String(format: "n %d mean %.6f max %.6f", count, mean, largest) }
    }

    struct HFCase: Decodable {
        var prompt_ids: [TokenID]
        var prompt_logprobs: [Double?]
        var llamacpp_path_logprobs: [Double]
    }

    struct LlamaCase: Decodable {
        struct Position: Decodable {
            var id: TokenID
            var lp: Double
            var top: [[Double]]
        }
        var prompt_ids: [TokenID]
        var greedy_ids: [TokenID]
        var logprobs: [Position]
    }

    struct File<Case: Decodable>: Decodable {
        var cases: [Case]
    }

    /// Prompt and the path another engine took, scored by us; 64 likeliest of every position.
    static func score(_ compute: CPUCompute, path: String, cases: [LlamaCase]) throws -> [Outcome] {
        let file = try GGUFFile(path: path)
        let model = try DecoderDescription(gguf: file)
        let harness = try Harness(
            model: model, file: file, options: CPUExecutor.Options(compute: compute, threads: 2), slots: 1,
            tokensPerStep: 256)
        return try cases.map { try harness.run([Request(tokens: $0.prompt_ids + $0.greedy_ids, promptTop: 64)])[0] }
    }

    @Test func logProbabilitiesAgreeWithFloat32() throws {
        guard let path = try ModelFixture.path() else { return }
        let decoder = JSONDecoder()
        let truth = try decoder.decode(
            File<HFCase>.self, from: ModelFixture.data("reference/smollm2-135m-instruct-q4_1.hf.json")
        ).cases
        let llama = try decoder.decode(
            File<LlamaCase>.self, from: ModelFixture.data("reference/smollm2-135m-instruct-q4_1.llamacpp.json")
        ).cases
        try #require(truth.count == llama.count && truth.count == 8)

        // llama.cpp's own distance from float32 on its path.
        var theirs = Difference()
        for (hf, case_) in zip(truth, llama) {
            for (position, value) in zip(case_.logprobs, hf.llamacpp_path_logprobs) {
                theirs.add(Float(position.lp), value)
            }
        }
        print("llama.cpp, path: \(theirs)")

        var float32: [Outcome] = []
        for compute in [CPUCompute.f32, .bf16, .int8] {
            let outcomes = try Self.score(compute, path: path, cases: llama)
            if compute == .f32 { float32 = outcomes }
            var prompt = Difference()
            var chosen = Difference()
            var top = Difference()
            var theirTop = Difference()
            // Positions whose likeliest token is float32's.
            var agreed = 0
            var theirAgreed = 0
            for (index, outcome) in outcomes.enumerated() {
                let (hf, case_) = (truth[index], llama[index])
                try #require(outcome.prompt.count == case_.prompt_ids.count + case_.greedy_ids.count - 1)
                for place in 1..<case_.prompt_ids.count {
                    prompt.add(outcome.prompt[place - 1].chosen.logProbability, try #require(hf.prompt_logprobs[place]))
                }
                for place in case_.greedy_ids.indices {
                    let ours = outcome.prompt[case_.prompt_ids.count - 1 + place]
                    chosen.add(ours.chosen.logProbability, hf.llamacpp_path_logprobs[place])
                    let reference = float32[index].prompt[case_.prompt_ids.count - 1 + place]
                    if ours.top[0].token == reference.top[0].token { agreed += 1 }
                    if TokenID(case_.logprobs[place].top[0][0]) == reference.top[0].token { theirAgreed += 1 }
                    for entry in case_.logprobs[place].top {
                        let token = TokenID(entry[0])
                        guard
                            let exact = reference.top.first(where: { $0.token == token }),
                            let own = ours.top.first(where: { $0.token == token })
                        else { continue }
                        top.add(own.logProbability, Double(exact.logProbability))
                        theirTop.add(Float(entry[1]), Double(exact.logProbability))
                    }
                }
            }
            print("\(compute.rawValue), prompt: \(prompt)\n\(compute.rawValue), path: \(chosen)")
            print("\(compute.rawValue), llama.cpp's top 20: ours \(top) theirs \(theirTop)")
            print("\(compute.rawValue), likeliest token is float32's: ours \(agreed) theirs \(theirAgreed)")
            switch compute {
            case .f32:
                #expect(prompt.largest <= 2e-3)
                #expect(chosen.largest <= 2e-3)
            case .bf16:
                #expect(prompt.mean <= 3e-2)
                #expect(chosen.mean <= 2e-2)
            case .int8:
                // No further from float32 than an engine with 8-bit activations throughout, by every measure.
                #expect(chosen.mean <= theirs.mean)
                #expect(top.mean <= theirTop.mean)
                #expect(top.largest <= theirTop.largest)
                #expect(agreed >= theirAgreed)
            }
        }
    }
}
