// Tandem — Apache-2.0

/// A safetensors file: tensors with a JSON header, mapped and checked.
///
/// Everything the header says is compared with what is there before it is used; after `init`, every tensor lies inside
/// the file. See ``MappedFile`` for files that change while they are open.
///
/// Tensors that cannot be read do not keep the file from opening: other number formats than F32, F16 and BF16, scalars,
/// tensors without elements and with more than 4 dimensions. They are not among ``tensors``;
/// ``refusal(ofTensorNamed:)`` tells why.
public struct SafetensorsFile: TensorSource {
    /// The file's path, or the name given to bytes in memory.
    public let path: String
    /// The strings under `__metadata__`.
    public let metadata: [String: String]
    /// The tensors in the header's order. Shapes have the contiguous dimension first: reversed, as the file has them.
    public let tensors: [TensorDescription]

    /// Why the file's other tensors cannot be read.
    let refusals: [String: WeightsError]
    private let tensorIndex: [String: Int]
    private let storage: FileBytes

    /// Maps a file and checks it.
    ///
    /// - Throws: ``WeightsError`` naming the offset or the field, and what is wrong there.
    public init(path: String) throws(WeightsError) { try self.init(path: path, fileIndex: 0) }

    /// Checks a file held in memory.
    ///
    /// - Parameters:
    ///   - bytes: the file's content; it is copied.
    ///   - name: stands for the path in messages.
    /// - Throws: ``WeightsError`` naming the offset or the field, and what is wrong there.
    public init(bytes: [UInt8], name: String) throws(WeightsError) {
        try self.init(FileBytes(copying: bytes), path: name, fileIndex: 0)
    }

    init(path: String, fileIndex: Int) throws(WeightsError) {
        try self.init(FileBytes(MappedFile(path: path)), path: path, fileIndex: fileIndex)
    }

    private init(_ storage: FileBytes, path: String, fileIndex: Int) throws(WeightsError) {
        let header = try SafetensorsHeader(storage.bytes, name: path, fileIndex: fileIndex)
        self.path = path
        self.storage = storage
        metadata = header.metadata
        tensors = header.tensors
        tensorIndex = header.tensorIndex
        refusals = header.refusals
    }

    /// The tensor with a name.
    public func tensor(named name: String) -> TensorDescription? { tensorIndex[name].map { tensors[$0] } }

    /// See ``TensorSource/refusal(ofTensorNamed:)``.
    public func refusal(ofTensorNamed name: String) -> WeightsError? { refusals[name] }

    /// See ``TensorSource/bytes(of:)``.
    public func bytes(of tensor: TensorDescription) -> UnsafeRawBufferPointer { storage.bytes(of: tensor) }
}
