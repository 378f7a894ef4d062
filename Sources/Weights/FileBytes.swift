// Tandem — Apache-2.0

import Glibc

/// The bytes of one weights file at a fixed address, mapped from disk or held in memory.
final class FileBytes: Sendable {
    private enum Source: Sendable {
        case mapped(MappedFile)
        case heap
        case anonymousPages
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

    /// Bytes that are made up.
    ///
    /// - Throws: ``WeightsError`` with the path, if there is not so much memory: an allocation would end the process.
    init(
        byteCount: Int, path: String, initialize: (UnsafeMutableRawBufferPointer) -> Void
    ) throws(WeightsError) {
        let pages = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let pages, pages != MAP_FAILED else {
            throw WeightsError(path: path, reason: "no memory for \(byteCount) bytes of made-up numbers")
        }
        initialize(UnsafeMutableRawBufferPointer(start: pages, count: byteCount))
        source = .anonymousPages
        buffer = UnsafeRawBufferPointer(start: pages, count: byteCount)
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
        switch source {
        case .mapped: break
        case .heap: buffer.deallocate()
        case .anonymousPages: munmap(UnsafeMutableRawPointer(mutating: buffer.baseAddress), buffer.count)
        }
    }
}
