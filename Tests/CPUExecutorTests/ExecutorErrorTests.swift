// Tandem — Apache-2.0

import CPUExecutor
import InferenceEngine
import LanguageModel
import Requests
import TestSupport
import Testing
import Weights

/// Plans that lie and limits that cannot be met.
@Suite struct ExecutorErrorTests {
    static func executor(
        context: Int = 64, slots: Int = 2, tokensPerStep: Int = 16, blocks: Int = 8
    ) throws -> CPUExecutor {
        let file = try TinyModel(format: .q8_0).file()
        let model = try DecoderDescription(gguf: file)
        let executor = try CPUExecutor(
            model: model, file: file, options: CPUExecutor.Options(compute: .int8, threads: 1))
        let limits = ExecutorLimits(
            slots: slots, tokensPerStep: tokensPerStep, contextLength: context,
            keyValueBytes: blocks * 16 * model.kvBytesPerToken(elementBytes: 2))
        let prepared = try executor.prepare(limits: limits, groups: model.kvGroups)
        #expect(prepared.blockCount == blocks)
        return executor
    }

    /// A plan that is right: slot 0, 4 tokens, block 3.
    static func plan(step: UInt64 = 1) -> StepPlan {
        var plan = StepPlan()
        plan.step = step
        plan.addedSlots = [SlotAddition(slot: 0, sampling: SamplingParameters())]
        plan.blockIDs = [3]
        plan.blockTableUpdates = [BlockTableUpdate(slot: 0, group: 0, firstEntry: 0, offset: 0, count: 1)]
        plan.tokens = [1, 2, 3, 4]
        plan.rows = [
            StepRow(
                slot: 0, tokenOffset: 0, tokenCount: 4, startPosition: 0,
                output: RowOutput(sample: true, logProbabilities: 1))
        ]
        return plan
    }

    static let lies: [(String, @Sendable (inout StepPlan) -> Void)] = [
        ("slot", { $0.rows[0].slot = 2 }),
        ("negative slot", { $0.rows[0].slot = -1 }),
        ("slot not added", { $0.rows[0].slot = 1 }),
        ("added slot", { $0.addedSlots[0].slot = 99 }),
        ("removed slot", { $0.removedSlots = [.max] }),
        ("added twice", { $0.addedSlots.append($0.addedSlots[0]) }),
        ("two rows", { $0.rows.append($0.rows[0]) }),
        ("token", { $0.tokens[2] = 320 }),
        ("negative token", { $0.tokens[2] = -1 }),
        ("next prompt token", { $0.rows[0].output.nextPromptToken = 5000 }),
        ("block id", { $0.blockIDs = [8] }),
        ("negative block id", { $0.blockIDs = [-1] }),
        ("group", { $0.blockTableUpdates[0].group = 1 }),
        ("update offset", { $0.blockTableUpdates[0].offset = .max }),
        ("update count", { $0.blockTableUpdates[0].count = .max }),
        ("update entry", { $0.blockTableUpdates[0].firstEntry = .max }),
        ("update missing", { $0.blockTableUpdates = [] }),
        ("no tokens", { $0.rows[0].tokenCount = 0 }),
        ("token count", { $0.rows[0].tokenCount = .max }),
        ("token offset", { $0.rows[0].tokenOffset = .max }),
        ("negative offset", { $0.rows[0].tokenOffset = -1 }),
        ("start", { $0.rows[0].startPosition = .max }),
        ("negative start", { $0.rows[0].startPosition = -4 }),
        ("keys before the row", { $0.rows[0].startPosition = 16 }),
        ("context", { $0.rows[0].startPosition = 61 }),
        (
            "too many tokens",
            {
                $0.tokens = Array(repeating: 1, count: 17)
                $0.rows[0].tokenCount = 17
                $0.blockIDs = [1, 2]
                $0.blockTableUpdates[0].count = 2
            }
        ),
        ("likeliest", { $0.rows[0].output.logProbabilities = 65 }),
        ("negative likeliest", { $0.rows[0].output.promptLogProbabilities = -1 }),
        ("placeholder", { $0.rows[0].firstToken = .sampled(step: 1) }),
        ("copy source", { $0.blockCopies = [BlockCopy(source: 8, destination: 0)] }),
        ("copy destination", { $0.blockCopies = [BlockCopy(source: 0, destination: -1)] }),
        ("a vector of nothing", { $0.rows[0].output.reportsPooled = true }),
        ("labels", { $0.rows[0].output.labelCount = 1 }),
        ("negative labels", { $0.rows[0].output.labelOffset = -1 }),
        (
            "label",
            {
                $0.labels = [1 << 20]
                $0.rows[0].output.labelCount = 1
            }
        ),
        ("embeddings", { $0.embeddingSpans = [EmbeddingSpan(slot: 0, position: 0, count: 1, buffer: 1)] }),
        ("bidirectional", { $0.bidirectionalSpans = [BidirectionalSpan(slot: 0, position: 0, count: 1)] }),
    ]

