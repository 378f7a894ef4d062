// Tandem — Apache-2.0

/// Reads what the control daemon answers. Null means that the answer is none of the expected ones, an error text
/// mostly; it is never taken for "nothing there".
public enum ControlAnswers {
    /// One number a line; no line, no server.
    public static func processIDs(_ lines: [String]) -> [Int32]? {
        var ids: [Int32] = []
        for line in lines {
            guard let id = Int32(trimmed(line)), id >= 0 else { return nil }
            ids.append(id)
        }
        return ids
    }

    /// The clients of `ps`. Without a server it answers `Server not found`, which says that there are none.
    public static func clients(_ lines: [String]) -> [ControlClient]? {
        if lines == ["Server not found"] || lines.isEmpty { return [] }
        guard fields(lines[0]).first == "PID" else { return nil }
        var clients: [ControlClient] = []
        for line in lines.dropFirst() where !trimmed(line).isEmpty {
            let fields = fields(line)
            guard fields.count >= 5, let pid = Int32(fields[0]), let server = Int32(fields[2]) else { return nil }
            clients.append(
                ControlClient(
                    pid: pid, server: server, device: fields[3], namespace: UInt64(fields[4]),
                    command: fields.dropFirst(5).joined(separator: " ")))
        }
        return clients
    }

    /// The clients of version 3 (`client list --format=csv`), whose first line names the columns.
    public static func clientsVersion3(_ lines: [String]) -> [ControlClient]? {
        guard let rows = table(lines, needs: ["pid", "server", "device"]) else { return nil }
        var clients: [ControlClient] = []
        for row in rows {
            guard let pid = row["pid"].flatMap({ Int32($0) }) else { return nil }
            clients.append(
                ControlClient(
                    pid: pid, server: row["server"].flatMap { Int32($0) } ?? 0, device: row["device"] ?? "",
                    namespace: row["namespace"].flatMap { UInt64($0) }, command: row["command"] ?? ""))
        }
        return clients
    }

    /// The servers of version 3 (`server list --format=csv`).
    public static func serversVersion3(_ lines: [String]) -> [ControlServer]? {
        guard let rows = table(lines, needs: ["name", "pid", "status"]) else { return nil }
        var servers: [ControlServer] = []
        for row in rows {
            guard let name = row["name"], let pid = row["pid"].flatMap({ Int32($0) }) else { return nil }
            servers.append(ControlServer(name: name, pid: pid, status: ServerStatus(row["status"] ?? "")))
        }
        return servers
    }

    /// The answer of `get_server_status`; null where the daemon does not know the command.
    public static func serverStatus(_ lines: [String]) -> ServerStatus? {
        guard lines.count == 1, !isUnknownCommand(lines[0]), !lines[0].hasSuffix("not found") else { return nil }
        return ServerStatus(lines[0])
    }

    /// Percentages with one decimal.
    public static func percentage(_ lines: [String]) -> Double? {
        guard lines.count == 1 else { return nil }
        return Double(trimmed(lines[0]))
    }

    /// A limit such as `10G` or `512M` in MiB; zero lines say that none is set.
    public static func memoryLimit(_ lines: [String]) -> MemoryLimit? {
        guard let line = lines.first.map(trimmed), !line.isEmpty else { return MemoryLimit.none }
        guard lines.count == 1, let unit = line.last, let number = Int(line.dropLast()), number >= 0 else { return nil }
        switch unit {
        case "G":
            let (mebibytes, overflow) = number.multipliedReportingOverflow(by: 1024)
            return overflow ? nil : .mebibytes(mebibytes)
        case "M": return .mebibytes(number)
        default: return nil
        }
    }

    /// The last line of `terminate_client` is a CUDA result; 0 is success.
    public static func terminated(_ lines: [String]) -> Bool {
        lines.last.map(trimmed) == "0"
    }

    /// Priority 0 or 1.
    public static func priority(_ lines: [String]) -> ClientPriority? {
        guard lines.count == 1 else { return nil }
        return Int(trimmed(lines[0])).flatMap(ClientPriority.init(rawValue:))
    }

    /// Whether the daemon does not know the command.
    public static func isUnknownCommand(_ line: String) -> Bool { line.hasPrefix("Unknown command") }

    /// Rows of comma-separated values by the names in the first line. An answer without that line is no answer.
    private static func table(_ lines: [String], needs columns: [String]) -> [[String: String]]? {
        guard let first = lines.first else { return nil }
        let names = cells(first).map { $0.lowercased() }
        guard columns.allSatisfy(names.contains) else { return nil }
        var rows: [[String: String]] = []
        for line in lines.dropFirst() where !trimmed(line).isEmpty {
            let cells = cells(line)
            guard cells.count >= names.count else { return nil }
            rows.append(Dictionary(zip(names, cells), uniquingKeysWith: { first, _ in first }))
        }
        return rows
    }

    private static func cells(_ line: String) -> [String] {
        line.split(separator: ",", omittingEmptySubsequences: false).map { trimmed(String($0)) }
    }

    private static func fields(_ line: String) -> [String] {
        line.split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
    }

    static func trimmed(_ text: String) -> String {
        var rest = text[...]
        while rest.first?.isWhitespace == true { rest.removeFirst() }
        while rest.last?.isWhitespace == true { rest.removeLast() }
        return String(rest)
    }
}

/// A client as the control daemon lists it.
public struct ControlClient: Sendable, Equatable {
    /// 0 if the daemon cannot see the client's process: they live in different PID namespaces.
    public var pid: Int32
    public var server: Int32
    public var device: String
    /// Number of its PID namespace; null where the listing has none.
    public var namespace: UInt64?
    public var command: String

    public init(pid: Int32, server: Int32, device: String = "", namespace: UInt64? = nil, command: String = "") {
        self.pid = pid
        self.server = server
        self.device = device
        self.namespace = namespace
        self.command = command
    }
}

/// A server of version 3.
public struct ControlServer: Sendable, Equatable {
    public var name: String
    public var pid: Int32
    public var status: ServerStatus
}

/// What a server says of itself.
public enum ServerStatus: Sendable, Equatable {
    case initializing, active, fault
    case other(String)

    init(_ text: String) {
        let text = ControlAnswers.trimmed(text)
        switch text.uppercased() {
        case "INITIALIZING": self = .initializing
        case "ACTIVE", "READY": self = .active
        case "FAULT": self = .fault
        default: self = .other(text)
        }
    }
}

/// A limit on device memory.
public enum MemoryLimit: Sendable, Equatable {
    case none
    case mebibytes(Int)
}
