// Tandem — Apache-2.0

/// A GGUF model file, version 2 or 3, little-endian: metadata and tensors, mapped and checked.
///
/// The format is that of ggml's `docs/gguf.md`. Everything the file says about itself is compared with what is there
/// before it is used; after `init`, every tensor lies inside the file. See ``MappedFile`` for files that change while
/// they are open.
public struct GGUFFile: TensorSource {
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

    /// See ``TensorSource/bytes(of:)``. In a mapped file they begin at an address that is a multiple of ``alignment``; do
    /// not count on more than 8.
    public func bytes(of tensor: TensorDescription) -> UnsafeRawBufferPointer {
        storage.bytes(of: tensor)
    }

    /// The bytes of every metadata pair whose key begins with `prefix`, key, type and value as they are stored, in file
    /// order; valid while the file, or a copy of this value, lives. For fingerprints: equal bytes mean equal metadata.
    public func rawMetadata(ofKeysWithPrefix prefix: String) -> [UnsafeRawBufferPointer] {
        zip(metadata.keys, metadata.ranges).compactMap { key, range in
            key.hasPrefix(prefix) ? UnsafeRawBufferPointer(rebasing: storage.bytes[range]) : nil
        }
    }
}
