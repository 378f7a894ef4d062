// Tandem — Apache-2.0

/// How the elements of a tensor are stored: a table entry. A format is a run of blocks, each of `blockBytes` bytes for
/// `blockElements` consecutive elements of the contiguous dimension; plain number formats have blocks of one element.
///
/// Codes, names and layouts are those of ggml (`ggml-common.h`, `enum ggml_type`), underscores included.
public struct TensorType: Sendable, Equatable, CustomStringConvertible {
    /// The code that stands for the format in a GGUF file.
    public let ggufCode: UInt32
    /// The usual name, such as `Q4_1`.
    public let name: String
    /// Elements in a block.
    public let blockElements: Int
    /// Bytes of a block.
    public let blockBytes: Int

    private let decode: @Sendable (UnsafeRawBufferPointer, UnsafeMutableBufferPointer<Float>) -> Void
    private let unpack: AffineUnpacking.Function?

    /// Bits of an unsigned integer u if the format can be seen as w = d·u + m with one d and one m for every 32 elements,
    /// nil otherwise; see ``affine(_:quants:scales:minima:)``.
    public let affineBits: Int?

    private init(
        _ ggufCode: UInt32, _ name: String, blockElements: Int, blockBytes: Int, affineBits: Int? = nil,
        unpack: AffineUnpacking.Function? = nil,
        decode: @escaping @Sendable (UnsafeRawBufferPointer, UnsafeMutableBufferPointer<Float>) -> Void
    ) {
        self.ggufCode = ggufCode
        self.name = name
        self.blockElements = blockElements
        self.blockBytes = blockBytes
        self.affineBits = affineBits
        self.unpack = unpack
        self.decode = decode
    }

    /// A format that has minima and is decoded by its affine view.
    private init(
        _ ggufCode: UInt32, _ name: String, blockElements: Int, blockBytes: Int, affineBits: Int,
        unpack: @escaping AffineUnpacking.Function
    ) {
        self.init(
            ggufCode, name, blockElements: blockElements, blockBytes: blockBytes, affineBits: affineBits, unpack: unpack
        ) { blocks, output in
            BlockDecoding.throughAffineView(
                blocks, output, blockElements: blockElements, blockBytes: blockBytes, unpack: unpack)
        }
    }

    /// IEEE 754 single precision.
    public static let f32 = TensorType(0, "F32", blockElements: 1, blockBytes: 4, decode: BlockDecoding.f32)
    /// IEEE 754 half precision.
    public static let f16 = TensorType(1, "F16", blockElements: 1, blockBytes: 2, decode: BlockDecoding.f16)
    /// The upper half of a single-precision number.
    public static let bf16 = TensorType(30, "BF16", blockElements: 1, blockBytes: 2, decode: BlockDecoding.bf16)
    /// Half-precision scale d and 32 signed bytes q: d·q.
    // swift-format-ignore: AlwaysUseLowerCamelCase
    public static let q8_0 = TensorType(
        8, "Q8_0", blockElements: 32, blockBytes: 34, affineBits: 8, unpack: AffineUnpacking.q8,
        decode: BlockDecoding.q8)
    /// Half-precision scale d and 32 nibbles q: d·(q − 8). Byte i holds elements i (low) and i + 16 (high).
    // swift-format-ignore: AlwaysUseLowerCamelCase
    public static let q4_0 = TensorType(
        2, "Q4_0", blockElements: 32, blockBytes: 18, affineBits: 4, unpack: AffineUnpacking.q4,
        decode: BlockDecoding.q4)
    /// Half-precision scale d and minimum m, and 32 nibbles q: d·q + m. Nibbles as in Q4_0.
    // swift-format-ignore: AlwaysUseLowerCamelCase
    public static let q4_1 = TensorType(
        3, "Q4_1", blockElements: 32, blockBytes: 20, affineBits: 4, unpack: AffineUnpacking.q4WithMinimum)
    /// Half-precision scale d, a word whose bit i is the fifth bit of element i, and 32 nibbles as in Q4_0: d·(q − 16).
    // swift-format-ignore: AlwaysUseLowerCamelCase
    public static let q5_0 = TensorType(
        6, "Q5_0", blockElements: 32, blockBytes: 22, affineBits: 5, unpack: AffineUnpacking.q5,
        decode: BlockDecoding.q5)
    /// Half-precision scale d and minimum m, and 32 elements of 5 bits as in Q5_0: d·q + m.
    // swift-format-ignore: AlwaysUseLowerCamelCase
    public static let q5_1 = TensorType(
        7, "Q5_1", blockElements: 32, blockBytes: 24, affineBits: 5, unpack: AffineUnpacking.q5WithMinimum)
    /// 8 runs of 32 elements with a scale s and a minimum m of 6 bits each, half-precision d and e for all of them, and
    /// nibbles q: d·s·q − e·m. Of each 64 elements, the first 32 are low nibbles, the others high ones.
    // swift-format-ignore: AlwaysUseLowerCamelCase
    public static let q4_K = TensorType(
        12, "Q4_K", blockElements: 256, blockBytes: 144, affineBits: 4, unpack: AffineUnpacking.q4K)
    /// As Q4_K, with a fifth bit per element: bit r of byte i is that of element i of run r.
    // swift-format-ignore: AlwaysUseLowerCamelCase
    public static let q5_K = TensorType(
        13, "Q5_K", blockElements: 256, blockBytes: 176, affineBits: 5, unpack: AffineUnpacking.q5K)
    /// 16 runs of 16 elements with a signed scale s of 8 bits each, half-precision d for all of them, and 6 bits q an
    /// element, 4 in nibbles and 2 apart: d·s·(q − 32).
    // swift-format-ignore: AlwaysUseLowerCamelCase
    public static let q6_K = TensorType(14, "Q6_K", blockElements: 256, blockBytes: 210, decode: BlockDecoding.q6K)

