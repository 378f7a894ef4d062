// Tandem — Apache-2.0

import CUDAKernels
public import InferenceEngine
public import LanguageModel

/// What one engine takes of a GPU's memory, in bytes, decided before anything is allocated.
public struct DeviceMemoryPlan: Sendable, Equatable {
    /// The model in bfloat16.
    public var weights: Int
    /// Intermediate numbers of a step.
    public var activations: Int
    public var logits: Int
    /// Block tables, rotary tables, and counts of tokens for penalties.
    public var tables: Int
    /// What a step is told and what it answers.
    public var steps: Int
    /// Room in which matrix products work.
    public var workspace: Int
    /// Keys and values, of ``blockCount`` blocks and one to spare.
    public var keyValues: Int
    public var blockCount: Int
    /// Bytes of one block: 16 tokens of all layers of one group.
    public var blockBytes: Int
    /// KV groups of the model.
    public var groups: Int
    var layersPerGroup: Int

    /// Tokens in a block.
    public static let blockTokens = 16
    /// Room for a matrix product; cuBLASLt's recommendation for this generation of GPUs.
    public static let workspaceBytes = 32 << 20
    /// What the context, modules and the driver take beside this plan; measured on an H100 under 600 MiB.
    public static let contextBytes = 640 << 20

    /// All of it.
    public var totalBytes: Int { fixedBytes + keyValues }
    /// All but keys and values.
    public var fixedBytes: Int { weights + activations + logits + tables + steps + workspace }
    /// Tokens whose keys and values fit, where no layer has a window.
    public var tokens: Int { blockCount / max(1, groups) * Self.blockTokens }

    /// Plans for a number of bytes for keys and values.
    ///
    /// - Throws: ``ExecutorError`` of kind `unsupported` for a model or limits that a GPU cannot run, `outOfMemory` if not
    ///   even one block fits.
    public init(
        model: DecoderDescription, limits: ExecutorLimits, groups: [KeyValueGroup]
    ) throws(ExecutorError) {
        let shape = try DeviceShape(model)
        let layersPerGroup = groups.first?.layers.count ?? 0
        guard layersPerGroup > 0, groups.allSatisfy({ $0.layers.count == layersPerGroup }) else {
            throw ExecutorError(
                kind: .unsupported, message: "the groups of keys and values have no layers, or not equally many")
        }
        let buffers = BufferSizes(shape: shape, limits: limits)
        weights = WeightLayout(model, shape: shape).byteCount
        activations = buffers.activationBytes
        logits = buffers.logitBytes
        let entries = (limits.contextLength + Self.blockTokens - 1) / Self.blockTokens
        tables =
            groups.count * (limits.slots + 1) * entries * 4
            + model.ropes.count * limits.contextLength * shape.paddedHead * 4
            + limits.slots * Self.countCapacity(limits, shape) * MemoryLayout<TokenCountEntry>.stride
        steps = Self.inputBytes(limits) + Self.outputBytes(limits, shape)
        workspace = Self.workspaceBytes
        self.groups = groups.count
        self.layersPerGroup = layersPerGroup
        blockBytes = Self.blockTokens * shape.keyValueBytesPerToken(layers: layersPerGroup)
        blockCount = min(max(0, limits.keyValueBytes / blockBytes - 1), Int(Int32.max) - 1)
        guard blockCount > 0 else {
            throw ExecutorError(
                kind: .outOfMemory,
                message: "\(Self.text(limits.keyValueBytes)) for keys and values do not hold two blocks of "
                    + "\(Self.text(blockBytes)); give more with --kv-cache-memory")
        }
        keyValues = (blockCount + 1) * blockBytes
    }

    /// Bytes for keys and values of one of several equal engines on a GPU.
    ///
    /// - Parameters:
    ///   - fixed: ``fixedBytes`` of an engine.
    ///   - totalBytes: the GPU's memory.
    ///   - freeBytes: what is free now, before this engine took anything but its context.
    ///   - engines: that share the GPU, this one included.
    ///   - fraction: of the GPU's memory that all of them may take together.
    public static func keyValueBytes(
        fixed: Int, totalBytes: Int, freeBytes: Int, engines: Int, fraction: Double
    ) -> Int {
        let share = Int(Double(totalBytes) * min(max(fraction, 0), 1)) / max(1, engines)
        return max(0, min(share - contextBytes, freeBytes - (64 << 20)) - fixed)
    }

    /// Bytes of keys and values with which one sequence can run to its end, with the block to spare.
    public static func keyValueBytes(
        model: DecoderDescription, forSequenceOf tokens: Int, tokensPerStep: Int
    ) throws(ExecutorError) -> Int {
        let shape = try DeviceShape(model)
        let groups = model.kvGroups
        let blockBytes = blockTokens * shape.keyValueBytesPerToken(layers: groups.first?.layers.count ?? 0)
        let blocks = groups.reduce(1) {
            $0 + $1.blocks(forSequenceOf: tokens, tokensPerStep: tokensPerStep, blockSize: blockTokens)
        }
        return blocks * blockBytes
    }

