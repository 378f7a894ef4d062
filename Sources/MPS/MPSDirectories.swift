// Tandem — Apache-2.0

internal import Glibc

/// The directories of one daemon of ours, in a parent that only this user can enter: MPS makes its sockets open to all.
public struct MPSDirectories: Sendable, Equatable {
    /// Only we can enter it. Holds the two others and the daemon's own log.
    public var parent: String
    /// Of the sockets; what clients get as `CUDA_MPS_PIPE_DIRECTORY`.
    public var pipe: String
    /// Of the servers' logs.
    public var log: String

    /// The daemon's own log: what it prints as a foreground child, or where one in the background puts it.
    public var controlLog: String

    /// A daemon of 535 with a longer path ends without a word.
    public static let maximumPathBytes = 87

    /// - Parameters:
    ///   - base: a directory for run-time files, `XDG_RUNTIME_DIR` or `/tmp`.
    ///   - device: what tells the GPU from others, such as its index or UUID.
    ///   - user: null for the one of this process.
    public init(base: String, device: String, user: UInt32? = nil) throws(MPSError) {
        let name = device.filter { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") }
        parent = "\(base)/tandem-mps-\(user ?? getuid())-\(name)"
        pipe = parent + "/pipe"
        log = parent + "/log"
        controlLog = parent + "/control.log"
        guard pipe.utf8.count <= Self.maximumPathBytes else {
            throw .pathTooLong(path: pipe, limit: Self.maximumPathBytes)
        }
    }

    /// Those of somebody else's daemon.
    ///
    /// - Parameters:
    ///   - pipe: null for what `environment` says, or CUDA's default.
    ///   - environment: may name the directory of the logs.
    public init(external pipe: String?, environment: [String: String]) throws(MPSError) {
        self.pipe = pipe ?? environment["CUDA_MPS_PIPE_DIRECTORY"] ?? Self.usualPipe
        parent = "/" + self.pipe.split(separator: "/").dropLast().joined(separator: "/")
        log = environment["CUDA_MPS_LOG_DIRECTORY"] ?? "/var/log/nvidia-mps"
        controlLog = log + "/control.log"
        guard self.pipe.utf8.count <= Self.maximumPathBytes else {
            throw .pathTooLong(path: self.pipe, limit: Self.maximumPathBytes)
        }
    }

    /// Where CUDA programs look for a daemon if nothing else is said.
    public static let usualPipe = "/tmp/nvidia-mps"

    /// The log of the servers.
    public var serverLog: String { log + "/server.log" }

    /// Held by the supervisor to whom the daemon belongs.
    public var ownerLock: String { parent + "/owner" }

    /// The file that callers of one daemon lock: beside its pipe directory, which may be removed with the daemon.
    static func lockPath(ofPipeDirectory directory: String) -> String {
        var path = directory[...]
        while path.count > 1 && path.last == "/" { path.removeLast() }
        return path + ".lock"
    }

    /// Makes the directories. The daemon makes at most the last component of a path, and with permissions for all.
    public func make() throws(MPSError) {
        for path in [parent, pipe, log] {
            guard mkdir(path, 0o700) == 0 || errno == EEXIST else {
                throw .system(operation: "create the directory", subject: path, errno: errno)
            }
            var status = stat()
            guard lstat(path, &status) == 0 else {
                throw .system(operation: "look at the directory", subject: path, errno: errno)
            }
            guard status.st_mode & S_IFMT == S_IFDIR else { throw .notPrivate(path: path, reason: "it is none") }
            guard status.st_uid == getuid() else { throw .notPrivate(path: path, reason: "it is another user's") }
            guard status.st_mode & 0o077 == 0 || chmod(path, 0o700) == 0 else {
                throw .system(operation: "close to others the directory", subject: path, errno: errno)
            }
        }
    }

    /// Removes the sockets of a daemon that is gone. Logs stay: they are the evidence.
    public func cleanPipes() {
        for name in ProcessTable.names(in: pipe) { unlink(pipe + "/" + name) }
    }

    /// Makes this process the owner of the daemon in here, for as long as the value lives.
    public func own() throws(MPSError) -> MPSOwnership {
        let descriptor = open(ownerLock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw .system(operation: "open", subject: ownerLock, errno: errno) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw .directoryInUse(path: parent)
        }
        return MPSOwnership(descriptor: descriptor)
    }
}

/// The right to start and end the daemon of a directory; the kernel takes it back when its holder dies.
public final class MPSOwnership: Sendable {
    private let descriptor: Int32

    fileprivate init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    deinit {
        close(descriptor)
    }
}
