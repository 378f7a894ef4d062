// Tandem — Apache-2.0

import CPUKernels
import Glibc
import InferenceEngine
import LanguageModel
import Requests

/// The end of a step: the last norm, the head and the choice of tokens, for rows that want them only.
extension ForwardPass {
    /// Pools hidden states, computes the logits of the rows that want them, and samples or scores each.
    func finish(_ step: Step, job: StepJob, _ pending: PendingOutput, worker: Int) {
        if !job.pooledRows.isEmpty {
            pool(step, job: job, pending, worker)
            // The next stage counts its items anew.
            pool.barrier()
        }
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
            let ranks = job.ranks.base
            forEachItem(count) { index in
                let position = step.heads[start + index]
                let logits = buffers.logits + index * buffers.vocabularyStride
                if position.target == HeadPosition.labelled {
                    scoreLabels(position, logits: logits, job)
                } else {
                    choose(
                        position, logits: logits, job, worker, &chosen[start + index], &topCounts[start + index],
                        top + position.topOffset)
                    if position.target >= 0 { ranks[start + index] = rank(of: Int(position.target), logits) }
                }
            }
            pool.barrier()
            start += count
        }
    }

    /// Samples or scores one position.
    private func choose(
        _ head: HeadPosition, logits: UnsafeMutablePointer<Float>, _ job: StepJob, _ worker: Int,
        _ chosen: inout TokenLogProbability, _ topCount: inout Int32,
        _ top: UnsafeMutablePointer<TokenLogProbability>
    ) {
        let vocabulary = model.vocabularySize
        inspection?.logits(Int(head.position) - 1, UnsafeBufferPointer(start: logits, count: vocabulary))
        var token = Int(head.target)
        if head.target < 0 {
            token = sample(logits, head, job, worker)
            if !head.isDrafted { lastTokens[Int(head.slot)] = TokenID(token) }
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

    /// Place of a token among all by their logits, from 1.
    private func rank(of token: Int, _ logits: UnsafeMutablePointer<Float>) -> Int32 {
        let own = logits[token]
        var above: Int32 = 0
        for other in 0..<model.vocabularySize { above &+= logits[other] > own ? 1 : 0 }
        return above &+ 1
    }

    /// Chooses a token. Logits stay as they are: what is reported is the model's own.
    private func sample(
        _ logits: UnsafeMutablePointer<Float>, _ head: HeadPosition, _ job: StepJob, _ worker: Int
    ) -> Int {
        let vocabulary = model.vocabularySize
        let sampling = sampling[Int(head.slot)]
        let probabilities = buffers.workers[worker].probabilities
        var logits = logits
        let adjuster = adjusters[Int(head.slot)]
        let mask = head.isConstrained ? job.mask(of: head.slot) : nil
        if adjuster != nil || mask != nil {
            memcpy(probabilities, logits, vocabulary * 4)
            adjuster?.apply(
                to: UnsafeMutableBufferPointer(start: probabilities, count: vocabulary), position: Int(head.position))
            if let mask { Self.apply(mask, to: probabilities, count: vocabulary) }
            logits = probabilities
        }
        let token = draw(logits, sampling, position: Int(head.position), probabilities, worker)
        adjuster?.note(TokenID(token))
        return token
    }

    /// Rules out the tokens that a mask does not permit.
    private static func apply(
        _ mask: UnsafePointer<UInt32>, to logits: UnsafeMutablePointer<Float>, count: Int
    ) {
        for start in stride(from: 0, to: count, by: 32) {
            let word = mask[start / 32]
            // Most words are of one kind.
            if word == .max { continue }
            for token in start..<min(start + 32, count) where word >> UInt32(token - start) & 1 == 0 {
                logits[token] = -.infinity
            }
        }
    }

    /// - Parameter probabilities: where they go; may be `logits`.
    private func draw(
        _ logits: UnsafeMutablePointer<Float>, _ sampling: SamplingParameters, position: Int,
        _ probabilities: UnsafeMutablePointer<Float>, _ worker: Int
    ) -> Int {
        let vocabulary = model.vocabularySize
        let likeliest = kernels.argmax(logits, vocabulary)
        // Nothing to choose from: the caller will find that the token does not fit.
        guard !RowSampler.isGreedy(sampling), logits[likeliest] > -.infinity else { return likeliest }
        kernels.softmax_row(logits, vocabulary, 1 / sampling.temperature, probabilities)
        let row = UnsafeBufferPointer(start: probabilities, count: vocabulary)
        return RowSampler.draw(row, sampling: sampling, position: position, scratch: samplingScratch[worker])
            ?? likeliest
    }

    // MARK: - Prompts as a whole

    private func scoreLabels(_ head: HeadPosition, logits: UnsafeMutablePointer<Float>, _ job: StepJob) {
        let total = kernels.log_sum_exp(logits, model.vocabularySize, 1)
        let output = job.labelLogProbabilities.base
        for index in head.labels { output[index] = logits[Int(job.labels[index])] - total }
    }

    /// Takes the hidden states of rows into their sequences' vectors. Sums are taken in order of position, so that they do
    /// not depend on chunks.
    private func pool(_ step: Step, job: StepJob, _ pending: PendingOutput, _ worker: Int) {
        let width = model.hiddenSize
        let output = job.pooled.base
        forEachItem(job.pooledRows.count) { index in
            let pooled = job.pooledRows[index]
            let row = buffers.workers[worker].row
            let last = Int(pooled.firstToken) + Int(pooled.count) - 1
            switch pooled.pooling {
            case .last:
                guard let offset = pooled.offset else { return }
                normaliseLast(step, last, pending, worker)
                memcpy(output + offset, row, width * 4)
            case .mean:
                let sums = hiddenSum(ofSlot: pooled.slot)
                if pooled.position == 0 { sums.update(repeating: 0, count: width) }
                for token in Int(pooled.firstToken)...last {
                    normaliseLast(step, token, pending, worker)
                    kernels.add(sums, row, width)
                }
                guard let offset = pooled.offset else { return }
                let count = Float(pooled.position) + Float(pooled.count)
                for index in 0..<width { output[offset + index] = sums[index] / count }
            }
        }
    }

    /// A token's hidden state after the last norm, in the thread's row.
    private func normaliseLast(_ step: Step, _ token: Int, _ pending: PendingOutput, _ worker: Int) {
        kernels.rmsnorm(
            settled(step, token, pending, worker), packed.outputNorm, model.hiddenSize, model.normEpsilon,
            buffers.workers[worker].row)
    }
}
