// Tandem — Apache-2.0

import CPUExecutor
import Foundation
import InferenceEngine
import LanguageModel
import TestSupport
import Testing
import Weights

@Suite struct MemoryNeedsTests {
    @Test(arguments: CPUCompute.allCases) func weightsAndBlocksAreWhatAnExecutorHas(compute: CPUCompute) throws {
        let file = try TinyModel(format: .q4_0).file()
        let model = try DecoderDescription(gguf: file)
        let limits = Self.limits
        let needs = try CPUExecutor.memoryNeeds(
            model: model, file: file, compute: compute, threads: 2, limits: limits, groups: model.kvGroups)
        let executor = try CPUExecutor(
            model: model, file: file, options: CPUExecutor.Options(compute: compute, threads: 2))
        defer { executor.shutdown() }
        #expect(needs.weights == executor.weightBytes)
        #expect(try executor.prepare(limits: limits, groups: model.kvGroups).blockCounts == needs.blockCounts)
        #expect(needs.keyValues <= limits.keyValueBytes)
        #expect(needs.keyValues > limits.keyValueBytes / 2)
    }

    private static let limits = ExecutorLimits(
        slots: 16, tokensPerStep: 256, contextLength: 512, keyValueBytes: 3 << 20)

    /// In a process of its own, whose address space nobody else changes meanwhile.
    @Test func preparingTakesWhatWasSaid() async {
        await #expect(processExitsWith: .success) {
            let file = try TinyModel().file()
            let model = try DecoderDescription(gguf: file)
            let needs = try CPUExecutor.memoryNeeds(
                model: model, file: file, compute: .bf16, threads: 1, limits: Self.limits, groups: model.kvGroups)
            let executor = try CPUExecutor(
                model: model, file: file, options: CPUExecutor.Options(compute: .bf16, threads: 1))
            let before = try Self.addressSpace()
            _ = try executor.prepare(limits: Self.limits, groups: model.kvGroups)
            let taken = try Self.addressSpace() - before
            let said = needs.keyValues + needs.workspaces + needs.tables
            // Pages, and what the heap grew by for the books of slots and blocks.
            #expect(taken >= said)
            #expect(taken <= said + (1 << 20))
            executor.shutdown()
        }
    }

    /// Bytes of this process's address space.
    private static func addressSpace() throws -> Int {
        let text = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
        let pages = try #require(text.split(separator: " ").first.flatMap { Int($0) })
        return pages * sysconf(Int32(_SC_PAGESIZE))
    }

    @Test func aFileWithoutATensorIsNamed() throws {
        let file = try TinyModel(layers: 2).file()
        let model = try DecoderDescription(gguf: try TinyModel(layers: 3).file())
        let error = #expect(throws: ExecutorError.self) {
            _ = try CPUExecutor.memoryNeeds(
                model: model, file: file, compute: .f32, threads: 1, limits: Self.limits, groups: model.kvGroups)
        }
        #expect(error?.message.contains("blk.2.") == true)
    }
}
