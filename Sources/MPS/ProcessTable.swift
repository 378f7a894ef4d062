// Tandem — Apache-2.0

internal import CTandemSystem
internal import Glibc

/// Looks up processes in `/proc`.
public struct ProcessTable: Sendable {
    /// Where process information is mounted.
    public var root: String

    public init(root: String = "/proc") {
        self.root = root
    }

    /// Who has this number now; null if nobody does. Zombies have ended.
    public func identity(of pid: Int32) -> ProcessIdentity? {
        guard pid > 0, let fields = statFields(pid), fields.count > 19, fields[0] != "Z", fields[0] != "X",
            let start = UInt64(fields[19])
        else { return nil }
        return ProcessIdentity(pid: pid, startTime: start)
    }

    /// Whether it still lives.
    public func lives(_ process: ProcessIdentity) -> Bool {
        identity(of: process.pid) == process
    }

    /// The value of a variable in the environment that a process was started with; null if it has none, or another
    /// user's environment is hidden.
    public func variable(_ name: String, of pid: Int32) -> String? {
        guard let bytes = Self.read("\(root)/\(pid)/environ", limit: 1 << 20) else { return nil }
        let prefix = Array((name + "=").utf8)
        for entry in bytes.split(separator: 0) where entry.starts(with: prefix) {
            return String(decoding: entry.dropFirst(prefix.count), as: UTF8.self)
        }
        return nil
    }

    /// Processes of MPS whose environment names this pipe directory: a daemon, and servers that may have outlived it.
    public func processes(inPipeDirectory directory: String) -> [MPSProcess] {
        mpsProcesses().filter { $0.pipeDirectory == directory }
    }

    /// All processes of MPS; those of other users without their directories, unless this user may see them.
    public func mpsProcesses() -> [MPSProcess] {
        var found: [MPSProcess] = []
        for name in Self.names(in: root) {
            guard let pid = Int32(name), let fields = statFields(pid), fields.count > 19, fields[0] != "Z",
                let start = UInt64(fields[19]), let parent = Int32(fields[1]), let role = role(of: pid)
            else { continue }
            var status = stat()
            guard stat("\(root)/\(pid)", &status) == 0 else { continue }
            found.append(
                MPSProcess(
                    identity: ProcessIdentity(pid: pid, startTime: start), parent: parent, user: status.st_uid,
                    role: role, pipeDirectory: variable("CUDA_MPS_PIPE_DIRECTORY", of: pid)))
        }
        return found.sorted { $0.identity.pid < $1.identity.pid }
    }

    /// The namespace of a kind (`pid`, `ipc`) that a process (a number, or `self`) is in; null if it cannot be seen.
    public func namespace(_ kind: String, of pid: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 256)
        let count = readlink("\(root)/\(pid)/ns/\(kind)", &buffer, buffer.count - 1)
        guard count > 0 else { return nil }
        return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Sends a signal to exactly this process; false if it has ended.
    @discardableResult
    public func send(_ signal: Int32, to process: ProcessIdentity) -> Bool {
        let handle = tandem_pidfd_open(process.pid)
        guard handle >= 0 else { return false }
        defer { close(handle) }
        // The handle is taken first: what it stands for cannot change any more while its start is looked at.
        guard lives(process) else { return false }
        return tandem_pidfd_send_signal(handle, signal) >= 0
    }

    /// Which program of MPS a process runs, also as a script.
    private func role(of pid: Int32) -> MPSRole? {
        guard let bytes = Self.read("\(root)/\(pid)/cmdline", limit: 65536) else { return nil }
        let words = bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        // The name of a script follows that of its interpreter and the interpreter's options.
        for word in words.filter({ !$0.hasPrefix("-") }).prefix(2) {
            let name = word.split(separator: "/").last.map(String.init)
            if name == MPSRole.server.program { return .server }
            // Without one of these it is somebody's query, not a daemon.
            if name == MPSRole.control.program { return words.contains("-f") || words.contains("-d") ? .control : nil }
        }
        return nil
    }

    /// The fields of `stat` behind the name, which may hold blanks and brackets: state, parent, …
    func statFields(_ pid: Int32) -> [Substring]? {
        guard let bytes = Self.read("\(root)/\(pid)/stat", limit: 4096),
            let end = bytes.lastIndex(of: UInt8(ascii: ")"))
        else { return nil }
        return String(decoding: bytes[(end + 1)...], as: UTF8.self).split(whereSeparator: \.isWhitespace)
    }

    static func read(_ path: String, limit: Int) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var content: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while content.count < limit {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { return nil }
            if count == 0 { break }
            content += buffer[..<count]
        }
        return content
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