    /// The error of an engine whose part of the memory leaves nothing for keys and values.
    ///
    /// - Parameters: as of ``keyValueBytes(fixed:totalBytes:freeBytes:engines:fraction:)``.
    func noRoom(freeBytes: Int, totalBytes: Int, engines: Int, fraction: Double) -> ExecutorError {
        ExecutorError(
            kind: .outOfMemory,
            message: "nothing is left for keys and values: of \(Self.text(totalBytes)) on the GPU, "
                + "\(Self.text(freeBytes)) of them free now, \(engines) engine\(engines == 1 ? " has" : "s have") "
                + "\(Int((fraction * 100).rounded())) %; each takes \(Self.text(Self.contextBytes)) for its context and "
                + "\(Self.text(fixedBytes - weights)) for its steps, and the weights are \(Self.text(weights)); lower "
                + "--engines or --max-num-batched-tokens, or end other programs on the GPU")
    }

    /// Different tokens of one sequence that are counted for penalties, at most.
    static func countCapacity(_ limits: ExecutorLimits, _ shape: DeviceShape) -> Int {
        min(limits.contextLength, shape.vocabularySize)
    }

    /// What a step is told: rows, tokens, tables and samplings; more only where sequences bring much of their own.
    static func inputBytes(_ limits: ExecutorLimits) -> Int {
        limits.tokensPerStep * 48 + limits.slots * 256 + (64 << 10)
    }

    /// What a step answers at most: for each token its log-probabilities, or its vector for a mean.
    static func outputBytes(_ limits: ExecutorLimits, _ shape: DeviceShape) -> Int {
        let ofToken = max(shape.hiddenSize * 4, BatchOutputs.topRoom * 8 + 16)
        return limits.slots * 1024 + limits.tokensPerStep * ofToken + (64 << 10)
    }

    /// Refuses weights for which there is no room.
    static func checkWeights(
        _ bytes: Int, of model: DecoderDescription, free: Int, total: Int, _ deviceName: String
    ) throws(ExecutorError) {
        guard bytes > free else { return }
        throw ExecutorError(
            kind: .outOfMemory,
            message: "the weights of \(model.name) take \(text(bytes)) and \(text(free)) of \(text(total)) are free on "
                + "\(deviceName); lower --engines, or end other programs on the GPU")
    }

    /// Refuses a plan that does not fit.
    public func check(freeBytes: Int) throws(ExecutorError) {
        guard totalBytes > freeBytes else { return }
        throw ExecutorError(
            kind: .outOfMemory,
            message: "the engine needs \(Self.text(totalBytes)) of the GPU's memory and \(Self.text(freeBytes)) are "
                + "free: weights \(Self.text(weights)), keys and values \(Self.text(keyValues)), "
                + "activations \(Self.text(activations + logits + tables + steps + workspace)); lower --engines, "
                + "--kv-cache-memory or --max-num-batched-tokens, or end other programs on the GPU")
    }

    /// Bytes for people.
    static func text(_ bytes: Int) -> String {
        if bytes >= 1 << 30 { return "\(tenths(bytes, 1 << 30)) GiB" }
        if bytes >= 1 << 20 { return "\(tenths(bytes, 1 << 20)) MiB" }
        return "\(bytes) bytes"
    }

    private static func tenths(_ bytes: Int, _ unit: Int) -> String {
        let tenths = bytes / (unit / 10)
        return "\(tenths / 10).\(tenths % 10)"
    }
}

/// Elements of a step's buffers on the device.
struct BufferSizes: Sendable, Equatable {
    /// Rows of matrix products in the largest step.
    var rows: Int
    /// Rows of logits that are computed together.
    var logitRows: Int
    private let shape: DeviceShape

    init(shape: DeviceShape, limits: ExecutorLimits) {
        self.shape = shape
        let largestGraph = BatchBuckets.graph(rows: min(limits.slots, limits.tokensPerStep)) ?? 0
        rows = max(BatchBuckets.productRows(tokens: limits.tokensPerStep), largestGraph)
        // All rows of a step that only decodes, within 1 GiB; more come in parts.
        let fitting = max(8, (1 << 30) / (shape.vocabularyStride * 4))
        logitRows = BatchBuckets.productRows(tokens: min(max(limits.slots, 8), fitting, limits.tokensPerStep))
    }

    var residual: Int { rows * shape.hiddenSize }
    var normed: Int { max(rows, logitRows) * shape.hiddenSize }
    var queryKeyValue: Int { rows * shape.queryKeyValueWidth }
    var attention: Int { rows * shape.queryWidth }
    var blockOutput: Int { rows * shape.hiddenSize }
    var gateUp: Int { rows * 2 * shape.intermediateSize }
    var gated: Int { rows * shape.intermediateSize }
    var logits: Int { logitRows * shape.vocabularyStride }

    /// Of all but logits.
    var activationBytes: Int {
        residual * 4 + 2 * (normed + queryKeyValue + attention + blockOutput + gateUp + gated)
    }
    var logitBytes: Int { logits * 4 }
}
