// Tandem — Apache-2.0

public import LanguageModel

/// The sizes at which single kernels are measured and predicted.
public enum KernelShapes {
    /// Rows of products, norms, gates and sampling.
    public static let rows = [1, 64, 256, 1024, 8192]
    /// Most rows of logits that are kept for a measurement of sampling.
    public static let mostLogitRows = 1024
    public static let decode = [
        (1, 1024), (32, 8192), (256, 128), (256, 512), (256, 2048), (1024, 128), (1024, 512), (1024, 2048),
    ].map { (batch: $0.0, context: $0.1) }
    public static let prefill = [(64, 128), (8, 1024), (4, 2048), (1, 8192)].map { (prompts: $0.0, tokens: $0.1) }

    /// Outputs and inputs of a layer's products.
    public static func products(_ model: DecoderDescription) -> [(outputs: Int, inputs: Int)] {
        let queries = (model.queryHeads + 2 * model.keyValueHeads) * model.headDimension
        return [
            (queries, model.hiddenSize), (model.hiddenSize, model.queryHeads * model.headDimension),
            (2 * model.intermediateSize, model.hiddenSize), (model.hiddenSize, model.intermediateSize),
        ]
    }
}

/// What a kernel takes on a device by the model, for comparison with a measurement. Nothing runs.
public struct KernelPrediction: Sendable {
    /// Such as `attention_prefill`; `product` stands for any that computes one.
    public var name: String
    /// What is computed, such as `batch` and `context`.
    public var sizes: [(key: String, value: Int)]
    /// Bytes that have to be read and written at least.
    public var bytes: Double
    /// Multiplications and additions in matrix products.
    public var operations: Double
    /// Seconds below which no kernel can be: at the device's published rates.
    public var floorSeconds: Double
    /// Seconds by the model.
    public var seconds: Double

    /// All kernels that are measured for a model.
    public static func all(_ model: DecoderDescription, on device: DeviceParameters) -> [KernelPrediction] {
        var list: [KernelPrediction] = []
        func add(
            _ name: String, _ sizes: [(key: String, value: Int)], bytes: Double, operations: Double = 0,
            _ kernel: Kernel
        ) {
            list.append(
                KernelPrediction(
                    name: name, sizes: sizes, bytes: bytes, operations: operations,
                    floorSeconds: max(bytes / device.memoryRate, operations / device.tensorRate),
                    seconds: kernel.seconds))
        }
        for rows in KernelShapes.rows {
            let count = Double(rows)
            for (outputs, inputs) in KernelShapes.products(model) {
                let (n, k) = (Double(outputs), Double(inputs))
                add(
                    "product", [("rows", rows), ("outputs", outputs), ("inputs", inputs)],
                    bytes: 2 * (count * k + n * k + count * n), operations: 2 * count * n * k,
                    device.matrixProduct("product", .feedForward, rows: count, columns: n, inner: k))
            }
            for (name, bytes) in [
                ("add_rms_norm", count * Double(model.hiddenSize) * 12),
                ("gated_silu", count * Double(model.intermediateSize) * 6),
            ] {
                add(name, [("rows", rows)], bytes: bytes, device.transfer(name, .rest, bytes: bytes))
            }
            let logitRows = min(rows, KernelShapes.mostLogitRows)
            guard logitRows == rows else { continue }
            let bytes = Double(logitRows) * Double(model.vocabularySize) * 4
            for name in ["sample_greedy", "sample_temperature", "sample_top_p", "logit_statistics"] {
                add(name, [("rows", logitRows)], bytes: bytes, device.transfer(name, .rest, bytes: bytes))
            }
        }
        let (heads, keyHeads, dimension) = (model.queryHeads, model.keyValueHeads, model.headDimension)
        for (batch, context) in KernelShapes.decode {
            let width = Double(dimension)
            add(
                "attention_decode", [("batch", batch), ("context", context)],
                bytes: Double(batch) * (4 * Double(context * keyHeads) + 4 * Double(heads)) * width,
                operations: 4 * Double(batch) * Double(context) * Double(heads) * width,
                device.attentionToCache(
                    sequences: Double(batch), context: Double(context), queryHeads: heads, keyValueHeads: keyHeads,
                    headDimension: dimension))
        }
        for (prompts, tokens) in KernelShapes.prefill {
            let (count, length) = (Double(prompts), Double(tokens))
            add(
                "attention_prefill", [("prompts", prompts), ("tokens", tokens)],
                bytes: 4 * count * length * Double((heads + keyHeads) * dimension),
                operations: 2 * count * length * (length + 1) * Double(heads * dimension),
                device.attentionInPrompts(
                    prompts: count, length: length, window: nil, queryHeads: heads, headDimension: dimension))
        }
        return list
    }
}
