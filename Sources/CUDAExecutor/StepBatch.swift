// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Requests

/// What a batch is made for.
struct BatchShape: Sendable, Equatable {
    var slots: Int
    /// Entries of a slot's block table.
    var tableStride: Int
    /// Query heads that share a head of keys and values.
    var group: Int
    /// Tokens of one tile of the prefill kernel.
    var tileTokens: Int
    /// Rows of logits there is room for.
    var logitRows: Int
    /// Whether chunks are computed as if each of their tokens was decoded, so that bits do not depend on chunks.
    var decodesChunks: Bool
    /// Whether steps that only decode are filled up to the size of a graph.
    var usesGraphs: Bool

    /// The slot of tokens that fill a step up.
    var spareSlot: Int32 { Int32(slots) }
}

/// One step as the device is told of it: a value made from a plan, with all numbers flat in arrays. A batch is reused
/// and keeps its memory.
///
/// Tokens stand in the order that kernels want: rows of one token first, then chunks. Outputs keep the plan's order.
struct StepBatch {
    /// A run of block ids that is written into the tables.
    struct TableRun: Equatable {
        /// Where it goes, in entries of all tables.
        var destination: Int32
        /// Where it starts in ``StepBatch/tableIDs``.
        var source: Int32
        var count: Int32
    }

    /// A position whose logits are wanted.
    struct Head {
        enum Purpose: Equatable {
            case sample
            /// A prompt token whose log-probability is wanted.
            case prompt(TokenID)
            /// Labels, see ``StepBatch/pairs``.
            case labels
        }
        var purpose: Purpose
        var slot: SlotIndex
        /// Index in the sequence of the token after it.
        var position: Int
        /// How many of the likeliest tokens to report; `nil` for no log-probabilities.
        var top: Int?
        var isConstrained = false
        /// Whether the row has guesses, so that no later row takes the token from the slot.
        var isDrafted = false
        /// Its place in ``StepBatch/samples``, if it is sampled.
        var sample = 0
        /// Its place in ``StepBatch/scored``, if anything is reported of its logits.
        var score = 0
        /// Entries of ``StepBatch/pairs``.
        var pairs = 0..<0
        /// Its place in ``StepBatch/tops``, if likeliest tokens are reported.
        var topIndex = 0
        /// What changes its logits.
        var adjuster: SlotAdjuster?
    }

    /// A token whose log-probability behind a head is wanted; below 0 it is the token sampled there.
    struct Pair: Equatable {
        var head: Int32
        var token: TokenID
    }

    /// A run of heads whose logits are computed together, and what is made of them.
    struct HeadPart: Equatable {
        var heads: Range<Int>
        var samples: Range<Int>
        var scored: Range<Int>
        var pairs: Range<Int>
        var tops: Range<Int>
    }

    /// A row of the plan whose hidden states become a vector.
    struct PooledRow: Equatable {
        var slot: SlotIndex
        var pooling: Pooling
        /// Its tokens in ``StepBatch/pooledTokens``.
        var tokens: Range<Int>
        /// Index in the sequence of the first of them.
        var position: Int
        var isReported: Bool
    }

    private(set) var step: UInt64 = 0
    /// Tokens that mean something.
    private(set) var tokenCount = 0
    /// Tokens with those that fill the step up; also the rows of its matrix products.
    private(set) var productRows = 0
    /// The graph that the step replays, by its rows.
    private(set) var graph: Int?

    private(set) var tokens: [Int32] = []
    private(set) var positions: [Int32] = []
    private(set) var slots: [Int32] = []

    private(set) var decodeTokens: [Int32] = []
    private(set) var decodeSlots: [Int32] = []
    private(set) var decodePositions: [Int32] = []

    /// For each tile the index of its chunk, and of its first token within that.
    private(set) var tileRows: [Int32] = []
    private(set) var tileStarts: [Int32] = []
    private(set) var chunkTokens: [Int32] = []
    private(set) var chunkCounts: [Int32] = []
    private(set) var chunkSlots: [Int32] = []
    private(set) var chunkPositions: [Int32] = []

    private(set) var tableRuns: [TableRun] = []
    private(set) var tableIDs: [Int32] = []
    /// Source and destination of each block that is copied.
    private(set) var copies: [Int32] = []

