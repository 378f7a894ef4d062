// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Requests

/// One sequence for the harness.
struct Request {
    var tokens: [TokenID]
    var newTokens = 0
    var sampling = SamplingParameters()
    var promptTop: Int?
    var top: Int? = 0
}

/// What came of it.
struct Outcome: Equatable {
    var tokens: [TokenID] = []
    /// One for each new token.
    var sampled: [PositionLogProbabilities] = []
    /// One for each prompt token but the first.
    var prompt: [PositionLogProbabilities] = []

    /// Everything as bits, so that "equal" means identical.
    var bits: [UInt32] {
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
final class Harness {
    let executor: any StepExecutor
    let limits: ExecutorLimits
    private let groupCount: Int
    private var step: UInt64 = 0
    private var plan = StepPlan()
    private var result = StepResult()

    init(
        _ executor: any StepExecutor, model: DecoderDescription, bytesPerToken: Int, slots: Int = 80,
        tokensPerStep: Int = 1024, contextLength: Int = 256, blocks: Int = 512
    ) throws {
        self.executor = executor
        limits = ExecutorLimits(
            slots: slots, tokensPerStep: tokensPerStep, contextLength: min(contextLength, model.contextLength),
            keyValueBytes: (blocks + 1) * 16 * bytesPerToken)
        groupCount = model.kvGroups.count
        _ = try executor.prepare(limits: limits, groups: model.kvGroups)
    }

    deinit { executor.shutdown() }

    /// Runs all requests to their ends.
    ///
    /// - Parameters:
    ///   - chunk: most prompt tokens of one request in a step.
    ///   - asynchronous: submit a step before the result of the one before it is known.
    ///   - firstBlock: blocks are given out from here, in an order that differs with it.
    func run(_ requests: [Request], chunk: Int = 512, asynchronous: Bool = false, firstBlock: Int = 0) throws
        -> [Outcome]
    {
        var outcomes = Array(repeating: Outcome(), count: requests.count)
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
                    plan.addedSlots.append(SlotAddition(slot: SlotIndex(index), sampling: request.sampling))
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
            try executor.sample(pending[pending.count - 1].ticket, masks: nil)
            if !asynchronous || pending.count == 2 { try take() }
        }
        while !pending.isEmpty { try take() }
        return outcomes
    }
}
