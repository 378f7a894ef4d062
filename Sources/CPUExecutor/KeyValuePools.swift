// Tandem — Apache-2.0

import CPUKernels
import Glibc
import InferenceEngine
import LanguageModel

/// Memory for keys and values, one pool of blocks for all groups, and the slots' block tables, one a group.
///
/// A block holds 16 tokens of all layers of one group: layer after layer, head after head, keys before values. So one
/// copy moves a block, and memory is touched in the order blocks are used. Groups have equally many layers, and a layer's
/// place within a block is its place within its group.
///
/// Unchecked: written by the pool's threads between barriers only, each its own rows and heads.
final class KeyValuePools: @unchecked Sendable {
    /// Where one layer's keys and values are.
    struct Layer {
        var group: Int
        /// Of the layer's first head within block 0.
        var base: UnsafeMutableRawPointer
        /// Bytes from one block to the next.
        var blockStride: Int
    }

    let blockCount: Int
    let layers: [Layer]
    /// Bytes of one head's keys in one block, and as many values.
    let headBytes: Int
    let entriesPerSlot: Int
    private let slots: Int
    private let blockBytes: Int
    private let memory: MappedMemory
    private let tables: MappedMemory

    init(
        model: DecoderDescription, groups: [KeyValueGroup], limits: ExecutorLimits, compute: CPUCompute
    ) throws(ExecutorError) {
        let tokens = Int(TANDEM_KV_BLOCK_TOKENS)
        headBytes = model.headDimension * tokens * compute.keyValueElementBytes
        entriesPerSlot = (limits.contextLength + tokens - 1) / tokens
        slots = limits.slots
        let layersPerGroup = groups.first?.layers.count ?? 0
        guard layersPerGroup > 0, groups.allSatisfy({ $0.layers.count == layersPerGroup }) else {
            throw ExecutorError(
                kind: .unsupported, message: "the groups of keys and values have no layers, or not equally many")
        }
        let layerBytes = 2 * headBytes * model.keyValueHeads
        blockBytes = layersPerGroup * layerBytes
        blockCount = min(limits.keyValueBytes / max(1, blockBytes), Int(Int32.max))
        guard blockCount > 0 else {
            throw ExecutorError(
                kind: .outOfMemory,
                message:
                    "\(limits.keyValueBytes) bytes for keys and values do not hold one block of \(blockBytes) bytes")
        }
        memory = try MappedMemory(byteCount: blockBytes * blockCount, purpose: "keys and values")
        tables = try MappedMemory(byteCount: groups.count * slots * entriesPerSlot * 4, purpose: "block tables")
        var layers = [Layer?](repeating: nil, count: model.layers.count)
        for (index, group) in groups.enumerated() {
            for (place, layer) in group.layers.enumerated() where layers.indices.contains(layer) {
                layers[layer] = Layer(group: index, base: memory.base + place * layerBytes, blockStride: blockBytes)
            }
        }
        self.layers = layers.compactMap(\.self)
        guard self.layers.count == model.layers.count else {
            throw ExecutorError(
                kind: .unsupported, message: "the groups of keys and values do not name every layer once")
        }
    }

    /// Bytes of all blocks.
    var byteCount: Int { memory.byteCount }

    /// Bytes of all block tables.
    var tableByteCount: Int { tables.byteCount }

    /// The block table of a slot.
    func table(group: Int, slot: SlotIndex) -> UnsafeMutablePointer<Int32> {
        tables.base.assumingMemoryBound(to: Int32.self) + (group * slots + Int(slot)) * entriesPerSlot
    }

    /// Copies a block.
    func copy(_ copy: BlockCopy) {
        memmove(
            memory.base + Int(copy.destination) * blockBytes, memory.base + Int(copy.source) * blockBytes, blockBytes)
    }
}
