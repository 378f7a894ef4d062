// Tandem — Apache-2.0

public import InferenceEngine
public import LanguageModel
public import Requests

/// One sequence for a ``StepHarness``.
public struct StepHarnessRequest: Sendable {
    public var tokens: [TokenID]
    public var newTokens: Int
    public var sampling: SamplingParameters
    public var promptTop: Int?
    public var top: Int?
    public var adjustments: LogitAdjustments?
    /// Tokens that may be chosen; nil for all.
    public var permitted: Set<TokenID>?

    public init(
        tokens: [TokenID], newTokens: Int = 0, sampling: SamplingParameters = SamplingParameters(),
        promptTop: Int? = nil, top: Int? = 0, adjustments: LogitAdjustments? = nil, permitted: Set<TokenID>? = nil
    ) {
        self.tokens = tokens
        self.newTokens = newTokens
        self.sampling = sampling
        self.promptTop = promptTop
        self.top = top
        self.adjustments = adjustments
        self.permitted = permitted
    }
}

/// What came of it.
public struct StepHarnessOutcome: Equatable, Sendable {
    public var tokens: [TokenID] = []
    /// One for each new token.
    public var sampled: [PositionLogProbabilities] = []
    /// One for each prompt token but the first.
    public var prompt: [PositionLogProbabilities] = []

    public init() {}

    /// Everything as bits, so that "equal" means identical.
    public var bits: [UInt32] {
        var bits = tokens.map { UInt32(bitPattern: $0) }
        for position in sampled + prompt {
            for entry in [position.chosen] + position.top {
                bits += [UInt32(bitPattern: entry.token), entry.logProbability.bitPattern]
            }
        }
        return bits
    }
}

/// A scheduler of few words: all sequences at once, so many prompt tokens of each a step.
public final class StepHarness<Executor: StepExecutor> {
    public let executor: Executor
    public let limits: ExecutorLimits
    private let groupCount: Int
    private let vocabularySize: Int
    private var step: UInt64 = 0
    private var plan = StepPlan()
    private var result = StepResult()

    /// Prepares an executor for sequences of a model whose keys and values take so many bytes a token.
    public init(
        _ executor: Executor, model: DecoderDescription, bytesPerToken: Int, slots: Int = 80,
        tokensPerStep: Int = 1024, contextLength: Int = 256, blocks: Int = 512
    ) throws {
        self.executor = executor
        limits = ExecutorLimits(
            slots: slots, tokensPerStep: tokensPerStep, contextLength: min(contextLength, model.contextLength),
            keyValueBytes: (blocks + 1) * 16 * bytesPerToken)
        groupCount = model.kvGroups.count
        vocabularySize = model.vocabularySize
        _ = try executor.prepare(limits: limits, groups: model.kvGroups)
    }

    deinit { executor.shutdown() }

