// Tandem — Apache-2.0

public import InferenceEngine
public import LanguageModel
import Requests

/// An executor whose KV cache holds token ids: a row reads what it sees back through its block tables and hands the
/// history to a ``MockModel``. Any mistake in block tables, positions, chunks, sharing, windows or placeholders changes
/// the output, and most are reported as violations besides.
///
/// As in a real model a key knows more than its own token: it remembers the keys before it, so that a row knows its whole
/// history even if it sees only the window's keys. What it sees must agree with that memory. Windows have at least two
/// tokens.
///
/// Steps run when their result is asked for, in the order of submission.
public final class MockExecutor: StepExecutor {
    /// A call of the executor that can be made to fail.
    public enum Call: Sendable, Hashable {
        case prepare
        case submit
        case sample
        case result
    }

    /// An error that one call throws, instead of having any effect; a result that is lost takes its step with it.
    public struct Fault: Sendable {
        public var call: Call
        /// Which call of its kind fails, from 1.
        public var number: Int
        public var error: ExecutorError

        public init(call: Call, number: Int, error: ExecutorError) {
            self.call = call
            self.number = number
            self.error = error
        }
    }

    /// What is stored for one token in one group.
    private final class Key {
        let token: TokenID
        let position: Int
        let group: Int
        let before: Key?

        init(token: TokenID, position: Int, group: Int, before: Key?) {
            self.token = token
            self.position = position
            self.group = group
            self.before = before
        }
    }

    private struct Writer: Equatable {
        var slot: SlotIndex
        var group: Int
    }

    private struct Slot {
        var sampling: SamplingParameters
        var adjustments: LogitAdjustments?
        /// Sums for a pooled mean, and the position they go up to.
        var pooled: (sum: Float, count: Int) = (0, 0)
        var tables: [[KVBlockID]]
        var sampled: (step: UInt64, token: TokenID)?
    }

    public let model: MockModel
    public let capabilities: ExecutorCapabilities
    /// Errors to throw.
    public var faults: [Fault] = []
    /// Called first in every `result(of:into:)`, with the step's number.
    public var onResult: ((UInt64) -> Void)?
    /// Called with every plan that was taken.
    public var onSubmit: ((StepPlan) -> Void)?
    /// Called by `shutdown()`.
    public var onShutdown: (() -> Void)?
    /// What callers did that they must not; the first one also fails the step.
    public private(set) var violations: [String] = []

    private let blockCount: Int
    private var windows: [Int?] = []
    private var limits = ExecutorLimits(slots: 0, tokensPerStep: 0, contextLength: 0, keyValueBytes: 0)
    private var calls: [Call: Int] = [:]
    private var submitted: [StepPlan] = []
    /// Masks of submitted steps that were let sample, by step.
    private var released: [UInt64: TokenMasks?] = [:]
    private var slots: [SlotIndex: Slot] = [:]
    /// What all blocks hold, a block after the other.
    private var memory: [Key?] = []
    private var lastStep: UInt64 = 0
    private var stepsSinceProfile: UInt64 = 0

    /// - Parameter blockCount: KV blocks for all groups together.
    public init(model: MockModel, blockCount: Int, maximumStepsInFlight: Int = 2) {
        self.model = model
        self.blockCount = blockCount
        capabilities = ExecutorCapabilities(
            device: "mock", maximumStepsInFlight: maximumStepsInFlight, masks: true, pooling: true, rowInvariant: true)
    }

    // MARK: - StepExecutor

    public func prepare(
        limits: ExecutorLimits, groups: [KeyValueGroup]
    ) throws(ExecutorError) -> PreparedExecutor {
        try count(.prepare)
        self.limits = limits
        windows = groups.map(\.window)
        memory = Array(repeating: nil, count: blockCount * limits.blockSize)
        return PreparedExecutor(blockCount: blockCount)
    }

