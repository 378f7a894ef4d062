// Tandem — Apache-2.0

import CUDAKernels
import InferenceEngine
import LanguageModel
import Requests
import Testing

@testable import CUDAExecutor

@Suite struct StepBatchTests {
    static let shape = BatchShape(
        slots: 8, tableStride: 16, group: 2, tileRows: 64, rows: 16, logitRows: 8, countCapacity: 100,
        decodesChunks: false, usesGraphs: true)

    static func row(
        _ slot: Int32, _ plan: inout StepPlan, tokens: [TokenID], at position: Int32, source: TokenSource = .given,
        output: RowOutput = RowOutput(sample: true)
    ) {
        plan.rows.append(
            StepRow(
                slot: slot, tokenOffset: Int32(plan.tokens.count), tokenCount: Int32(tokens.count),
                startPosition: position, firstToken: source, output: output))
        plan.tokens += tokens
    }

    static func batch(_ plan: StepPlan, shape: BatchShape = shape) -> StepBatch {
        var book = SlotBook(slots: shape.slots)
        book.apply(plan)
        var batch = StepBatch()
        batch.load(plan, book: book, shape: shape)
        return batch
    }

    @Test func stepsThatDecodeAreFilledUpToAGraph() {
        var plan = StepPlan()
        plan.step = 9
        Self.row(3, &plan, tokens: [11], at: 5)
        Self.row(1, &plan, tokens: [0], at: 40, source: .sampled(step: 8))
        Self.row(0, &plan, tokens: [12], at: 7)
        let batch = Self.batch(plan)
        #expect(batch.step == 9 && batch.tokenCount == 3 && batch.graph == 4 && batch.productRows == 4)
        #expect(batch.tokens == [11, -1, 12, 0])
        #expect(batch.positions == [5, 40, 7, 0])
        // The last one fills up, in the slot to spare.
        #expect(batch.slots == [3, 1, 0, 8] && batch.decodeSlots == [3, 1, 0, 8])
        #expect(batch.decodeTokens == [0, 1, 2, 3] && batch.decodePositions == [5, 40, 7, 0])
        #expect(batch.headTokens == [0, 1, 2] && batch.longestContext == 41)
        #expect(batch.chunkTokens.isEmpty && batch.pairs.isEmpty)
    }

    @Test func decodedRowsComeBeforeChunksAndHeadsKeepThePlansOrder() {
        var plan = StepPlan()
        Self.row(0, &plan, tokens: Array(100..<140), at: 16)
        Self.row(1, &plan, tokens: [7], at: 3)
        Self.row(2, &plan, tokens: [8, 9], at: 0, output: RowOutput())
        let batch = Self.batch(plan)
        #expect(batch.graph == nil && batch.tokenCount == 43 && batch.productRows == 48)
        #expect(batch.tokens.count == 43 && batch.tokens[0] == 7 && batch.tokens[1] == 100 && batch.tokens[41] == 8)
        #expect(batch.decodeTokens == [0] && batch.decodeSlots == [1])
        #expect(batch.chunkTokens == [1, 41] && batch.chunkCounts == [40, 2] && batch.chunkPositions == [16, 0])
        // The tile that sees most comes first.
        #expect(batch.tileRows == [0, 0, 1] && batch.tileStarts == [64, 0, 0])
        #expect(batch.headTokens == [40, 0])
        #expect(batch.heads.map(\.position) == [56, 4])
    }

    @Test func chunksCanBeDecodedTokenByToken() {
        var shape = Self.shape
        shape.decodesChunks = true
        var plan = StepPlan()
        Self.row(0, &plan, tokens: [4, 5, 6], at: 16)
        let batch = Self.batch(plan, shape: shape)
        #expect(batch.chunkTokens.isEmpty && batch.decodeTokens == [0, 1, 2, 3] && batch.graph == 4)
        #expect(batch.decodePositions == [16, 17, 18, 0] && batch.headTokens == [2])
    }

