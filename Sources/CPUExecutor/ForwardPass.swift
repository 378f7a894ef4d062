// Tandem — Apache-2.0

import CPUKernels
import Glibc
import InferenceEngine
import LanguageModel
import Requests
import Synchronization

/// Runs steps: the same program on every thread of the pool, which meet at barriers between dependent stages.
///
/// Which thread computes what is decided as it goes; every output number has one order of summation, so bits depend on
/// neither that nor on the rest of the batch.
///
/// Unchecked: slot state is written by one thread at a time (the coordinator in ``begin(_:)``, and whoever samples or
/// pools a row, of which a slot has one a step; a row with guesses is sampled by several and writes none); the rest
/// is immutable or governed by the stages.
final class ForwardPass: @unchecked Sendable {
    let model: DecoderDescription
    let compute: CPUCompute
    let kernels: tandem_kernels
    let packed: PackedModel
    let pool: ComputePool
    let buffers: StepBuffers
    let keyValues: KeyValuePools
    let ropes: [RotaryTable]
    /// One a thread.
    let samplingScratch: [SamplingScratch]
    let tileTokens: Int

    /// Nanoseconds of the coordinator since the last profile.
    let attentionTime = Atomic<UInt64>(0)
    let feedForwardTime = Atomic<UInt64>(0)
    let totalTime = Atomic<UInt64>(0)
    let stepCount = Atomic<UInt64>(0)

    let sampling: UnsafeMutableBufferPointer<SamplingParameters>
    let lastTokens: UnsafeMutableBufferPointer<TokenID>
    /// What else bears on a slot's choice of tokens; mostly nothing.
    let adjusters: UnsafeMutableBufferPointer<LogitAdjuster?>
    /// Sums of hidden states by slot, for vectors pooled as a mean; takes memory once it is used.
    private let hiddenSums: MappedMemory
    private let limits: ExecutorLimits
    private let queryWidth: Int
    private let keyWidth: Int
    let layerCount: Int
    let progress: StepProgress?
    let inspection: StepInspection?

    init(
        model: DecoderDescription, compute: CPUCompute, kernels: tandem_kernels, packed: PackedModel,
        pool: ComputePool, limits: ExecutorLimits, groups: [KeyValueGroup], progress: StepProgress? = nil,
        inspection: StepInspection? = nil
    ) throws(ExecutorError) {
        self.progress = progress
        self.inspection = inspection
        self.model = model
        self.compute = compute
        self.kernels = kernels
        self.packed = packed
        self.pool = pool
        tileTokens = Self.tileTokens(of: model)
        buffers = try StepBuffers(
            model: model, limits: limits, compute: compute, threads: pool.threads, tileTokens: tileTokens)
        keyValues = try KeyValuePools(model: model, groups: groups, limits: limits, compute: compute)
        var ropes: [RotaryTable] = []
        for rope in model.ropes {
            ropes.append(
                try RotaryTable(
                    rope, factors: packed.rotaryFactors, positions: limits.contextLength,
                    rounding: inspection?.rotaryRounding))
        }
        self.ropes = ropes
        samplingScratch = try Self.samplingScratch(threads: pool.threads, vocabularySize: model.vocabularySize)
        sampling = .allocate(capacity: limits.slots)
        sampling.initialize(repeating: SamplingParameters())
        lastTokens = .allocate(capacity: limits.slots)
        lastTokens.initialize(repeating: 0)
        adjusters = .allocate(capacity: limits.slots)
        adjusters.initialize(repeating: nil)
        hiddenSums = try MappedMemory(
            byteCount: limits.slots * model.hiddenSize * MemoryLayout<Float>.stride, purpose: "pooled vectors")
        self.limits = limits
        queryWidth = model.queryHeads * model.headDimension
        keyWidth = model.keyValueHeads * model.headDimension
        layerCount = model.layers.count
    }

    deinit {
        sampling.deallocate()
        lastTokens.deallocate()
        adjusters.deinitialize()
        adjusters.deallocate()
    }

