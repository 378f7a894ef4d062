// Tandem — Apache-2.0

import CUDADriver
import CUDAKernels
import InferenceEngine
import LanguageModel

/// A step from its tokens to the residual stream after the last layer, put into a stream kernel by kernel.
final class LayerProgram {
    private let session: GPUSession
    private let weights: DeviceModel
    private let buffers: DeviceBuffers
    private let products: MatrixPlans
    /// Group and place within it, by layer.
    private let places: [(group: Int, place: Int)]
    private let heads: ProjectedHeads
    /// Rows for which all products have an algorithm.
    private var preparedRows: Set<Int> = []
    /// Which kernel computes chunks; the batch's tiles are of its size.
    private let prefillForm: PrefillForm
    let isDeterministic: Bool

    /// What a layer left in the buffer of block outputs, still to be added to the residual stream.
    struct Pending {
        var x: DevicePointer<BFloat16>?
        var postWeight: DevicePointer<Float>?
    }

    /// Numbers of a launch that are fixed when a graph is captured.
    struct Size: Hashable {
        /// Tokens, those that fill up included.
        var tokens: Int
        var decodeRows: Int
        var tiles: Int
        var productRows: Int
        var warps: Int
        var splits: Int
    }

    init(
        _ session: GPUSession, _ weights: DeviceModel, _ buffers: DeviceBuffers, _ products: MatrixPlans,
        groups: [KeyValueGroup], prefillForm: PrefillForm, isDeterministic: Bool
    ) throws(ExecutorError) {
        self.session = session
        self.weights = weights
        self.buffers = buffers
        self.products = products
        self.prefillForm = prefillForm
        self.isDeterministic = isDeterministic
        var places = [(group: Int, place: Int)?](repeating: nil, count: weights.model.layers.count)
        for (index, group) in groups.enumerated() {
            for (place, layer) in group.layers.enumerated() where places.indices.contains(layer) {
                places[layer] = (index, place)
            }
        }
        self.places = places.compactMap(\.self)
        guard self.places.count == weights.model.layers.count else {
            throw ExecutorError(
                kind: .unsupported, message: "the groups of keys and values do not name every layer once")
        }
        let shape = weights.shape
        guard let dimension = HeadDimension(rawValue: shape.paddedHead) else {
            throw ExecutorError(kind: .unsupported, message: "heads of \(shape.paddedHead) elements")
        }
        heads = ProjectedHeads(
            rows: buffers.queryKeyValue, queryHeads: shape.queryHeads, keyHeads: shape.keyValueHeads,
            dimension: dimension)
    }

    /// The sizes of a batch's launches.
    func size(_ batch: StepBatch) -> Size {
        var cut = DecodeCut.fixed
        if !isDeterministic, !batch.decodeTokens.isEmpty {
            // Few classes of contexts, so that there are few graphs.
            let context = max(128, batch.longestContext).nextPowerOfTwo
            cut = DecodeCut.chosen(
                rows: batch.decodeTokens.count, heads: heads, context: context,
                multiprocessors: session.multiprocessors)
        }
        return Size(
            tokens: batch.tokens.count, decodeRows: batch.decodeTokens.count, tiles: batch.tileRows.count,
            productRows: batch.productRows, warps: cut.warps, splits: cut.splits)
    }

    /// Chooses the algorithms of all products of a size, which must not happen within a capture.
    func prepare(rows: Int) throws(CUDAError) {
        guard !preparedRows.contains(rows) else { return }
        for index in weights.layers.indices {
            for operands in layerProducts(index) { try products.prepare(operands, rows: rows) }
        }
        preparedRows.insert(rows)
    }

