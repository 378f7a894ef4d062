// Tandem — Apache-2.0

import CPUKernels

/// What the activation rows of a matrix product are rounded to.
enum ActivationFormat: Sendable, Equatable, CaseIterable {
    case f32
    case bf16
    /// 8 bits with a scale for each 32.
    case int8
    /// Two such rows, the second for what the rounding of the first left: the product is that of one plus that of the
    /// other.
    case int16

    /// Bytes from one activation row to the next.
    func rowBytes(columns: Int) -> Int {
        switch self {
        case .f32: (columns * 4 + 63) & ~63
        case .bf16: tandem_row_bytes_bf16(columns)
        case .int8: tandem_row_bytes_int8(columns)
        case .int16: 2 * tandem_row_bytes_int8(columns)
        }
    }

    /// The largest row that matrices of a mode have.
    static func rowBytes(of compute: CPUCompute, columns: Int) -> Int {
        let formats: [ActivationFormat] =
            switch compute {
            case .f32: [.f32]
            case .bf16: [.bf16]
            case .int8: [.int8, .int16]
            }
        return formats.map { $0.rowBytes(columns: columns) }.max() ?? 0
    }
}
