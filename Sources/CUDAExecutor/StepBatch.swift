// Tandem — Apache-2.0

import CUDAKernels
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
    /// Rows of one tile of the prefill kernel; a token has a row for each query head of a group.
    var tileRows: Int
    /// Rows of a step there is room for.
    var rows: Int
    /// Rows of logits there is room for.
    var logitRows: Int
    /// Counts of tokens that there is room for, a slot.
    var countCapacity: Int
    /// Whether chunks are computed as if each of their tokens was decoded, so that bits do not depend on chunks.
    var decodesChunks: Bool
    /// Whether steps that only decode are filled up to the size of a graph, where there is room for it.
    var usesGraphs: Bool

    /// The slot of tokens that fill a step up.
    var spareSlot: Int32 { Int32(slots) }
}

/// One step as the device is told of it: a value made from a plan, with all numbers flat in arrays. A batch is reused
/// and keeps its memory.
///
/// Tokens stand in the order that kernels want: rows of one token first, then chunks. Outputs keep the plan's order.
struct StepBatch {
    /// A run of block ids that is written into the tables; as the kernel reads it.
    struct TableRun: Equatable {
        /// Where it goes, in entries of all tables.
        var destination: Int32
        var count: Int32
        /// Where it starts in ``StepBatch/tableIDs``.
        var source: Int32
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
    }

    /// A token whose log-probability behind a head is wanted; below 0 it is the token sampled there.
    struct Pair: Equatable {
        var head: Int32
        var token: TokenID
    }

    /// Counts of a sequence's tokens that are put where the device counts on.
    struct CountRun: Equatable {
        var slot: SlotIndex
        /// Entries of ``StepBatch/counts``.
        var entries: Range<Int>
    }

    /// A run of heads whose logits are computed together, and what is made of them.
    struct HeadPart: Equatable {
        var heads: Range<Int>
        var samples: Range<Int>
        var scored: Range<Int>
        var pairs: Range<Int>
        var tops: Range<Int>
        /// Entries of ``StepBatch/adjustments``.
        var adjustments: Range<Int>
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

