// Tandem — Apache-2.0

public import LanguageModel

/// Turns a step of a model into kernels of a device. Weights, activations, keys and values have 16 bits.
public struct StepModel: Sendable {
    public var model: DecoderDescription
    public var device: DeviceParameters
    public var fusion: KernelFusion
    private let windows: [(window: Int?, count: Int)]

    public init(model: DecoderDescription, device: DeviceParameters, fusion: KernelFusion = .fused) {
        self.model = model
        self.device = device
        self.fusion = fusion
        var windows: [(window: Int?, count: Int)] = []
        for layer in model.layers {
            if let known = windows.firstIndex(where: { $0.window == layer.window }) {
                windows[known].count += 1
            } else {
                windows.append((layer.window, 1))
            }
        }
        self.windows = windows
    }

    /// The kernels of a step. Layers that do the same follow one another here, also where a model has them mixed.
    public func profile(_ shape: StepShape) -> StepProfile {
        var sequences = [KernelSequence(kernels: [embedding(shape)], repeats: 1)]
        for (window, count) in windows {
            sequences.append(KernelSequence(kernels: layer(shape, window: window), repeats: count))
        }
        sequences.append(KernelSequence(kernels: head(shape), repeats: 1))
        return StepProfile(
            sequences: sequences, tokens: shape.decoding > 0 ? shape.sampled : shape.prompts * shape.promptLength)
    }

    private var hidden: Double { Double(model.hiddenSize) }

    private func embedding(_ shape: StepShape) -> Kernel {
        device.transfer("embedding", .rest, bytes: 4 * shape.rows * hidden)
    }

    private func layer(_ shape: StepShape, window: Int?) -> [Kernel] {
        var kernels: [Kernel] = []
        if model.computesAttention { kernels += attention(shape, window: window) }
        if model.computesFeedForward { kernels += feedForward(shape) }
        return kernels
    }

    private func attention(_ shape: StepShape, window: Int?) -> [Kernel] {
        let rows = shape.rows
        let query = Double(model.queryHeads * model.headDimension)
        let keyValue = Double(model.keyValueHeads * model.headDimension)
        let hasNorms = model.layers.first.map(\.queryKeyNorm) ?? false
        let hasPostNorm = model.layers.first.map(\.postAttentionNorm) ?? false
        let visible = window.map { min(shape.context, Double($0)) } ?? shape.context
        var kernels = [
            norm("norm", .attention, rows),
            device.matrixProduct(
                "query, key, value", .attention, rows: rows, columns: query + 2 * keyValue, inner: hidden),
        ]
        switch fusion {
        case .fused:
            // Reads all, writes queries in place and keys and values into the cache.
            kernels.append(
                device.transfer("rotation, cache", .attention, bytes: 4 * rows * (query + 2 * keyValue)))
        case .eager:
            if hasNorms {
                kernels.append(device.transfer("query norm", .attention, bytes: 4 * rows * query))
                kernels.append(device.transfer("key norm", .attention, bytes: 4 * rows * keyValue))
            }
            kernels.append(device.transfer("key copy", .attention, bytes: 4 * rows * keyValue))
            kernels.append(device.transfer("value copy", .attention, bytes: 4 * rows * keyValue))
        }
        kernels.append(
            device.attentionToCache(
                sequences: shape.decoding, context: visible, queryHeads: model.queryHeads,
                keyValueHeads: model.keyValueHeads, headDimension: model.headDimension))
        kernels.append(
            device.attentionInPrompts(
                prompts: shape.prompts, length: shape.promptLength, window: window.map(Double.init),
                queryHeads: model.queryHeads, headDimension: model.headDimension))
        kernels.append(
            device.matrixProduct("output", .attention, rows: rows, columns: hidden, inner: query))
        if hasPostNorm { kernels.append(norm("post norm", .attention, rows)) }
        if fusion == .eager { kernels.append(residual(.attention, rows)) }
        return kernels
    }

    private func feedForward(_ shape: StepShape) -> [Kernel] {
        let rows = shape.rows
        let width = Double(model.intermediateSize)
        var kernels = [
            norm("norm", .feedForward, rows),
            device.matrixProduct("gate, up", .feedForward, rows: rows, columns: 2 * width, inner: hidden),
        ]
        switch fusion {
        case .fused:
            kernels.append(device.transfer("activation", .feedForward, bytes: 6 * rows * width))
        case .eager:
            kernels.append(device.transfer("activation", .feedForward, bytes: 4 * rows * width))
            kernels.append(device.transfer("gating", .feedForward, bytes: 6 * rows * width))
        }
        kernels.append(device.matrixProduct("down", .feedForward, rows: rows, columns: hidden, inner: width))
        if model.layers.first.map(\.postFeedForwardNorm) ?? false {
            kernels.append(norm("post norm", .feedForward, rows))
        }
        if fusion == .eager { kernels.append(residual(.feedForward, rows)) }
        return kernels
    }

    private func head(_ shape: StepShape) -> [Kernel] {
        let vocabulary = Double(model.vocabularySize)
        return [
            norm("last norm", .rest, shape.sampled),
            device.matrixProduct("head", .rest, rows: shape.sampled, columns: vocabulary, inner: hidden),
            // Reads logits in 32 bits where kernels are our own.
            device.transfer("sampling", .rest, bytes: shape.sampled * vocabulary * (fusion == .fused ? 4 : 2)),
        ]
    }

    /// In serving engines the residual is added on the way.
    private func norm(_ name: String, _ component: Component, _ rows: Double) -> Kernel {
        device.transfer(name, component, bytes: (fusion == .fused ? 8 : 4) * rows * hidden)
    }

    private func residual(_ component: Component, _ rows: Double) -> Kernel {
        device.transfer("residual", component, bytes: 6 * rows * hidden)
    }
}
