// Tandem — Apache-2.0

import CUDADriver
import CUDAKernels
import InferenceEngine
import LanguageModel

/// The end of a step: the last norm, the head, the choice of tokens and what is reported, for positions that want them.
///
/// Positions come in parts, as many as there are rows of logits. In each: log-probabilities of the model's own logits,
/// then what changes logits, the choice, and the logits as they were, for the chosen tokens' log-probabilities.
final class HeadProgram {
    private let session: GPUSession
    private let weights: DeviceModel
    private let buffers: DeviceBuffers
    private let products: MatrixPlans
    private let counts: TokenCountMemory
    private var stats: GrowingMemory
    private var saved: GrowingMemory

    init(
        _ session: GPUSession, _ weights: DeviceModel, _ buffers: DeviceBuffers, _ products: MatrixPlans,
        counts: TokenCountMemory
    ) throws(CUDAError) {
        self.session = session
        self.weights = weights
        self.buffers = buffers
        self.products = products
        self.counts = counts
        stats = try GrowingMemory(session, byteCount: buffers.sizes.logitRows * 8, purpose: "log-probabilities")
        saved = try GrowingMemory(session, byteCount: 4096, purpose: "logits")
    }

    /// Rows of the head's product for so many positions.
    private func productRows(_ heads: Int) -> Int {
        min(BatchBuckets.productRows(tokens: heads), buffers.sizes.logitRows)
    }

    private func product() -> MatrixPlans.Operands {
        MatrixPlans.Operands(
            weight: weights.head, bias: nil, input: buffers.normed.address, output: buffers.logits.address,
            outputs: weights.shape.vocabularyStride, inputs: weights.shape.hiddenSize,
            outputStride: weights.shape.vocabularyStride, writesFloats: true)
    }

    /// Chooses the algorithms that a batch needs. It may overwrite activations, so it comes before the step.
    func prepare(_ batch: StepBatch) throws(CUDAError) {
        for part in batch.parts { try products.prepare(product(), rows: productRows(part.heads.count)) }
        _ = try stats.reserve(batch.scored.count * 8)
        _ = try saved.reserve(batch.savedCount * 4)
    }

    /// Puts the end of a step into the stream.
    ///
    /// - Parameters:
    ///   - pending: what the last layer left.
    ///   - input: the batch's numbers on the device.
    ///   - output: where its outputs go.
    ///   - masks: of permitted tokens, if any row has one.
    func run(
        _ batch: StepBatch, pending: LayerProgram.Pending, input: DeviceAddress, regions: BatchRegions,
        output: DeviceAddress, outputs: OutputRegions, masks: DeviceAddress?
    ) throws(CUDAError) {
        func words(_ offset: Int) -> DevicePointer<Int32> { DevicePointer(address: input + UInt64(offset)) }
        func results<Element>(_ offset: Int, as _: Element.Type) -> DevicePointer<Element> {
            DevicePointer(address: output + UInt64(offset))
        }
        let (model, hidden) = (weights.model, weights.shape.hiddenSize)
        try session.launch(
            .headNorm(
                residual: buffers.residual, x: pending.x, postWeight: pending.postWeight, weight: weights.outputNorm,
                tokens: words(regions.pooledTokens), y: results(outputs.pooled, as: Float.self), hidden: hidden,
                epsilon: model.normEpsilon, count: batch.pooledTokens.count))
        let logits = LogitRows(
            base: buffers.logits, stride: weights.shape.vocabularyStride, vocabulary: weights.shape.vocabularySize)
        let statistics = DevicePointer<Float>(address: stats.address)
        for part in batch.parts {
            try session.launch(
                .headNorm(
                    residual: buffers.residual, x: pending.x, postWeight: pending.postWeight,
                    weight: weights.outputNorm,
                    tokens: words(regions.headTokens).advanced(by: part.heads.lowerBound), y: buffers.normed,
                    hidden: hidden, epsilon: model.normEpsilon, count: part.heads.count))
            try products.run(product(), rows: productRows(part.heads.count))
            try session.launch(
                .logitStatistics(
                    logits, rows: words(regions.scoredRows).advanced(by: part.scored.lowerBound),
                    stats: statistics.advanced(by: 2 * part.scored.lowerBound), count: part.scored.count))
            let tops = part.tops
            try session.launch(
                .topLogProbabilities(
                    logits, stats: statistics, requests: words(regions.tops).advanced(by: 3 * tops.lowerBound),
                    tokens: results(outputs.topTokens, as: Int32.self)
                        .advanced(by: KernelLaunch.mostLikeliest * tops.lowerBound),
                    logProbabilities: results(outputs.topValues, as: Float.self)
                        .advanced(by: KernelLaunch.mostLikeliest * tops.lowerBound),
                    found: results(outputs.topFound, as: Int32.self).advanced(by: tops.lowerBound), count: tops.count))
            try sample(batch, part, logits, input: input, regions: regions, output: output, outputs: outputs, masks)
            try session.launch(
                .gatherLogProbabilities(
                    logits, stats: statistics,
                    pairs: words(regions.pairs).advanced(by: 3 * part.pairs.lowerBound),
                    sampled: results(outputs.sampled, as: Int32.self),
                    logProbabilities: results(outputs.pairValues, as: Float.self)
                        .advanced(by: part.pairs.lowerBound),
                    ranks: results(outputs.pairRanks, as: Int32.self).advanced(by: part.pairs.lowerBound),
                    count: part.pairs.count))
        }
    }

