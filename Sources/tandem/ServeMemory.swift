// Tandem — Apache-2.0

import CPUExecutor
import Configuration
import InferenceEngine
import LanguageModel
import Supervision

/// The memory of a server on this machine, planned before anything is loaded.
struct ServeMemory {
    var plan: MemoryPlan
    var notes: MemoryPlan.Notes

    /// Tokens in a KV block.
    private static let blockTokens = 16

    /// - Throws: ``SupervisionError`` if the plan does not fit.
    init(_ settings: ServeConfiguration, file: ModelFile, compute: CPUCompute) throws {
        let threads =
            CorePlan(
                usable: CorePlan.usableCores(), engines: settings.engines, threads: settings.threads
            ).threads.max() ?? 1
        // Whatever is asked for, an answer costs no more address space than one sequence.
        let bytesPerToken = file.keyValueBytesPerToken(compute)
        let smallest = MemoryPlan.product(bytesPerToken, (file.contextLength / Self.blockTokens + 1) * Self.blockTokens)
        func needs(keyValueBytes: UInt64) throws -> MemoryNeeds {
            try CPUExecutor.memoryNeeds(
                model: file.description, file: file.tensors, compute: compute, threads: threads,
                limits: ExecutorLimits(
                    slots: settings.maximumSequences, tokensPerStep: settings.maximumBatchedTokens,
                    contextLength: file.contextLength, blockSize: Self.blockTokens,
                    keyValueBytes: Int(clamping: keyValueBytes)),
                groups: file.description.kvGroups)
        }
        let fixed = try needs(keyValueBytes: smallest)
        var plan = MemoryPlan(
            engines: settings.engines,
            engine: MemoryPlan.Engine(
                weights: UInt64(fixed.weights), workspaces: UInt64(fixed.workspaces), tables: UInt64(fixed.tables)),
            keyValueBytes: 0, availableBytes: MemoryAvailable.bytes())
        plan.keyValueBytes = try MemoryPlan.keyValueBytes(
            requested: settings.keyValueBytes,
            availableBytes: plan.roomForKeyValues,
            engines: settings.engines,
            bytesPerToken: bytesPerToken,
            contextLength: file.contextLength)
        try plan.check()
        let counts = try needs(keyValueBytes: plan.keyValueBytes).blockCounts
        self.plan = plan
        notes = MemoryPlan.Notes(
            mode: compute.rawValue, contextLength: file.contextLength, blocks: counts.reduce(0, +),
            blockTokens: Self.blockTokens, tokens: (counts.min() ?? 0) * Self.blockTokens)
    }

    /// The plan for people.
    var table: String { plan.table(notes) }
}
