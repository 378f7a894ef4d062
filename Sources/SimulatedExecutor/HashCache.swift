// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Requests

/// The KV cache of a ``HashModel``, and the sequences in it: for each token in a block the digest of all tokens up to
/// it. A row reads the digests that it sees back through its block tables, so that a wrong table, position or block
/// changes what comes out.
struct HashCache {
    struct Slot {
        var sampling: SamplingParameters
        var adjustments: LogitAdjustments?
        var tables: [[KVBlockID]]
        var sampled: (step: UInt64, token: TokenID)?
        /// Sums for a pooled mean, and the position they go up to.
        var pooled: [Float] = []
        var pooledCount = 0
    }

    let limits: ExecutorLimits
    let windows: [Int?]
    let blockCount: Int
    private(set) var slots: [Slot?]
    /// Digests of all blocks, a block after the other.
    private var digests: [UInt64]

    init(limits: ExecutorLimits, groups: [KeyValueGroup], blockCount: Int) {
        self.limits = limits
        windows = groups.map(\.window)
        self.blockCount = blockCount
        slots = Array(repeating: nil, count: limits.slots)
        digests = Array(repeating: 0, count: blockCount * limits.blockSize)
    }

    /// Bytes that it takes.
    static func bytes(blockCount: Int, blockSize: Int) -> Int { 8 * blockCount * blockSize }

    // MARK: Plans

    /// Applies all of a plan that comes before its rows.
    ///
    /// - Throws: ``ExecutorError`` of kind `unsupported` for what no plan may contain.
    mutating func apply(_ plan: StepPlan) throws(ExecutorError) {
        for slot in plan.removedSlots { slots[try index(slot, plan)] = nil }
        for addition in plan.addedSlots {
            slots[try index(addition.slot, plan)] = Slot(
                sampling: addition.sampling, adjustments: addition.adjustments,
                tables: Array(repeating: [], count: windows.count))
        }
        for update in plan.blockTableUpdates { try apply(update, plan) }
        for copy in plan.blockCopies {
            guard isBlock(copy.source), isBlock(copy.destination) else { throw refused(plan, "a block copy") }
            let (from, to) = (Int(copy.source) * limits.blockSize, Int(copy.destination) * limits.blockSize)
            for offset in 0..<limits.blockSize { digests[to + offset] = digests[from + offset] }
        }
        for row in plan.rows { try check(row, plan) }
        for row in plan.rows { write(row, plan) }
    }

    private func isBlock(_ id: KVBlockID) -> Bool { id >= 0 && Int(id) < blockCount }

    private func index(_ slot: SlotIndex, _ plan: StepPlan) throws(ExecutorError) -> Int {
        guard slots.indices.contains(Int(slot)) else { throw refused(plan, "slot \(slot)") }
        return Int(slot)
    }

    private func refused(_ plan: StepPlan, _ what: String) -> ExecutorError {
        ExecutorError(kind: .unsupported, message: "step \(plan.step) was refused: \(what) is out of range")
    }

    private mutating func apply(_ update: BlockTableUpdate, _ plan: StepPlan) throws(ExecutorError) {
        let slot = try index(update.slot, plan)
        let (group, first, count) = (Int(update.group), Int(update.firstEntry), Int(update.count))
        let entries = (limits.contextLength + limits.blockSize - 1) / limits.blockSize
        guard windows.indices.contains(group), first >= 0, count >= 0, first + count <= entries, update.offset >= 0,
            Int(update.offset) + count <= plan.blockIDs.count,
            plan.blockIDs[Int(update.offset)..<Int(update.offset) + count].allSatisfy(isBlock),
            slots[slot] != nil
        else { throw refused(plan, "a block table") }
        // Entries that nobody spoke of belong to no block.
        while (slots[slot]?.tables[group].count ?? .max) < first + count { slots[slot]?.tables[group].append(-1) }
        for offset in 0..<count {
            slots[slot]?.tables[group][first + offset] = plan.blockIDs[Int(update.offset) + offset]
        }
    }

