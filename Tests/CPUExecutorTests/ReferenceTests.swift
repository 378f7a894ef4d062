// Tandem — Apache-2.0

import CPUExecutor
import Foundation
import LanguageModel
import Requests
import TestSupport
import Testing

/// Real models against float32 of another implementation, teacher-forced.
@Suite(.serialized) struct ReferenceTests {
    /// A model of `Tests/Fixtures/reference`.
    struct Model: CustomTestStringConvertible {
        var name: String
        var path: @Sendable () throws -> String?

        var testDescription: String { name }

        /// A model that only measurements need, where an environment variable says.
        static func measured(_ name: String, _ variable: String) -> Model {
            Model(name: name) {
                let path = ProcessInfo.processInfo.environment[variable]
                if path == nil { print("skipped: \(variable) does not name a file of \(name)") }
                return path
            }
        }
    }

    static let models = [
        Model(name: "smollm2-135m-instruct-q4_1") { try ModelFixture.path() },
        Model.measured("gemma-3-270m-q4_k_m", "TANDEM_TEST_GEMMA"),
        Model.measured("qwen2.5-coder-0.5b-instruct-q4_k_m", "TANDEM_TEST_QWEN"),
    ]

    struct Position: Decodable {
        var id: TokenID
        var lp: Double
        /// Pairs of token and log-probability.
        var top: [[Double]]
    }

    struct Truth: Decodable {
        var prompt_ids: [TokenID]
        var greedy_ids: [TokenID]
        var prompt_logprobs: [Double?]
        var logprobs: [Position]
        var llamacpp_path_logprobs: [Double]
    }

    struct Theirs: Decodable {
        var prompt_ids: [TokenID]
        var greedy_ids: [TokenID]
        var logprobs: [Position]
    }

    struct File<Case: Decodable>: Decodable {
        var cases: [Case]
    }

    /// Differences of natural log-probabilities, absolute.
    struct Difference: CustomStringConvertible {
        var count = 0
        var sum = 0.0
        var largest = 0.0
        var mean: Double { count == 0 ? 0 : sum / Double(count) }

        mutating func add(_ ours: Double, _ truth: Double) {
            let difference = abs(ours - truth)
            count += 1
            sum += difference
            largest = difference.isNaN ? .infinity : max(largest, difference)
        }

        var description: String { String(format: "n %d mean %.6f max %.6f", count, mean, largest) }
    }

    /// One mode's distances from float32, and llama.cpp's.
    struct Distances {
        /// Prompt tokens but the first.
        var prompt = Difference()
        /// Tokens that float32 generates greedily, and the twenty likeliest of each position.
        var generated = Difference()
        var generatedTop = Difference()
        /// Tokens that llama.cpp generates greedily, and the twenty that it finds likeliest.
        var path = Difference()
        var pathTop = Difference()
        var theirPath = Difference()
        var theirPathTop = Difference()
        /// Positions of the path whose likeliest token is float32's.
        var agreed = 0
        var theirAgreed = 0
    }

    /// A mode's scores of every prompt with both continuations; 64 likeliest of every position.
    struct Scores {
        var generated: [Outcome]
        var path: [Outcome]

        init(_ compute: CPUCompute, path file: String, truth: [Truth], theirs: [Theirs]) throws {
            let checkpoint = try Checkpoint(path: file)
            let harness = try Harness(
                model: checkpoint.description, file: checkpoint.tensors,
                options: CPUExecutor.Options(compute: compute, threads: 2), slots: 1, tokensPerStep: 256)
            func score(_ tokens: [TokenID]) throws -> Outcome {
                try harness.run([Request(tokens: tokens, promptTop: 64)])[0]
            }
            generated = try truth.map { try score($0.prompt_ids + $0.greedy_ids) }
            path = try theirs.map { try score($0.prompt_ids + $0.greedy_ids) }
        }
    }

