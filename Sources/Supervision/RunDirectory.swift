// Tandem — Apache-2.0

internal import Glibc

/// A private directory with a short path for the sockets of one supervisor: `tandem-<uid>-<pid>`. A lock inside tells
/// a living owner from remains.
public final class RunDirectory {
    let path: String
    private var lock: Int32
    /// What is there under its name is this.
    private var identity: (device: UInt, number: UInt)

    /// Makes the directory, and removes those of supervisors that are gone.
    ///
    /// - Parameters:
    ///   - base: where; a directory whose sockets fit into the 107 bytes of a Unix socket address.
    ///   - clean: called with the directory of a supervisor that is gone, before it is removed.
    init(base: String, clean: (String) -> Void = { _ in }) throws(SupervisionError) {
        Self.removeRemains(in: base, clean)
        let path = try Self.make("\(base)/tandem-\(getuid())-\(getpid())")
        lock = try Self.lock(path)
        guard let identity = Self.identity(path) else {
            throw .system(operation: "look at the directory", subject: path, errno: errno)
        }
        self.identity = identity
        self.path = path
    }

    /// Null for what is no directory of this user.
    private static func identity(_ path: String) -> (device: UInt, number: UInt)? {
        var status = stat()
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR, status.st_uid == geteuid() else {
            return nil
        }
        return (status.st_dev, status.st_ino)
    }

    /// Whether what has its name is what was made.
    private var isOwn: Bool { Self.identity(path).map { $0 == identity } ?? false }

    private static func lock(_ path: String) throws(SupervisionError) -> Int32 {
        let lock = open(path + "/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard lock >= 0, flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            if lock >= 0 { close(lock) }
            remove(path)
            throw .system(operation: "lock the directory", subject: path, errno: code)
        }
        return lock
    }

    /// Makes it again if somebody removed it: cleaners of /tmp do so.
    ///
    /// - Returns: what was gone.
    func restore() throws(SupervisionError) -> Loss {
        guard mkdir(path, 0o700) == 0 else {
            // In a directory that is open to all, somebody else may have taken the name.
            guard errno == EEXIST, isOwn else {
                throw .system(operation: "create the directory", subject: path, errno: errno)
            }
            // Cleaners take old files first. Without it, who does not see this process would take the rest for remains.
            guard access(path + "/lock", F_OK) != 0 else { return .nothing }
            try renewLock()
            return .lock
        }
        guard let identity = Self.identity(path) else {
            throw .system(operation: "look at the directory", subject: path, errno: errno)
        }
        self.identity = identity
        try renewLock()
        return .all
    }

    enum Loss {
        case nothing
        /// The lock's file, and perhaps others.
        case lock
        /// The directory with all that was in it.
        case all
    }

    private func renewLock() throws(SupervisionError) {
        let new = try Self.lock(path)
        close(lock)
        lock = new
    }

    /// Makes the directory; if a living one has its name (containers that share /tmp may have equal process ids), one
    /// with a number behind it.
    private static func make(_ wanted: String) throws(SupervisionError) -> String {
        for attempt in 0..<100 {
            let path = attempt == 0 ? wanted : "\(wanted)-\(attempt)"
            if mkdir(path, 0o700) == 0 { return path }
            guard errno == EEXIST else {
                throw .system(operation: "create the directory", subject: path, errno: errno)
            }
        }
        throw .system(operation: "create the directory", subject: wanted, errno: EEXIST)
    }

    /// XDG_RUNTIME_DIR if it is usable and short enough, else /tmp.
    public static func base(environment: [String: String]) -> String {
        guard let directory = environment["XDG_RUNTIME_DIR"], directory.hasPrefix("/"), directory.utf8.count <= 60,
            access(directory, W_OK | X_OK) == 0
        else { return "/tmp" }
        return directory
    }

    deinit {
        if isOwn { Self.remove(path) }
        close(lock)
    }

    /// Run directories, of the living and of the dead, with the process ids in their names.
    ///
    /// - Parameter isAnyones: whether those of other users count; else only this user's do.
    static func all(in base: String, isAnyones: Bool = false) -> [(path: String, pid: Int32)] {
        names(in: base).compactMap { name in
            let parts = name.split(separator: "-", omittingEmptySubsequences: false)
            guard parts.count >= 3, parts[0] == "tandem", let user = UInt32(parts[1]), let pid = Int32(parts[2]),
                pid > 0, isAnyones || user == getuid()
            else { return nil }
            let path = "\(base)/\(name)"
            var status = stat()
            // In a directory that is open to all, somebody else may have chosen the name.
            guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR, status.st_uid == user else {
                return nil
            }
            return (path, pid)
        }
    }

    private static func removeRemains(in base: String, _ clean: (String) -> Void) {
        for (path, pid) in all(in: base) {
            let lock = open(path + "/lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW)
            // Without a lock it may be a directory in the making.
            let isDead = lock >= 0 ? flock(lock, LOCK_EX | LOCK_NB) == 0 : pid == getpid() || !exists(pid)
            if isDead {
                clean(path)
                remove(path)
            }
            if lock >= 0 { close(lock) }
        }
    }

    private static func exists(_ pid: Int32) -> Bool {
        kill(pid, 0) == 0 || errno != ESRCH
    }

    /// Removes a directory that holds files only.
    private static func remove(_ path: String) {
        for name in names(in: path) { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    static func names(in directory: String) -> [String] {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }
}
