// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Testing

@testable import CUDAExecutor

@Suite struct DeviceMemoryPlanTests {
    static let limits = ExecutorLimits(slots: 16, tokensPerStep: 512, contextLength: 256, keyValueBytes: 16 << 20)

    @Test func keysAndValuesAreWholeBlocksAndOneToSpare() throws {
        let model = smallModel(head: 64, layers: 3)
        let plan = try DeviceMemoryPlan(model: model, limits: Self.limits, groups: model.kvGroups)
        #expect(plan.blockBytes == 16 * 3 * 2 * 2 * 64 * 2)
        #expect(plan.blockCount == (16 << 20) / plan.blockBytes - 1)
        #expect(plan.keyValues <= 16 << 20 && plan.keyValues + plan.blockBytes > 16 << 20)
        #expect(plan.tokens == plan.blockCount * 16)
        #expect(plan.totalBytes == plan.fixedBytes + plan.keyValues)
    }

    @Test func tooLittleMemoryIsSaidInNumbers() throws {
        let model = smallModel(head: 64, layers: 3)
        var limits = Self.limits
        limits.keyValueBytes = 100
        let error = #expect(throws: ExecutorError.self) {
            try DeviceMemoryPlan(model: model, limits: limits, groups: model.kvGroups)
        }
        #expect(error?.kind == .outOfMemory)
        let plan = try DeviceMemoryPlan(model: model, limits: Self.limits, groups: model.kvGroups)
        let short = #expect(throws: ExecutorError.self) { try plan.check(freeBytes: 10 << 20) }
        #expect(short?.kind == .outOfMemory && short?.message.contains("10.0 MiB are free") == true)
        try plan.check(freeBytes: plan.totalBytes)
    }

    @Test func enginesShareAFractionOfTheGPU() {
        let gib = 1 << 30
        func bytes(free: Int, engines: Int) -> Int {
            DeviceMemoryPlan.keyValueBytes(
                fixed: 4 * gib, totalBytes: 80 * gib, freeBytes: free, engines: engines, fraction: 0.9)
        }
        let one = bytes(free: 79 * gib, engines: 1)
        let two = bytes(free: 79 * gib, engines: 2)
        #expect(one == 72 * gib - DeviceMemoryPlan.contextBytes - 4 * gib)
        #expect(2 * (two + 4 * gib + DeviceMemoryPlan.contextBytes) == 72 * gib)
        // Others hold most of it.
        #expect(bytes(free: 10 * gib, engines: 1) == 6 * gib - (64 << 20))
        #expect(bytes(free: gib, engines: 1) == 0)
    }
}
