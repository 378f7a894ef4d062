// Tandem — Apache-2.0

public import InferenceEngine
public import LanguageModel
public import Weights

/// Memory of one CPU engine, in bytes.
public struct MemoryNeeds: Sendable, Equatable {
    /// Packed weights; engines that share them need them once.
    public var weights: Int
    /// Keys and values.
    public var keyValues: Int
    /// Blocks in the pool of each KV group.
    public var blockCounts: [Int]
    /// Intermediate numbers of a step.
    public var workspaces: Int
    /// Block tables and rotary tables.
    public var tables: Int

    init(
        weights: Int, buffers: StepBuffers, scratch: [SamplingScratch], keyValues: KeyValuePools, ropes: [RotaryTable]
    ) {
        self.weights = weights
        self.keyValues = keyValues.groups.reduce(0) { $0 + $1.memory.byteCount }
        blockCounts = keyValues.groups.map(\.blockCount)
        workspaces = buffers.byteCount + scratch.reduce(0) { $0 + $1.byteCount }
        tables =
            keyValues.groups.reduce(0) { $0 + $1.tables.byteCount } + ropes.reduce(0) { $0 + $1.byteCount }
    }
}

extension CPUExecutor {
    /// What an executor will take, from the file's tensor table alone: nothing is read or packed.
    ///
    /// The executor's own types are made and let go again, so that the answer cannot differ from what they take; their
    /// memory is address space until it is touched.
    ///
    /// - Throws: ``ExecutorError`` of kind `unsupported` if a tensor is missing, or `outOfMemory` if not even address space
    ///   can be had, or the limits leave no room for one block.
    public static func memoryNeeds(
        model: DecoderDescription, file: any TensorSource, compute: CPUCompute, threads: Int, limits: ExecutorLimits,
        groups: [KeyValueGroup]
    ) throws(ExecutorError) -> MemoryNeeds {
        let layout = try PackedLayout(model: model, file: file, compute: compute)
        let buffers = try StepBuffers(
            model: model, limits: limits, compute: compute, threads: threads,
            tileTokens: ForwardPass.tileTokens(of: model))
        let keyValues = try KeyValuePools(model: model, groups: groups, limits: limits, compute: compute)
        var ropes: [RotaryTable] = []
        for rope in model.ropes {
            // Values do not change the size.
            let factors = [Float](repeating: 1, count: rope.hasFrequencyFactors ? rope.dimensions / 2 : 0)
            ropes.append(try RotaryTable(rope, factors: factors, positions: limits.contextLength))
        }
        return MemoryNeeds(
            weights: layout.totalBytes, buffers: buffers,
            scratch: try ForwardPass.samplingScratch(threads: threads, vocabularySize: model.vocabularySize),
            keyValues: keyValues, ropes: ropes)
    }
}
