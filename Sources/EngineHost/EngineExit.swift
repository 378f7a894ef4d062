// Tandem — Apache-2.0

/// Why an engine process ends; the raw value is its exit code.
public enum EngineExit: Int32, Sendable, Equatable {
    /// It was asked to, and finished what ran.
    case drained = 0
    /// It could not start for a reason that may pass: memory, the address, a system call.
    case startFailed = 10
    /// Its device is gone; a new process may have better luck.
    case deviceFailed = 11
    /// It was asked twice, or what ran did not end in time.
    case abandoned = 12
    /// Its supervisor is gone.
    case supervisorGone = 13
    /// Its device had an error that all engines on it have: a fatal fault, or the loss of the MPS server.
    case deviceFault = 14
    /// It could not start, and another start would end in the same way: the model or a setting (`EX_CONFIG` of
    /// sysexits.h).
    case misconfigured = 78
}

/// Why an engine could not start.
public struct EngineHostError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What failed, and where there is one the remedy.
    public var message: String
    /// Whether another start would end in the same way.
    public var isPermanent: Bool
    /// Whether all engines on the device have the error.
    public var concernsAll: Bool

    public init(message: String, isPermanent: Bool = false, concernsAll: Bool = false) {
        self.message = message
        self.isPermanent = isPermanent
        self.concernsAll = concernsAll
    }

    /// How the process ends with it.
    var exit: EngineExit { isPermanent ? .misconfigured : concernsAll ? .deviceFault : .startFailed }

    public var description: String { message }
}
