// Tandem — Apache-2.0

import TestSupport
import Weights

extension FuzzTarget {
    private static let path = "hostile.safetensors"

    /// A safetensors file and every tensor in it.
    static func safetensors() -> FuzzTarget {
        FuzzTarget(
            name: "safetensors", dialect: .safetensors,
            seeds: [SafetensorsSeeds.small(), SafetensorsSeeds.model(), SafetensorsSeeds.unreadable()]
        ) { input in
            let file: SafetensorsFile
            do throws(WeightsError) {
                file = try SafetensorsFile(bytes: input, name: path)
            } catch {
                if let offset = error.offset {
                    guard offset <= UInt64(input.count) else { return .fault("an offset outside the file: \(error)") }
                    return refusal(error, names: [path, "byte \(offset)"])
                }
                return FuzzTarget.namesAField(error)
            }
            if let fault = readTensors(of: file, size: input.count) { return .fault(fault) }
            for name in ["a", "b", "c", "d", "e"] where file.tensor(named: name) == nil {
                guard let error = file.refusal(ofTensorNamed: name) else { continue }
                let outcome = FuzzTarget.namesAField(error)
                guard outcome == .refused else { return outcome }
            }
            return .accepted
        }
    }

    /// A refusal without an offset must name the tensor or the member of the header.
    private static func namesAField(_ error: WeightsError) -> FuzzOutcome {
        let isNamed = error.reason.contains("tensor \"") || error.reason.contains("__metadata__")
        return refusal(error, names: [path, isNamed ? path : nil])
    }
}

/// Small valid safetensors files.
enum SafetensorsSeeds {
    static func small() -> [UInt8] {
        var builder = SafetensorsBuilder()
        builder.addMetadata([("format", "pt")])
        builder.addTensor("a", shape: [2, 3], .f32, values: [1, 2, 3, 4, 5, 6])
        builder.addTensor("b", shape: [4], .bf16, values: [1, 2, 3, 4])
        builder.addTensor("c", shape: [1, 1, 2, 2], .f16, values: [1, 2, 3, 4])
        return builder.build()
    }

    /// Tensors that are told apart from those that can be read.
    static func unreadable() -> [UInt8] {
        var builder = SafetensorsBuilder()
        builder.addTensor("a", dtype: "I64", shape: "[2]", bytes: [UInt8](repeating: 1, count: 16))
        builder.addTensor("b", dtype: "F32", shape: "[]", bytes: [0, 0, 0, 0])
        builder.addTensor("c", dtype: "F32", shape: "[0, 5]", bytes: [])
        builder.addTensor("d", dtype: "F4", shape: "[2,2]", bytes: [1, 2])
        builder.addTensor("e", dtype: "BF16", shape: "[1,1,1,1,1]", bytes: [1, 2])
        builder.addTensor("f", dtype: "F16", shape: "[2]", bytes: [1, 2, 3, 4])
        return builder.build()
    }

    /// The tensors of the model that ``ConfigurationSeeds`` describes.
    static func model() -> [UInt8] {
        var builder = SafetensorsBuilder()
        let layer = "model.layers.0."
        let shapes: [(String, [Int])] = [
            ("model.embed_tokens.weight", [4, 16]), ("model.norm.weight", [16]),
            (layer + "input_layernorm.weight", [16]),
            (layer + "self_attn.q_proj.weight", [16, 16]), (layer + "self_attn.k_proj.weight", [16, 16]),
            (layer + "self_attn.v_proj.weight", [16, 16]), (layer + "self_attn.o_proj.weight", [16, 16]),
            (layer + "post_attention_layernorm.weight", [16]), (layer + "mlp.gate_proj.weight", [8, 16]),
            (layer + "mlp.up_proj.weight", [8, 16]), (layer + "mlp.down_proj.weight", [16, 8]),
        ]
        for (name, shape) in shapes {
            builder.addTensor(name, shape: shape, .bf16, values: [Float](repeating: 0.5, count: shape.reduce(1, *)))
        }
        return builder.build()
    }
}
