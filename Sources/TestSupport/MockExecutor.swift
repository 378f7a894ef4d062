// Tandem — Apache-2.0

public import InferenceEngine
public import LanguageModel
import Requests

/// An executor whose KV cache holds token ids: a row reads its whole history back through its block table and hands it
/// to a ``MockModel``. Any mistake in block tables, positions, chunks, sharing or placeholders changes the output, and
/// most are reported as violations besides.
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

    private struct Entry {
        var token: TokenID
        var position: Int
    }

    private struct Slot {
        var sampling: SamplingParameters
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

    private let blockCounts: [Int]
    private var limits = ExecutorLimits(slots: 0, tokensPerStep: 0, contextLength: 0, keyValueBytes: 0)
    private var calls: [Call: Int] = [:]
    private var submitted: [StepPlan] = []
    private var slots: [SlotIndex: Slot] = [:]
    /// Entries of all blocks, a group.
    private var memory: [[Entry?]] = []
    private var lastStep: UInt64 = 0
    private var stepsSinceProfile: UInt64 = 0

    /// - Parameter blockCounts: size of the pool of each KV group.
    public init(model: MockModel, blockCounts: [Int], maximumStepsInFlight: Int = 2) {
        self.model = model
        self.blockCounts = blockCounts
        capabilities = ExecutorCapabilities(
            device: "mock", maximumStepsInFlight: maximumStepsInFlight, rowInvariant: true)
    }

    // MARK: - StepExecutor

    public func prepare(
        limits: ExecutorLimits, groups: [KeyValueGroup]
    ) throws(ExecutorError) -> PreparedExecutor {
        try count(.prepare)
        self.limits = limits
        memory = blockCounts.map { Array(repeating: nil, count: $0 * limits.blockSize) }
        return PreparedExecutor(blockCounts: blockCounts)
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
        execute(plan, into: &result)
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

    private func execute(_ plan: StepPlan, into result: inout StepResult) {
        for slot in plan.removedSlots where slots.removeValue(forKey: slot) == nil {
            violations.append("step \(plan.step) removes slot \(slot), which is empty")
        }
        for addition in plan.addedSlots {
            if slots[addition.slot] != nil { violations.append("slot \(addition.slot) was added twice") }
            if addition.slot < 0 || Int(addition.slot) >= limits.slots {
                violations.append("slot \(addition.slot) of \(limits.slots)")
            }
            slots[addition.slot] = Slot(
                sampling: addition.sampling, tables: Array(repeating: [], count: blockCounts.count))
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
        var writers: [[Int: SlotIndex]] = Array(repeating: [:], count: blockCounts.count)
        for row in plan.rows { write(row, plan, &writers) }
        for row in plan.rows { read(row, plan, writers, into: &result) }
    }

    private func apply(_ update: BlockTableUpdate, _ ids: [KVBlockID]) {
        let group = Int(update.group)
        let first = Int(update.firstEntry)
        guard var slot = slots[update.slot], slot.tables.indices.contains(group),
            first <= slot.tables[group].count
        else {
            violations.append("block table update of slot \(update.slot), group \(group), from entry \(first)")
            return
        }
        let table = slot.tables[group]
        let run = ids[Int(update.offset)..<Int(update.offset + update.count)]
        for id in run where id < 0 || Int(id) >= blockCounts[group] { violations.append("block id \(id)") }
        slot.tables[group] = Array(table.prefix(first)) + run + table.dropFirst(first + run.count)
        slots[update.slot] = slot
    }

    /// Index in ``memory`` of a position's entry.
    private func place(_ position: Int, _ slot: Slot, group: Int) -> Int? {
        let entry = position / limits.blockSize
        guard entry < slot.tables[group].count else { return nil }
        return Int(slot.tables[group][entry]) * limits.blockSize + position % limits.blockSize
    }

    private func write(_ row: StepRow, _ plan: StepPlan, _ writers: inout [[Int: SlotIndex]]) {
        guard let slot = slots[row.slot] else {
            violations.append("step \(plan.step) has a row of slot \(row.slot), which is empty")
            return
        }
        for index in 0..<Int(row.tokenCount) {
            let position = Int(row.startPosition) + index
            var token = plan.tokens[Int(row.tokenOffset) + index]
            if index == 0, case .sampled(let step) = row.firstToken {
                if slot.sampled?.step != step {
                    violations.append("slot \(row.slot) has no token of step \(step)")
                }
                token = slot.sampled?.token ?? -1
            }
            if position >= limits.contextLength { violations.append("position \(position) is behind the context") }
            for group in blockCounts.indices {
                guard let place = place(position, slot, group: group) else {
                    violations.append("slot \(row.slot) has no block for position \(position)")
                    return
                }
                memory[group][place] = Entry(token: token, position: position)
                let block = place / limits.blockSize
                if let other = writers[group][block], other != row.slot {
                    violations.append("slots \(other) and \(row.slot) write block \(block) in step \(plan.step)")
                }
                writers[group][block] = row.slot
            }
        }
    }

    private func read(
        _ row: StepRow, _ plan: StepPlan, _ writers: [[Int: SlotIndex]], into result: inout StepResult
    ) {
        guard row.output.sample || row.output.promptLogProbabilities != nil, let slot = slots[row.slot] else { return }
        let end = Int(row.startPosition + row.tokenCount)
        var history: [TokenID] = []
        for group in blockCounts.indices {
            history.removeAll(keepingCapacity: true)
            for position in 0..<end {
                guard let place = place(position, slot, group: group), let entry = memory[group][place],
                    entry.position == position
                else {
                    violations.append("slot \(row.slot) reads position \(position), which is not in its blocks")
                    return
                }
                if let writer = writers[group][place / limits.blockSize], writer != row.slot {
                    violations.append("slot \(row.slot) reads a block that slot \(writer) writes in this step")
                }
                history.append(entry.token)
            }
        }
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
            let token = model.next(after: history, sampling: slot.sampling)
            slots[row.slot]?.sampled = (plan.step, token)
            output.token = token
            if let count = row.output.logProbabilities {
                output.logProbability = model.logProbability(of: token, after: history)
                let top = result.top.count
                result.top.append(contentsOf: model.top(count, after: history))
                output.top = top..<result.top.count
            }
        }
        result.rows.append(output)
    }
}
