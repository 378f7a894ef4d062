// Tandem — Apache-2.0

internal import Glibc
internal import Synchronization

/// A figure's file while it is being filled: whole lines are appended, so that an interruption costs one measurement.
public final class StudyFile: Sendable {
    /// What the file held when it was opened, of the same study.
    public let before: StudyResult
    private let path: String
    private let descriptor: Mutex<Int32>

    /// Most bytes that are read of a file.
    private static let mostBytes = 1 << 28

    /// Opens a figure's file to go on with it, or begins it.
    ///
    /// - Parameters:
    ///   - path: `results/F1.jsonl`; its directory must exist.
    ///   - header: of the study that is to be made.
    ///   - resumes: whether measurements of the same study that are in the file are kept; else it begins anew.
    /// - Throws: ``StudyError`` if the file cannot be read or written, or holds another study.
    public init(path: String, header: StudyHeader, resumes: Bool) throws(StudyError) {
        self.path = path
        let exists = access(path, F_OK) == 0
        let file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard file >= 0 else {
            throw StudyError(subject: path, reason: "cannot be written: \(String(cString: strerror(errno)))")
        }
        let kept: StudyResult?
        do throws(StudyError) {
            kept = try Self.begin(file, path: path, header: header, resumes: resumes && exists)
        } catch {
            close(file)
            throw error
        }
        descriptor = Mutex(file)
        before = kept ?? StudyResult(header: header)
        if kept == nil { try append(.header(header)) }
    }

    /// Takes a file for this study alone, for as long as it is open.
    ///
    /// - Returns: what it holds of the study, and nothing else afterwards; null if nothing.
    private static func begin(
        _ file: Int32, path: String, header: StudyHeader, resumes: Bool
    ) throws(StudyError) -> StudyResult? {
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
            throw StudyError(
                subject: path, reason: "is being written by another study; wait for it, or give another --out")
        }
        var kept: StudyResult?
        var length = 0
        if resumes {
            let bytes = try read(path)
            // A file without one whole line is an interruption at the very beginning.
            if let end = bytes.lastIndex(of: UInt8(ascii: "\n")) {
                let found = try StudyResult(lines: bytes, name: path, mayBeCut: true)
                try found.header.mustContinue(header, path: path)
                kept = found
                length = end + 1
            }
        }
        guard ftruncate(file, off_t(length)) == 0 else {
            throw StudyError(subject: path, reason: "cannot be written: \(String(cString: strerror(errno)))")
        }
        return kept
    }

    deinit { descriptor.withLock { _ = close($0) } }

    /// Appends a line; any thread may call it.
    ///
    /// - Throws: ``StudyError`` if the disk takes no more. The line may be there in part then, and is left out when the
    ///   study goes on.
    public func append(_ record: StudyRecord) throws(StudyError) {
        let line = record.line
        let count = descriptor.withLock { file in line.withUnsafeBytes { write(file, $0.baseAddress, $0.count) } }
        guard count == line.count else {
            let reason = count < 0 ? String(cString: strerror(errno)) : "the disk took \(count) of \(line.count) bytes"
            throw StudyError(subject: path, reason: "cannot be written: \(reason)")
        }
    }

    /// Reads a figure's file.
    ///
    /// - Throws: ``StudyError`` naming the file, and the line at fault.
    public static func result(path: String) throws(StudyError) -> StudyResult {
        try StudyResult(lines: read(path), name: path)
    }

    /// Reads a file that a user named.
    ///
    /// - Throws: ``StudyError`` naming the file.
    public static func read(_ path: String) throws(StudyError) -> [UInt8] {
        guard let file = fopen(path, "r") else {
            throw StudyError(subject: path, reason: String(cString: strerror(errno)))
        }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 {
            bytes += buffer[..<count]
            guard bytes.count <= mostBytes else {
                throw StudyError(subject: path, reason: "has more than \(mostBytes >> 20) MiB; that is no study")
            }
        }
        guard ferror(file) == 0 else {
            throw StudyError(subject: path, reason: "cannot be read: \(String(cString: strerror(errno)))")
        }
        return bytes
    }
}

extension StudyHeader {
    /// - Throws: ``StudyError`` if measurements under this header do not belong beside those of the other one.
    func mustContinue(_ next: StudyHeader, path: String) throws(StudyError) {
        let remedy = "give another --out, or --no-resume to begin anew"
        let different: String? =
            if definition != next.definition {
                "another definition of \(next.definition.figure)"
            } else if kind != next.kind || device != next.device || deviceTitle != next.deviceTitle {
                "another device (\(deviceTitle.prefix(64)))"
            } else if machine != next.machine && kind == .measured {
                "another machine (\(machine.prefix(120)))"
            } else if version != next.version || revision != next.revision {
                "another version of tandem (\(version.prefix(32))\(revision.map { ", \($0.prefix(12))" } ?? ""))"
            } else if parameters != next.parameters {
                "other parameters"
            } else {
                nil
            }
        guard let different else { return }
        throw StudyError(subject: path, reason: "holds results of \(different); \(remedy)")
    }
}