    /// The sum of a slot's hidden states so far, `hiddenSize` floats.
    func hiddenSum(ofSlot slot: SlotIndex) -> UnsafeMutablePointer<Float> {
        hiddenSums.base.assumingMemoryBound(to: Float.self) + Int(slot) * model.hiddenSize
    }

    static func samplingScratch(threads: Int, vocabularySize: Int) throws(ExecutorError) -> [SamplingScratch] {
        var scratch: [SamplingScratch] = []
        for _ in 0..<threads { scratch.append(try SamplingScratch(vocabularySize: vocabularySize)) }
        return scratch
    }

    /// Tokens of one attention call. About 48 query rows: enough to share the reading of keys, few enough to balance.
    static func tileTokens(of model: DecoderDescription) -> Int {
        max(4, min(32, 48 / (model.queryHeads / model.keyValueHeads)))
    }

    /// Applies the step's changes of slots, tables and blocks, and fills in tokens sampled by earlier steps.
    func begin(_ job: StepJob) {
        for addition in job.addedSlots {
            sampling[Int(addition.slot)] = addition.sampling
            adjusters[Int(addition.slot)] = addition.adjustments.map {
                LogitAdjuster($0, sampling: addition.sampling, contextLength: limits.contextLength)
            }
        }
        for update in job.blockTableUpdates {
            let table = keyValues.table(group: Int(update.group), slot: update.slot)
            for index in 0..<Int(update.count) {
                table[Int(update.firstEntry) + index] = job.blockIDs[Int(update.offset) + index]
            }
        }
        for copy in job.blockCopies { keyValues.copy(copy) }
        var token = 0
        for row in job.rows {
            for rope in ropes { rope.extend(to: Int(row.startPosition) + Int(row.tokenCount)) }
            if case .sampled = row.firstToken { job.tokens[token] = lastTokens[Int(row.slot)] }
            token += Int(row.tokenCount)
        }
    }

    /// One thread's part of a step.
    func run(_ job: StepJob, worker: Int) {
        // Arrays are read through pointers: no checks of uniqueness and no retain in the loops.
        job.tokens.withUnsafeBufferPointer { tokens in
            job.positions.withUnsafeBufferPointer { positions in
                job.tiles.withUnsafeBufferPointer { tiles in
                    job.heads.withUnsafeBufferPointer { heads in
                        let step = Step(
                            tokens: tokens, positions: positions, tiles: tiles, heads: heads,
                            isSingleTile: job.isSingleTile, isSmall: tokens.count <= StepBuffers.smallStep)
                        run(step, job: job, worker: worker)
                    }
                }
            }
        }
    }

    /// What threads read of a job, without the arrays' checks.
    struct Step {
        var tokens: UnsafeBufferPointer<TokenID>
        var positions: UnsafeBufferPointer<Int32>
        var tiles: UnsafeBufferPointer<AttentionTile>
        var heads: UnsafeBufferPointer<HeadPosition>
        var isSingleTile: Bool
        var isSmall: Bool
    }