    /// Puts all layers into the stream.
    ///
    /// - Parameters:
    ///   - input: the batch's numbers on the device.
    ///   - clock: notes where the time goes.
    /// - Returns: what is still to be added to the residual stream.
    func run(
        _ size: Size, input: DeviceAddress, regions: BatchRegions, clock: ComponentClock? = nil
    ) throws(CUDAError) -> Pending {
        let (model, hidden) = (weights.model, weights.shape.hiddenSize)
        func words(_ offset: Int) -> DevicePointer<Int32> { DevicePointer(address: input + UInt64(offset)) }
        try session.launch(
            .embedTokens(
                table: DevicePointer(address: weights.embedding), tokens: words(regions.tokens),
                slots: words(regions.slots), lastTokens: buffers.lastTokens, residual: buffers.residual,
                hidden: hidden, scale: model.embeddingScale, count: size.tokens))
        var pending = Pending()
        // Between kernels whose times are noted stands something that is none.
        let follows = clock == nil
        for (index, layer) in weights.layers.enumerated() {
            if let queryKeyValue = layer.queryKeyValue, let output = layer.attentionOutput {
                try clock?.enter(.rest)
                try normalise(
                    pending, layer.attentionNorm, size.tokens, follows,
                    next: prefetch(queryKeyValue, outputs: weights.shape.queryKeyValueWidth, inputs: hidden))
                try products.run(
                    self.queryKeyValue(queryKeyValue, layer.queryKeyValueBias), rows: size.productRows,
                    followsKernel: follows)
                try clock?.enter(.attention)
                try attend(size, layer: index, input: input, regions: regions, follows)
                try clock?.enter(.rest)
                try products.run(attentionOutput(output), rows: size.productRows, followsKernel: follows)
                pending = Pending(x: buffers.blockOutput, postWeight: layer.postAttentionNorm)
            }
            if let gateUp = layer.gateUp, let down = layer.down {
                try clock?.enter(.mlp)
                try normalise(
                    pending, layer.feedForwardNorm, size.tokens, follows,
                    next: prefetch(gateUp, outputs: 2 * weights.shape.intermediateSize, inputs: hidden))
                try products.run(
                    self.gateUp(gateUp, layer: index), rows: size.productRows, gatedRows: size.tokens,
                    followsKernel: follows)
                try products.run(self.down(down), rows: size.productRows, followsKernel: follows)
                pending = Pending(x: buffers.blockOutput, postWeight: layer.postFeedForwardNorm)
            }
        }
        try clock?.enter(.rest)
        return pending
    }

    /// What is pending after any step: the same for all, so that graphs need not tell.
    var lastPending: Pending {
        guard let layer = weights.layers.last else { return Pending() }
        return Pending(
            x: buffers.blockOutput, postWeight: layer.down != nil ? layer.postFeedForwardNorm : layer.postAttentionNorm)
    }

    private func normalise(
        _ pending: Pending, _ weight: DevicePointer<Float>?, _ count: Int, _ followsKernel: Bool, next: Prefetch?
    ) throws(CUDAError) {
        try session.launch(
            .addNorm(
                residual: buffers.residual, x: pending.x, postWeight: pending.postWeight, weight: weight,
                y: buffers.normed, hidden: weights.shape.hiddenSize, epsilon: weights.model.normEpsilon, count: count,
                next: next),
            followsKernel: followsKernel)
    }

    /// Most bytes that a small kernel brings for the one behind it: what memory gives in the 2 or 3 µs that such a kernel
    /// leaves it idle.
    private static let mostPrefetchedBytes = 8 << 20

    private func prefetch(_ weight: DeviceAddress, outputs: Int, inputs: Int) -> Prefetch? {
        guard session.prefetchesWeights else { return nil }
        return Prefetch(
            memory: DevicePointer(address: weight), byteCount: min(outputs * inputs * 2, Self.mostPrefetchedBytes))
    }

