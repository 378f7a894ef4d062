// Tandem — Apache-2.0

/// Why no prediction can be made: what was given, what is wrong with it, and what would do.
public struct GPUModelError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The input at fault: `GPU "h1000"`, `--context`.
    public var subject: String
    /// What is wrong with it, and the remedy.
    public var reason: String

    public init(subject: String, reason: String) {
        self.subject = subject
        self.reason = reason
    }

    public var description: String { "\(subject): \(reason)" }
}
