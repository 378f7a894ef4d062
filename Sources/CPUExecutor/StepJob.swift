// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Requests

/// A position whose logits are wanted.
struct HeadPosition {
    /// Index among the step's tokens.
    var token: Int32
    /// The slot whose parameters decide a sample.
    var slot: SlotIndex
    /// The prompt token whose log-probability is wanted, or one of the two below.
    var target: TokenID
    /// Index in the sequence of the token that is sampled.
    var position: Int32
    /// How many of the likeliest tokens to report; -1 for no log-probabilities.
    var top: Int32
    /// Where they go in ``StepJob/top``.
    var topOffset: Int
    /// Whether the token is chosen among those of a mask.
    var isConstrained = false
    /// Whether the row has guesses, so that no later row takes the token from the slot.
    var isDrafted = false
    /// The labels whose log-probabilities are wanted, in the job's ``StepJob/labels``.
    var labels = 0..<0

    /// Sample a token.
    static let sampled: TokenID = -1
    /// Report labels.
    static let labelled: TokenID = -2
}

/// A row that takes part in a pooled vector.
struct PooledRow {
    var slot: SlotIndex
    /// Index of the first token among the step's tokens.
    var firstToken: Int32
    var count: Int32
    /// Its position in the sequence.
    var position: Int32
    var pooling: Pooling
    /// Where the vector goes in ``StepJob/pooled``; `nil` if the sequence's last row is still to come.
    var offset: Int?
}

/// A run of tokens of one row that one attention call handles.
struct AttentionTile {
    var slot: SlotIndex
    /// Index of the first token among the step's tokens.
    var firstToken: Int32
    /// Its position in the sequence.
    var position: Int32
    var count: Int32
}

/// One step in flight: the plan by value and room for its outputs. Two of them take turns, so a steady state allocates
/// nothing.
///
/// Unchecked: the step loop writes it before submission and reads it after ``done`` has counted up; between the two it
/// belongs to the pool's threads, but for the masks, which the step loop writes before it counts the release up that
/// those threads wait for.
final class StepJob: PoolProgram, @unchecked Sendable {
    let forward: ForwardPass
    let done = Event()

    var step: UInt64 = 0
    var removedSlots: [SlotIndex] = []
    var addedSlots: [SlotAddition] = []
    var blockTableUpdates: [BlockTableUpdate] = []
    var blockIDs: [KVBlockID] = []
    var blockCopies: [BlockCopy] = []
    var rows: [StepRow] = []
    var tokens: [TokenID] = []
    var positions: [Int32] = []
    var tiles: [AttentionTile] = []
    /// Whether one row's tokens fit one tile, so that nothing reads keys that another work item stores.
    var isSingleTile = false
    var heads: [HeadPosition] = []
    var labels: [TokenID] = []
    var pooledRows: [PooledRow] = []

    /// Set by the step loop, with the masks, before a constrained row may sample.
    private let released = Event()
    private var releasesExpected: UInt32 = 0
    private(set) var isConstrained = false
    private var masks = OutputBuffer<UInt32>(0)
    private var wordsPerMask = 0
    /// Which of the masks is a slot's.
    private var maskOfSlot: [SlotIndex: Int] = [:]

    /// One for each head position: the sampled or given token.
    private(set) var chosen = OutputBuffer(StepJob.nothing)
    /// How many likeliest tokens were found for each head position.
    private(set) var topCounts = OutputBuffer<Int32>(0)
    /// For prompt tokens their rank, see `PositionLogProbabilities`.
    private(set) var ranks = OutputBuffer<Int32>(0)
    private(set) var top = OutputBuffer(StepJob.nothing)
    private(set) var labelLogProbabilities = OutputBuffer<Float>(0)
    private(set) var pooled = OutputBuffer<Float>(0)
    private let hiddenSize: Int

    private static let nothing = TokenLogProbability(token: 0, logProbability: 0)

    init(forward: ForwardPass) {
        self.forward = forward
        hiddenSize = forward.model.hiddenSize
    }

