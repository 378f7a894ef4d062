// Tandem — Apache-2.0

import CPUKernels
import Glibc
import InferenceEngine
import LanguageModel

/// Memory for keys and values, one pool a group, and the slots' block tables.
///
/// A block holds 16 tokens of all its group's layers: layer after layer, head after head, keys before values. So one
/// copy moves a block, and memory is touched in the order blocks are used.
///
/// Unchecked: written by the pool's threads between barriers only, each its own rows and heads.
final class KeyValuePools: @unchecked Sendable {
    struct Group {
        var memory: MappedMemory
        var blockBytes: Int
        var blockCount: Int
        var tables: MappedMemory
    }

    /// Where one layer's keys and values are.
    struct Layer {
        var group: Int
        /// Of the layer's first head within block 0.
        var base: UnsafeMutableRawPointer
        /// Bytes from one block to the next.
        var blockStride: Int
    }

    let groups: [Group]
    let layers: [Layer]
    /// Bytes of one head's keys in one block, and as many values.
    let headBytes: Int
    let entriesPerSlot: Int

    init(
        model: DecoderDescription, groups descriptions: [KeyValueGroup], limits: ExecutorLimits, compute: CPUCompute
    ) throws(ExecutorError) {
        let tokens = Int(TANDEM_KV_BLOCK_TOKENS)
        headBytes = model.headDimension * tokens * compute.keyValueElementBytes
        entriesPerSlot = (limits.contextLength + tokens - 1) / tokens
        let layerBytes = 2 * headBytes * model.keyValueHeads
        let allBytes = descriptions.reduce(0) { $0 + $1.layers.count * layerBytes }
        let blockCount = min(limits.keyValueBytes / max(1, allBytes), Int(Int32.max))
        guard blockCount > 0 else {
            throw ExecutorError(
                kind: .outOfMemory,
                message: "\(limits.keyValueBytes) bytes for keys and values do not hold one block of \(allBytes) bytes")
        }
        var groups: [Group] = []
        var layers = [Layer?](repeating: nil, count: model.layers.count)
        for (index, description) in descriptions.enumerated() {
            let blockBytes = description.layers.count * layerBytes
            let memory = try MappedMemory(byteCount: blockBytes * blockCount, purpose: "keys and values")
            let tables = try MappedMemory(byteCount: limits.slots * entriesPerSlot * 4, purpose: "block tables")
            groups.append(Group(memory: memory, blockBytes: blockBytes, blockCount: blockCount, tables: tables))
            for (place, layer) in description.layers.enumerated() where layers.indices.contains(layer) {
                layers[layer] = Layer(group: index, base: memory.base + place * layerBytes, blockStride: blockBytes)
            }
        }
        self.groups = groups
        self.layers = layers.compactMap(\.self)
        guard self.layers.count == model.layers.count else {
            throw ExecutorError(
                kind: .unsupported, message: "the groups of keys and values do not name every layer once")
        }
    }

    /// The block table of a slot.
    func table(group: Int, slot: SlotIndex) -> UnsafeMutablePointer<Int32> {
        groups[group].tables.base.assumingMemoryBound(to: Int32.self) + Int(slot) * entriesPerSlot
    }

    /// Copies a block of one group.
    func copy(_ copy: BlockCopy) {
        let group = groups[Int(copy.group)]
        memmove(
            group.memory.base + Int(copy.destination) * group.blockBytes,
            group.memory.base + Int(copy.source) * group.blockBytes, group.blockBytes)
    }
}
