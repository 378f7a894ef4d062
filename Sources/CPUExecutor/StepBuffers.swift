// Tandem — Apache-2.0

import CPUKernels
import InferenceEngine
import LanguageModel

/// Memory for one step's intermediate numbers, cut from one region. Strides are in elements of the pointer's type.
///
/// Unchecked: the forward pass gives every piece to one thread between two barriers.
final class StepBuffers: @unchecked Sendable {
    /// What one thread has for itself.
    struct Worker {
        /// The widest row in single precision.
        var row: UnsafeMutablePointer<Float>
        /// One row of probabilities.
        var probabilities: UnsafeMutablePointer<Float>
        /// Activation rows of steps so small that every thread makes its own.
        var activations: UnsafeMutableRawPointer
        var attention: UnsafeMutablePointer<tandem_attention_row>
        /// Residual rows of small steps of models that add late.
        var residual: UnsafeMutablePointer<Float>
    }

    /// Residual stream, `hiddenStride` a token.
    let residual: UnsafeMutablePointer<Float>
    let hiddenStride: Int
    /// Whether block outputs are normalised before they are added to the residual stream, so that they need a place of
    /// their own.
    let addsLate: Bool
    /// That place, `hiddenStride` a token; not to be used unless ``addsLate``.
    let blockOutput: UnsafeMutablePointer<Float>
    /// Queries, keys and values of a token; attention overwrites the queries with its output.
    let queryKeyValue: UnsafeMutablePointer<Float>
    let queryKeyValueStride: Int
    /// Gate and up projections of a token.
    let gateUp: UnsafeMutablePointer<Float>
    let gateUpStride: Int
    /// Activation rows that threads share; the stride depends on the width.
    let activations: UnsafeMutableRawPointer
    /// `logitRows` rows of `vocabularyStride`.
    let logits: UnsafeMutablePointer<Float>
    let logitRows: Int
    let vocabularyStride: Int
    let workers: [Worker]

    /// Steps of at most so many tokens are "small": see ``Worker/activations``.
    static let smallStep = 2

    private let memory: MappedMemory
    var byteCount: Int { memory.byteCount }

    init(
        model: DecoderDescription, limits: ExecutorLimits, compute: CPUCompute, threads: Int, tileTokens: Int
    ) throws(ExecutorError) {
        let queryWidth = model.queryHeads * model.headDimension
        let keyWidth = model.keyValueHeads * model.headDimension
        hiddenStride = Self.rounded(model.hiddenSize)
        addsLate = model.layers.contains { $0.postAttentionNorm || $0.postFeedForwardNorm }
        queryKeyValueStride = Self.rounded(queryWidth + 2 * keyWidth)
        gateUpStride = 2 * Self.rounded(model.intermediateSize)
        let vocabularyStride = Self.rounded(model.vocabularySize)
        self.vocabularyStride = vocabularyStride
        let widest = max(model.hiddenSize, queryWidth, model.intermediateSize)
        let rowBytes = ActivationFormat.rowBytes(of: compute, columns: widest)
        // About 16 MiB of logits: enough rows to read the head once for most batches.
        logitRows = max(8, min(64, 16 << 20 / (vocabularyStride * 4)))
        let attentionRows = tileTokens * (model.queryHeads / model.keyValueHeads)

        var arena = Arena()
        let tokens = limits.tokensPerStep
        let residualOffset = arena.reserve(tokens * hiddenStride, of: Float.self)
        let outputOffset = arena.reserve(addsLate ? tokens * hiddenStride : 0, of: Float.self)
        let queryOffset = arena.reserve(tokens * queryKeyValueStride, of: Float.self)
        let gateOffset = arena.reserve(tokens * gateUpStride, of: Float.self)
        let activationRows = max(tokens, logitRows)
        let activationOffset = arena.reserve(activationRows * rowBytes, of: UInt8.self)
        let logitOffset = arena.reserve(logitRows * vocabularyStride, of: Float.self)
        let (addsLate, hiddenStride) = (addsLate, hiddenStride)
        let workerOffsets = (0..<threads).map { _ in
            (
                arena.reserve(Self.rounded(widest), of: Float.self),
                arena.reserve(vocabularyStride, of: Float.self),
                arena.reserve(Self.smallStep * rowBytes, of: UInt8.self),
                arena.reserve(attentionRows, of: tandem_attention_row.self),
                arena.reserve(addsLate ? Self.smallStep * hiddenStride : 0, of: Float.self)
            )
        }
        memory = try MappedMemory(byteCount: arena.byteCount, purpose: "activations")
        let base = memory.base
        residual = (base + residualOffset).assumingMemoryBound(to: Float.self)
        blockOutput = (base + outputOffset).assumingMemoryBound(to: Float.self)
        queryKeyValue = (base + queryOffset).assumingMemoryBound(to: Float.self)
        gateUp = (base + gateOffset).assumingMemoryBound(to: Float.self)
        activations = base + activationOffset
        logits = (base + logitOffset).assumingMemoryBound(to: Float.self)
        workers = workerOffsets.map { row, probabilities, activations, attention, residual in
            Worker(
                row: (base + row).assumingMemoryBound(to: Float.self),
                probabilities: (base + probabilities).assumingMemoryBound(to: Float.self),
                activations: base + activations,
                attention: (base + attention).assumingMemoryBound(to: tandem_attention_row.self),
                residual: (base + residual).assumingMemoryBound(to: Float.self))
        }
    }

    private static func rounded(_ count: Int) -> Int { (count + 15) & ~15 }
}