    private func sample(
        _ batch: StepBatch, _ part: StepBatch.HeadPart, _ logits: LogitRows, input: DeviceAddress,
        regions: BatchRegions, output: DeviceAddress, outputs: OutputRegions, _ masks: DeviceAddress?
    ) throws(CUDAError) {
        let sampled = DevicePointer<Int32>(address: output + UInt64(outputs.sampled))
        let rows = DevicePointer<AdjustRow>(address: input + UInt64(regions.adjustments))
        let lists = AdjustmentLists(
            rows: rows.advanced(by: part.adjustments.lowerBound), count: part.adjustments.count,
            banned: DevicePointer(address: input + UInt64(regions.banned)),
            biases: DevicePointer(address: input + UInt64(regions.biases)), counts: counts.entries,
            countLengths: counts.lengths, saved: DevicePointer(address: saved.address))
        try session.launch(.adjustLogits(logits, lists))
        try session.launch(
            .sampleRows(
                logits,
                rows: DevicePointer<SampleRow>(address: input + UInt64(regions.samples))
                    .advanced(by: part.samples.lowerBound),
                masks: masks.map { DevicePointer(address: $0) },
                sampled: sampled.advanced(by: part.samples.lowerBound), lastTokens: buffers.lastTokens,
                count: part.samples.count))
        try session.launch(.restoreLogits(logits, lists))
        try session.launch(.noteTokens(lists, sampled: sampled))
    }
}

/// Counts of the tokens of sequences that are penalised, by slot. The device counts, because a sampled token may not
/// have reached the host when the next step starts.
final class TokenCountMemory {
    private let session: GPUSession
    /// Counts that a slot has room for.
    let capacity: Int
    private let memory: DeviceMemory
    private let lengthMemory: DeviceMemory

    init(_ session: GPUSession, slots: Int, capacity: Int) throws(CUDAError) {
        self.session = session
        self.capacity = capacity
        memory = try DeviceMemory(
            session.context, byteCount: slots * capacity * MemoryLayout<TokenCountEntry>.stride,
            purpose: "counts of tokens for penalties")
        lengthMemory = try DeviceMemory(session.context, byteCount: slots * 4, purpose: "counts of tokens")
    }

    var entries: DevicePointer<TokenCountEntry> { DevicePointer(address: memory.address) }
    var lengths: DevicePointer<Int32> { DevicePointer(address: lengthMemory.address) }

    /// Puts the counts of sequences that took a slot in their places.
    ///
    /// - Parameter source: the batch's counts on the device.
    func load(_ batch: StepBatch, from source: DeviceAddress) throws(CUDAError) {
        let stride = MemoryLayout<TokenCountEntry>.stride
        for run in batch.countRuns {
            try session.stream.copy(
                from: source + UInt64(run.entries.lowerBound * stride),
                to: entries.advanced(by: Int(run.slot) * capacity).address, byteCount: run.entries.count * stride)
            try session.stream.fill(
                lengths.advanced(by: Int(run.slot)).address, word: UInt32(run.entries.count), count: 1)
        }
    }
}
