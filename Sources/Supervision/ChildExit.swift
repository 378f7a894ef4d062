// Tandem — Apache-2.0

internal import Glibc

/// How a child process ended.
public enum ChildExit: Sendable, Equatable, CustomStringConvertible {
    case exited(code: Int32)
    case killed(signal: Int32)
    /// It could not be started at all.
    case notStarted(reason: String)

    /// - Parameter waitStatus: as `waitpid` gives it, of a process that has ended.
    public init(waitStatus: Int32) {
        let signal = waitStatus & 0x7F
        self = signal != 0 ? .killed(signal: signal) : .exited(code: waitStatus >> 8 & 0xFF)
    }

    /// With this exit code a child says that another start would end in the same way: a wrong setting, an unusable
    /// model. Engines have it as `EngineExit.misconfigured`.
    public static let permanentFailureCode: Int32 = 78

    /// With this exit code an engine says that its device had an error which all engines on it have. Engines have it as
    /// `EngineExit.deviceFault`.
    public static let deviceFaultCode: Int32 = 14

    var isDeviceFault: Bool { self == .exited(code: Self.deviceFaultCode) }

    var isPermanent: Bool { self == .exited(code: Self.permanentFailureCode) }

    /// Whether a child that was asked to end does so in this way: at once (12, as `EngineExit.abandoned`) or after it
    /// finished.
    var isAnswerToTermination: Bool {
        self == .exited(code: 0) || self == .exited(code: 12) || self == .killed(signal: SIGTERM)
    }

    public var description: String {
        switch self {
        case .exited(Self.deviceFaultCode): "had a fatal fault of its device"
        case .exited(let code): "exited with code \(code)"
        case .killed(let signal): "was killed by \(Self.name(of: signal))"
        case .notStarted(let reason): "could not be started: \(reason)"
        }
    }

    private static func name(of signal: Int32) -> String {
        let names: [Int32: String] = [
            SIGHUP: "SIGHUP", SIGINT: "SIGINT", SIGQUIT: "SIGQUIT", SIGILL: "SIGILL", SIGTRAP: "SIGTRAP",
            SIGABRT: "SIGABRT", SIGBUS: "SIGBUS", SIGFPE: "SIGFPE", SIGKILL: "SIGKILL", SIGSEGV: "SIGSEGV",
            SIGPIPE: "SIGPIPE", SIGTERM: "SIGTERM",
        ]
        guard let name = names[signal] else { return "signal \(signal)" }
        return signal == SIGKILL ? "\(name) (by hand, or by the kernel when memory ran out)" : name
    }
}
