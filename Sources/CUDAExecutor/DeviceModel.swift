// Tandem — Apache-2.0

import CUDADriver
import CUDAKernels
import InferenceEngine
import LanguageModel
import Weights

/// Where a model's numbers come from.
enum WeightOrigin {
    case file(any TensorSource)
    /// Made on the device from a seed: for measurements without a file.
    case random(seed: UInt64)
}

/// A model's weights on the device.
final class DeviceModel: Sendable {
    /// A layer's addresses; those that the layer does without are `nil`.
    struct Layer: Sendable {
        var attentionNorm: DevicePointer<Float>?
        var queryKeyValue: DeviceAddress?
        var queryKeyValueBias: DeviceAddress?
        var queryNorm: DevicePointer<Float>?
        var keyNorm: DevicePointer<Float>?
        var attentionOutput: DeviceAddress?
        var postAttentionNorm: DevicePointer<Float>?
        var feedForwardNorm: DevicePointer<Float>?
        var gateUp: DeviceAddress?
        var down: DeviceAddress?
        var postFeedForwardNorm: DevicePointer<Float>?
    }

    let model: DecoderDescription
    let shape: DeviceShape
    let byteCount: Int
    let layers: [Layer]
    let embedding: DeviceAddress
    let head: DeviceAddress
    let outputNorm: DevicePointer<Float>
    /// Divisors of rotary frequencies; empty if the model has none.
    let rotaryFactors: [Float]
    private let memory: DeviceMemory

    /// Bytes that are converted and copied at a time.
    private static let stagingBytes = 16 << 20

    /// Allocates, converts and copies.
    ///
    /// - Parameter progress: called now and then with the fraction done.
    init(
        _ session: GPUSession, model: DecoderDescription, origin: WeightOrigin,
        progress: (@Sendable (Double) -> Void)? = nil
    ) throws(ExecutorError) {
        let sharesContext = session.device.usesMPS
        let shape = try DeviceShape(model)
        let layout = WeightLayout(model, shape: shape)
        self.model = model
        self.shape = shape
        byteCount = layout.byteCount
        do throws(CUDAError) {
            memory = try DeviceMemory(session.context, byteCount: layout.byteCount, purpose: "weights")
        } catch {
            throw ExecutorError(error, sharesContext: sharesContext)
        }
        let base = memory.address
        func address(_ entry: Int) -> DeviceAddress { base + UInt64(layout.entries[entry].offset) }
        func floats(_ entry: Int?) -> DevicePointer<Float>? { entry.map { DevicePointer(address: address($0)) } }
        layers = layout.layers.map { layer in
            Layer(
                attentionNorm: floats(layer.attentionNorm), queryKeyValue: layer.queryKeyValue.map(address),
                queryKeyValueBias: layer.queryKeyValueBias.map(address), queryNorm: floats(layer.queryNorm),
                keyNorm: floats(layer.keyNorm), attentionOutput: layer.attentionOutput.map(address),
                postAttentionNorm: floats(layer.postAttentionNorm), feedForwardNorm: floats(layer.feedForwardNorm),
                gateUp: layer.gateUp.map(address), down: layer.down.map(address),
                postFeedForwardNorm: floats(layer.postFeedForwardNorm))
        }
        embedding = address(layout.embedding)
        head = address(layout.head)
        outputNorm = DevicePointer(address: address(layout.outputNorm))
        switch origin {
        case .file(let file):
            let hasFactors = model.ropes.contains(where: \.hasFrequencyFactors)
            rotaryFactors =
                hasFactors
                ? file.tensor(named: model.tensorName(.rotaryFactors)).map { file.floats(of: $0) } ?? [] : []
            try Self.load(session, layout, base, model: model, file: file, progress)
        case .random(let seed):
            rotaryFactors = []
            do throws(CUDAError) {
                try Self.fill(session, layout, base, seed: seed)
            } catch {
                throw ExecutorError(error, sharesContext: sharesContext)
            }
        }
    }

    /// Two buffers take turns: one is filled while the other is copied.
    private static func load(
        _ session: GPUSession, _ layout: WeightLayout, _ base: DeviceAddress, model: DecoderDescription,
        file: any TensorSource, _ progress: (@Sendable (Double) -> Void)?
    ) throws(ExecutorError) {
        var converter = WeightConverter(model: model, file: file)
        let stream = session.stream
        func cuda<Value>(_ body: () throws(CUDAError) -> Value) throws(ExecutorError) -> Value {
            do throws(CUDAError) {
                return try body()
            } catch {
                throw ExecutorError(error, sharesContext: session.device.usesMPS)
            }
        }
        let largestRow = layout.entries.map(\.rowBytes).max() ?? 0
        let staging = max(stagingBytes, largestRow)
        var buffers: [PinnedMemory] = []
        var copied: [CUDAEvent] = []
        for _ in 0..<2 {
            buffers.append(
                try cuda { () throws(CUDAError) in
                    try PinnedMemory(session.context, byteCount: staging, purpose: "loading weights")
                })
            copied.append(try cuda { () throws(CUDAError) in try CUDAEvent(session.context) })
        }
        var turn = 0
        var done = 0
        for entry in layout.entries {
            let rowsAtOnce = max(1, staging / entry.rowBytes)
            for start in stride(from: 0, to: entry.rows, by: rowsAtOnce) {
                let rows = start..<min(start + rowsAtOnce, entry.rows)
                try cuda { () throws(CUDAError) in try copied[turn].synchronize() }
                let bytes = UnsafeMutableRawBufferPointer(
                    rebasing: buffers[turn].bytes[0..<rows.count * entry.rowBytes])
                try converter.convert(entry, rows: rows, into: bytes)
                try cuda { () throws(CUDAError) in
                    try stream.copy(
                        from: UnsafeRawBufferPointer(bytes),
                        to: base + UInt64(entry.offset + rows.lowerBound * entry.rowBytes))
                    try stream.record(copied[turn])
                }
                turn = 1 - turn
                done += bytes.count
                progress?(Double(done) / Double(max(1, layout.byteCount)))
            }
        }
        try cuda { () throws(CUDAError) in try stream.synchronize() }
    }

    /// Numbers small enough that no layer overflows, and norms around 1.
    private static func fill(
        _ session: GPUSession, _ layout: WeightLayout, _ base: DeviceAddress, seed: UInt64
    ) throws(CUDAError) {
        for (index, entry) in layout.entries.enumerated() {
            let address = base + UInt64(entry.offset)
            let count = entry.rows * entry.columns
            switch entry.element {
            case .bfloat16:
                let scale = 1.7 / Float(max(1, entry.columns)).squareRoot()
                try session.launch(
                    .fillRandom(
                        DevicePointer<BFloat16>(address: address), count: count, seed: seed &+ UInt64(index),
                        scale: entry.columns == 1 ? 0.1 : scale))
            case .float32:
                try session.launch(
                    .fillRandom(
                        DevicePointer<Float>(address: address), count: count, seed: seed &+ UInt64(index), centre: 1,
                        scale: 0.1))
            }
        }
        try session.stream.synchronize()
    }
}
