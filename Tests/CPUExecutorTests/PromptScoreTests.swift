// Tandem — Apache-2.0

import Foundation
import InferenceEngine
import LanguageModel
import Requests
import TestSupport
import Testing

@testable import CPUExecutor

/// Vectors and labels of whole prompts, against another implementation's and against themselves in other company.
@Suite struct PromptScoreTests {
    private struct Reference: Decodable {
        var input_ids: [TokenID]
        var last_token_l2: [Float]
        var mean_l2: [Float]
    }

    static func normalised(_ vector: [Float]) -> [Float] {
        let length = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
        return vector.map { $0 / length }
    }

    @Test(arguments: [1, 2], [7, 64]) func pooledVectorsAgreeWithFloat32(threads: Int, tokensPerStep: Int) throws {
        let reference = try JSONDecoder().decode(
            Reference.self, from: ModelFixture.data("tiny/qwen2-tied/embedding_reference.json"))
        let checkpoint = try TinyCheckpoint("qwen2-tied")
        // Unlike the other references these were made with exact rotary frequencies.
        let runner = try SchedulerRunner(
            checkpoint, compute: .f32, threads: threads, tokensPerStep: tokensPerStep)
        let outputs = try runner.run([
            EngineRequest(id: 1, tokens: reference.input_ids, maximumNewTokens: 0, pooling: .last),
            EngineRequest(id: 2, tokens: reference.input_ids, maximumNewTokens: 0, pooling: .mean),
        ])
        for (id, truth) in [(RequestID(1), reference.last_token_l2), (2, reference.mean_l2)] {
            let ours = try #require(outputs[id]?.score?.pooled)
            #expect(ours.count == truth.count)
            #expect(TinyReferenceTests.difference(Self.normalised(ours), truth[...]) < 1e-5)
        }
    }

    @Test(arguments: TinyCheckpoint.names) func labelsAreTheLogSoftmaxOfTheReference(name: String) throws {
        let checkpoint = try TinyCheckpoint(name)
        let size = checkpoint.model.vocabularySize
        var inspection = StepInspection()
        inspection.rotaryRounding = checkpoint.rotaryRounding
        let runner = try SchedulerRunner(checkpoint, compute: .f32, inspection: inspection)
        let labels = [TokenID(3), TokenID(size - 1), 0]
        let requests = checkpoint.cases.enumerated().map { index, reference in
            EngineRequest(
                id: RequestID(index), tokens: reference.input_ids, maximumNewTokens: 0, labelTokens: labels)
        }
        let outputs = try runner.run(requests)
        for (index, reference) in checkpoint.cases.enumerated() {
            let logits = try #require(checkpoint.outputs["logits.\(reference.name)"]).suffix(size).map { Double($0) }
            let largest = logits.max() ?? 0
            let total = largest + log(logits.reduce(0) { $0 + exp($1 - largest) })
            let truth = labels.map { Float(logits[Int($0)] - total) }
            let ours = try #require(outputs[RequestID(index)]?.score?.labels)
            #expect(TinyReferenceTests.difference(ours, truth[...]) < 1e-4)
        }
    }

    @Test(arguments: ["llama-tied", "gemma3-text"]) func ranksAreThoseOfTheReference(name: String) throws {
        let checkpoint = try TinyCheckpoint(name)
        let size = checkpoint.model.vocabularySize
        var inspection = StepInspection()
        inspection.rotaryRounding = checkpoint.rotaryRounding
        let runner = try SchedulerRunner(checkpoint, compute: .f32, tokensPerStep: 19, inspection: inspection)
        let reference = try #require(checkpoint.cases.max { $0.input_ids.count < $1.input_ids.count })
        let outputs = try runner.run([
            EngineRequest(id: 1, tokens: reference.input_ids, maximumNewTokens: 0, promptLogProbabilities: 2)
        ])
        let positions = try #require(outputs[1]?.promptLogProbabilities)
        let logits = try #require(checkpoint.outputs["logits.\(reference.name)"])
        #expect(positions.count == reference.input_ids.count - 1)
        for (position, entry) in positions.enumerated() {
            let row = logits[position * size..<(position + 1) * size]
            let own = row[row.startIndex + Int(entry.chosen.token)]
            // Logits agree to 1e-4: a neighbour may stand on the other side.
            let fewest = row.count { $0 > own + 2e-4 }
            let most = row.count { $0 > own - 2e-4 }
            #expect((fewest + 1...most + 1).contains(Int(entry.rank)), "position \(position)")
        }
    }

    /// Every number is the same alone and in a crowd, whole and in chunks, with shared prefixes and without.
    @Test(arguments: [CPUCompute.f32, .int8], ["llama-tied", "gemma3-text"])
    func scoresDoNotDependOnCompany(compute: CPUCompute, name: String) throws {
        let checkpoint = try TinyCheckpoint(name)
        let tokens = checkpoint.cases.map(\.input_ids).max { $0.count < $1.count } ?? []
        let requests = (0..<24).map { index in
            let count = 1 + index * (tokens.count - 1) / 23
            var request = EngineRequest(
                id: RequestID(index), tokens: Array(tokens.prefix(count)), maximumNewTokens: 0,
                labelTokens: [1, 5, 9])
            request.pooling = [nil, .last, .mean][index % 3]
            return request
        }
        let alone = try SchedulerRunner(checkpoint, compute: compute, tokensPerStep: 256)
        let crowd = try SchedulerRunner(checkpoint, compute: compute, tokensPerStep: 19, asynchronous: true)
        let together = try crowd.run(requests)
        for request in requests {
            let single = try alone.run([request])[request.id]?.score
            let other = together[request.id]?.score
            #expect(single?.labels.map(\.bitPattern) == other?.labels.map(\.bitPattern), "\(request.id)")
            #expect(single?.pooled.map(\.bitPattern) == other?.pooled.map(\.bitPattern), "\(request.id)")
        }
    }
}
