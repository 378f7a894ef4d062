// Tandem — Apache-2.0

/// Why a study cannot be made or read: what was given, what is wrong with it, and what would do.
public struct StudyError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The input at fault: `results/F1.jsonl, line 7`, `F1`, `--models`.
    public var subject: String
    /// What is wrong with it, and the remedy.
    public var reason: String

    public init(subject: String, reason: String) {
        self.subject = subject
        self.reason = reason
    }

    public var description: String { "\(subject): \(reason)" }
}
