// Tandem — Apache-2.0

import CPUExecutor
import CTandemSystem
import Glibc
import InferenceEngine
import LanguageModel
import Requests
import Synchronization
import TestSupport
import Testing
import Weights

@Suite struct SharedWeightsTests {
    static func outcome(_ file: GGUFFile, compute: CPUCompute = .int8, descriptor: Int32?) throws -> (Outcome, Bool) {
        let harness = try Harness(
            model: DecoderDescription(gguf: file), file: file,
            options: CPUExecutor.Options(compute: compute, threads: 2, weightsDescriptor: descriptor))
        let request = Request(tokens: [5, 9, 2, 44], newTokens: 5, promptTop: 4, top: 4)
        return (try harness.run([request])[0], harness.executor.packedWeights)
    }

    static func memoryFile() throws -> Int32 {
        let descriptor = tandem_memfd_create("weights-test")
        try #require(descriptor >= 0)
        return descriptor
    }

    @Test func theSecondOneFindsWhatTheFirstOnePacked() throws {
        let file = try TinyModel(format: .q4_1).file()
        let descriptor = try Self.memoryFile()
        defer { close(descriptor) }
        let (alone, packedAlone) = try Self.outcome(file, descriptor: nil)
        let (first, packedFirst) = try Self.outcome(file, descriptor: descriptor)
        let (second, packedSecond) = try Self.outcome(file, descriptor: descriptor)
        #expect(packedAlone && packedFirst && !packedSecond)
        #expect(first.bits == alone.bits)
        #expect(second.bits == alone.bits)
        // Sealed: nobody can write or resize any more.
        #expect(tandem_memfd_get_seals(descriptor) & Int32(tandem_seal_write) != 0)
        #expect(ftruncate(descriptor, 1) != 0)
        #expect(pwrite(descriptor, [0], 1, 5000) < 0)
    }

    @Test func halfPackedWeightsArePackedAgain() throws {
        let file = try TinyModel(format: .q8_0).file()
        let descriptor = try Self.memoryFile()
        defer { close(descriptor) }
        // What a packer leaves that was killed on the way: a sized file with some bytes and no finished header.
        let junk = [UInt8](repeating: 0xA5, count: 20000)
        #expect(pwrite(descriptor, junk, junk.count, 0) == junk.count)
        let (outcome, packed) = try Self.outcome(file, descriptor: descriptor)
        #expect(packed)
        #expect(outcome.bits == (try Self.outcome(file, descriptor: nil).0).bits)
    }

    @Test func anotherModelOrModeIsRefused() throws {
        let descriptor = try Self.memoryFile()
        defer { close(descriptor) }
        let file = try TinyModel(format: .q8_0).file()
        _ = try Self.outcome(file, descriptor: descriptor)
        for (other, compute) in [(try TinyModel(format: .q8_0, seed: 2).file(), CPUCompute.int8), (file, .bf16)] {
            do {
                _ = try Self.outcome(other, compute: compute, descriptor: descriptor)
                Issue.record("accepted")
            } catch let error as ExecutorError {
                #expect(error.kind == .unsupported)
                #expect(error.message.contains("descriptor \(descriptor)"))
            }
        }
    }

    @Test func aClosedDescriptorIsAnError() throws {
        let file = try TinyModel().file()
        #expect(throws: ExecutorError.self) { try Self.outcome(file, descriptor: 1_000_000) }
    }

    @Test func manyAtOncePackOnce() async throws {
        let file = try TinyModel(format: .q4_0).file()
        let descriptor = try Self.memoryFile()
        defer { close(descriptor) }
        let results = try await withThrowingTaskGroup(of: ([UInt32], Bool).self) { group in
            for _ in 0..<4 {
                group.addTask {
                    let (outcome, packed) = try Self.outcome(file, descriptor: descriptor)
                    return (outcome.bits, packed)
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(results.filter(\.1).count == 1)
        #expect(Set(results.map(\.0)).count == 1)
    }

    @Test func theModeFollowsTheFile() throws {
        for format in TinyModel.Format.allCases {
            let file = try TinyModel.holding(format).file()
            #expect(CPUCompute.best(for: file) == ([.f32, .f16, .bf16].contains(format) ? .bf16 : .int8))
        }
    }

    @Test func progressRisesToOne() throws {
        let seen = Mutex<[Double]>([])
        let file = try TinyModel(format: .f16, layers: 6).file()
        let harness = try Harness(
            model: DecoderDescription(gguf: file), file: file,
            options: CPUExecutor.Options(
                compute: .f32, threads: 1, progress: { value in seen.withLock { $0.append(value) } }))
        withExtendedLifetime(harness) {
            let values = seen.withLock { $0 }
            #expect(values == values.sorted())
            #expect(values.last ?? 0 > 0.99)
        }
    }
}
