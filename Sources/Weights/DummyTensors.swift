// Tandem — Apache-2.0

/// Made-up numbers in place of a model's, for measurements without weights.
///
/// Numbers are uniform in −0.001…0.001, rounded to the format, as vLLM's `--load-format dummy` has them: small enough
/// that no layer overflows. The generator is seeded anew for every tensor, also as there, so that all tensors are
/// prefixes of one sequence, and one copy of it serves all of them. The numbers themselves are not those of torch's
/// generator: only their distribution is the same, and they are the same in every run.
public struct DummyTensors: TensorSource {
    /// The path of the configuration that the tensors were derived from.
    public let path: String
    /// The tensors in the order in which they were asked for.
    public let tensors: [TensorDescription]

    private let tensorIndex: [String: Int]
    private let storage: FileBytes

    /// The seed of every tensor.
    private static let seed: UInt64 = 1234
    /// Far above any tensor of a model that can be served.
    private static let maximumElements = 1 << 32

    /// Makes the numbers up.
    ///
    /// - Parameters:
    ///   - path: stands in messages.
    ///   - shapes: names and shapes, contiguous dimension first. The largest tensor decides how much memory is taken.
    ///   - type: F32, F16 or BF16.
    /// - Throws: ``WeightsError`` naming the tensor that cannot be, or that memory is missing.
    public init(
        path: String, shapes: [(name: String, shape: [Int])], type: TensorType = .bf16
    ) throws(WeightsError) {
        guard type.blockElements == 1 else {
            throw WeightsError(path: path, reason: "no numbers can be made up in \(type); use F32, F16 or BF16")
        }
        var tensors: [TensorDescription] = []
        var tensorIndex: [String: Int] = [:]
        var largest = 1
        for (name, shape) in shapes {
            let count = try DummyTensors.elementCount(shape, of: name, path: path)
            guard tensorIndex.updateValue(tensors.count, forKey: name) == nil else {
                throw WeightsError(path: path, reason: "the tensor \(quoted(name)) is asked for twice")
            }
            largest = max(largest, count)
            tensors.append(
                TensorDescription(name: name, type: type, shape: shape, offset: 0, byteCount: count * type.blockBytes))
        }
        storage = try FileBytes(byteCount: largest * type.blockBytes, path: path) { bytes in
            DummyTensors.fill(bytes, type)
        }
        self.path = path
        self.tensors = tensors
        self.tensorIndex = tensorIndex
    }

    /// The tensor with a name.
    public func tensor(named name: String) -> TensorDescription? { tensorIndex[name].map { tensors[$0] } }

    /// See ``TensorSource/bytes(of:)``. All tensors begin at the same address.
    public func bytes(of tensor: TensorDescription) -> UnsafeRawBufferPointer { storage.bytes(of: tensor) }

    private static func elementCount(_ shape: [Int], of name: String, path: String) throws(WeightsError) -> Int {
        var count = 1
        for length in shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: length)
            guard length > 0, !overflow, product <= maximumElements else {
                throw WeightsError(
                    path: path,
                    reason: "the tensor \(quoted(name)) of the shape \(shape) cannot be; 1 to \(maximumElements) "
                        + "elements are allowed")
            }
            count = product
        }
        guard (1...4).contains(shape.count) else {
            throw WeightsError(
                path: path, reason: "the tensor \(quoted(name)) has \(shape.count) dimensions; 1 to 4 are allowed")
        }
        return count
    }

    /// Two numbers from each output of SplitMix64, whatever the format.
    private static func fill(_ bytes: UnsafeMutableRawBufferPointer, _ type: TensorType) {
        switch type {
        case .f32: fill(bytes) { $0.bitPattern.littleEndian }
        case .f16: fill(bytes) { Float16($0).bitPattern.littleEndian }
        default:
            // Rounded to nearest, ties to even.
            fill(bytes) { number in
                let bits = number.bitPattern
                return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16).littleEndian
            }
        }
    }

    @inline(__always)
    private static func fill<Word: FixedWidthInteger & BitwiseCopyable>(
        _ bytes: UnsafeMutableRawBufferPointer, _ encode: (Float) -> Word
    ) {
        let size = MemoryLayout<Word>.size
        var state = seed
        for offset in stride(from: 0, to: bytes.count, by: 2 * size) {
            state &+= 0x9E37_79B9_7F4A_7C15
            var word = state
            word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
            word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
            word ^= word >> 31
            bytes.storeBytes(of: encode(number(word >> 40)), toByteOffset: offset, as: Word.self)
            guard offset + size < bytes.count else { return }
            bytes.storeBytes(of: encode(number(word >> 16 & 0xFF_FFFF)), toByteOffset: offset + size, as: Word.self)
        }
    }

    /// A number from 24 random bits.
    @inline(__always)
    private static func number(_ bits: UInt64) -> Float {
        (Float(Int32(truncatingIfNeeded: bits)) * 0x1p-23 - 1) * 1e-3
    }
}