    private(set) var heads: [Head] = []
    /// The token of each head.
    private(set) var headTokens: [Int32] = []
    /// Heads that are sampled.
    private(set) var samples: [Int32] = []
    /// Heads of whose logits something is reported.
    private(set) var scored: [Int32] = []
    private(set) var pairs: [Pair] = []
    /// Heads whose likeliest tokens are reported.
    private(set) var tops: [Int32] = []
    private(set) var parts: [HeadPart] = []
    private(set) var pooledTokens: [Int32] = []
    private(set) var pooledRows: [PooledRow] = []
    /// The plan's rows, for ``StepResult``.
    private(set) var rows: [StepRow] = []

    /// Whether a head waits for a mask.
    private(set) var isConstrained = false

    /// Where each row's tokens start on the device.
    private var firstTokens: [Int] = []

    /// Largest context of a decoded row, which decides into how many parts its keys are split.
    private(set) var longestContext = 0

    /// Takes over a checked plan.
    ///
    /// - Parameter book: the slots, with the plan's changes applied.
    mutating func load(_ plan: StepPlan, book: SlotBook, shape: BatchShape) {
        removeAll()
        step = plan.step
        rows.append(contentsOf: plan.rows)
        loadTables(plan, shape)
        for copy in plan.blockCopies { copies += [copy.source, copy.destination] }
        for _ in plan.rows { firstTokens.append(0) }
        for (index, row) in plan.rows.enumerated() where row.tokenCount == 1 || shape.decodesChunks {
            firstTokens[index] = append(row, plan)
            for token in firstTokens[index]..<tokens.count {
                decodeTokens.append(Int32(token))
                decodeSlots.append(row.slot)
                decodePositions.append(positions[token])
                longestContext = max(longestContext, Int(positions[token]) + 1)
            }
        }
        for (index, row) in plan.rows.enumerated() where row.tokenCount > 1 && !shape.decodesChunks {
            firstTokens[index] = append(row, plan)
            for start in stride(from: 0, to: row.tokenCount, by: shape.tileTokens) {
                tileRows.append(Int32(chunkTokens.count))
                tileStarts.append(start)
            }
            chunkTokens.append(Int32(firstTokens[index]))
            chunkCounts.append(row.tokenCount)
            chunkSlots.append(row.slot)
            chunkPositions.append(row.startPosition)
        }
        tokenCount = tokens.count
        for (index, row) in plan.rows.enumerated() {
            addHeads(row, plan, firstToken: firstTokens[index], book: book)
            addPooled(row, firstToken: firstTokens[index])
        }
        cutParts(shape)
        fillUp(shape)
    }

    private mutating func loadTables(_ plan: StepPlan, _ shape: BatchShape) {
        for update in plan.blockTableUpdates where update.count > 0 {
            let table = (Int(update.group) * (shape.slots + 1) + Int(update.slot)) * shape.tableStride
            tableRuns.append(
                TableRun(
                    destination: Int32(table + Int(update.firstEntry)), source: Int32(tableIDs.count),
                    count: update.count))
            tableIDs.append(contentsOf: plan.blockIDs[Int(update.offset)..<Int(update.offset) + Int(update.count)])
        }
    }

    /// Appends a row's tokens.
    ///
    /// - Returns: where they start.
    private mutating func append(_ row: StepRow, _ plan: StepPlan) -> Int {
        let first = tokens.count
        for index in 0..<row.tokenCount {
            tokens.append(plan.tokens[Int(row.tokenOffset + index)])
            positions.append(row.startPosition + index)
            slots.append(row.slot)
        }
        if case .sampled = row.firstToken { tokens[first] = -1 }
        return first
    }

    private mutating func addHeads(_ row: StepRow, _ plan: StepPlan, firstToken: Int, book: SlotBook) {
        let count = Int(row.tokenCount)
        func head(_ purpose: Head.Purpose, _ index: Int, top: Int?) -> Head {
            Head(purpose: purpose, slot: row.slot, position: Int(row.startPosition) + index + 1, top: top)
        }
        if let top = row.output.promptLogProbabilities {
            for index in 0..<count {
                let target =
                    index + 1 < count ? plan.tokens[Int(row.tokenOffset) + index + 1] : row.output.nextPromptToken
                guard let target else { continue }
                add(head(.prompt(target), index, top: top), token: firstToken + index, pairs: [target])
            }
        }
        if row.output.sample {
            for index in (count - 1 - Int(row.output.draftCount))..<count {
                var head = head(.sample, index, top: row.output.logProbabilities)
                head.isConstrained = row.output.isConstrained
                head.isDrafted = row.output.draftCount > 0
                head.adjuster = book.adjusters[Int(row.slot)]
                isConstrained = isConstrained || head.isConstrained
                add(head, token: firstToken + index, pairs: head.top == nil ? [] : [-1])
            }
        }
        if row.output.labelCount > 0 {
            let start = Int(row.output.labelOffset)
            add(
                head(.labels, count - 1, top: nil), token: firstToken + count - 1,
                pairs: plan.labels[start..<start + Int(row.output.labelCount)])
        }
    }

