// Tandem — Apache-2.0

internal import Glibc

/// Why MPS could not be used.
public enum MPSError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The control daemon of 535 ends without a word if its pipe directory has a longer path.
    case pathTooLong(path: String, limit: Int)
    /// Others could reach the daemon, or have put something of theirs in its place.
    case notPrivate(path: String, reason: String)
    case directoryInUse(path: String)
    case programMissing(name: String)
    case system(operation: String, subject: String, errno: Int32)

    public var description: String {
        switch self {
        case .pathTooLong(let path, let limit):
            "the MPS pipe directory \(path) has \(path.utf8.count) bytes, and MPS takes \(limit): name a shorter "
                + "directory with XDG_RUNTIME_DIR"
        case .notPrivate(let path, let reason):
            "the directory \(path) cannot hold an MPS daemon: \(reason); remove it, or set XDG_RUNTIME_DIR"
        case .directoryInUse(let path):
            "another tandem manages the MPS daemon in \(path): stop it, or join it with --mps external"
        case .programMissing(let name):
            "\(name) is not in PATH: it comes with the NVIDIA driver (Debian: nvidia-cuda-mps); without it use --mps off"
        case .system(let operation, let subject, let code):
            "cannot \(operation) \(subject): \(String(cString: strerror(code)))"
        }
    }
}
