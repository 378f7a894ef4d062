// Tandem — Apache-2.0

import Glibc

/// A regular file mapped read-only into memory, for as long as the object lives.
///
/// Pages are read when they are first touched and are shared by all processes that map the file. The kernel offers no
/// protection against a file that shrinks while it is mapped: touching a page past the new end raises `SIGBUS`. Replace
/// model files by renaming a complete new file over the old name, never by writing into them.
public final class MappedFile: Sendable {
    /// The path the file was opened by.
    public let path: String

    // A raw pointer is not Sendable by itself. The pages are mapped read-only, and unmapped only in deinit.
    private nonisolated(unsafe) let base: UnsafeMutableRawPointer
    private let byteCount: Int

    /// The file's bytes; valid while this object lives.
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: byteCount) }

    /// Maps the file at a path.
    ///
    /// - Throws: ``WeightsError`` if the path cannot be opened, is no regular file, is empty or cannot be mapped.
    public init(path: String) throws(WeightsError) {
        guard !path.isEmpty, !path.utf8.contains(0) else {
            throw WeightsError(path: path, reason: "not a path: it is empty or holds a zero byte")
        }
        // Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw WeightsError(path: path, reason: "cannot be opened: \(MappedFile.systemMessage(errno))")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw WeightsError(path: path, reason: "cannot be examined: \(MappedFile.systemMessage(errno))")
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: break
        case S_IFDIR: throw WeightsError(path: path, reason: "is a directory; name the model file in it")
        default: throw WeightsError(path: path, reason: "is not a regular file")
        }
        guard status.st_size > 0 else { throw WeightsError(path: path, reason: "is empty") }
        byteCount = Int(status.st_size)
        let mapped = mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, descriptor, 0)
        guard let mapped, mapped != MAP_FAILED else {
            throw WeightsError(path: path, reason: "cannot be mapped: \(MappedFile.systemMessage(errno))")
        }
        base = mapped
        self.path = path
    }

    deinit { munmap(base, byteCount) }

    private static func systemMessage(_ code: Int32) -> String {
        // strerror's buffer is shared between threads; strerror_r's is ours.
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
            guard let start = buffer.baseAddress, strerror_r(code, start, buffer.count) == 0 else {
                return "error \(code)"
            }
            return String(cString: start)
        }
    }
}