    @Test func liesAreRefusedAndChangeNothing() throws {
        let executor = try Self.executor()
        defer { executor.shutdown() }
        for (name, lie) in Self.lies {
            var plan = Self.plan()
            lie(&plan)
            do {
                _ = try executor.submit(plan)
                Issue.record("accepted: \(name)")
                return
            } catch {
                #expect(error.kind == .unsupported, "\(name)")
                #expect(!error.message.isEmpty)
            }
        }
        // The honest plan still works, as if nothing had happened.
        var result = StepResult()
        try executor.result(of: executor.submit(Self.plan()), into: &result)
        #expect(result.rows.count == 1 && result.rows[0].token != nil && result.top.count == 1)
    }

    @Test func ticketsAreRedeemedInOrder() throws {
        let executor = try Self.executor()
        defer { executor.shutdown() }
        var result = StepResult()
        #expect(throws: ExecutorError.self) { try executor.result(of: StepTicket(step: 1), into: &result) }
        let first = try executor.submit(Self.plan())
        var next = StepPlan()
        next.step = 2
        next.tokens = [0]
        next.rows = [
            StepRow(
                slot: 0, tokenOffset: 0, tokenCount: 1, startPosition: 4, firstToken: .sampled(step: 1),
                output: RowOutput(sample: true))
        ]
        let second = try executor.submit(next)
        next.step = 3
        #expect(throws: ExecutorError.self) { try executor.submit(next) }
        #expect(throws: ExecutorError.self) { try executor.result(of: second, into: &result) }
        try executor.result(of: first, into: &result)
        try executor.result(of: second, into: &result)
        #expect(result.step == 2 && result.rows[0].token != nil)
        #expect(throws: ExecutorError.self) {
            try executor.sample(second, masks: TokenMasks(slots: [0], words: [0], wordsPerSlot: 1))
        }
        let profile = executor.profile()
        #expect(profile.steps == 2 && profile.attention > 0 && profile.mlp > 0 && profile.rest > 0)
        #expect(executor.profile().steps == 0)
    }

    @Test func copiedBlocksHoldTheSameKeys() throws {
        let executor = try Self.executor(slots: 2, tokensPerStep: 32)
        defer { executor.shutdown() }
        var result = StepResult()
        let prompt = (0..<16).map { TokenID($0 * 3 + 1) }
        var plan = Self.plan()
        plan.blockIDs = [3, 4]
        plan.blockTableUpdates[0].count = 2
        plan.tokens = prompt + [77]
        plan.rows[0].tokenCount = 17
        try executor.result(of: executor.submit(plan), into: &result)
        let expected = result.rows[0]
        // Another slot takes a copy of the first block and computes only the last token.
        plan.removeAll()
        plan.step = 2
        plan.addedSlots = [SlotAddition(slot: 1, sampling: SamplingParameters())]
        plan.blockCopies = [BlockCopy(source: 3, destination: 6)]
        plan.blockIDs = [6, 7]
        plan.blockTableUpdates = [BlockTableUpdate(slot: 1, group: 0, firstEntry: 0, offset: 0, count: 2)]
        plan.tokens = [77]
        plan.rows = [
            StepRow(
                slot: 1, tokenOffset: 0, tokenCount: 1, startPosition: 16,
                output: RowOutput(sample: true, logProbabilities: 1))
        ]
        try executor.result(of: executor.submit(plan), into: &result)
        #expect(result.rows[0].token == expected.token)
        #expect(result.rows[0].logProbability == expected.logProbability)
    }

    @Test func limitsThatCannotBeMet() throws {
        let file = try TinyModel(format: .q8_0).file()
        let model = try DecoderDescription(gguf: file)
        func prepare(_ change: (inout ExecutorLimits) -> Void) throws {
            let executor = try CPUExecutor(
                model: model, file: file, options: CPUExecutor.Options(compute: .bf16, threads: 1))
            defer { executor.shutdown() }
            var limits = ExecutorLimits(slots: 1, tokensPerStep: 1, contextLength: 16, keyValueBytes: 1 << 20)
            change(&limits)
            _ = try executor.prepare(limits: limits, groups: model.kvGroups)
        }
        try prepare { _ in }
        #expect(throws: ExecutorError.self) { try prepare { $0.blockSize = 32 } }
        #expect(throws: ExecutorError.self) { try prepare { $0.slots = 0 } }
        #expect(throws: ExecutorError.self) { try prepare { $0.tokensPerStep = .max } }
        #expect(throws: ExecutorError.self) { try prepare { $0.contextLength = 513 } }
        #expect(throws: ExecutorError.self) { try prepare { $0.keyValueBytes = 100 } }
        #expect(throws: ExecutorError.self) { try prepare { $0.keyValueBytes = -1 } }
        #expect(throws: ExecutorError.self) { try prepare { $0.keyValueBytes = 1 << 62 } }
        for threads in [0, -1, 5000] {
            #expect(throws: ExecutorError.self) {
                try CPUExecutor(model: model, file: file, options: CPUExecutor.Options(compute: .f32, threads: threads))
            }
        }
    }

    @Test func nothingWorksAfterShutdown() throws {
        let executor = try Self.executor()
        executor.shutdown()
        executor.shutdown()
        #expect(throws: ExecutorError.self) { try executor.submit(Self.plan()) }
    }

    /// A row of a group with a window needs the entries that it sees and no others.
    @Test func entriesBehindAWindowAreNotNeeded() throws {
        let file = try TinyModel(format: .q8_0).file()
        var model = try DecoderDescription(gguf: file)
        model.layers[1].window = 17
        let executor = try CPUExecutor(
            model: model, file: file, options: CPUExecutor.Options(compute: .int8, threads: 1))
        defer { executor.shutdown() }
        let limits = ExecutorLimits(
            slots: 1, tokensPerStep: 16, contextLength: 64,
            keyValueBytes: 4 * 16 * model.kvBytesPerToken(elementBytes: 2))
        let prepared = try executor.prepare(limits: limits, groups: model.kvGroups)
        #expect(prepared.blockCount == 8)
        var plan = Self.plan()
        plan.rows[0].startPosition = 48
        func tables(windowFrom entry: Int32) {
            plan.blockIDs = [0, 1, 2, 3, 4, 5, 6, 7]
            plan.blockTableUpdates = [
                BlockTableUpdate(slot: 0, group: 0, firstEntry: 0, offset: 0, count: 4),
                BlockTableUpdate(slot: 0, group: 1, firstEntry: entry, offset: 4, count: 4 - entry),
            ]
        }
        // Position 48 sees from 32 on, that is, entry 2.
        tables(windowFrom: 3)
        #expect(throws: ExecutorError.self) { try executor.submit(plan) }
        tables(windowFrom: 2)
        let ticket = try executor.submit(plan)
        var result = StepResult()
        try executor.result(of: ticket, into: &result)
        #expect(result.rows.count == 1)
    }
}
