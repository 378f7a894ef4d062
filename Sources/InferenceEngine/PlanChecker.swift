// Tandem — Apache-2.0

public import LanguageModel

/// Checks plans before anything of them reaches a device's memory, and remembers what slots hold. A plan that is
/// refused changes nothing.
public struct PlanChecker: Sendable {
    private let limits: ExecutorLimits
    private let vocabularySize: Int
    private let blockCount: Int
    private let windows: [Int?]
    private let entriesPerSlot: Int

    private var slots: [Slot]
    /// Entries of each slot's block tables that were written, a group after the other. Those that have fallen behind a
    /// window since are among them: nothing reads them.
    private var ranges: [Range<Int32>]
    private var lastRowStep: [UInt64]
    private var check: UInt64 = 0
    /// What a refused plan had changed.
    private var undoSlots: [(Int, Slot)] = []
    private var undoRanges: [(Int, Range<Int32>)] = []

    private struct Slot: Sendable {
        var isActive = false
        /// The last step in which the slot sampled.
        var sampledStep: UInt64?
    }

    /// How many of the likeliest tokens a row may ask for.
    public static let mostLikeliest = 64

    /// - Parameters:
    ///   - limits: what the executor was prepared for.
    ///   - blockCount: what it answered.
    public init(limits: ExecutorLimits, vocabularySize: Int, groups: [KeyValueGroup], blockCount: Int) {
        self.limits = limits
        self.vocabularySize = vocabularySize
        self.blockCount = blockCount
        windows = groups.map(\.window)
        entriesPerSlot = (limits.contextLength + limits.blockSize - 1) / limits.blockSize
        slots = Array(repeating: Slot(), count: limits.slots)
        ranges = Array(repeating: 0..<0, count: limits.slots * groups.count)
        lastRowStep = Array(repeating: 0, count: limits.slots)
    }

    /// Accepts a plan or says what is wrong with it.
    ///
    /// - Throws: ``ExecutorError`` of kind `unsupported`.
    public mutating func accept(_ plan: StepPlan) throws(ExecutorError) {
        undoSlots.removeAll(keepingCapacity: true)
        undoRanges.removeAll(keepingCapacity: true)
        do {
            try apply(plan)
        } catch {
            for (slot, value) in undoSlots.reversed() { slots[slot] = value }
            for (place, value) in undoRanges.reversed() { ranges[place] = value }
            throw error
        }
    }

    private mutating func set(slot: SlotIndex, _ value: Slot) {
        undoSlots.append((Int(slot), slots[Int(slot)]))
        slots[Int(slot)] = value
    }

    private mutating func set(range place: Int, _ value: Range<Int32>) {
        undoRanges.append((place, ranges[place]))
        ranges[place] = value
    }

    private mutating func apply(_ plan: StepPlan) throws(ExecutorError) {
        check += 1
        guard plan.embeddingSpans.isEmpty, plan.bidirectionalSpans.isEmpty else {
            throw refused(plan, "embedding and bidirectional spans are not supported")
        }
        for slot in plan.removedSlots {
            try requireSlot(slot, plan)
            set(slot: slot, Slot())
            forget(slot)
        }
        for addition in plan.addedSlots {
            try requireSlot(addition.slot, plan)
            guard !slots[Int(addition.slot)].isActive else {
                throw refused(plan, "slot \(addition.slot) is added but was not removed")
            }
            set(slot: addition.slot, Slot(isActive: true))
            forget(addition.slot)
        }
        for update in plan.blockTableUpdates { try apply(update, plan) }
        for copy in plan.blockCopies {
            guard isBlock(copy.source), isBlock(copy.destination) else {
                throw refused(
                    plan, "a block copy from \(copy.source) to \(copy.destination) leaves the pool of \(blockCount)")
            }
        }
        var total = 0
        for row in plan.rows {
            try apply(row, plan)
            total += Int(row.tokenCount)
            guard total <= limits.tokensPerStep else {
                throw refused(plan, "more than \(limits.tokensPerStep) tokens")
            }
        }
    }

    private mutating func apply(_ update: BlockTableUpdate, _ plan: StepPlan) throws(ExecutorError) {
        try requireSlot(update.slot, plan)
        guard windows.indices.contains(Int(update.group)) else {
            throw refused(plan, "a block table update names the group \(update.group) of \(windows.count)")
        }
        guard
            update.count >= 0, update.offset >= 0, update.firstEntry >= 0,
            Int(update.offset) + Int(update.count) <= plan.blockIDs.count,
            Int(update.firstEntry) + Int(update.count) <= entriesPerSlot
        else {
            throw refused(
                plan,
                "a block table update of slot \(update.slot) is out of range: \(update.count) entries from "
                    + "\(update.firstEntry) on, of \(entriesPerSlot)")
        }
        for index in Int(update.offset)..<Int(update.offset) + Int(update.count) {
            guard isBlock(plan.blockIDs[index]) else {
                throw refused(plan, "block id \(plan.blockIDs[index]) leaves the pool of \(blockCount)")
            }
        }
        let added = update.firstEntry..<update.firstEntry + update.count
        let place = Int(update.slot) * windows.count + Int(update.group)
        let known = ranges[place]
        if known.isEmpty || added.lowerBound > known.upperBound || added.upperBound < known.lowerBound {
            if !added.isEmpty { set(range: place, added) }
        } else {
            set(
                range: place,
                min(known.lowerBound, added.lowerBound)..<max(known.upperBound, added.upperBound))
        }
    }