    static func distances(
        _ scores: Scores, float32: Scores, truth: [Truth], theirs: [Theirs]
    ) throws -> Distances {
        var distances = Distances()
        for index in truth.indices {
            let (truth, theirs) = (truth[index], theirs[index])
            let (generated, path) = (scores.generated[index].prompt, scores.path[index].prompt)
            let prompt = truth.prompt_ids.count
            try #require(theirs.prompt_ids == truth.prompt_ids)
            try #require(generated.count == prompt + truth.greedy_ids.count - 1)
            try #require(path.count == prompt + theirs.greedy_ids.count - 1)
            for place in 1..<prompt {
                distances.prompt.add(
                    Double(path[place - 1].chosen.logProbability), try #require(truth.prompt_logprobs[place]))
            }
            for place in truth.greedy_ids.indices {
                let ours = generated[prompt - 1 + place]
                distances.generated.add(Double(ours.chosen.logProbability), truth.logprobs[place].lp)
                for entry in truth.logprobs[place].top {
                    guard let own = ours.top.first(where: { $0.token == TokenID(entry[0]) }) else { continue }
                    distances.generatedTop.add(Double(own.logProbability), entry[1])
                }
            }
            for place in theirs.greedy_ids.indices {
                let ours = path[prompt - 1 + place]
                distances.path.add(Double(ours.chosen.logProbability), truth.llamacpp_path_logprobs[place])
                distances.theirPath.add(theirs.logprobs[place].lp, truth.llamacpp_path_logprobs[place])
                let reference = float32.path[index].prompt[prompt - 1 + place]
                if ours.top[0].token == reference.top[0].token { distances.agreed += 1 }
                if TokenID(theirs.logprobs[place].top[0][0]) == reference.top[0].token { distances.theirAgreed += 1 }
                for entry in theirs.logprobs[place].top {
                    let token = TokenID(entry[0])
                    guard
                        let exact = reference.top.first(where: { $0.token == token }),
                        let own = ours.top.first(where: { $0.token == token })
                    else { continue }
                    distances.pathTop.add(Double(own.logProbability), Double(exact.logProbability))
                    distances.theirPathTop.add(entry[1], Double(exact.logProbability))
                }
            }
        }
        return distances
    }

    @Test(arguments: models) func logProbabilitiesAgreeWithFloat32(_ model: Model) throws {
        guard let path = try model.path() else { return }
        let decoder = JSONDecoder()
        let truth = try decoder.decode(File<Truth>.self, from: ModelFixture.data("reference/\(model.name).hf.json"))
            .cases
        let theirs = try decoder.decode(
            File<Theirs>.self, from: ModelFixture.data("reference/\(model.name).llamacpp.json")
        ).cases
        try #require(truth.count == theirs.count && truth.count >= 4)
        var float32: Scores?
        for compute in [CPUCompute.f32, .bf16, .int8] {
            let scores = try Scores(compute, path: path, truth: truth, theirs: theirs)
            let exact = float32 ?? scores
            float32 = exact
            let found = try Self.distances(scores, float32: exact, truth: truth, theirs: theirs)
            print(
                """
                \(model.name), \(compute.rawValue):
                  prompt:                     \(found.prompt)
                  generated:                  \(found.generated)
                  its 20 likeliest:           \(found.generatedTop)
                  llama.cpp's path:           \(found.path); llama.cpp \(found.theirPath)
                  its 20 likeliest:           \(found.pathTop); llama.cpp \(found.theirPathTop)
                  likeliest is float32's:     \(found.agreed) of \(found.path.count); llama.cpp \(found.theirAgreed)
                """)
            switch compute {
            case .f32:
                for difference in [found.prompt, found.generated, found.generatedTop, found.path] {
                    #expect(difference.largest <= 2e-3)
                }
            case .bf16:
                for difference in [found.prompt, found.generated, found.path] { #expect(difference.mean <= 3e-2) }
            case .int8:
                // No further from float32 than an engine with 8-bit activations throughout.
                #expect(found.path.mean <= found.theirPath.mean)
                #expect(found.pathTop.mean <= found.theirPathTop.mean)
                #expect(found.pathTop.largest <= found.theirPathTop.largest)
                // Both leave float32 at a handful of positions; which of two counts is lower by one or two is chance.
                #expect(found.agreed + 2 >= found.theirAgreed)
            }
        }
    }
}
