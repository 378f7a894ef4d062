// Tandem — Apache-2.0

/// What became of a batch of control commands. Only ``answer(_:)`` says anything about servers and clients: an empty
/// list is one that the daemon was seen to finish.
public enum ControlOutcome: Sendable, Equatable {
    /// The lines that each command was answered with, in the order of the commands.
    case answer([[String]])
    /// The session broke before its end: somebody else's session pushed it out, or the daemon died.
    case truncated
    /// No answer in time.
    case busy(BusyReason)
    /// Nothing listens in the pipe directory.
    case noDaemon

    /// Who kept the answer from coming.
    public enum BusyReason: Sendable, Equatable {
        /// Another process of ours asks, and has not finished.
        case lock
        /// The daemon does not answer: its server starts or is wedged, or it was stopped.
        case daemon
    }
}

/// A command of the control daemon, version 2 (drivers 535 to 610), or its counterpart in version 3.
public enum ControlCommand: Sendable, Equatable, Hashable {
    case serverList
    /// Unknown to 535.
    case serverStatus(server: Int32)
    /// Answers with silence even if the server dies at once.
    case startServer(user: UInt32)
    case clientList(server: Int32)
    /// All clients of all servers.
    case clients
    case terminateClient(server: Int32, client: Int32)
    case defaultThreadPercentage
    case setDefaultThreadPercentage(Double)
    case defaultMemoryLimit(device: String)
    case setDefaultMemoryLimit(device: String, mebibytes: Int)
    case defaultPriority
    case setDefaultPriority(ClientPriority)

    /// The line of version 2.
    var line: String {
        switch self {
        case .serverList: "get_server_list"
        case .serverStatus(let server): "get_server_status \(server)"
        case .startServer(let user): "start_server -uid \(user)"
        case .clientList(let server): "get_client_list \(server)"
        case .clients: "ps"
        case .terminateClient(let server, let client): "terminate_client \(server) \(client)"
        case .defaultThreadPercentage: "get_default_active_thread_percentage"
        case .setDefaultThreadPercentage(let value): "set_default_active_thread_percentage \(Percentage.text(value))"
        case .defaultMemoryLimit(let device): "get_default_device_pinned_mem_limit \(device)"
        case .setDefaultMemoryLimit(let device, let mebibytes):
            "set_default_device_pinned_mem_limit \(device) \(mebibytes)M"
        case .defaultPriority: "get_default_client_priority"
        case .setDefaultPriority(let priority): "set_default_client_priority \(priority.rawValue)"
        }
    }

    /// Whether asking twice does no more than asking once.
    var isRepeatable: Bool {
        switch self {
        case .startServer, .terminateClient: false
        default: true
        }
    }

    /// What reads back that a setting was taken: 535 answers a refused value with the old one and exit status 0, or
    /// with nothing.
    var readBack: ControlCommand? {
        switch self {
        case .setDefaultThreadPercentage: .defaultThreadPercentage
        case .setDefaultMemoryLimit(let device, _): .defaultMemoryLimit(device: device)
        case .setDefaultPriority: .defaultPriority
        default: nil
        }
    }
}

/// How MPS ranks a client's work; a hint.
public enum ClientPriority: Int, Sendable, Equatable {
    case normal = 0
    case belowNormal = 1
}

/// Percentages as the control daemon writes and takes them.
enum Percentage {
    /// One decimal, cut off: 33.333 becomes 33.3.
    static func text(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded(.down))
        return "\(tenths / 10).\(tenths % 10)"
    }
}
