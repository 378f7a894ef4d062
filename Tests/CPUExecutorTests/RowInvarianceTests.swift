// Tandem — Apache-2.0

import CPUExecutor
import Glibc
import InferenceEngine
import LanguageModel
import Requests
import TestSupport
import Testing
import Weights

/// A row's bits depend on nothing but the row: not on the batch, the chunking, the threads or where weights live.
@Suite(.serialized) struct RowInvarianceTests {
    static func request(_ length: Int, vocabulary: Int, seed: UInt64, newTokens: Int, sampled: Bool) -> Request {
        var random = SplitMix(state: seed)
        let tokens = (0..<length).map { _ in TokenID(random.next() % UInt64(vocabulary)) }
        return Request(
            tokens: tokens, newTokens: newTokens,
            sampling: sampled
                ? SamplingParameters(temperature: 0.9, topK: 50, topP: 0.95, minP: 0.01, seed: seed)
                : SamplingParameters(),
            promptTop: 3, top: 5)
    }

    /// Runs the subject in every company and compares bits.
    ///
    /// - Parameters:
    ///   - others: sequences beside the subject in a batch; 63 make it one of 64.
    ///   - longest: the others' prompts have 3 tokens to so many.
    ///   - chunks: prompt tokens a step when the subject runs alone.
    ///   - scored: whether the others ask for the log-probabilities of their prompts too.
    static func check(
        _ model: DecoderDescription, _ file: GGUFFile, _ compute: CPUCompute, others: Int = 63, length: Int,
        newTokens: Int, longest: Int = 31, chunks: [Int] = [1, 7, 16], context: Int = 256, blocks: Int = 512,
        scored: Bool = true
    ) throws {
        let descriptor = try SharedWeightsTests.memoryFile()
        defer { close(descriptor) }
        func harness(threads: Int) throws -> Harness {
            try Harness(
                model: model, file: file,
                options: CPUExecutor.Options(
                    compute: compute, threads: threads, spinNanoseconds: 2000, weightsDescriptor: descriptor),
                contextLength: context, blocks: blocks)
        }
        let vocabulary = model.vocabularySize
        // Two engines of one group: the first packs the weights, the second maps them.
        let single = try harness(threads: 1)
        let double = try harness(threads: 2)
        #expect(single.executor.packedWeights && !double.executor.packedWeights)
        for sampled in [false, true] {
            let subject = request(length, vocabulary: vocabulary, seed: 7, newTokens: newTokens, sampled: sampled)
            let alone = try single.run([subject])[0]
            try #require(alone.tokens.count == newTokens && alone.prompt.count == length - 1)
            #expect(alone.prompt.allSatisfy { $0.chosen.logProbability.isFinite && $0.chosen.logProbability <= 0 })

            for chunk in chunks {
                #expect(
                    try single.run([subject], chunk: chunk, firstBlock: chunk)[0].bits == alone.bits, "chunk \(chunk)")
            }
            let company = (0..<others).map { index in
                var other = request(
                    3 + index % (longest - 2), vocabulary: vocabulary, seed: UInt64(100 + index),
                    newTokens: newTokens, sampled: index % 2 == 0)
                if !scored { other.promptTop = nil }
                return other
            }
            #expect(try double.run([subject])[0].bits == alone.bits, "two threads")
            let middle = others / 2
            let batch = Array(company[..<middle]) + [subject] + Array(company[middle...])
            #expect(try double.run(batch, chunk: 9, firstBlock: 3)[middle].bits == alone.bits, "batch")
            #expect(
                try double.run(batch, chunk: 16, asynchronous: true, firstBlock: 4)[middle].bits == alone.bits,
                "asynchronous batch")

