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

    /// Number of elements: the product of the shape.
    public var elementCount: Int { byteCount / type.blockBytes * type.blockElements }
}

/// A GGUF model file, version 2 or 3, little-endian: metadata and tensors, mapped and checked.
///
/// The format is that of ggml's `docs/gguf.md`. Everything the file says about itself is compared with what is there
/// before it is used; after `init`, every tensor lies inside the file. See ``MappedFile`` for files that change while
/// they are open.
public struct GGUFFile: Sendable {
    /// The file's path, or the name given to bytes in memory.
    public let path: String
    /// The format's version: 2 or 3.
    public let version: UInt32
    /// Tensors begin at multiples of this many bytes: `general.alignment`, or 32.
    public let alignment: UInt64
    /// The key-value pairs.
    public let metadata: GGUFMetadata
    /// The tensors in file order.
    public let tensors: [TensorDescription]

    private let tensorIndex: [String: Int]
    private let storage: FileBytes

    /// Maps a file and checks it.
    ///
    /// - Throws: ``WeightsError`` naming the offset and what is wrong there.
    public init(path: String) throws(WeightsError) {
        try self.init(FileBytes(MappedFile(path: path)), path: path)
    }

    /// Checks a file held in memory.
    ///
    /// - Parameters:
    ///   - bytes: the file's content; it is copied.
    ///   - name: stands for the path in messages.
    /// - Throws: ``WeightsError`` naming the offset and what is wrong there.
    public init(bytes: [UInt8], name: String) throws(WeightsError) {
        try self.init(FileBytes(copying: bytes), path: name)
    }

    private init(_ storage: FileBytes, path: String) throws(WeightsError) {
        var parser = GGUFParser(storage, name: path)
        try parser.parse()
        self.path = path
        self.storage = storage
        version = parser.version
        alignment = parser.alignment
        metadata = parser.metadata
        tensors = parser.tensors
        tensorIndex = parser.tensorIndex
    }

    /// The tensor with a name.
    public func tensor(named name: String) -> TensorDescription? {
        tensorIndex[name].map { tensors[$0] }
    }

    /// The stored bytes of one of this file's tensors; valid while the file, or a copy of this value, lives. In a mapped
    /// file they begin at an address that is a multiple of ``alignment``; do not count on more than 8.
    ///
    /// - Precondition: the description comes from this file.
    public func bytes(of tensor: TensorDescription) -> UnsafeRawBufferPointer {
        let all = storage.bytes
        precondition(tensor.byteCount <= all.count && tensor.offset <= UInt64(all.count - tensor.byteCount))
        let start = Int(tensor.offset)
        return UnsafeRawBufferPointer(rebasing: all[start..<start + tensor.byteCount])
    }

    /// The bytes of every metadata pair whose key begins with `prefix`, key, type and value as they are stored, in file
    /// order; valid while the file, or a copy of this value, lives. For fingerprints: equal bytes mean equal metadata.
    public func rawMetadata(ofKeysWithPrefix prefix: String) -> [UnsafeRawBufferPointer] {
        zip(metadata.keys, metadata.ranges).compactMap { key, range in
            key.hasPrefix(prefix) ? UnsafeRawBufferPointer(rebasing: storage.bytes[range]) : nil
        }
    }

    /// The elements of one of this file's tensors in single precision.
    ///
    /// - Precondition: the description comes from this file.
    public func floats(of tensor: TensorDescription) -> [Float] {
        let blocks = bytes(of: tensor)
        return [Float](unsafeUninitializedCapacity: tensor.elementCount) { buffer, count in
            tensor.type.dequantize(blocks, into: UnsafeMutableBufferPointer(rebasing: buffer[..<tensor.elementCount]))
            count = tensor.elementCount
        }
    }
}
