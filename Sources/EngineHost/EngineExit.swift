// Tandem — Apache-2.0

/// Why an engine process ends; the raw value is its exit code.
public enum EngineExit: Int32, Sendable, Equatable {
    /// It was asked to, and finished what ran.
    case drained = 0
    /// It could not start: model, memory or address; starting it again does not help by itself.
    case startFailed = 10
    /// Its device is gone; a new process may have better luck.
    case deviceFailed = 11
    /// It was asked twice, or what ran did not end in time.
    case abandoned = 12
    /// Its supervisor is gone.
    case supervisorGone = 13
}

/// Why an engine could not start.
public struct EngineHostError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What failed, and where there is one the remedy.
    public var message: String

    public init(message: String) {
        self.message = message
    }

    public var description: String { message }
}