            // Decoded tokens prefilled again score the same, on either engine.
            var again = subject
            again.tokens += alone.tokens
            again.newTokens = 0
            for harness in [single, double] {
                let rescored = try harness.run([again])[0].prompt.suffix(newTokens).map(\.chosen)
                #expect(rescored == alone.sampled.map(\.chosen), "prefilled again")
            }
        }
    }

    @Test(arguments: CPUCompute.allCases) func tinyModels(_ compute: CPUCompute) throws {
        for format in TinyModel.Format.allCases {
            var tiny = TinyModel.holding(format)
            tiny.tied = format != .q8_0
            let file = try tiny.file()
            try Self.check(try DecoderDescription(gguf: file), file, compute, length: 37, newTokens: 6)
        }
    }

    @Test(arguments: [1, 3]) func sharesOfKeyValueHeads(_ keyValueHeads: Int) throws {
        let tiny = TinyModel(
            format: .q4_1, hidden: 192, layers: 3, queryHeads: 6, keyValueHeads: keyValueHeads, vocabulary: 1003)
        let file = try tiny.file()
        try Self.check(try DecoderDescription(gguf: file), file, .int8, length: 50, newTokens: 4)
    }

    /// Each family's features, over windows that end within a prompt and long before its end.
    @Test(arguments: TinyModel.Family.allCases, CPUCompute.allCases)
    func families(_ family: TinyModel.Family, _ compute: CPUCompute) throws {
        var tiny = TinyModel(family: family, format: .q4_1)
        if family == .gemma3 {
            // One head of keys and values, as its small models have.
            (tiny.layers, tiny.keyValueHeads) = (4, 1)
        }
        let file = try tiny.file()
        try Self.check(
            try tiny.model(file), file, compute, length: 75, newTokens: 6, longest: 60, chunks: [1, 2, 19, 48],
            blocks: 1024)
    }

    /// A window sees no key before it: the same tokens behind other ones score the same.
    @Test func windowsForgetWhatIsBeforeThem() throws {
        let tiny = TinyModel(family: .gemma3, layers: 2)
        let file = try tiny.file()
        let model = try tiny.model(file)
        let harness = try Harness(model: model, file: file, options: CPUExecutor.Options(compute: .f32, threads: 2))
        let tail = Self.request(60, vocabulary: model.vocabularySize, seed: 3, newTokens: 1, sampled: false)
        let outcomes: [Outcome] = try [UInt64(4), 5].map { seed in
            var request = tail
            request.tokens =
                Self.request(40, vocabulary: model.vocabularySize, seed: seed, newTokens: 0, sampled: false).tokens
                + tail.tokens
            return try harness.run([request])[0]
        }
        // Two layers see the last 2 * 21 - 1 tokens; the first one that sees none of the different ones is token 80.
        let reach = 40 + 2 * (TinyModel.window - 1)
        let first = outcomes.map { $0.prompt[reach...].map(\.chosen) }
        #expect(first[0] == first[1])
        let before = outcomes.map { $0.prompt[reach - 1].chosen }
        #expect(before[0] != before[1])
    }

    /// Contexts of several attention chunks of 64 keys, which end within one chunk and at its edge.
    @Test(arguments: CPUCompute.allCases) func longPrompts(_ compute: CPUCompute) throws {
        let tiny = TinyModel(format: .q4_1, hidden: 128, queryHeads: 4, keyValueHeads: 2)
        let file = try tiny.file()
        let model = try DecoderDescription(gguf: file)
        for length in [253, 321] {
            try Self.check(
                model, file, compute, length: length, newTokens: 5, longest: 300, chunks: [1, 29, 64, 200],
                context: 400, blocks: 1024)
        }
    }

    @Test(arguments: CPUCompute.allCases) func realModel(_ compute: CPUCompute) throws {
        guard let path = try ModelFixture.path() else { return }
        let file = try GGUFFile(path: path)
        try Self.check(
            try DecoderDescription(gguf: file), file, compute, length: 20, newTokens: 3, longest: 9, scored: false)
    }

    @Test(arguments: TinyModel.Family.allCases) func ablationsRunAndDiffer(_ family: TinyModel.Family) throws {
        let tiny = TinyModel(family: family, format: .q8_0)
        let file = try tiny.file()
        var seen: Set<[UInt32]> = []
        var fingerprints: Set<Digest128> = []
        for ablation in Ablation.allCases {
            let model = try tiny.model(file, ablation: ablation)
            let harness = try Harness(
                model: model, file: file, options: CPUExecutor.Options(compute: .int8, threads: 1))
            let outcomes = try [4, 1].map {
                try harness.run([Request(tokens: [1, 2, 3, 4], newTokens: 3, promptTop: 2, top: 2)], chunk: $0)[0].bits
            }
            #expect(outcomes[0] == outcomes[1])
            seen.insert(outcomes[0])
            fingerprints.insert(harness.executor.modelFingerprint)
        }
        #expect(seen.count == 3)
        #expect(fingerprints.count == 3)
    }
}