    /// For each tile the index of its chunk, and its first row within that; those that see most keys come first.
    private(set) var tiles = PrefillTiles()
    var tileRows: [Int32] { tiles.rows }
    var tileStarts: [Int32] { tiles.starts }
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
    /// One for each of ``samples``.
    private(set) var sampleRows: [SampleRow] = []
    /// One for each sample whose logits are changed.
    private(set) var adjustments: [AdjustRow] = []
    private(set) var banned: [Int32] = []
    private(set) var biases: [TokenBiasEntry] = []
    private(set) var counts: [TokenCountEntry] = []
    private(set) var countRuns: [CountRun] = []
    /// Room for what logits were before they were changed.
    private(set) var savedCount = 0
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
        loadCounts(plan, book, shape)
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
            tiles.add(
                row: Int32(chunkTokens.count), tokens: Int(row.tokenCount), past: Int(row.startPosition),
                group: shape.group, tileRows: shape.tileRows)
            chunkTokens.append(Int32(firstTokens[index]))
            chunkCounts.append(row.tokenCount)
            chunkSlots.append(row.slot)
            chunkPositions.append(row.startPosition)
        }
        tiles.sort()
        tokenCount = tokens.count
        for (index, row) in plan.rows.enumerated() {
            addHeads(row, plan, firstToken: firstTokens[index], book: book, shape)
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
                    destination: Int32(table + Int(update.firstEntry)), count: update.count,
                    source: Int32(tableIDs.count)))
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

    private mutating func addHeads(
        _ row: StepRow, _ plan: StepPlan, firstToken: Int, book: SlotBook, _ shape: BatchShape
    ) {
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
                isConstrained = isConstrained || head.isConstrained
                addSample(head, book, shape)
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

    private mutating func loadCounts(_ plan: StepPlan, _ book: SlotBook, _ shape: BatchShape) {
        for addition in plan.addedSlots {
            guard let known = book.adjusters[Int(addition.slot)]?.counts else { continue }
            let first = counts.count
            known.forEach { token, generated in
                // The sequence cannot be longer than the context, so all fit.
                if counts.count - first < shape.countCapacity {
                    counts.append(TokenCountEntry(token: token, generated: generated))
                }
            }
            countRuns.append(CountRun(slot: addition.slot, entries: first..<counts.count))
        }
    }

    private mutating func addSample(_ head: Head, _ book: SlotBook, _ shape: BatchShape) {
        let sampling = book.sampling[Int(head.slot)]
        sampleRows.append(
            SampleRow(
                seed: sampling.seed, row: 0, slot: head.slot, position: Int32(clamping: head.position),
                choice: sampling.choiceIndex, temperature: sampling.temperature, topK: sampling.topK,
                topP: sampling.topP, minP: sampling.minP, flags: head.isDrafted ? SampleRow.isDraft : 0))
        guard let adjuster = book.adjusters[Int(head.slot)], adjuster.applies(at: head.position) else { return }
        var row = AdjustRow(row: 0, sample: Int32(samples.count))
        row.bannedOffset = Int32(banned.count)
        banned.append(contentsOf: adjuster.banned(at: head.position))
        row.bannedCount = Int32(banned.count) - row.bannedOffset
        row.biasOffset = Int32(biases.count)
        biases.append(contentsOf: adjuster.biases)
        row.biasCount = Int32(biases.count) - row.biasOffset
        row.savedOffset = Int32(savedCount)
        savedCount += Int(row.bannedCount + row.biasCount)
        if adjuster.counts != nil {
            row.countOffset = head.slot * Int32(shape.countCapacity)
            row.countLength = head.slot
            row.countCapacity = Int32(shape.countCapacity)
            // A sequence has no more different tokens than tokens.
            savedCount += min(shape.countCapacity, head.position + 1)
        }
        row.repetitionPenalty = sampling.repetitionPenalty
        row.frequencyPenalty = sampling.frequencyPenalty
        row.presencePenalty = sampling.presencePenalty
        adjustments.append(row)
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
            let firstAdjustment = parts.last?.adjustments.upperBound ?? 0
            var adjusted = firstAdjustment
            while adjusted < adjustments.count, adjustments[adjusted].sample < last.sample {
                adjustments[adjusted].row = samples[Int(adjustments[adjusted].sample)] - Int32(start)
                adjusted += 1
            }
            parts.append(
                HeadPart(
                    heads: start..<end, samples: first.sample..<last.sample, scored: first.score..<last.score,
                    pairs: first.pair..<last.pair, tops: first.top..<last.top,
                    adjustments: firstAdjustment..<adjusted))
        }
    }

    private mutating func fillUp(_ shape: BatchShape) {
        if shape.usesGraphs, chunkTokens.isEmpty, let size = BatchBuckets.graph(rows: tokenCount), size <= shape.rows {
            graph = size
        }
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
        (tokenCount, productRows, longestContext, savedCount) = (0, 0, 0, 0)
        graph = nil
        isConstrained = false
        tokens.removeAll(keepingCapacity: true)
        positions.removeAll(keepingCapacity: true)
        slots.removeAll(keepingCapacity: true)
        decodeTokens.removeAll(keepingCapacity: true)
        decodeSlots.removeAll(keepingCapacity: true)
        decodePositions.removeAll(keepingCapacity: true)
        tiles.removeAll()
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
        sampleRows.removeAll(keepingCapacity: true)
        adjustments.removeAll(keepingCapacity: true)
        banned.removeAll(keepingCapacity: true)
        biases.removeAll(keepingCapacity: true)
        counts.removeAll(keepingCapacity: true)
        countRuns.removeAll(keepingCapacity: true)
        tops.removeAll(keepingCapacity: true)
        pairs.removeAll(keepingCapacity: true)
        parts.removeAll(keepingCapacity: true)
        pooledRows.removeAll(keepingCapacity: true)
        rows.removeAll(keepingCapacity: true)
    }
}