    private mutating func apply(_ row: StepRow, _ plan: StepPlan) throws(ExecutorError) {
        try requireSlot(row.slot, plan)
        let slot = Int(row.slot)
        guard slots[slot].isActive else { throw refused(plan, "slot \(row.slot) has a row but was not added") }
        guard lastRowStep[slot] != check else { throw refused(plan, "slot \(row.slot) has two rows") }
        lastRowStep[slot] = check
        guard
            row.tokenCount >= 1, row.tokenOffset >= 0,
            Int(row.tokenOffset) + Int(row.tokenCount) <= plan.tokens.count
        else {
            throw refused(
                plan, "slot \(row.slot): \(row.tokenCount) tokens at \(row.tokenOffset) of \(plan.tokens.count)")
        }
        let end = Int(row.startPosition) + Int(row.tokenCount)
        guard row.startPosition >= 0, end <= limits.contextLength else {
            throw refused(
                plan, "slot \(row.slot): position \(end - 1) is beyond the context of \(limits.contextLength)")
        }
        var first = Int(row.tokenOffset)
        let last = first + Int(row.tokenCount)
        if case .sampled(let step) = row.firstToken {
            guard slots[slot].sampledStep == step else {
                throw refused(plan, "slot \(row.slot) awaits a token of step \(step), in which it did not sample last")
            }
            first += 1
        }
        while first < last {
            try requireToken(plan.tokens[first], plan)
            first += 1
        }
        if let next = row.output.nextPromptToken { try requireToken(next, plan) }
        try requireLikeliest(row.output.logProbabilities, plan)
        try requireLikeliest(row.output.promptLogProbabilities, plan)
        guard !row.output.reportsPooled || row.output.pooling != nil else {
            throw refused(plan, "slot \(row.slot) is to report a vector that is not pooled")
        }
        let labels = Int(row.output.labelOffset)
        guard row.output.labelCount >= 0, labels >= 0, labels + Int(row.output.labelCount) <= plan.labels.count else {
            throw refused(
                plan, "slot \(row.slot): \(row.output.labelCount) labels at \(labels) of \(plan.labels.count)")
        }
        for index in labels..<labels + Int(row.output.labelCount) { try requireToken(plan.labels[index], plan) }
        for group in windows.indices {
            let known = ranges[slot * windows.count + group]
            let firstVisible = windows[group].map { max(0, Int(row.startPosition) + 1 - $0) } ?? 0
            let firstEntry = firstVisible / limits.blockSize
            let endEntry = (end + limits.blockSize - 1) / limits.blockSize
            guard Int(known.lowerBound) <= firstEntry, endEntry <= Int(known.upperBound) else {
                throw refused(
                    plan,
                    "slot \(row.slot) needs the block table entries \(firstEntry) to \(endEntry - 1) of group "
                        + "\(group); it has \(known)")
            }
        }
        guard (0..<row.tokenCount).contains(row.output.draftCount) else {
            throw refused(plan, "slot \(row.slot): \(row.output.draftCount) of \(row.tokenCount) tokens are guesses")
        }
        if row.output.sample {
            let step = row.output.draftCount == 0 ? plan.step : nil
            set(slot: row.slot, Slot(isActive: true, sampledStep: step))
        }
    }

    private mutating func forget(_ slot: SlotIndex) {
        for group in windows.indices { set(range: Int(slot) * windows.count + group, 0..<0) }
    }

    private func isBlock(_ id: KVBlockID) -> Bool { id >= 0 && Int(id) < blockCount }

    private func requireSlot(_ slot: SlotIndex, _ plan: StepPlan) throws(ExecutorError) {
        guard slots.indices.contains(Int(slot)) else {
            throw refused(plan, "slot \(slot) is not among \(slots.count)")
        }
    }

    private func requireToken(_ token: Int32, _ plan: StepPlan) throws(ExecutorError) {
        guard token >= 0, Int(token) < vocabularySize else {
            throw refused(plan, "token \(token) is not in the vocabulary of \(vocabularySize)")
        }
    }

    private func requireLikeliest(_ count: Int?, _ plan: StepPlan) throws(ExecutorError) {
        guard let count, !(0...Self.mostLikeliest).contains(count) else { return }
        throw refused(plan, "\(count) likeliest tokens are wanted; at most \(Self.mostLikeliest) are given")
    }

    private func refused(_ plan: StepPlan, _ reason: String) -> ExecutorError {
        ExecutorError(kind: .unsupported, message: "step \(plan.step) was refused: \(reason)")
    }
}
