// Tandem — Apache-2.0

internal import Glibc

/// Follows a log file that MPS writes, and keeps it short.
///
/// Each query adds about 220 bytes to the daemon's log, and MPS never rotates. It opens its logs in append mode, so
/// that cutting the file in place works; renaming would not.
public struct LogTail: ~Copyable {
    public let path: String
    /// Bytes from which on the file is cut.
    public let limit: Int
    private var offset: off_t = 0
    private var partial: [UInt8] = []
    private var identity: ino_t = 0

    /// - Parameter fromEnd: whether what is there already is passed over.
    public init(path: String, limit: Int = 1 << 20, fromEnd: Bool = false) {
        self.path = path
        self.limit = limit
        var status = stat()
        guard fromEnd, lstat(path, &status) == 0 else { return }
        offset = status.st_size
        identity = status.st_ino
    }

    /// The lines that were completed since the last call. A file that is not there, or no plain file, has none.
    public mutating func lines() -> [String] {
        let descriptor = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard descriptor >= 0 else { return [] }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return [] }
        if status.st_ino != identity || status.st_size < offset {
            // Another file, or somebody else cut it.
            identity = status.st_ino
            offset = 0
            partial = []
        }
        var result: [String] = []
        var buffer = [UInt8](repeating: 0, count: 16384)
        while true {
            let count = pread(descriptor, &buffer, buffer.count, offset)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { break }
            offset += off_t(count)
            take(buffer[..<count], into: &result)
        }
        cut(descriptor)
        return result
    }

    private mutating func take(_ bytes: ArraySlice<UInt8>, into lines: inout [String]) {
        var rest = bytes
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            lines.append(String(decoding: partial + rest[..<end], as: UTF8.self))
            partial = []
            rest = rest[(end + 1)...]
        }
        partial += rest
        // A line without an end is nobody's message.
        if partial.count > 65536 { partial = [] }
    }

    /// Empties the file once it is long. All of it was read, but for what came in this very moment.
    private mutating func cut(_ descriptor: Int32) {
        guard offset >= off_t(limit), ftruncate(descriptor, 0) == 0 else { return }
        offset = 0
    }
}
