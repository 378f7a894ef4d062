// Tandem — Apache-2.0

import Glibc

/// Reads certificates and keys.
struct TLSFile {
    /// What tells one state of a file from another without reading it; a file that is replaced has another inode.
    struct Fingerprint: Equatable {
        private var numbers: [Int64]

        init(_ status: stat) {
            numbers = [
                Int64(truncatingIfNeeded: status.st_dev), Int64(truncatingIfNeeded: status.st_ino),
                Int64(status.st_size), Int64(status.st_mtim.tv_sec), Int64(status.st_mtim.tv_nsec),
            ]
        }

        /// How the file is now; `nil` if it cannot be seen.
        init?(of path: String) {
            var status = stat()
            guard stat(path, &status) == 0 else { return nil }
            self.init(status)
        }
    }

    /// Trust stores of whole systems take a quarter of a megabyte.
    private static let maximumBytes = 4 << 20

    var bytes: [UInt8]
    /// Of what was read, whatever the path names by now.
    var fingerprint: Fingerprint
    /// Whether users who neither own it nor are of its group may read or write it.
    var isOpenToOthers: Bool

    /// - Throws: ``TLSError`` that names the file.
    init(path: String) throws(TLSError) {
        func failed() -> TLSError {
            TLSError(file: path, reason: "it cannot be read: \(String(cString: strerror(errno)))")
        }
        // Nothing is waited for if it is a pipe.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw failed() }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failed() }
        guard status.st_mode & S_IFMT == S_IFREG else { throw TLSError(file: path, reason: "it is no file") }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failed() }
            guard count > 0 else { break }
            bytes += chunk[..<count]
            guard bytes.count <= Self.maximumBytes else {
                throw TLSError(file: path, reason: "it is longer than \(Self.maximumBytes) bytes, which no key is")
            }
        }
        self.bytes = bytes
        fingerprint = Fingerprint(status)
        isOpenToOthers = status.st_mode & (S_IROTH | S_IWOTH) != 0
    }
}
