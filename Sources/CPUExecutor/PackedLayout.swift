// Tandem — Apache-2.0

import CPUKernels
import InferenceEngine
import LanguageModel
import Weights

/// How a tensor lies in packed weights; see `CPUKernels.h` for the panels.
enum PackedFormat: Equatable {
    /// Plain single-precision numbers.
    case vector
    case u4
    case u5
    case u8
    case bf16
    case f32

    /// Bytes of one panel of 16 features with `columns` inputs.
    func panelBytes(columns: Int) -> Int {
        switch self {
        case .vector: 0
        case .u4: tandem_panel_bytes_u4(columns)
        case .u5: tandem_panel_bytes_u5(columns)
        case .u8: tandem_panel_bytes_u8(columns)
        case .bf16: tandem_panel_bytes_bf16(columns)
        case .f32: tandem_panel_bytes_f32(columns)
        }
    }
}

/// Where every tensor lies in packed weights: a pure function of the model, the file's tensor types and the mode, so
/// that processes agree on it without talking.
struct PackedLayout {
    struct Entry {
        var role: TensorRole
        var tensor: TensorDescription
        var format: PackedFormat
        /// Output features of a matrix, 1 for a vector.
        var rows: Int
        /// Inputs of a matrix, elements of a vector.
        var columns: Int
        /// From the beginning of the packed weights, a multiple of 64.
        var offset: Int
        var byteCount: Int

        var panels: Int { (rows + 15) / 16 }

        /// What the activation rows of such a matrix are rounded to.
        var activations: ActivationFormat {
            switch format {
            case .u4, .u5, .u8:
                switch role {
                // What is rounded here stays in the cache, where every later token sees it.
                case .key, .value: .int16
                default: .int8
                }
            case .bf16: .bf16
            case .vector, .f32: .f32
            }
        }
    }

    /// Bytes before the first tensor, kept for the header.
    static let headerBytes = 4096
    /// Counted up whenever panels or this layout change.
    static let version: UInt64 = 3

    let entries: [Entry]
    let totalBytes: Int
    private let index: [TensorRole: Int]

    /// - Throws: ``ExecutorError`` of kind `unsupported` if a tensor is missing.
    init(model: DecoderDescription, file: any TensorSource, compute: CPUCompute) throws(ExecutorError) {
        var entries: [Entry] = []
        var index: [TensorRole: Int] = [:]
        var offset = Self.headerBytes
        for role in model.roles {
            let name = model.tensorName(role)
            guard let tensor = file.tensor(named: name), (1...2).contains(tensor.shape.count) else {
                throw ExecutorError(kind: .unsupported, message: "\(file.path): tensor \(name) is missing or no matrix")
            }
            let isMatrix = tensor.shape.count == 2
            let rows = isMatrix ? tensor.shape[1] : 1
            let columns = tensor.shape[0]
            let format =
                isMatrix ? Self.format(of: tensor.type, columns: columns, compute: compute) : .vector
            let byteCount =
                isMatrix ? format.panelBytes(columns: columns) * ((rows + 15) / 16) : (columns * 4 + 63) & ~63
            index[role] = entries.count
            entries.append(
                Entry(
                    role: role, tensor: tensor, format: format, rows: rows, columns: columns, offset: offset,
                    byteCount: byteCount))
            offset += byteCount
        }
        self.entries = entries
        self.index = index
        totalBytes = offset
    }

    /// The entry of a tensor the model has.
    func entry(_ role: TensorRole) -> Entry? {
        index[role].map { entries[$0] }
    }

    private static func format(
        of type: TensorType, columns: Int, compute: CPUCompute
    ) -> PackedFormat {
        switch compute {
        case .f32: return .f32
        case .bf16: return .bf16
        case .int8:
            guard columns % Int(TANDEM_QUANT_BLOCK) == 0 else { return .u8 }
            return switch type.affineBits {
            case 4: .u4
            case 5: .u5
            default: .u8
            }
        }
    }
}
