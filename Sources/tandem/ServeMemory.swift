// Tandem — Apache-2.0

import CPUExecutor
import Configuration
import InferenceEngine
import LanguageModel
import Supervision

/// The memory of a server on this machine, planned before anything is loaded.
struct ServeMemory {
    /// With the models in the order in which they were given.
    var plan: MemoryPlan
    var notes: [MemoryPlan.Notes]

    /// Tokens in a KV block.
    private static let blockTokens = 16

    /// - Throws: ``SupervisionError`` if the plan does not fit, or ``ConfigurationError`` where one of several models
    ///   asks for what cannot be.
    init(_ models: [ServeModel]) throws {
        let threads = Self.threads(models)
        // Whatever is asked for, an answer costs no more address space than one sequence.
        let sequences = models.map(Self.sequenceBytes)
        plan = MemoryPlan(models: [], availableBytes: MemoryAvailable.bytes())
        for ((model, threads), sequence) in zip(zip(models, threads), sequences) {
            let fixed = try Self.needs(model, threads: threads, keyValueBytes: sequence)
            plan.models.append(
                MemoryPlan.Model(
                    name: model.names[0], engines: model.settings.engines,
                    engine: MemoryPlan.Engine(
                        weights: UInt64(fixed.weights), workspaces: UInt64(fixed.workspaces),
                        tables: UInt64(fixed.tables))))
        }
        var wishes: [KeyValueWish] = []
        for (model, sequence) in zip(models, sequences) {
            let wish = KeyValueWish(
                engines: model.settings.engines, requested: model.settings.keyValueBytes, sequenceBytes: sequence,
                contextLength: model.file.contextLength)
            do {
                try wish.check()
            } catch {
                guard model.settings.place != nil else { throw error }
                throw ConfigurationError(source: model.settings.source(of: "kv-cache-memory"), reason: "\(error)")
            }
            wishes.append(wish)
        }
        let bytes = try MemoryPlan.keyValueBytes(wishes, availableBytes: plan.roomForKeyValues)
        for (index, bytes) in bytes.enumerated() { plan.models[index].keyValueBytes = bytes }
        try plan.check()
        notes = []
        for ((model, threads), bytes) in zip(zip(models, threads), bytes) {
            let description = model.file.description
            let blocks = try Self.needs(model, threads: threads, keyValueBytes: bytes).blockCount
            // Each group of layers has blocks of its own for a token; those behind a window come back.
            let blocksOfAllLayers = blocks / max(1, description.kvGroups.count)
            notes.append(
                MemoryPlan.Notes(
                    mode: model.compute.rawValue, contextLength: model.file.contextLength, blocks: blocks,
                    blockTokens: Self.blockTokens, tokens: blocksOfAllLayers * Self.blockTokens))
        }
    }

    /// The plan for people.
    var table: String { plan.table(notes) }

    /// Compute threads of an engine of each model.
    private static func threads(_ models: [ServeModel]) -> [Int] {
        let plan = CorePlan(
            usable: CorePlan.usableCores(),
            shares: models.map { CorePlan.Share(engines: $0.settings.engines, threads: $0.settings.threads) })
        var next = 0
        return models.map { model in
            defer { next += model.settings.engines }
            return plan.threads[next..<next + model.settings.engines].max() ?? 1
        }
    }

    private static func sequenceBytes(_ model: ServeModel) -> UInt64 {
        UInt64(
            model.file.description.kvBytes(
                forSequenceOf: model.file.contextLength, tokensPerStep: model.settings.maximumBatchedTokens,
                elementBytes: model.compute.keyValueElementBytes, blockSize: blockTokens))
    }

    private static func needs(_ model: ServeModel, threads: Int, keyValueBytes: UInt64) throws -> MemoryNeeds {
        try CPUExecutor.memoryNeeds(
            model: model.file.description, file: model.file.tensors, compute: model.compute, threads: threads,
            limits: ExecutorLimits(
                slots: model.settings.maximumSequences, tokensPerStep: model.settings.maximumBatchedTokens,
                contextLength: model.file.contextLength, blockSize: blockTokens,
                keyValueBytes: Int(clamping: keyValueBytes)),
            groups: model.file.description.kvGroups)
    }
}
