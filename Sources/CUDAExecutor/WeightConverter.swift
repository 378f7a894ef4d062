// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Weights

/// Turns rows of a file's tensors into rows as they lie on the device.
struct WeightConverter {
    private let model: DecoderDescription
    private let file: any TensorSource
    /// One row of the file in single precision.
    private var row: [Float] = []

    init(model: DecoderDescription, file: any TensorSource) {
        self.model = model
        self.file = file
    }

    /// Writes some rows of an entry.
    ///
    /// - Parameter output: exactly these rows' bytes; all of them are written.
    /// - Throws: ``ExecutorError`` of kind `unsupported` if a tensor is missing or has another shape.
    mutating func convert(
        _ entry: WeightLayout.Entry, rows: Range<Int>, into output: UnsafeMutableRawBufferPointer
    ) throws(ExecutorError) {
        precondition(output.count == rows.count * entry.rowBytes, "\(output.count) bytes for \(rows.count) rows")
        for part in entry.parts {
            let common = part.rows.clamped(to: rows)
            guard !common.isEmpty else { continue }
            let name = model.tensorName(part.role)
            guard let tensor = file.tensor(named: name) else {
                throw ExecutorError(kind: .unsupported, message: "\(file.path): the tensor \(name) is missing")
            }
            guard tensor.shape == model.expectedShape(part.role) else {
                throw ExecutorError(
                    kind: .unsupported,
                    message: "\(file.path): the tensor \(name) has the shape \(tensor.shape), not "
                        + "\(model.expectedShape(part.role))")
            }
            let start = (common.lowerBound - rows.lowerBound) * entry.rowBytes
            let piece = UnsafeMutableRawBufferPointer(
                rebasing: output[start..<start + common.count * entry.rowBytes])
            if entry.columns == 1 {
                vector(part, tensor, common, entry.element, piece)
            } else {
                matrix(part, tensor, common, columns: entry.columns, piece)
            }
        }
    }

    private func vector(
        _ part: WeightLayout.Part, _ tensor: TensorDescription, _ rows: Range<Int>, _ element: WeightLayout.Element,
        _ output: UnsafeMutableRawBufferPointer
    ) {
        let values = file.floats(of: tensor)
        for (index, row) in rows.enumerated() {
            let place = Self.place(row - part.rows.lowerBound, part.fileRows, count: values.count)
            // A norm's offset is an addition in single precision, as in the models' definition.
            let value = place.map { (values[$0] + part.offset) * part.factor } ?? 0
            switch element {
            case .float32: output.storeBytes(of: value, toByteOffset: 4 * index, as: Float.self)
            case .bfloat16: output.storeBytes(of: bfloat16(value), toByteOffset: 2 * index, as: UInt16.self)
            }
        }
    }

    private mutating func matrix(
        _ part: WeightLayout.Part, _ tensor: TensorDescription, _ rows: Range<Int>, columns: Int,
        _ output: UnsafeMutableRawBufferPointer
    ) {
        let source = file.bytes(of: tensor)
        let (fileColumns, fileRowCount) = (tensor.shape[0], tensor.shape[1])
        let rowBytes = source.count / fileRowCount
        if row.count != fileColumns { row = [Float](repeating: 0, count: fileColumns) }
        let isCopied = tensor.type == .bf16 && part.fileColumns == nil
        for (index, destination) in rows.enumerated() {
            let target = UnsafeMutableRawBufferPointer(
                rebasing: output[index * columns * 2..<(index + 1) * columns * 2])
            guard let place = Self.place(destination - part.rows.lowerBound, part.fileRows, count: fileRowCount) else {
                target.initializeMemory(as: UInt8.self, repeating: 0)
                continue
            }
            let bytes = UnsafeRawBufferPointer(rebasing: source[place * rowBytes..<(place + 1) * rowBytes])
            if isCopied {
                target.copyMemory(from: bytes)
                continue
            }
            row.withUnsafeMutableBufferPointer { tensor.type.dequantize(bytes, into: $0) }
            // The destination is aligned: rows begin at multiples of 16 bytes of a page-aligned buffer.
            target.withMemoryRebound(to: UInt16.self) { words in
                if let map = part.fileColumns {
                    for column in 0..<columns { words[column] = map[column].map { bfloat16(row[$0]) } ?? 0 }
                } else {
                    for column in 0..<columns { words[column] = bfloat16(row[column]) }
                }
            }
        }
    }

    private static func place(_ row: Int, _ map: [Int?]?, count: Int) -> Int? {
        if let map { return map[row] }
        return row < count ? row : nil
    }
}

/// The upper half of a number, rounded to nearest, ties to even.
@inline(__always)
func bfloat16(_ number: Float) -> UInt16 {
    let bits = number.bitPattern
    // Not a number stays one.
    guard number == number else { return UInt16(truncatingIfNeeded: bits >> 16) | 0x40 }
    return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
}