    private func run(_ step: Step, job: StepJob, worker: Int) {
        guard !step.tokens.isEmpty else { return }
        let start = monotonicNanoseconds()
        var attention: UInt64 = 0
        var feedForward: UInt64 = 0
        var pending = PendingOutput.none
        embed(step, worker)
        if !keepsResidual(step) { pool.barrier() }
        for index in 0..<layerCount {
            if let inspection { inspect(step, inspection, layer: index, pending, worker) }
            if worker == 0 { progress?.advance() }
            let layer = packed.layers[index]
            if model.computesAttention {
                let activations = normalised(step, layer.attentionNorm, layer.key.activations, pending, worker)
                multiply(
                    (layer.query, layer.key, layer.value), activations: activations, rows: step.tokens.count,
                    output: buffers.queryKeyValue, stride: buffers.queryKeyValueStride)
                pool.barrier()
                let before = monotonicNanoseconds()
                attend(step, layer: index, worker)
                attention &+= monotonicNanoseconds() &- before
                let mixed = activationRows(step, columns: queryWidth, layer.attentionOutput.activations, worker) {
                    token in
                    UnsafePointer(buffers.queryKeyValue + token * buffers.queryKeyValueStride)
                }
                pending = accumulate(
                    layer.attentionOutput, norm: layer.postAttentionNorm, activations: mixed, rows: step.tokens.count)
                pool.barrier()
            }
            if model.computesFeedForward {
                let before = monotonicNanoseconds()
                let activations = normalised(step, layer.feedForwardNorm, layer.gate.activations, pending, worker)
                multiply(
                    (layer.gate, layer.up, nil), activations: activations, rows: step.tokens.count,
                    output: buffers.gateUp, stride: buffers.gateUpStride)
                pool.barrier()
                let width = model.intermediateSize
                let row = buffers.workers[worker].row
                let activation =
                    model.layers[index].activation == .silu ? kernels.silu_mul : kernels.gelu_tanh_mul
                let gated = activationRows(step, columns: width, layer.down.activations, worker) { token in
                    let gate = buffers.gateUp + token * buffers.gateUpStride
                    activation(gate, gate + width, width, row)
                    return UnsafePointer(row)
                }
                pending = accumulate(
                    layer.down, norm: layer.postFeedForwardNorm, activations: gated, rows: step.tokens.count)
                pool.barrier()
                feedForward &+= monotonicNanoseconds() &- before
            }
        }
        finish(step, job: job, pending, worker: worker)
        if worker == 0 {
            attentionTime.wrappingAdd(attention, ordering: .relaxed)
            feedForwardTime.wrappingAdd(feedForward, ordering: .relaxed)
            totalTime.wrappingAdd(monotonicNanoseconds() &- start, ordering: .relaxed)
            stepCount.wrappingAdd(1, ordering: .relaxed)
        }
    }

    // MARK: - The residual stream

    /// A block's output that is still to be added to the residual stream.
    ///
    /// Most models' products add to the residual stream as they go. Where outputs are normalised first, they need all
    /// features of a row: the next stage that reads the row adds them, which saves a barrier.
    enum PendingOutput {
        case none
        /// In ``StepBuffers/blockOutput``, as it is.
        case plain
        /// The same, to be normalised with these weights.
        case normalised(UnsafePointer<Float>)
    }

    /// Whether every thread has its own copy of the residual stream: in a small step of a model that adds outputs
    /// late, where each thread would otherwise add the same output to the same row.
    private func keepsResidual(_ step: Step) -> Bool { buffers.addsLate && step.isSmall }

    private func residualRow(_ step: Step, _ token: Int, _ worker: Int) -> UnsafeMutablePointer<Float> {
        (keepsResidual(step) ? buffers.workers[worker].residual : buffers.residual) + token * buffers.hiddenStride
    }

    private func embed(_ step: Step, _ worker: Int) {
        if keepsResidual(step) {
            for token in step.tokens.indices { embed(step, token, worker) }
        } else {
            forEachRow(step.tokens.count) { token in embed(step, token, worker) }
        }
    }

    private func embed(_ step: Step, _ token: Int, _ worker: Int) {
        let width = model.hiddenSize
        let scale = model.embeddingScale
        let row = residualRow(step, token, worker)
        packed.embedding.unpackRow(packed.embedding.base, width, Int(step.tokens[token]), row)
        if scale != 1 {
            for index in 0..<width { row[index] *= scale }
        }
    }

    /// The residual stream's row with the pending output added, in the thread's row; the stream stays as it is.
    func settled(_ step: Step, _ token: Int, _ pending: PendingOutput, _ worker: Int) -> UnsafePointer<Float> {
        let width = model.hiddenSize
        let residual = residualRow(step, token, worker)
        let row = buffers.workers[worker].row
        let output = buffers.blockOutput + token * buffers.hiddenStride
        switch pending {
        case .none: return UnsafePointer(residual)
        case .plain: memcpy(row, output, width * 4)
        case .normalised(let weight): kernels.rmsnorm(output, weight, width, model.normEpsilon, row)
        }
        kernels.add(row, residual, width)
        return UnsafePointer(row)
    }

