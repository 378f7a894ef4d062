// Tandem — Apache-2.0

/// A line of `control.log` or `server.log`: `[2026-11-22 12:37:24.014 Control 12593] text`.
public struct ControlLogLine: Sendable, Equatable {
    /// Who wrote it: `Control`, or `Other` or `Server` for a server.
    public var writer: String
    public var pid: Int32
    public var text: String

    /// Null if it is no such line.
    public init?(_ line: some StringProtocol) {
        guard line.first == "[", let end = line.firstIndex(of: "]") else { return nil }
        let head = line[line.index(after: line.startIndex)..<end].split(separator: " ")
        guard head.count == 4, let pid = Int32(head[3]) else { return nil }
        writer = String(head[2])
        self.pid = pid
        text = ControlAnswers.trimmed(String(line[line.index(after: end)...]))
    }

    /// What the line tells; null for noise.
    public var event: Event? {
        if text.hasPrefix("Starting control daemon using socket ") { return .daemonStarted }
        if let rest = after("CUDA MPS Control binary version: ") { return Int(rest).map(Event.binaryVersion) }
        if let rest = after("Starting new server ") { return pid(rest).map(Event.serverStarting) }
        if let rest = after("NEW SERVER "), rest.hasSuffix(": Ready") { return pid(rest).map(Event.serverReady) }
        if let rest = after("Server "), let found = rest.range(of: " exited with status ") {
            guard let server = pid(rest), let status = Int32(rest[found.upperBound...]) else { return nil }
            return .serverEnded(pid: server, status: status)
        }
        if let rest = after("NEW CLIENT ") {
            return pid(rest).map { .client(pid: $0, pending: rest.hasSuffix("push client to pending list")) }
        }
        if text.hasPrefix("Server encountered a fatal exception") || text == "Server is handling a fatal GPU error." {
            return .serverFault
        }
        if let rest = after("Client {PID: "), rest.hasSuffix("encountered a fatal GPU error.") {
            return pid(rest).map(Event.clientFault)
        }
        if let rest = after("Exit with status ") { return Int32(rest).map(Event.daemonEnded) }
        return nil
    }

    /// What a line can tell.
    public enum Event: Sendable, Equatable {
        case daemonStarted
        /// 13010 for CUDA 13.1.
        case binaryVersion(Int)
        case serverStarting(pid: Int32)
        case serverReady(pid: Int32)
        /// The status is 0 even after SIGKILL.
        case serverEnded(pid: Int32, status: Int32)
        case client(pid: Int32, pending: Bool)
        case serverFault
        /// Whose work it was; all clients lose theirs.
        case clientFault(pid: Int32)
        case daemonEnded(status: Int32)
    }

    private func after(_ prefix: String) -> Substring? {
        text.hasPrefix(prefix) ? text.dropFirst(prefix.count) : nil
    }

    private func pid(_ rest: Substring) -> Int32? {
        Int32(rest.prefix(while: \.isNumber))
    }
}

extension StringProtocol {
    /// The first place of `text`.
    fileprivate func range(of text: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}