    private func check(_ row: StepRow, _ plan: StepPlan) throws(ExecutorError) {
        let (start, count) = (Int(row.startPosition), Int(row.tokenCount))
        guard let slot = slots[try index(row.slot, plan)] else { throw refused(plan, "a row of slot \(row.slot)") }
        guard count >= 1, row.tokenOffset >= 0, Int(row.tokenOffset) + count <= plan.tokens.count, start >= 0,
            start + count <= limits.contextLength, (0..<row.tokenCount).contains(row.output.draftCount),
            row.output.labelCount >= 0, row.output.labelOffset >= 0,
            Int(row.output.labelOffset) + Int(row.output.labelCount) <= plan.labels.count,
            !row.output.reportsPooled || row.output.pooling != nil
        else { throw refused(plan, "a row of slot \(row.slot)") }
        for (group, window) in windows.enumerated() {
            let first = window.map { max(0, start + 1 - $0) } ?? 0
            let needed = first / limits.blockSize...(start + count - 1) / limits.blockSize
            guard needed.upperBound < slot.tables[group].count, slot.tables[group][needed].allSatisfy({ $0 >= 0 })
            else { throw refused(plan, "the block table of slot \(row.slot)") }
        }
        if case .sampled(let step) = row.firstToken, slot.sampled?.step != step {
            throw refused(plan, "a token that slot \(row.slot) sampled in step \(step)")
        }
    }

    /// Index in ``digests`` of a position.
    @inline(__always)
    private func place(_ position: Int, _ table: [KVBlockID]) -> Int {
        Int(table[position / limits.blockSize]) * limits.blockSize + position % limits.blockSize
    }

    private mutating func write(_ row: StepRow, _ plan: StepPlan) {
        guard let slot = slots[Int(row.slot)] else { return }
        for group in windows.indices {
            let table = slot.tables[group]
            let start = Int(row.startPosition)
            // In a window of one token no key knows what was before it.
            let isChained = windows[group].map { $0 > 1 } ?? true
            var digest = start > 0 && isChained ? digests[place(start - 1, table)] : HashModel.empty
            for offset in 0..<Int(row.tokenCount) {
                var token = plan.tokens[Int(row.tokenOffset) + offset]
                if offset == 0, case .sampled = row.firstToken { token = slot.sampled?.token ?? -1 }
                digest = HashModel.extend(isChained ? digest : HashModel.empty, by: token)
                digests[place(start + offset, table)] = digest
            }
        }
    }

    // MARK: Rows

    /// The digest of what a position of a slot sees, over all groups: its own entry, and the last one of every whole
    /// block before it that is in the window.
    func digest(_ slot: Slot, at position: Int) -> UInt64 {
        var result = HashModel.empty
        for (group, window) in windows.enumerated() {
            let table = slot.tables[group]
            let first = window.map { max(0, position + 1 - $0) } ?? 0
            var end = (first / limits.blockSize + 1) * limits.blockSize - 1
            while end < position {
                result = HashModel.join(result, digests[place(end, table)])
                end += limits.blockSize
            }
            result = HashModel.join(result, digests[place(position, table)])
        }
        return result
    }

    mutating func sampled(_ token: TokenID?, slot: SlotIndex, step: UInt64) {
        slots[Int(slot)]?.sampled = token.map { (step, $0) }
    }

    /// Adds a position's hidden state to what is pooled of a slot.
    mutating func pool(_ model: HashModel, width: Int, slot index: Int, position: Int, digest: UInt64) {
        if position == 0 || slots[index]?.pooled.count != width {
            slots[index]?.pooled = Array(repeating: 0, count: width)
        }
        for place in 0..<width { slots[index]?.pooled[place] += model.feature(digest, place) }
        slots[index]?.pooledCount = position + 1
    }
}