    public func submit(_ plan: StepPlan) throws(ExecutorError) -> StepTicket {
        try count(.submit)
        if submitted.count >= capabilities.maximumStepsInFlight { violations.append("too many steps in flight") }
        if plan.step <= lastStep { violations.append("step \(plan.step) follows step \(lastStep)") }
        lastStep = plan.step
        submitted.append(plan)
        onSubmit?(plan)
        return StepTicket(step: plan.step)
    }

    public func sample(_ ticket: StepTicket, masks: TokenMasks?) throws(ExecutorError) {
        try count(.sample)
        if !submitted.contains(where: { $0.step == ticket.step }) {
            violations.append("step \(ticket.step) is to sample and is not in flight")
        }
        released[ticket.step] = .some(masks)
    }

    public func result(of ticket: StepTicket, into result: inout StepResult) throws(ExecutorError) {
        onResult?(ticket.step)
        var fault: ExecutorError?
        do throws(ExecutorError) { try count(.result) } catch {
            guard error.kind != .retry else { throw error }
            fault = error
        }
        result.removeAll()
        result.step = ticket.step
        guard let plan = submitted.first, plan.step == ticket.step else {
            violations.append("step \(ticket.step) was asked for, step \(submitted.first?.step ?? 0) is the oldest")
            throw ExecutorError(kind: .fatal, message: violations[0])
        }
        submitted.removeFirst()
        stepsSinceProfile += 1
        guard let masks = released.removeValue(forKey: plan.step) else {
            violations.append("the result of step \(plan.step) was asked for before it could sample")
            throw ExecutorError(kind: .fatal, message: violations[0])
        }
        execute(plan, masks, into: &result)
        if let violation = violations.first { throw ExecutorError(kind: .fatal, message: violation) }
        if let fault { throw fault }
    }

    public func profile() -> StepProfile {
        defer { stepsSinceProfile = 0 }
        return StepProfile(steps: stepsSinceProfile, attention: 0, mlp: 0, rest: stepsSinceProfile)
    }

    public func shutdown() { onShutdown?() }

    private func count(_ call: Call) throws(ExecutorError) {
        calls[call, default: 0] += 1
        for fault in faults where fault.call == call && fault.number == calls[call] { throw fault.error }
    }

    // MARK: - A step

    private func execute(_ plan: StepPlan, _ masks: TokenMasks?, into result: inout StepResult) {
        for slot in plan.removedSlots where slots.removeValue(forKey: slot) == nil {
            violations.append("step \(plan.step) removes slot \(slot), which is empty")
        }
        for addition in plan.addedSlots {
            if slots[addition.slot] != nil { violations.append("slot \(addition.slot) was added twice") }
            if addition.slot < 0 || Int(addition.slot) >= limits.slots {
                violations.append("slot \(addition.slot) of \(limits.slots)")
            }
            slots[addition.slot] = Slot(
                sampling: addition.sampling, adjustments: addition.adjustments,
                tables: Array(repeating: [], count: windows.count))
        }
        for update in plan.blockTableUpdates { apply(update, plan.blockIDs) }
        if plan.tokens.count > limits.tokensPerStep {
            violations.append("step \(plan.step) has \(plan.tokens.count) tokens of at most \(limits.tokensPerStep)")
        }
        if plan.rows.isEmpty { violations.append("step \(plan.step) has no rows") }
        if Set(plan.rows.map(\.slot)).count != plan.rows.count {
            violations.append("step \(plan.step) has two rows of one slot")
        }
        // A row may read what its step writes only if it writes it itself: rows have no order.
        var writers: [Int: Writer] = [:]
        for row in plan.rows { write(row, plan, &writers) }
        for row in plan.rows { read(row, plan, masks, writers, into: &result) }
    }

