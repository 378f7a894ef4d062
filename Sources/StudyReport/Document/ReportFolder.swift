// Tandem — Apache-2.0

internal import Glibc
public import Study

/// The folder of a report on disk: written beside its place and put there whole, or not at all.
public enum ReportFolder {
    /// What marks a page as ours, see ``Document/html()``.
    private static let generator = "<meta name=\"generator\" content=\"tandem study\">"

    /// Puts a report's files into a folder. A report that is there already is replaced.
    ///
    /// - Parameter path: the folder; the one above it must exist.
    /// - Throws: ``StudyError`` naming the path, with nothing changed at `path`.
    public static func write(_ files: [Document.File], to path: String) throws(StudyError) {
        var path = path
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        let exists = try isReplaceable(path)
        let draft = "\(path).draft-\(getpid())"
        do throws(StudyError) {
            try makeFolder(draft)
            for file in files {
                if let slash = file.path.lastIndex(of: "/") {
                    let folder = "\(draft)/\(file.path[..<slash])"
                    if access(folder, F_OK) != 0 { try makeFolder(folder) }
                }
                try write(file.bytes, "\(draft)/\(file.path)")
            }
            try put(draft, at: path, exists: exists)
        } catch {
            remove(draft)
            throw error
        }
    }

    /// Whether something is at the path that may be replaced.
    private static func isReplaceable(_ path: String) throws(StudyError) -> Bool {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return false }
            throw failed(path, "cannot be looked at")
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw StudyError(subject: path, reason: "is a file; name a folder for the report, new or an older report's")
        }
        if try entries(path).isEmpty { return true }
        let page = open("\(path)/index.html", O_RDONLY | O_CLOEXEC)
        if page >= 0 {
            defer { close(page) }
            var start = [UInt8](repeating: 0, count: 4096)
            let count = start.withUnsafeMutableBytes { read(page, $0.baseAddress, $0.count) }
            if count > 0, String(decoding: start[..<count], as: UTF8.self).contains(generator) { return true }
        }
        throw StudyError(
            subject: path, reason: "holds something else than a report; name a folder that is new, empty or a report's")
    }

    private static func put(_ draft: String, at path: String, exists: Bool) throws(StudyError) {
        guard exists else {
            guard rename(draft, path) == 0 else { throw failed(path, "cannot be made") }
            return
        }
        let old = "\(path).old-\(getpid())"
        guard rename(path, old) == 0 else { throw failed(path, "cannot be moved away") }
        guard rename(draft, path) == 0 else {
            let error = failed(path, "cannot be made")
            _ = rename(old, path)
            throw error
        }
        remove(old)
    }

    private static func makeFolder(_ path: String) throws(StudyError) {
        guard mkdir(path, 0o777) == 0 else { throw failed(path, "cannot be made") }
    }

    private static func write(_ bytes: [UInt8], _ path: String) throws(StudyError) {
        let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        guard file >= 0 else { throw failed(path, "cannot be made") }
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress?.advanced(by: done), $0.count - done) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let error = failed(path, "cannot be written")
                close(file)
                throw error
            }
            done += count
        }
        guard fsync(file) == 0, close(file) == 0 else { throw failed(path, "cannot be written") }
    }

    private static func entries(_ path: String) throws(StudyError) -> [String] {
        guard let folder = opendir(path) else { throw failed(path, "cannot be read") }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// Removes a folder with all that is in it; what cannot be removed stays.
    private static func remove(_ path: String) {
        for name in (try? entries(path)) ?? [] {
            if unlink("\(path)/\(name)") != 0 { remove("\(path)/\(name)") }
        }
        _ = rmdir(path)
    }

    private static func failed(_ path: String, _ what: String) -> StudyError {
        StudyError(subject: path, reason: "\(what): \(String(cString: strerror(errno)))")
    }
}
