// Tandem — Apache-2.0

import CUDADriver
import CUDAKernels
import InferenceEngine
import LanguageModel

/// The device's memory of one engine beside the weights: what a step works in, the cache and what lives by slot.
final class DeviceBuffers {
    let sizes: BufferSizes
    let plan: DeviceMemoryPlan
    let limits: ExecutorLimits
    /// Entries of a slot's block table.
    let tableStride: Int

    let residual: DevicePointer<Float>
    let normed: DevicePointer<BFloat16>
    let queryKeyValue: DevicePointer<BFloat16>
    let attention: DevicePointer<BFloat16>
    let blockOutput: DevicePointer<BFloat16>
    let gateUp: DevicePointer<BFloat16>
    let gated: DevicePointer<BFloat16>
    let logits: DevicePointer<Float>
    /// `[group][slot][entry]`, with a slot to spare.
    let tables: DevicePointer<Int32>
    /// The token that each slot sampled last, with a slot to spare.
    let lastTokens: DevicePointer<Int32>
    let partial: PartialAttention
    let keys: DevicePointer<BFloat16>
    let values: DevicePointer<BFloat16>
    /// Elements from one layer of a group to the next.
    let layerStride: Int
    /// Elements of a block of one layer.
    let blockElements: Int
    let rotary: [DevicePointer<Float>]
    private let memories: [DeviceMemory]

    init(
        _ session: GPUSession, _ weights: DeviceModel, limits: ExecutorLimits, groups: [KeyValueGroup],
        plan: DeviceMemoryPlan
    ) throws(CUDAError) {
        let (model, shape) = (weights.model, weights.shape)
        let sizes = BufferSizes(shape: shape, limits: limits)
        self.sizes = sizes
        self.plan = plan
        self.limits = limits
        var memories: [DeviceMemory] = []
        func take(_ byteCount: Int, _ purpose: String) throws(CUDAError) -> DeviceAddress {
            let memory = try DeviceMemory(session.context, byteCount: byteCount, purpose: purpose)
            memories.append(memory)
            return memory.address
        }
        residual = DevicePointer(address: try take(sizes.residual * 4, "the residual stream"))
        normed = DevicePointer(address: try take(sizes.normed * 2, "activations"))
        queryKeyValue = DevicePointer(address: try take(sizes.queryKeyValue * 2, "queries, keys and values"))
        attention = DevicePointer(address: try take(sizes.attention * 2, "attention"))
        blockOutput = DevicePointer(address: try take(sizes.blockOutput * 2, "activations"))
        gateUp = DevicePointer(address: try take(sizes.gateUp * 2, "activations"))
        gated = DevicePointer(address: try take(sizes.gated * 2, "activations"))
        logits = DevicePointer(address: try take(sizes.logits * 4, "logits"))
        let blockTokens = DeviceMemoryPlan.blockTokens
        tableStride = (limits.contextLength + blockTokens - 1) / blockTokens
        let tableEntries = groups.count * (limits.slots + 1) * tableStride
        tables = DevicePointer(address: try take(tableEntries * 4, "block tables"))
        lastTokens = DevicePointer(address: try take((limits.slots + 1) * 4, "slots"))
        // Splits are made while there are fewer blocks, of up to eight heads, than multiprocessors, up to twice as many
        // and one more of each.
        let blocks = 3 * session.multiprocessors + DecodeCut.mostSplits
        partial = PartialAttention(
            outputs: DevicePointer(address: try take(blocks * 8 * shape.paddedHead * 4, "partial attention")),
            stats: DevicePointer(address: try take(blocks * 8 * 2 * 4, "partial attention")))
        let layers = groups.first?.layers.count ?? 0
        blockElements = shape.keyValueHeads * blockTokens * shape.paddedHead
        layerStride = (plan.blockCount + 1) * blockElements
        keys = DevicePointer(address: try take(layers * layerStride * 2, "keys"))
        values = DevicePointer(address: try take(layers * layerStride * 2, "values"))
        var rotary: [DevicePointer<Float>] = []
        for rope in model.ropes {
            let rows = RotaryRows(rope, factors: weights.rotaryFactors, shape: shape)
            let address = try take(limits.contextLength * rows.width * 4, "rotary tables")
            let staging = try PinnedMemory(
                session.context, byteCount: limits.contextLength * rows.width * 4, purpose: "rotary tables")
            rows.fill(0..<limits.contextLength, into: staging.bytes.bindMemory(to: Float.self))
            try session.stream.copy(from: UnsafeRawBufferPointer(staging.bytes), to: address)
            try session.stream.synchronize()
            rotary.append(DevicePointer(address: address))
        }
        self.rotary = rotary
        self.memories = memories
        // Every entry names the block to spare: what fills a step up is stored there, and nothing reads elsewhere.
        try session.stream.fill(
            tables.address, word: UInt32(clamping: plan.blockCount), count: tableEntries)
        try session.stream.fill(lastTokens.address, word: 0, count: limits.slots + 1)
        // Keys that nobody stored are masked, but not a number times zero is none.
        try session.stream.fill(keys.address, byte: 0, count: layers * layerStride * 2)
        try session.stream.fill(values.address, byte: 0, count: layers * layerStride * 2)
        // Rows that fill a product up are computed and read by nobody; they shall be numbers.
        for (address, count) in [
            (residual.address, sizes.residual * 4), (normed.address, sizes.normed * 2),
            (queryKeyValue.address, sizes.queryKeyValue * 2), (attention.address, sizes.attention * 2),
            (blockOutput.address, sizes.blockOutput * 2), (gateUp.address, sizes.gateUp * 2),
            (gated.address, sizes.gated * 2),
        ] {
            try session.stream.fill(address, byte: 0, count: count)
        }
        try session.stream.synchronize()
    }

    /// The cache of one layer.
    func cache(group: Int, place: Int) -> PagedCache {
        PagedCache(
            keys: keys.advanced(by: place * layerStride), values: values.advanced(by: place * layerStride),
            tables: tables.advanced(by: group * (limits.slots + 1) * tableStride), tableStride: tableStride)
    }
}
