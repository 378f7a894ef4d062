// Tandem — Apache-2.0

public import Weights

/// The arithmetic of matrix products: what weights are repacked to and activations rounded to. Sums, norms, softmax and
/// logits are single precision in every mode.
public enum CPUCompute: String, Sendable, Equatable, CaseIterable {
    /// Single precision throughout, keys and values too: the reference, four times the memory traffic of 8 bits.
    case f32
    /// Weights and activations rounded to bfloat16, keys and values too.
    case bf16
    /// Weights of 4, 5 or 8 bits with a scale and a minimum for each 32, activations 8 bits with a scale for each 32; keys
    /// and values bfloat16. The inputs of key and value projections have 16 bits, which brings the error below that of
    /// engines with 8-bit activations throughout.
    case int8

    /// The mode to use for a file when nobody says otherwise: `int8` if most weights are quantized to 8 bits or fewer,
    /// else `bf16`, since rounding such weights further would cost accuracy that the file has.
    public static func best(for file: any TensorSource) -> CPUCompute {
        var quantized = 0
        var all = 0
        for tensor in file.tensors where tensor.shape.count == 2 {
            all += tensor.byteCount
            if tensor.type.blockElements > 1 { quantized += tensor.byteCount }
        }
        return 2 * quantized > all ? .int8 : .bf16
    }

    /// Bytes of one stored element of keys and values.
    public var keyValueElementBytes: Int { self == .f32 ? 4 : 2 }

    /// Its number in the header of packed weights.
    var code: UInt64 {
        switch self {
        case .f32: 1
        case .bf16: 2
        case .int8: 3
        }
    }
}
