// Tandem — Apache-2.0

import CPUExecutor
import InferenceEngine
import LanguageModel
import Requests
import TestSupport
import Testing
import Weights

@testable import CUDAExecutor

/// A trained model (SmolLM2-135M) on the stand-in for a GPU against the CPU in single precision.
@Suite(.serialized) struct TrainedModelTests {
    /// Beginnings of texts of `Tests/Fixtures/reference`.
    static let texts: [[TokenID]] = [
        [504, 3575, 282, 4649, 314, 7042, 30, 198, 198, 504, 2988, 314, 42, 216, 34, 32, 33],
        [
            6403, 1980, 253, 655, 28, 281, 253, 1165, 6560, 411, 260, 3426, 28, 665, 4161, 253, 9191, 16201, 617, 761,
            253, 1767, 3746, 338, 856, 655, 2581, 30, 909, 804, 357, 288, 1464, 655, 28, 564,
        ],
        [
            12615, 36411, 418, 216, 33, 32, 32, 5027, 20590, 975, 357, 314, 253, 5553, 30, 198, 198, 504, 16891, 1225,
            282, 913, 314, 253, 4959, 3501, 282, 511, 2631, 28, 284, 357, 314, 253, 8604, 282,
        ],
        [
            2017, 7221, 198, 198, 2064, 17399, 42, 472, 753, 2758, 2563, 3762, 771, 28, 2050, 42, 871, 727, 198, 3725,
            198, 198, 504, 2179, 10020, 80, 1128, 314, 253, 28604, 1517, 338, 2933, 253, 2050, 347,
        ],
    ]

    static func cpu(_ checkpoint: Checkpoint, _ tensors: any TensorSource, _ compute: CPUCompute) throws -> Harness {
        let model = checkpoint.description
        return try Harness(
            CPUExecutor(model: model, file: tensors, options: CPUExecutor.Options(compute: compute, threads: 2)),
            model: model, bytesPerToken: model.kvBytesPerToken(elementBytes: 4), slots: 8, tokensPerStep: 256,
            contextLength: 64, blocks: 32)
    }

    static func differences(_ found: [Outcome], _ exact: [Outcome]) -> [Float] {
        zip(found, exact).flatMap { found, exact in
            zip(found.prompt, exact.prompt).map { abs($0.chosen.logProbability - $1.chosen.logProbability) }
        }
    }

    static func mean(_ differences: [Float]) -> Float {
        differences.reduce(0, +) / Float(max(1, differences.count))
    }

    static func text(_ differences: [Float]) -> String {
        let sorted = differences.sorted()
        return "mean \(mean(differences)), median \(sorted[sorted.count / 2]), largest \(sorted.last ?? 0)"
    }

    /// Teacher-forced. What is left to single precision has two causes: weights that are no bfloat16 numbers are rounded,
    /// and so are the activations that are multiplied with them. The second is that of the CPU's bfloat16 mode.
    @Test func errorsAreThoseOfBFloat16() throws {
        guard let path = try ModelFixture.path() else { return }
        let checkpoint = try Checkpoint(path: path)
        let requests = Self.texts.map { Request(tokens: $0, promptTop: 2) }
        let exact = try Self.cpu(checkpoint, checkpoint.tensors, .f32).run(requests)
        let rounded = try Self.cpu(checkpoint, RoundedTensors(checkpoint.tensors), .f32).run(requests)
        let bfloat16 = try Self.cpu(checkpoint, checkpoint.tensors, .bf16).run(requests)
        let found = try DoubleGPU.harness(checkpoint, slots: 8, tokensPerStep: 160, contextLength: 64, blocks: 32).run(
            requests)
        let all = Self.differences(found, exact)
        try #require(all.count == Self.texts.reduce(0) { $0 + $1.count - 1 })
        let own = Self.differences(found, rounded)
        let cpus = Self.differences(bfloat16, rounded)
        print("SmolLM2-135M, \(all.count) positions: all \(Self.text(all))")
        print("of which by weights \(Self.text(Self.differences(rounded, exact)))")
        print("by arithmetic \(Self.text(own)), within 2e-2 \(own.count { $0 <= 2e-2 })")
        print("by the CPU's arithmetic \(Self.text(cpus)), within 2e-2 \(cpus.count { $0 <= 2e-2 })")
        #expect(Self.mean(all) <= ParityTests.tolerance)
        #expect(Self.mean(own) <= ParityTests.tolerance)
        #expect(Self.mean(own) <= 1.25 * Self.mean(cpus))
        #expect(own.count { $0 <= ParityTests.tolerance } >= own.count * 3 / 4)
        #expect(all.max() ?? .infinity <= 0.15)
        // The likeliest token is single precision's wherever it is so by enough.
        for (found, exact) in zip(found, exact) {
            for (index, (found, exact)) in zip(found.prompt, exact.prompt).enumerated()
            where found.top[0].token != exact.top[0].token {
                print("position \(index): another token, by a margin of \(ParityTests.margin(exact))")
                #expect(ParityTests.margin(exact) <= 2 * ParityTests.tolerance)
            }
        }
    }
}
