// Tandem — Apache-2.0

internal import Glibc

/// What is known of a file without reading it.
struct FileStatus: Equatable {
    var byteCount: UInt64
    /// Time of last change, in nanoseconds since 1970.
    var modified: Int64
    var isRegular: Bool
    var isDirectory: Bool

    /// Null if there is nothing at `path`.
    init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        byteCount = UInt64(max(0, status.st_size))
        modified = Int64(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int64(status.st_mtim.tv_nsec)
        isRegular = status.st_mode & S_IFMT == S_IFREG
        isDirectory = status.st_mode & S_IFMT == S_IFDIR
    }
}

/// File operations of the cache.
enum Files {
    /// Makes the directory and those above it.
    static func makeDirectories(_ path: String) throws(ModelStoreError) {
        var prefix = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            prefix += "/" + part
            if mkdir(prefix, 0o755) != 0 && errno != EEXIST {
                throw .system(operation: "create the directory", path: prefix, errno: errno)
            }
        }
    }

    /// Removes whatever is at `path`, directories with their contents. Failures are ignored: the next pull retries.
    static func removeTree(_ path: String) {
        if unlink(path) == 0 { return }
        for name in names(in: path) { removeTree(path + "/" + name) }
        rmdir(path)
    }

    /// Removes a directory that has no entries.
    static func removeIfEmpty(_ path: String) {
        rmdir(path)
    }

    /// Bytes in all files under `path`.
    static func totalBytes(under path: String) -> UInt64 {
        guard let status = FileStatus(path: path) else { return 0 }
        guard status.isDirectory else { return status.byteCount }
        return names(in: path).reduce(0) { $0 &+ totalBytes(under: path + "/" + $1) }
    }

    /// The name of a directory, links and dots resolved; null for the root.
    static func lastComponent(ofDirectory path: String) -> String? {
        let full = realpath(path, nil)
        defer { free(full) }
        let text = full.map { String(cString: $0) } ?? path
        return text.split(separator: "/").last.map(String.init)
    }

    /// Names of the entries of a directory, sorted; empty if it cannot be read.
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
        return names.sorted()
    }

    /// Bytes free for us on the disk of `path`.
    static func availableBytes(at path: String) -> UInt64? {
        var status = statvfs()
        guard statvfs(path, &status) == 0 else { return nil }
        let (bytes, overflow) = UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize))
        return overflow ? nil : bytes
    }

    /// Digests a file; `progress` gets the bytes done so far.
    static func sha256(of path: String, progress: (UInt64) throws(ModelStoreError) -> Void)
        throws(ModelStoreError) -> String
    {
        var digest = SHA256()
        try forEachPiece(of: path, progress: progress) { digest.update($0) }
        return digest.hexDigest()
    }

    /// The name that git gives to the content of a file.
    static func gitBlob(of path: String, progress: (UInt64) throws(ModelStoreError) -> Void)
        throws(ModelStoreError) -> String
    {
        guard let status = FileStatus(path: path) else { throw .system(operation: "open", path: path, errno: ENOENT) }
        var digest = SHA1(gitFileOf: status.byteCount)
        try forEachPiece(of: path, progress: progress) { digest.update($0) }
        return digest.hexDigest()
    }

    /// Reads a file in pieces of 1 MiB.
    private static func forEachPiece(
        of path: String, progress: (UInt64) throws(ModelStoreError) -> Void, _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(ModelStoreError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system(operation: "open", path: path, errno: errno) }
        defer { close(descriptor) }
        var done: UInt64 = 0
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
        defer { buffer.deallocate() }
        while true {
            let count = read(descriptor, buffer.baseAddress, buffer.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw .system(operation: "read", path: path, errno: errno)
            }
            if count == 0 { break }
            body(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            done += UInt64(count)
            try progress(done)
        }
    }

    /// The content of a file; null if it cannot be read or is larger than `limit`.
    static func bytes(of path: String, limit: Int) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var content: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0, content.count + count <= limit else { return nil }
            if count == 0 { return content }
            content += buffer[..<count]
        }
    }

    /// Gives a file a second name; false if the disk cannot.
    static func link(_ source: String, to destination: String) -> Bool {
        unlink(destination)
        return Glibc.link(source, destination) == 0
    }

    /// Waits until the contents of a file or directory are on the disk.
    static func synchronize(_ path: String) throws(ModelStoreError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system(operation: "open", path: path, errno: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else {
            if errno == ENOSPC { throw .diskFull(path: path, neededBytes: 0, availableBytes: nil) }
            throw .system(operation: "write", path: path, errno: errno)
        }
    }

    static func move(_ source: String, to destination: String) throws(ModelStoreError) {
        guard rename(source, destination) == 0 else {
            throw .system(operation: "rename a file to", path: destination, errno: errno)
        }
    }

    /// At most 64 KiB of a small text file; null if it cannot be read.
    static func text(of path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 65536)
        let count = read(descriptor, &buffer, buffer.count)
        return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
    }

    /// Replaces a small file as a whole.
    static func write(_ text: String, to path: String) throws(ModelStoreError) {
        let temporary = path + ".new"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .system(operation: "create", path: temporary, errno: errno) }
        let bytes = Array(text.utf8)
        let count = Glibc.write(descriptor, bytes, bytes.count)
        let code = errno
        close(descriptor)
        guard count == bytes.count else { throw .system(operation: "write", path: temporary, errno: code) }
        try move(temporary, to: path)
    }
}