    /// Copies a checked plan.
    func load(_ plan: StepPlan, tileTokens: Int) {
        step = plan.step
        Self.replace(&removedSlots, by: plan.removedSlots)
        Self.replace(&addedSlots, by: plan.addedSlots)
        Self.replace(&blockTableUpdates, by: plan.blockTableUpdates)
        Self.replace(&blockIDs, by: plan.blockIDs)
        Self.replace(&blockCopies, by: plan.blockCopies)
        Self.replace(&rows, by: plan.rows)
        Self.replace(&labels, by: plan.labels)
        pooledRows.removeAll(keepingCapacity: true)
        var pooledCount = 0
        tokens.removeAll(keepingCapacity: true)
        positions.removeAll(keepingCapacity: true)
        tiles.removeAll(keepingCapacity: true)
        heads.removeAll(keepingCapacity: true)
        var topTotal = 0
        for row in rows {
            let first = tokens.count
            let count = Int(row.tokenCount)
            for index in 0..<count {
                tokens.append(plan.tokens[Int(row.tokenOffset) + index])
                positions.append(row.startPosition + Int32(index))
            }
            for start in stride(from: 0, to: count, by: tileTokens) {
                tiles.append(
                    AttentionTile(
                        slot: row.slot, firstToken: Int32(first + start), position: row.startPosition + Int32(start),
                        count: Int32(min(tileTokens, count - start))))
            }
            if let wanted = row.output.promptLogProbabilities {
                for index in 0..<count {
                    let target: TokenID
                    if index + 1 < count {
                        target = tokens[first + index + 1]
                    } else if let next = row.output.nextPromptToken {
                        target = next
                    } else {
                        continue
                    }
                    addHead(row, index: index, first: first, target: target, top: wanted, &topTotal)
                }
            }
            if row.output.sample {
                for index in (count - 1 - Int(row.output.draftCount))..<count {
                    addHead(
                        row, index: index, first: first, target: HeadPosition.sampled,
                        top: row.output.logProbabilities, &topTotal)
                    heads[heads.count - 1].isConstrained = row.output.isConstrained
                    heads[heads.count - 1].isDrafted = row.output.draftCount > 0
                }
            }
            if row.output.labelCount > 0 {
                addHead(row, index: count - 1, first: first, target: HeadPosition.labelled, top: nil, &topTotal)
                let start = Int(row.output.labelOffset)
                heads[heads.count - 1].labels = start..<start + Int(row.output.labelCount)
            }
            if let pooling = row.output.pooling {
                pooledRows.append(
                    PooledRow(
                        slot: row.slot, firstToken: Int32(first), count: row.tokenCount, position: row.startPosition,
                        pooling: pooling, offset: row.output.reportsPooled ? pooledCount : nil))
                if row.output.reportsPooled { pooledCount += hiddenSize }
            }
        }
        isConstrained = heads.contains { $0.isConstrained }
        maskOfSlot.removeAll(keepingCapacity: true)
        releasesExpected = released.value
        labelLogProbabilities.reset(count: labels.count, to: 0)
        pooled.reset(count: pooledCount, to: 0)
        isSingleTile = tiles.count == 1
        chosen.reset(count: heads.count, to: Self.nothing)
        topCounts.reset(count: heads.count, to: 0)
        ranks.reset(count: heads.count, to: 0)
        top.reset(count: topTotal, to: Self.nothing)
    }

    /// Lets constrained rows sample, each among the tokens of its mask; rows without one are free.
    func release(_ masks: TokenMasks?) {
        guard isConstrained else { return }
        if let masks {
            wordsPerMask = masks.wordsPerSlot
            self.masks.reset(count: masks.words.count, to: 0)
            for (index, word) in masks.words.enumerated() { self.masks.base[index] = word }
            for (index, slot) in masks.slots.enumerated() { maskOfSlot[slot] = index }
        }
        released.advance()
    }

    /// A slot's mask, once masks have come; waits for them.
    func mask(of slot: SlotIndex) -> UnsafePointer<UInt32>? {
        released.wait(whileEqual: releasesExpected, spinNanoseconds: 0)
        return maskOfSlot[slot].map { UnsafePointer(masks.base + $0 * wordsPerMask) }
    }

    /// Fills a result from the outputs.
    func collect(into result: inout StepResult) {
        result.removeAll()
        result.step = step
        var head = 0
        var pooledRow = 0
        for row in rows {
            if row.output.pooling != nil { pooledRow += 1 }
            guard row.output.expectsResult else { continue }
            var output = RowResult(slot: row.slot)
            let promptStart = result.prompt.count
            while head < heads.count, heads[head].slot == row.slot, heads[head].target >= 0 {
                let start = result.promptTop.count
                result.promptTop.append(contentsOf: likeliest(head))
                result.prompt.append(
                    PromptLogProbability(
                        chosen: chosen.base[head], top: start..<result.promptTop.count, rank: ranks.base[head]))
                head += 1
            }
            output.prompt = promptStart..<result.prompt.count
            if row.output.sample {
                let start = result.top.count
                result.top.append(contentsOf: likeliest(head))
                output.top = start..<result.top.count
                output.token = chosen.base[head].token
                output.logProbability = chosen.base[head].logProbability
                head += 1
                let firstFurther = result.further.count
                for _ in 0..<row.output.draftCount {
                    let start = result.top.count
                    result.top.append(contentsOf: likeliest(head))
                    result.further.append(
                        SampledToken(
                            token: chosen.base[head].token, logProbability: chosen.base[head].logProbability,
                            top: start..<result.top.count))
                    head += 1
                }
                output.further = firstFurther..<result.further.count
            }
            if row.output.labelCount > 0 {
                let start = result.labels.count
                let labels = heads[head].labels
                result.labels.append(
                    contentsOf: UnsafeBufferPointer(
                        start: labelLogProbabilities.base + labels.lowerBound, count: labels.count))
                output.labels = start..<result.labels.count
                head += 1
            }
            if row.output.reportsPooled, let offset = pooledRows[pooledRow - 1].offset {
                let start = result.pooled.count
                result.pooled.append(
                    contentsOf: UnsafeBufferPointer(start: pooled.base + offset, count: hiddenSize))
                output.pooled = start..<result.pooled.count
            }
            result.rows.append(output)
        }
    }

    func begin() { forward.begin(self) }
    func run(worker: Int) { forward.run(self, worker: worker) }
    func finish() { done.advance() }

    private func likeliest(_ head: Int) -> UnsafeBufferPointer<TokenLogProbability> {
        UnsafeBufferPointer(start: top.base + heads[head].topOffset, count: Int(topCounts.base[head]))
    }

    private func addHead(
        _ row: StepRow, index: Int, first: Int, target: TokenID, top: Int?, _ topTotal: inout Int
    ) {
        heads.append(
            HeadPosition(
                token: Int32(first + index), slot: row.slot, target: target,
                position: row.startPosition + Int32(index) + 1, top: Int32(top ?? -1), topOffset: topTotal))
        topTotal += top ?? 0
    }

    private static func replace<Element>(_ array: inout [Element], by other: [Element]) {
        array.removeAll(keepingCapacity: true)
        array.append(contentsOf: other)
    }
}