    /// Runs all requests to their ends.
    ///
    /// - Parameters:
    ///   - chunk: most prompt tokens of one request in a step.
    ///   - asynchronous: submit a step before the result of the one before it is known.
    ///   - firstBlock: blocks are given out from here, in an order that differs with it.
    public func run(
        _ requests: [StepHarnessRequest], chunk: Int = 512, asynchronous: Bool = false, firstBlock: Int = 0
    ) throws -> [StepHarnessOutcome] {
        var outcomes = Array(repeating: StepHarnessOutcome(), count: requests.count)
        // Tokens whose keys and values are computed (or in flight), and tokens sampled (or in flight).
        var computed = Array(repeating: 0, count: requests.count)
        var asked = Array(repeating: 0, count: requests.count)
        var sampledStep = Array(repeating: UInt64(0), count: requests.count)
        var pending: [(ticket: StepTicket, owners: [Int])] = []
        var isFirst = true
        var block = firstBlock

        func take() throws {
            let (ticket, owners) = pending.removeFirst()
            try executor.result(of: ticket, into: &result)
            for row in result.rows {
                let index = owners[owners.firstIndex(of: Int(row.slot)) ?? 0]
                for prompt in result.prompt[row.prompt] {
                    outcomes[index].prompt.append(
                        PositionLogProbabilities(chosen: prompt.chosen, top: Array(result.promptTop[prompt.top])))
                }
                if let token = row.token {
                    outcomes[index].tokens.append(token)
                    outcomes[index].sampled.append(
                        PositionLogProbabilities(
                            chosen: TokenLogProbability(token: token, logProbability: row.logProbability),
                            top: Array(result.top[row.top])))
                }
            }
        }

        while true {
            plan.removeAll()
            step += 1
            plan.step = step
            var owners: [Int] = []
            if isFirst {
                for (index, request) in requests.enumerated() {
                    plan.removedSlots.append(SlotIndex(index))
                    plan.addedSlots.append(
                        SlotAddition(
                            slot: SlotIndex(index), sampling: request.sampling, adjustments: request.adjustments))
                    let count = (request.tokens.count + request.newTokens + 15) / 16
                    for group in 0..<groupCount {
                        plan.blockTableUpdates.append(
                            BlockTableUpdate(
                                slot: SlotIndex(index), group: Int32(group), firstEntry: 0,
                                offset: Int32(plan.blockIDs.count), count: Int32(count)))
                        let ids = (block..<block + count).map { KVBlockID($0) }
                        plan.blockIDs += firstBlock.isMultiple(of: 2) ? ids : ids.reversed()
                        block += count
                    }
                }
                isFirst = false
            }
            for (index, request) in requests.enumerated() {
                let known = request.tokens.count
                let output: RowOutput
                let tokens: [TokenID]
                var source = TokenSource.given
                if computed[index] < known {
                    let count = min(chunk, known - computed[index])
                    tokens = Array(request.tokens[computed[index]..<computed[index] + count])
                    let end = computed[index] + count
                    output = RowOutput(
                        sample: end == known && request.newTokens > 0, logProbabilities: request.top,
                        promptLogProbabilities: request.promptTop,
                        nextPromptToken: end < known ? request.tokens[end] : nil)
                } else if asked[index] < request.newTokens {
                    tokens = [asynchronous ? 0 : outcomes[index].tokens[asked[index] - 1]]
                    if asynchronous { source = .sampled(step: sampledStep[index]) }
                    output = RowOutput(sample: true, logProbabilities: request.top)
                } else {
                    continue
                }
                plan.rows.append(
                    StepRow(
                        slot: SlotIndex(index), tokenOffset: Int32(plan.tokens.count),
                        tokenCount: Int32(tokens.count), startPosition: Int32(computed[index]), firstToken: source,
                        output: output))
                plan.rows[plan.rows.count - 1].output.isConstrained = output.sample && request.permitted != nil
                plan.tokens += tokens
                computed[index] += tokens.count
                if output.sample {
                    asked[index] += 1
                    sampledStep[index] = step
                }
                owners.append(index)
            }
            if plan.rows.isEmpty { break }
            pending.append((try executor.submit(plan), owners))
            try executor.sample(pending[pending.count - 1].ticket, masks: masks(requests))
            if !asynchronous || pending.count == 2 { try take() }
        }
        while !pending.isEmpty { try take() }
        return outcomes
    }

    /// Masks of the plan's rows that have one; nil if none has.
    private func masks(_ requests: [StepHarnessRequest]) -> TokenMasks? {
        let words = (vocabularySize + 31) / 32
        var masks = TokenMasks(slots: [], words: [], wordsPerSlot: words)
        for row in plan.rows where row.output.isConstrained {
            var mask = [UInt32](repeating: 0, count: words)
            for token in requests[Int(row.slot)].permitted ?? [] { mask[Int(token) / 32] |= 1 << UInt32(token % 32) }
            masks.slots.append(row.slot)
            masks.words += mask
        }
        return masks.slots.isEmpty ? nil : masks
    }
}