    /// Normalised activation rows of the residual stream, ready for a product. Adds what is pending to the stream.
    private func normalised(
        _ step: Step, _ weight: UnsafePointer<Float>, _ kind: ActivationFormat, _ pending: PendingOutput, _ worker: Int
    ) -> UnsafeRawPointer {
        let row = buffers.workers[worker].row
        let width = model.hiddenSize
        return activationRows(step, columns: width, kind, worker) { token in
            let sum = settled(step, token, pending, worker)
            if case .none = pending {} else { memcpy(residualRow(step, token, worker), sum, width * 4) }
            kernels.rmsnorm(sum, weight, width, model.normEpsilon, row)
            return UnsafePointer(row)
        }
    }

    /// Shows the residual stream before a layer.
    private func inspect(
        _ step: Step, _ inspection: StepInspection, layer: Int, _ pending: PendingOutput, _ worker: Int
    ) {
        pool.barrier()
        if worker == 0 {
            for token in step.tokens.indices {
                let row = settled(step, token, pending, worker)
                inspection.hidden(
                    layer, Int(step.positions[token]), UnsafeBufferPointer(start: row, count: model.hiddenSize))
            }
        }
        pool.barrier()
    }

    // MARK: - Stages

    /// Makes an activation row of each token. In a small step every thread makes all of them for itself, which costs
    /// less than a barrier.
    private func activationRows(
        _ step: Step, columns: Int, _ kind: ActivationFormat, _ worker: Int, _ row: (Int) -> UnsafePointer<Float>
    ) -> UnsafeRawPointer {
        let stride = kind.rowBytes(columns: columns)
        if step.isSmall {
            let output = buffers.workers[worker].activations
            for token in 0..<step.tokens.count { store(row(token), columns: columns, kind, output + token * stride) }
            return UnsafeRawPointer(output)
        }
        let output = buffers.activations
        forEachRow(step.tokens.count) { token in store(row(token), columns: columns, kind, output + token * stride) }
        pool.barrier()
        return UnsafeRawPointer(output)
    }

    func store(
        _ row: UnsafePointer<Float>, columns: Int, _ kind: ActivationFormat, _ output: UnsafeMutableRawPointer
    ) {
        switch kind {
        case .f32: memcpy(output, row, columns * 4)
        case .bf16: kernels.round_row_bf16(row, columns, output)
        case .int8: kernels.quantize_row_int8(row, columns, output)
        case .int16: kernels.quantize_row_int16(row, columns, output)
        }
    }

    /// Up to three products of the same rows, side by side in the output.
    private func multiply(
        _ matrices: (PackedMatrix, PackedMatrix, PackedMatrix?), activations: UnsafeRawPointer, rows: Int,
        output: UnsafeMutablePointer<Float>, stride: Int
    ) {
        let (first, second, third) = matrices
        let secondPanel = first.panels
        let thirdPanel = secondPanel + second.panels
        let total = thirdPanel + (third?.panels ?? 0)
        // Queries take the same rows as keys; of a 16-bit row, 8-bit products read the first half.
        let activationStride = second.activations.rowBytes(columns: first.columns)
        forEachTile(panels: total, panelBytes: first.panelBytes, rows: rows) { panels, tile in
            let input = activations + tile.lowerBound * activationStride
            let out = output + tile.lowerBound * stride
            func part(_ matrix: PackedMatrix, from start: Int, column: Int) {
                let begin = max(panels.lowerBound - start, 0)
                let end = min(panels.upperBound - start, matrix.panels)
                guard begin < end else { return }
                matrix.multiply(
                    matrix.base, matrix.columns, matrix.rows, begin, end, input, tile.count, activationStride,
                    out + column, stride, 0)
                if matrix.activations == .int16 {
                    matrix.multiply(
                        matrix.base, matrix.columns, matrix.rows, begin, end,
                        input + ActivationFormat.int8.rowBytes(columns: matrix.columns), tile.count, activationStride,
                        out + column, stride, UInt32(TANDEM_MATMUL_ACCUMULATE))
                }
            }
            part(first, from: 0, column: 0)
            part(second, from: secondPanel, column: first.rows)
            if let third { part(third, from: thirdPanel, column: first.rows + second.rows) }
        }
    }

