// Tandem — Apache-2.0

/// The bytes of one weights file at a fixed address, mapped from disk or held in memory.
final class FileBytes: Sendable {
    private enum Source: Sendable {
        case mapped(MappedFile)
        case heap
    }

    private let source: Source
    // A raw pointer is not Sendable by itself. Nobody writes to these bytes after init, and they go only in deinit.
    private nonisolated(unsafe) let buffer: UnsafeRawBufferPointer

    /// All bytes; valid while this object lives.
    var bytes: UnsafeRawBufferPointer { buffer }

    /// All bytes, bounds-checked on every access.
    var span: RawSpan {
        @_lifetime(borrow self)
        get { _overrideLifetime(RawSpan(_unsafeBytes: buffer), borrowing: self) }
    }

    init(_ file: MappedFile) {
        source = .mapped(file)
        buffer = file.bytes
    }

    init(copying bytes: [UInt8]) {
        // As aligned as the tensors of a mapped file are with the usual alignments.
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 64)
        copy.copyBytes(from: bytes)
        source = .heap
        buffer = UnsafeRawBufferPointer(copy)
    }

    /// A tensor's bytes.
    ///
    /// - Precondition: the tensor lies inside these bytes.
    func bytes(of tensor: TensorDescription) -> UnsafeRawBufferPointer {
        precondition(tensor.byteCount <= buffer.count && tensor.offset <= UInt64(buffer.count - tensor.byteCount))
        let start = Int(tensor.offset)
        return UnsafeRawBufferPointer(rebasing: buffer[start..<start + tensor.byteCount])
    }

    deinit {
        if case .heap = source { buffer.deallocate() }
    }
}