    private func attend(
        _ size: Size, layer index: Int, input: DeviceAddress, regions: BatchRegions, _ followsKernel: Bool
    ) throws(CUDAError) {
        func words(_ offset: Int) -> DevicePointer<Int32> { DevicePointer(address: input + UInt64(offset)) }
        let (description, layer) = (weights.model.layers[index], weights.layers[index])
        let cache = buffers.cache(group: places[index].group, place: places[index].place)
        try session.launch(
            .rotateAndStore(
                heads, positions: words(regions.positions), slots: words(regions.slots), cache: cache,
                rotary: buffers.rotary[description.rope], queryNorm: layer.queryNorm, keyNorm: layer.keyNorm,
                epsilon: weights.model.normEpsilon * weights.shape.headEpsilonFactor, count: size.tokens),
            followsKernel: followsKernel)
        if size.decodeRows > 0 {
            let rows = DecodeRows(
                tokens: words(regions.decodeTokens), slots: words(regions.decodeSlots),
                positions: words(regions.decodePositions), count: size.decodeRows)
            try session.launch(
                .attentionDecode(
                    heads, cache: cache, rows: rows, out: buffers.attention,
                    partial: size.splits > 1 ? buffers.partial : nil, scale: description.attentionScale,
                    window: description.window ?? 0, cut: DecodeCut(warps: size.warps, splits: size.splits)),
                followsKernel: followsKernel)
            if size.splits > 1 {
                try session.launch(
                    .attentionCombine(
                        heads, rows: rows, out: buffers.attention, partial: buffers.partial, splits: size.splits),
                    followsKernel: followsKernel)
            }
        }
        if size.tiles > 0 {
            try session.launch(
                .attentionPrefill(
                    heads, cache: cache,
                    rows: PrefillRows(
                        tileRows: words(regions.tileRows), tileStarts: words(regions.tileStarts), tileCount: size.tiles,
                        tokens: words(regions.chunkTokens), counts: words(regions.chunkCounts),
                        slots: words(regions.chunkSlots), positions: words(regions.chunkPositions)),
                    out: buffers.attention, scale: description.attentionScale, window: description.window ?? 0,
                    form: prefillForm))
        }
    }

    // MARK: - Products

    private func layerProducts(_ index: Int) -> [MatrixPlans.Operands] {
        let layer = weights.layers[index]
        var list: [MatrixPlans.Operands] = []
        if let weight = layer.queryKeyValue { list.append(queryKeyValue(weight, layer.queryKeyValueBias)) }
        if let weight = layer.attentionOutput { list.append(attentionOutput(weight)) }
        if let weight = layer.gateUp { list.append(gateUp(weight, layer: index)) }
        if let weight = layer.down { list.append(down(weight)) }
        return list
    }

    private func product(
        _ weight: DeviceAddress, _ input: DevicePointer<BFloat16>, _ inputs: Int, _ output: DevicePointer<BFloat16>,
        _ outputs: Int, bias: DeviceAddress? = nil
    ) -> MatrixPlans.Operands {
        MatrixPlans.Operands(
            weight: weight, bias: bias, input: input.address, output: output.address, outputs: outputs, inputs: inputs,
            outputStride: outputs)
    }

    private func queryKeyValue(_ weight: DeviceAddress, _ bias: DeviceAddress?) -> MatrixPlans.Operands {
        product(
            weight, buffers.normed, weights.shape.hiddenSize, buffers.queryKeyValue, weights.shape.queryKeyValueWidth,
            bias: bias)
    }

    private func attentionOutput(_ weight: DeviceAddress) -> MatrixPlans.Operands {
        product(
            weight, buffers.attention, weights.shape.queryWidth, buffers.blockOutput, weights.shape.hiddenSize)
    }

    private func gateUp(_ weight: DeviceAddress, layer index: Int) -> MatrixPlans.Operands {
        var operands = product(
            weight, buffers.normed, weights.shape.hiddenSize, buffers.gateUp, 2 * weights.shape.intermediateSize)
        operands.gate = MatrixPlans.Gate(
            activation: weights.model.layers[index].activation == .silu ? .silu : .geluTanh,
            output: buffers.gated.address, intermediate: weights.shape.intermediateSize,
            next: weights.layers[index].down.flatMap {
                prefetch($0, outputs: weights.shape.hiddenSize, inputs: weights.shape.intermediateSize)
            })
        return operands
    }

    private func down(_ weight: DeviceAddress) -> MatrixPlans.Operands {
        product(
            weight, buffers.gated, weights.shape.intermediateSize, buffers.blockOutput, weights.shape.hiddenSize)
    }
}

extension Int {
    /// The least power of two that is not below it.
    var nextPowerOfTwo: Int { self <= 1 ? 1 : 1 << (Int.bitWidth - (self - 1).leadingZeroBitCount) }
}
