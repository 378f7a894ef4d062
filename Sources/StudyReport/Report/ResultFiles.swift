// Tandem — Apache-2.0

internal import Glibc
public import Study

/// Results on disk: a folder holds a file `FIGURE.jsonl` for each figure.
public enum ResultFiles {
    /// The longest file that is read, in bytes.
    static let largest = 512 << 20

    /// Reads the results in folders, or in single files.
    ///
    /// - Throws: ``StudyError`` naming the file, and the line if there is one, at fault.
    public static func read(_ paths: [String]) throws(StudyError) -> [StudyResult] {
        var results: [StudyResult] = []
        for path in paths {
            for file in try files(path) {
                results.append(try StudyResult(lines: try bytes(file), name: file))
            }
        }
        return results
    }

    /// The result files of a folder by name, or the file itself.
    private static func files(_ path: String) throws(StudyError) -> [String] {
        guard let folder = opendir(path) else {
            if errno == ENOTDIR { return [path] }
            throw failed(path)
        }
        defer { closedir(folder) }
        var files: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name.hasSuffix(".jsonl"), !name.hasPrefix(".") {
                files.append(path.hasSuffix("/") ? path + name : "\(path)/\(name)")
            }
        }
        guard !files.isEmpty else {
            throw StudyError(
                subject: path, reason: "holds no results (files FIGURE.jsonl); name the --out of a `tandem study` run")
        }
        return files.sorted()
    }

    private static func bytes(_ path: String) throws(StudyError) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw failed(path) }
        defer { close(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 18)
        while true {
            let count = chunk.withUnsafeMutableBytes { Glibc.read(file, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failed(path) }
            if count == 0 { return bytes }
            bytes += chunk[..<count]
            guard bytes.count <= largest else {
                throw StudyError(
                    subject: path, reason: "is longer than \(largest >> 20) MiB; this is no file of a study")
            }
        }
    }

    private static func failed(_ path: String) -> StudyError {
        StudyError(subject: path, reason: "cannot be read: \(String(cString: strerror(errno)))")
    }
}