    private mutating func add(_ head: Head, token: Int, pairs wanted: some Collection<TokenID>) {
        var head = head
        let index = Int32(heads.count)
        head.sample = samples.count
        if head.purpose == .sample { samples.append(index) }
        head.score = scored.count
        if !wanted.isEmpty || head.top ?? 0 > 0 { scored.append(index) }
        head.pairs = pairs.count..<pairs.count + wanted.count
        for token in wanted { pairs.append(Pair(head: index, token: token)) }
        head.topIndex = tops.count
        if head.top ?? 0 > 0 { tops.append(index) }
        heads.append(head)
        headTokens.append(Int32(token))
    }

    private mutating func addPooled(_ row: StepRow, firstToken: Int) {
        guard let pooling = row.output.pooling else { return }
        let count = Int(row.tokenCount)
        let first = pooledTokens.count
        switch pooling {
        case .mean: for index in 0..<count { pooledTokens.append(Int32(firstToken + index)) }
        case .last: if row.output.reportsPooled { pooledTokens.append(Int32(firstToken + count - 1)) }
        }
        pooledRows.append(
            PooledRow(
                slot: row.slot, pooling: pooling, tokens: first..<pooledTokens.count,
                position: Int(row.startPosition), isReported: row.output.reportsPooled))
    }

    private mutating func cutParts(_ shape: BatchShape) {
        // Where a head's things start; beyond the last head, where they end.
        func bounds(_ head: Int) -> (sample: Int, score: Int, pair: Int, top: Int) {
            guard head < heads.count else { return (samples.count, scored.count, pairs.count, tops.count) }
            return (heads[head].sample, heads[head].score, heads[head].pairs.lowerBound, heads[head].topIndex)
        }
        for start in stride(from: 0, to: heads.count, by: shape.logitRows) {
            let end = min(start + shape.logitRows, heads.count)
            let (first, last) = (bounds(start), bounds(end))
            parts.append(
                HeadPart(
                    heads: start..<end, samples: first.sample..<last.sample, scored: first.score..<last.score,
                    pairs: first.pair..<last.pair, tops: first.top..<last.top))
        }
    }

    private mutating func fillUp(_ shape: BatchShape) {
        if shape.usesGraphs, chunkTokens.isEmpty { graph = BatchBuckets.graph(rows: tokenCount) }
        productRows = graph ?? BatchBuckets.productRows(tokens: tokenCount)
        guard let graph, tokenCount > 0 else {
            graph = nil
            return
        }
        for token in tokenCount..<graph {
            tokens.append(0)
            positions.append(0)
            slots.append(shape.spareSlot)
            decodeTokens.append(Int32(token))
            decodeSlots.append(shape.spareSlot)
            decodePositions.append(0)
        }
    }

    private mutating func removeAll() {
        (tokenCount, productRows, longestContext) = (0, 0, 0)
        graph = nil
        isConstrained = false
        tokens.removeAll(keepingCapacity: true)
        positions.removeAll(keepingCapacity: true)
        slots.removeAll(keepingCapacity: true)
        decodeTokens.removeAll(keepingCapacity: true)
        decodeSlots.removeAll(keepingCapacity: true)
        decodePositions.removeAll(keepingCapacity: true)
        tileRows.removeAll(keepingCapacity: true)
        tileStarts.removeAll(keepingCapacity: true)
        chunkTokens.removeAll(keepingCapacity: true)
        chunkCounts.removeAll(keepingCapacity: true)
        chunkSlots.removeAll(keepingCapacity: true)
        chunkPositions.removeAll(keepingCapacity: true)
        tableIDs.removeAll(keepingCapacity: true)
        copies.removeAll(keepingCapacity: true)
        headTokens.removeAll(keepingCapacity: true)
        pooledTokens.removeAll(keepingCapacity: true)
        firstTokens.removeAll(keepingCapacity: true)
        tableRuns.removeAll(keepingCapacity: true)
        heads.removeAll(keepingCapacity: true)
        samples.removeAll(keepingCapacity: true)
        scored.removeAll(keepingCapacity: true)
        tops.removeAll(keepingCapacity: true)
        pairs.removeAll(keepingCapacity: true)
        parts.removeAll(keepingCapacity: true)
        pooledRows.removeAll(keepingCapacity: true)
        rows.removeAll(keepingCapacity: true)
    }
}