    /// Adds a product to the residual stream, or leaves it to be added.
    private func accumulate(
        _ matrix: PackedMatrix, norm: UnsafePointer<Float>?, activations: UnsafeRawPointer, rows: Int
    ) -> PendingOutput {
        let activationStride = matrix.activations.rowBytes(columns: matrix.columns)
        let output = buffers.addsLate ? buffers.blockOutput : buffers.residual
        let flags = buffers.addsLate ? 0 : UInt32(TANDEM_MATMUL_ACCUMULATE)
        forEachTile(panels: matrix.panels, panelBytes: matrix.panelBytes, rows: rows) { panels, tile in
            matrix.multiply(
                matrix.base, matrix.columns, matrix.rows, panels.lowerBound, panels.upperBound,
                activations + tile.lowerBound * activationStride, tile.count, activationStride,
                output + tile.lowerBound * buffers.hiddenStride, buffers.hiddenStride, flags)
        }
        guard buffers.addsLate else { return .none }
        return norm.map { .normalised($0) } ?? .plain
    }

    /// Biases, normalises and rotates queries and keys, stores keys and values, and attends; the output takes the
    /// queries' place. Ends at a barrier.
    private func attend(_ step: Step, layer: Int, _ worker: Int) {
        let heads = model.keyValueHeads
        let description = model.layers[layer]
        let place = keyValues.layers[layer]
        let weights = packed.layers[layer]
        let rope = ropes[description.rope]
        if step.isSingleTile {
            forEachItem(heads) { head in
                rotateAndStore(step, tile: step.tiles[0], heads: head..<head + 1, weights, place, rope)
                attend(step, tile: step.tiles[0], head: head, place, description, worker)
            }
        } else {
            forEachItem(step.tiles.count) { tile in
                rotateAndStore(step, tile: step.tiles[tile], heads: 0..<heads, weights, place, rope)
            }
            pool.barrier()
            forEachItem(step.tiles.count * heads) { item in
                // Later tiles of a prompt see more keys; the longest work comes first.
                let tile = step.tiles.count - 1 - item / heads
                attend(step, tile: step.tiles[tile], head: item % heads, place, description, worker)
            }
        }
        pool.barrier()
    }

    private func rotateAndStore(
        _ step: Step, tile: AttentionTile, heads: Range<Int>, _ weights: PackedLayer, _ place: KeyValuePools.Layer,
        _ rope: RotaryTable
    ) {
        let dimension = model.headDimension
        let share = model.queryHeads / model.keyValueHeads
        let table = keyValues.table(group: place.group, slot: tile.slot)
        let store = compute == .f32 ? kernels.kv_store_f32 : kernels.kv_store_bf16
        for index in 0..<Int(tile.count) {
            let position = tile.position + Int32(index)
            let row = buffers.queryKeyValue + (Int(tile.firstToken) + index) * buffers.queryKeyValueStride
            let queries = row + heads.lowerBound * share * dimension
            let keys = row + queryWidth + heads.lowerBound * dimension
            if let bias = weights.bias {
                let keyOffset = heads.lowerBound * dimension
                kernels.add(queries, bias.query + keyOffset * share, heads.count * share * dimension)
                kernels.add(keys, bias.key + keyOffset, heads.count * dimension)
                kernels.add(keys + keyWidth, bias.value + keyOffset, heads.count * dimension)
            }
            if let norms = weights.headNorms {
                normaliseHeads(queries, heads.count * share, norms.query)
                normaliseHeads(keys, heads.count, norms.key)
            }
            let cosines = rope.cosines(position)
            let sines = rope.sines(position)
            kernels.rope_rows(queries, heads.count * share, dimension, cosines, sines)
            kernels.rope_rows(keys, heads.count, dimension, cosines, sines)
            let (entry, slot) = Int(position).quotientAndRemainder(dividingBy: Int(TANDEM_KV_BLOCK_TOKENS))
            let block = place.base + Int(table[entry]) * place.blockStride
            for head in heads {
                let offset = (head - heads.lowerBound) * dimension
                let keyBlock = block + head * 2 * keyValues.headBytes
                store(
                    keys + offset, keys + keyWidth + offset, dimension, slot, keyBlock, keyBlock + keyValues.headBytes)
            }
        }
    }

