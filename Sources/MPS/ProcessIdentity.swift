// Tandem — Apache-2.0

/// A process, not to be mistaken for a later one with the same number.
public struct ProcessIdentity: Sendable, Equatable, Hashable {
    public var pid: Int32
    /// Clock ticks since the machine started.
    public var startTime: UInt64

    public init(pid: Int32, startTime: UInt64) {
        self.pid = pid
        self.startTime = startTime
    }
}

/// The two programs of MPS.
public enum MPSRole: Sendable, Equatable {
    case control, server

    /// Name of the program.
    public var program: String {
        switch self {
        case .control: "nvidia-cuda-mps-control"
        case .server: "nvidia-cuda-mps-server"
        }
    }
}

/// A process of MPS.
public struct MPSProcess: Sendable, Equatable {
    public var identity: ProcessIdentity
    public var parent: Int32
    public var user: UInt32
    public var role: MPSRole
    /// What its environment names; null if that is hidden, or it names none.
    public var pipeDirectory: String?

    public init(
        identity: ProcessIdentity, parent: Int32, user: UInt32, role: MPSRole, pipeDirectory: String? = nil
    ) {
        self.identity = identity
        self.parent = parent
        self.user = user
        self.role = role
        self.pipeDirectory = pipeDirectory
    }
}