    /// Buffers hold the rows of a step's products, and those are filled up less than graphs are.
    @Test(arguments: [34, 130, 513, 640, 800]) func aGraphThatTheBuffersDoNotHoldIsNotTaken(_ tokens: Int) throws {
        let sizes = BufferSizes(
            shape: try DeviceShape(smallModel(head: 64, layers: 1)),
            limits: ExecutorLimits(slots: 8, tokensPerStep: tokens, contextLength: 1024, keyValueBytes: 1 << 20))
        var shape = Self.shape
        shape.decodesChunks = true
        shape.rows = sizes.rows
        var plan = StepPlan()
        Self.row(0, &plan, tokens: Array(repeating: 4, count: tokens), at: 0)
        let batch = Self.batch(plan, shape: shape)
        #expect(batch.productRows >= tokens && batch.productRows <= sizes.rows && batch.tokens.count <= sizes.rows)
    }

    @Test func tablesAreAddressedByGroupAndSlot() {
        var plan = StepPlan()
        plan.blockIDs = [5, 6, 7]
        plan.blockTableUpdates = [
            BlockTableUpdate(slot: 2, group: 1, firstEntry: 3, offset: 1, count: 2),
            BlockTableUpdate(slot: 0, group: 0, firstEntry: 0, offset: 0, count: 0),
            BlockTableUpdate(slot: 0, group: 0, firstEntry: 0, offset: 0, count: 1),
        ]
        plan.blockCopies = [BlockCopy(source: 4, destination: 9)]
        let batch = Self.batch(plan)
        #expect(
            batch.tableRuns == [
                StepBatch.TableRun(destination: Int32((9 + 2) * 16 + 3), count: 2, source: 0),
                StepBatch.TableRun(destination: 0, count: 1, source: 2),
            ])
        #expect(batch.tableIDs == [6, 7, 5] && batch.copies == [4, 9])
        // No row, no graph.
        #expect(batch.graph == nil && batch.tokens.isEmpty)
    }

    @Test func outputsComeBackInThePlansOrder() {
        var plan = StepPlan()
        plan.labels = [1, 2, 3]
        plan.addedSlots = [
            SlotAddition(
                slot: 4, sampling: SamplingParameters(frequencyPenalty: 1),
                adjustments: LogitAdjustments(promptCount: 1, history: [50]))
        ]
        var scored = RowOutput(promptLogProbabilities: 2, nextPromptToken: 77)
        scored.pooling = .mean
        Self.row(0, &plan, tokens: [10, 11, 12], at: 0, output: scored)
        Self.row(
            4, &plan, tokens: [20, 21], at: 8, output: RowOutput(sample: true, draftCount: 1, logProbabilities: 1))
        Self.row(5, &plan, tokens: [30], at: 8, output: RowOutput(labelCount: 2, labelOffset: 1))
        var shape = Self.shape
        shape.logitRows = 4
        var batch = Self.batch(plan, shape: shape)
        #expect(batch.heads.count == 6)
        #expect(batch.pairs.map(\.token) == [11, 12, 77, -1, -1, 2, 3])
        #expect(batch.pairs.map(\.head) == [0, 1, 2, 3, 4, 5, 5])
        #expect(
            batch.parts == [
                StepBatch.HeadPart(
                    heads: 0..<4, samples: 0..<1, scored: 0..<4, pairs: 0..<4, tops: 0..<4,
                    adjustments: 0..<1),
                StepBatch.HeadPart(
                    heads: 4..<6, samples: 1..<2, scored: 4..<6, pairs: 4..<7, tops: 4..<5,
                    adjustments: 1..<2),
            ])
        #expect(batch.samples == [3, 4] && batch.scored == [0, 1, 2, 3, 4, 5] && batch.tops == [0, 1, 2, 3, 4])
        // The row of one token is on the device first.
        #expect(batch.pooledTokens == [1, 2, 3])
        var memory: [UnsafeMutableRawPointer] = []
        defer { for pointer in memory { pointer.deallocate() } }
        func pointer<Element>(_ values: [Element]) -> UnsafePointer<Element> {
            let pointer = UnsafeMutablePointer<Element>.allocate(capacity: values.count)
            pointer.initialize(from: values, count: values.count)
            memory.append(UnsafeMutableRawPointer(pointer))
            return UnsafePointer(pointer)
        }
        let outputs = BatchOutputs(
            sampled: pointer([21, 22]), pairValues: pointer([-1, -2, -3, -4, -5, -6, -7]),
            pairRanks: pointer([1, 2, 3, 4, 5, 6, 7]), topTokens: pointer((0..<5 * 64).map { Int32($0) }),
            topValues: pointer((0..<5 * 64).map { -Float($0) }),
            topFound: pointer([2, 2, 2, 1, 1]), pooled: pointer([Float](repeating: 2, count: 6)))
        var result = StepResult()
        var sums = PooledSums(slots: 8, width: 2)
        func collect() {
            batch.collect(
                outputs,
                sums: &sums, into: &result)
        }
        collect()
        #expect(result.rows.map(\.slot) == [0, 4, 5])
        #expect(result.prompt.map(\.chosen.token) == [11, 12, 77] && result.prompt.map(\.rank) == [1, 2, 3])
        #expect(result.promptTop.map(\.token) == [0, 1, 64, 65, 128, 129])
        #expect(result.rows[1].token == 21 && result.rows[1].logProbability == -4)
        #expect(result.further.map(\.token) == [22] && result.further[0].logProbability == -5)
        #expect(result.top.map(\.token) == [192, 256])
        #expect(result.labels == [-6, -7] && result.rows[2].labels == 0..<2)
        #expect(result.pooled.isEmpty)
        // The sequence's last chunk: the mean of all of its states.
        var last = StepPlan()
        var output = RowOutput(reportsPooled: true)
        output.pooling = .mean
        Self.row(0, &last, tokens: [13], at: 3, output: output)
        batch = Self.batch(last)
        collect()
        #expect(result.pooled == [2, 2] && result.rows[0].pooled == 0..<2)
    }

    @Test func whatChangesLogitsIsKnownBySlot() {
        var plan = StepPlan()
        plan.addedSlots = [
            SlotAddition(
                slot: 1, sampling: SamplingParameters(presencePenalty: 1),
                adjustments: LogitAdjustments(promptCount: 2, minimumNewTokens: 1, stopTokens: [9], history: [3, 4, 4])),
            SlotAddition(
                slot: 2, sampling: SamplingParameters(),
                adjustments: LogitAdjustments(promptCount: 2, minimumNewTokens: 1, stopTokens: [9])),
        ]
        Self.row(1, &plan, tokens: [4], at: 1)
        Self.row(2, &plan, tokens: [4], at: 1)
        let batch = Self.batch(plan)
        #expect(batch.countRuns == [StepBatch.CountRun(slot: 1, entries: 0..<2)])
        #expect(
            batch.counts == [TokenCountEntry(token: 3, generated: 0), TokenCountEntry(token: 4, generated: 1)])
        #expect(batch.banned == [9, 9])
        #expect(batch.adjustments.map(\.row) == [0, 1] && batch.adjustments.map(\.sample) == [0, 1])
        #expect(batch.adjustments.map(\.countOffset) == [100, -1] && batch.adjustments[1].bannedOffset == 1)
        // The second row's place comes after one banned token and three counts.
        #expect(batch.adjustments.map(\.savedOffset) == [0, 4] && batch.savedCount == 5)
        var later = StepPlan()
        Self.row(1, &later, tokens: [4], at: 2)
        Self.row(2, &later, tokens: [4], at: 2)
        var book = SlotBook(slots: 8)
        book.apply(plan)
        var next = StepBatch()
        next.load(later, book: book, shape: Self.shape)
        // Nothing is ruled out any more; the penalty stays.
        #expect(next.banned.isEmpty && next.adjustments.count == 1 && next.adjustments[0].presencePenalty == 1)
        #expect(next.counts.isEmpty && next.countRuns.isEmpty)
    }
}