    private func apply(_ update: BlockTableUpdate, _ ids: [KVBlockID]) {
        let group = Int(update.group)
        let first = Int(update.firstEntry)
        guard var slot = slots[update.slot], windows.indices.contains(group), first >= 0 else {
            violations.append("block table update of slot \(update.slot), group \(group), from entry \(first)")
            return
        }
        var table = slot.tables[group]
        let run = ids[Int(update.offset)..<Int(update.offset + update.count)]
        for id in run where id < 0 || Int(id) >= blockCount { violations.append("block id \(id)") }
        // Entries that nobody spoke of belong to no block.
        while table.count < first + run.count { table.append(-1) }
        table.replaceSubrange(first..<first + run.count, with: run)
        slot.tables[group] = table
        slots[update.slot] = slot
    }

    /// Index in ``memory`` of a position's key.
    private func place(_ position: Int, _ slot: Slot, group: Int) -> Int? {
        let entry = position / limits.blockSize
        guard entry < slot.tables[group].count, slot.tables[group][entry] >= 0 else { return nil }
        return Int(slot.tables[group][entry]) * limits.blockSize + position % limits.blockSize
    }

    private func write(_ row: StepRow, _ plan: StepPlan, _ writers: inout [Int: Writer]) {
        guard let slot = slots[row.slot] else {
            violations.append("step \(plan.step) has a row of slot \(row.slot), which is empty")
            return
        }
        for group in windows.indices {
            let start = Int(row.startPosition)
            var before: Key?
            if start > 0, let place = place(start - 1, slot, group: group) { before = memory[place] }
            for index in 0..<Int(row.tokenCount) {
                let position = start + index
                var token = plan.tokens[Int(row.tokenOffset) + index]
                if index == 0, case .sampled(let step) = row.firstToken {
                    if slot.sampled?.step != step {
                        violations.append("slot \(row.slot) has no token of step \(step)")
                    }
                    token = slot.sampled?.token ?? -1
                }
                if position >= limits.contextLength { violations.append("position \(position) is behind the context") }
                guard let place = place(position, slot, group: group) else {
                    violations.append("slot \(row.slot) has no block of group \(group) for position \(position)")
                    return
                }
                let key = Key(token: token, position: position, group: group, before: before)
                memory[place] = key
                before = key
                let block = place / limits.blockSize
                let writer = Writer(slot: row.slot, group: group)
                if let other = writers[block], other != writer {
                    violations.append("\(other) and \(writer) write block \(block) in step \(plan.step)")
                }
                writers[block] = writer
            }
        }
    }

    /// All tokens before position `end` as a group has them.
    private func history(_ row: StepRow, _ slot: Slot, group: Int, _ writers: [Int: Writer]) -> [TokenID]? {
        let end = Int(row.startPosition + row.tokenCount)
        let firstSeen = windows[group].map { max(0, Int(row.startPosition) - $0 + 1) } ?? 0
        guard let last = place(end - 1, slot, group: group) else { return nil }
        var history: [TokenID] = []
        var key = memory[last]
        while let current = key {
            history.append(current.token)
            key = current.before
        }
        history.reverse()
        guard history.count == end else {
            violations.append("slot \(row.slot) knows \(history.count) tokens before position \(end)")
            return nil
        }
        for position in firstSeen..<end {
            guard let place = place(position, slot, group: group), let key = memory[place], key.position == position,
                key.group == group, key.token == history[position]
            else {
                violations.append(
                    "slot \(row.slot) reads position \(position) of group \(group), which is not in its blocks")
                return nil
            }
            if let writer = writers[place / limits.blockSize], writer.slot != row.slot {
                violations.append("slot \(row.slot) reads a block that \(writer) writes in this step")
            }
        }
        return history
    }

