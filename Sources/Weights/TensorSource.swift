// Tandem — Apache-2.0

/// One tensor of a weights file. Its place and size were checked when the file was opened.
public struct TensorDescription: Sendable {
    /// The tensor's name, such as `blk.0.attn_q.weight`.
    public let name: String
    /// How its elements are stored.
    public let type: TensorType
    /// Elements in each dimension, one to four of them, none zero. The first dimension is the contiguous one: a matrix
    /// of 3 rows and 64 columns has the shape [64, 3].
    public let shape: [Int]
    /// Where the tensor begins, in bytes from the beginning of the file.
    public let offset: UInt64
    /// How many bytes it takes.
    public let byteCount: Int
    /// Which of the source's files holds it; 0 where there is one.
    let fileIndex: Int

    init(name: String, type: TensorType, shape: [Int], offset: UInt64, byteCount: Int, fileIndex: Int = 0) {
        self.name = name
        self.type = type
        self.shape = shape
        self.offset = offset
        self.byteCount = byteCount
        self.fileIndex = fileIndex
    }

    /// Number of elements: the product of the shape.
    public var elementCount: Int { byteCount / type.blockBytes * type.blockElements }
}

/// Where a model's tensors come from: a GGUF file, safetensors files, or numbers made up for a measurement.
///
/// Every tensor that a source names was checked when the source was opened: its bytes are there.
public protocol TensorSource: Sendable {
    /// The path of the file or directory, for messages.
    var path: String { get }

    /// All tensors, in the source's order.
    var tensors: [TensorDescription] { get }

    /// The tensor with a name.
    func tensor(named name: String) -> TensorDescription?

    /// Why a tensor that is stored under a name cannot be read, such as a number format that is not supported. Nil if it
    /// can be read, and if there is none.
    func refusal(ofTensorNamed name: String) -> WeightsError?

    /// The stored bytes of one of this source's tensors; valid while the source, or a copy of it, lives. They may begin at
    /// any address.
    ///
    /// - Precondition: the description comes from this source.
    func bytes(of tensor: TensorDescription) -> UnsafeRawBufferPointer
}

extension TensorSource {
    /// Sources that refuse to open at all with such a tensor have none.
    public func refusal(ofTensorNamed name: String) -> WeightsError? { nil }

    /// The elements of one of this source's tensors in single precision.
    ///
    /// - Precondition: the description comes from this source.
    public func floats(of tensor: TensorDescription) -> [Float] {
        let blocks = bytes(of: tensor)
        return [Float](unsafeUninitializedCapacity: tensor.elementCount) { buffer, count in
            tensor.type.dequantize(blocks, into: UnsafeMutableBufferPointer(rebasing: buffer[..<tensor.elementCount]))
            count = tensor.elementCount
        }
    }
}