    /// Every format that can be read.
    public static let all: [TensorType] = [f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_K, q5_K, q6_K]

    /// The format with a GGUF type code, or nil if it is not among those that can be read.
    public static func ggufCode(_ code: UInt32) -> TensorType? {
        all.first { $0.ggufCode == code }
    }

    /// Formats are equal if their codes are.
    public static func == (left: TensorType, right: TensorType) -> Bool { left.ggufCode == right.ggufCode }

    /// The name.
    public var description: String { name }

    /// Turns whole blocks into single-precision numbers.
    ///
    /// - Parameters:
    ///   - blocks: whole blocks, at any address.
    ///   - output: room for exactly the elements of these blocks; all of it is written.
    /// - Precondition: the sizes fit each other.
    public func dequantize(_ blocks: UnsafeRawBufferPointer, into output: UnsafeMutableBufferPointer<Float>) {
        let (blockCount, rest) = blocks.count.quotientAndRemainder(dividingBy: blockBytes)
        precondition(rest == 0, "\(blocks.count) bytes are not whole \(name) blocks of \(blockBytes)")
        precondition(output.count == blockCount * blockElements, "\(output.count) floats for \(blockCount) blocks")
        decode(blocks, output)
    }

    /// Takes whole blocks apart into unsigned integers u and, for every 32 elements, d and m, so that each element is
    /// d·u + m: exactly, but for the rounding of the sum.
    ///
    /// - Parameters:
    ///   - blocks: whole blocks, at any address.
    ///   - quants: u of each element in the order of elements, below 2 to the power of ``affineBits``.
    ///   - scales: d of every 32 elements.
    ///   - minima: m of every 32 elements.
    /// - Precondition: the format has an affine view, and the sizes fit each other exactly.
    public func affine(
        _ blocks: UnsafeRawBufferPointer, quants: UnsafeMutableBufferPointer<UInt8>,
        scales: UnsafeMutableBufferPointer<Float>, minima: UnsafeMutableBufferPointer<Float>
    ) {
        guard let unpack else { preconditionFailure("\(name) has no affine view") }
        let (blockCount, rest) = blocks.count.quotientAndRemainder(dividingBy: blockBytes)
        precondition(rest == 0, "\(blocks.count) bytes are not whole \(name) blocks of \(blockBytes)")
        precondition(quants.count == blockCount * blockElements, "\(quants.count) integers for \(blockCount) blocks")
        precondition(
            scales.count == quants.count / 32 && minima.count == scales.count,
            "\(scales.count) scales and \(minima.count) minima for \(quants.count) elements")
        unpack(blocks, quants, scales, minima)
    }

    /// The name of any ggml type code that ever stood in a GGUF file, readable here or not, for messages.
    static func ggmlName(_ code: UInt32) -> String? { ggmlNames[code] }

    private static let ggmlNames: [UInt32: String] = [
        0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 4: "Q4_2", 5: "Q4_3", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1",
        10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS",
        18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16",
        26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8",
        34: "TQ1_0", 35: "TQ2_0", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8", 39: "MXFP4",
    ]
}