    private func read(
        _ row: StepRow, _ plan: StepPlan, _ masks: TokenMasks?, _ writers: [Int: Writer],
        into result: inout StepResult
    ) {
        // Rows that yield nothing read their blocks too.
        guard let slot = slots[row.slot] else { return }
        let end = Int(row.startPosition + row.tokenCount)
        let histories = windows.indices.map { history(row, slot, group: $0, writers) }
        guard let first = histories.first, let history = first else { return }
        if histories.contains(where: { $0 != history }) {
            violations.append("the groups of slot \(row.slot) hold different sequences")
        }
        if row.output.pooling == .mean {
            let before = row.startPosition == 0 ? (0, 0) : slot.pooled
            if before.1 != Int(row.startPosition) { violations.append("slot \(row.slot) pools with a gap") }
            let added = (Int(row.startPosition)..<end).reduce(Float(0)) { $0 + model.feature(of: history[...$1]) }
            slots[row.slot]?.pooled = (before.0 + added, end)
        }
        guard row.output.expectsResult else { return }
        var output = RowResult(slot: row.slot)
        if let count = row.output.promptLogProbabilities {
            let first = result.prompt.count
            var targets = Array(history[min(end, Int(row.startPosition) + 1)...])
            if let next = row.output.nextPromptToken { targets.append(next) }
            for (index, target) in targets.enumerated() {
                let before = history.prefix(Int(row.startPosition) + 1 + index)
                let top = result.promptTop.count
                result.promptTop.append(contentsOf: model.top(count, after: before))
                result.prompt.append(
                    PromptLogProbability(
                        chosen: TokenLogProbability(
                            token: target, logProbability: model.logProbability(of: target, after: before)),
                        top: top..<result.promptTop.count
                    )
                )
            }
            output.prompt = first..<result.prompt.count
        }
        if row.output.sample {
            let mask = row.output.isConstrained ? masks?.permitted(slot: row.slot) : nil
            let drafted = Int(row.output.draftCount)
            if drafted >= row.tokenCount { violations.append("slot \(row.slot) has nothing but guesses") }
            var chosen = (0...drafted).map { place in
                sample(after: history.prefix(end - drafted + place), row, slot, among: mask, into: &result)
            }
            let first = chosen.removeFirst()
            slots[row.slot]?.sampled = drafted == 0 ? (plan.step, first.token) : nil
            output.token = first.token
            output.logProbability = first.logProbability
            output.top = first.top
            output.further = result.further.count..<result.further.count + drafted
            result.further += chosen
        }
        if row.output.labelCount > 0 {
            let first = result.labels.count
            let labels = Int(row.output.labelOffset)..<Int(row.output.labelOffset + row.output.labelCount)
            result.labels += plan.labels[labels].map { model.logProbability(of: $0, after: history) }
            output.labels = first..<result.labels.count
        }
        if row.output.reportsPooled {
            let first = result.pooled.count
            switch row.output.pooling {
            case .mean: result.pooled.append((slots[row.slot]?.pooled.sum ?? 0) / Float(end))
            case .last: result.pooled.append(model.feature(of: history[...]))
            case nil: violations.append("slot \(row.slot) reports a vector that is not pooled")
            }
            output.pooled = first..<result.pooled.count
        }
        result.rows.append(output)
    }

    private func sample(
        after history: ArraySlice<TokenID>, _ row: StepRow, _ slot: Slot, among mask: [TokenID]?,
        into result: inout StepResult
    ) -> SampledToken {
        var chosen = SampledToken(token: model.next(after: history, sampling: slot.sampling, among: mask))
        if let count = row.output.logProbabilities {
            chosen.logProbability = model.logProbability(of: chosen.token, after: history)
            let top = result.top.count
            result.top.append(contentsOf: model.top(count, after: history))
            chosen.top = top..<result.top.count
        }
        return chosen
    }
}

extension TokenMasks {
    /// The tokens that a slot's mask permits; `nil` if it has none.
    fileprivate func permitted(slot: SlotIndex) -> [TokenID]? {
        guard let index = slots.firstIndex(of: slot) else { return nil }
        return (0..<wordsPerSlot * 32).filter { token in
            words[index * wordsPerSlot + token / 32] >> UInt32(token % 32) & 1 == 1
        }.map { TokenID($0) }
    }
}
