// Tandem — Apache-2.0

import CPUKernels
import InferenceEngine
import LanguageModel
import Requests

/// The end of a step: the last norm, the head and the choice of tokens, for rows that want them only.
extension ForwardPass {
    /// Computes the logits of the rows that want them, and samples or scores each.
    func finish(_ step: Step, job: StepJob, _ pending: PendingOutput, worker: Int) {
        let row = buffers.workers[worker].row
        let width = model.hiddenSize
        let head = packed.head
        let stride = head.activations.rowBytes(columns: width)
        var start = 0
        while start < step.heads.count {
            let count = min(buffers.logitRows, step.heads.count - start)
            let isSmall = count <= StepBuffers.smallStep
            let activations = isSmall ? buffers.workers[worker].activations : buffers.activations
            let normalise = { [self] (index: Int) in
                let token = Int(step.heads[start + index].token)
                kernels.rmsnorm(
                    settled(step, token, pending, worker), packed.outputNorm, width, model.normEpsilon, row)
                inspection?.hidden(
                    layerCount, Int(step.positions[token]), UnsafeBufferPointer(start: row, count: width))
                store(row, columns: width, head.activations, activations + index * stride)
            }
            if isSmall {
                for index in 0..<count { normalise(index) }
            } else {
                forEachRow(count, normalise)
                pool.barrier()
            }
            forEachTile(panels: head.panels, panelBytes: head.panelBytes, rows: count) { panels, tile in
                head.multiply(
                    head.base, width, head.rows, panels.lowerBound, panels.upperBound,
                    activations + tile.lowerBound * stride, tile.count, stride,
                    buffers.logits + tile.lowerBound * buffers.vocabularyStride, buffers.vocabularyStride, 0)
            }
            pool.barrier()
            let (chosen, topCounts, top) = (job.chosen.base, job.topCounts.base, job.top.base)
            forEachItem(count) { index in
                let position = step.heads[start + index]
                choose(
                    position, logits: buffers.logits + index * buffers.vocabularyStride, worker,
                    &chosen[start + index], &topCounts[start + index], top + position.topOffset)
            }
            pool.barrier()
            start += count
        }
    }

    /// Samples or scores one position.
    private func choose(
        _ head: HeadPosition, logits: UnsafeMutablePointer<Float>, _ worker: Int,
        _ chosen: inout TokenLogProbability, _ topCount: inout Int32,
        _ top: UnsafeMutablePointer<TokenLogProbability>
    ) {
        let vocabulary = model.vocabularySize
        inspection?.logits(Int(head.position) - 1, UnsafeBufferPointer(start: logits, count: vocabulary))
        var token = Int(head.target)
        if head.target < 0 {
            token = sample(logits, sampling[Int(head.slot)], position: Int(head.position), worker)
            lastTokens[Int(head.slot)] = TokenID(token)
        }
        chosen = TokenLogProbability(token: TokenID(token), logProbability: 0)
        guard head.top >= 0 else { return }
        let total = kernels.log_sum_exp(logits, vocabulary, 1)
        chosen.logProbability = logits[token] - total
        guard head.top > 0 else { return }
        withUnsafeTemporaryAllocation(of: Int32.self, capacity: PlanChecker.mostLikeliest) { indices in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: PlanChecker.mostLikeliest) { values in
                guard let indexBase = indices.baseAddress, let valueBase = values.baseAddress else { return }
                let found = kernels.top_k(logits, vocabulary, Int(head.top), indexBase, valueBase)
                for place in 0..<found {
                    top[place] = TokenLogProbability(
                        token: indexBase[place], logProbability: valueBase[place] - total)
                }
                topCount = Int32(found)
            }
        }
    }

    private func sample(
        _ logits: UnsafeMutablePointer<Float>, _ sampling: SamplingParameters, position: Int, _ worker: Int
    ) -> Int {
        let vocabulary = model.vocabularySize
        if !RowSampler.isGreedy(sampling) {
            let probabilities = buffers.workers[worker].probabilities
            kernels.softmax_row(logits, vocabulary, 1 / sampling.temperature, probabilities)
            let row = UnsafeBufferPointer(start: probabilities, count: vocabulary)
            let token = RowSampler.draw(
                row, sampling: sampling, position: position, scratch: samplingScratch[worker])
            if let token { return token }
        }
        return kernels.argmax(logits, vocabulary)
    }
}
