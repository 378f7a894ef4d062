// Tandem — Apache-2.0

import InferenceEngine
import Requests

/// What the device wrote for one step, as it arrived on the host.
struct BatchOutputs {
    /// One for each of the batch's samples.
    var sampled: UnsafePointer<Int32>
    /// Log-probability of each of the batch's pairs.
    var pairValues: UnsafePointer<Float>
    /// Place of each pair's token among all by its logit, from 1.
    var pairRanks: UnsafePointer<Int32>
    /// The likeliest tokens, and their log-probabilities: room for ``topRoom`` of each of the batch's tops.
    var topTokens: UnsafePointer<Int32>
    var topValues: UnsafePointer<Float>
    /// How many there are, of each of the batch's tops.
    var topFound: UnsafePointer<Int32>
    /// Hidden states after the last norm, a row for each of the batch's pooled tokens.
    var pooled: UnsafePointer<Float>

    static let topRoom = PlanChecker.mostLikeliest
}

/// Sums of hidden states by slot, for vectors pooled as a mean over several steps.
struct PooledSums {
    private var sums: [Float] = []
    private let slots: Int
    private let width: Int

    init(slots: Int, width: Int) {
        (self.slots, self.width) = (slots, width)
    }

    /// Takes a row's hidden states in.
    ///
    /// - Returns: the vector, if it is complete.
    fileprivate mutating func add(
        _ row: StepBatch.PooledRow, _ states: UnsafePointer<Float>, into output: inout [Float]
    ) {
        func value(_ token: Int, _ index: Int) -> Float { states[token * width + index] }
        if case .last = row.pooling {
            guard row.isReported else { return }
            for index in 0..<width { output.append(value(row.tokens.lowerBound, index)) }
            return
        }
        if sums.isEmpty { sums = [Float](repeating: 0, count: slots * width) }
        let base = Int(row.slot) * width
        if row.position == 0 { for index in 0..<width { sums[base + index] = 0 } }
        for token in row.tokens {
            for index in 0..<width { sums[base + index] += value(token, index) }
        }
        guard row.isReported else { return }
        let count = Float(row.position + row.tokens.count)
        for index in 0..<width { output.append(sums[base + index] / count) }
    }
}

extension StepBatch {
    /// Fills a result in the plan's order.
    func collect(
        _ outputs: BatchOutputs, sums: inout PooledSums, into result: inout StepResult
    ) {
        result.removeAll()
        result.step = step
        var head = 0
        var pooledRow = 0
        for row in rows {
            var output = RowResult(slot: row.slot)
            let pooledStart = result.pooled.count
            if row.output.pooling != nil {
                sums.add(pooledRows[pooledRow], outputs.pooled, into: &result.pooled)
                pooledRow += 1
            }
            guard row.output.expectsResult else { continue }
            output.pooled = pooledStart..<result.pooled.count
            collectPrompt(&head, of: row, outputs, &output, &result)
            if row.output.sample {
                output.top = appendTop(head, outputs, to: &result.top)
                let token = take(head, outputs)
                (output.token, output.logProbability) = (token.token, token.logProbability)
                head += 1
                let start = result.further.count
                for _ in 0..<row.output.draftCount {
                    let top = appendTop(head, outputs, to: &result.top)
                    let token = take(head, outputs)
                    result.further.append(
                        SampledToken(token: token.token, logProbability: token.logProbability, top: top))
                    head += 1
                }
                output.further = start..<result.further.count
            }
            if row.output.labelCount > 0 {
                let start = result.labels.count
                for pair in heads[head].pairs { result.labels.append(outputs.pairValues[pair]) }
                output.labels = start..<result.labels.count
                head += 1
            }
            result.rows.append(output)
        }
    }

    private func collectPrompt(
        _ head: inout Int, of row: StepRow, _ outputs: BatchOutputs, _ output: inout RowResult,
        _ result: inout StepResult
    ) {
        let start = result.prompt.count
        while head < heads.count, heads[head].slot == row.slot, case .prompt(let target) = heads[head].purpose {
            let pair = heads[head].pairs.lowerBound
            let top = appendTop(head, outputs, to: &result.promptTop)
            result.prompt.append(
                PromptLogProbability(
                    chosen: TokenLogProbability(token: target, logProbability: outputs.pairValues[pair]),
                    top: top, rank: outputs.pairRanks[pair]))
            head += 1
        }
        output.prompt = start..<result.prompt.count
    }

    /// A sampled token.
    private func take(_ head: Int, _ outputs: BatchOutputs) -> TokenLogProbability {
        let token = outputs.sampled[heads[head].sample]
        let pair = heads[head].pairs
        return TokenLogProbability(
            token: token, logProbability: pair.isEmpty ? 0 : outputs.pairValues[pair.lowerBound])
    }

    private func appendTop(
        _ head: Int, _ outputs: BatchOutputs, to top: inout [TokenLogProbability]
    ) -> Range<Int> {
        let start = top.count
        guard let wanted = heads[head].top, wanted > 0 else { return start..<start }
        for place in 0..<min(wanted, Int(outputs.topFound[heads[head].topIndex])) {
            let index = heads[head].topIndex * BatchOutputs.topRoom + place
            top.append(
                TokenLogProbability(token: outputs.topTokens[index], logProbability: outputs.topValues[index]))
        }
        return start..<top.count
    }
}