    private func normaliseHeads(_ heads: UnsafeMutablePointer<Float>, _ count: Int, _ weight: UnsafePointer<Float>) {
        for head in 0..<count {
            let vector = heads + head * model.headDimension
            kernels.rmsnorm(vector, weight, model.headDimension, model.normEpsilon, vector)
        }
    }

    private func attend(
        _ step: Step, tile: AttentionTile, head: Int, _ place: KeyValuePools.Layer,
        _ description: LayerDescription, _ worker: Int
    ) {
        let dimension = model.headDimension
        let share = model.queryHeads / model.keyValueHeads
        let keys = place.base + head * 2 * keyValues.headBytes
        var call = tandem_attention(
            block_table: keyValues.table(group: place.group, slot: tile.slot), keys: keys,
            values: keys + keyValues.headBytes, key_block_stride: place.blockStride,
            value_block_stride: place.blockStride, head_dim: dimension, scale: description.attentionScale)
        let rows = buffers.workers[worker].attention
        var count = 0
        for index in 0..<Int(tile.count) {
            let context = tile.position + Int32(index) + 1
            let start = description.window.map { max(0, context - Int32(clamping: $0)) } ?? 0
            let row = buffers.queryKeyValue + (Int(tile.firstToken) + index) * buffers.queryKeyValueStride
            for query in head * share..<(head + 1) * share {
                let vector = row + query * dimension
                rows[count] = tandem_attention_row(
                    query: vector, out: vector, context: context, window_start: start)
                count += 1
            }
        }
        if compute == .f32 {
            kernels.attention_f32(&call, rows, count)
        } else {
            kernels.attention_bf16(&call, rows, count)
        }
    }

    // MARK: - Division of work

    /// Items of a stage, taken one by one.
    @inline(__always)
    func forEachItem(_ count: Int, _ body: (Int) -> Void) {
        if pool.threads == 1 {
            for item in 0..<count { body(item) }
            return
        }
        while true {
            let item = pool.claim()
            guard item < count else { return }
            body(item)
        }
    }

    /// Rows of a stage, a few at a time.
    @inline(__always)
    func forEachRow(_ count: Int, _ body: (Int) -> Void) {
        let run = max(1, min(8, count / (2 * pool.threads)))
        forEachItem((count + run - 1) / run) { item in
            for row in item * run..<min(count, (item + 1) * run) { body(row) }
        }
    }

    /// Pieces of a product: some panels times some rows.
    @inline(__always)
    func forEachTile(
        panels: Int, panelBytes: Int, rows: Int, _ body: (Range<Int>, Range<Int>) -> Void
    ) {
        let tileRows = 128
        let tiles = (rows + tileRows - 1) / tileRows
        // A piece's weights stay in the second-level cache while its rows pass.
        let cached = max(1, (256 << 10) / max(1, panelBytes))
        let share = (panels + 4 * pool.threads - 1) / (4 * pool.threads)
        let run = max(1, min(share, cached))
        let runs = (panels + run - 1) / run
        forEachItem(runs * tiles) { item in
            let (run0, tile) = item.quotientAndRemainder(dividingBy: tiles)
            body(
                run0 * run..<min(panels, (run0 + 1) * run),
                tile * tileRows..<min(rows, (tile + 1) * tileRows))
        }
    }
}
