// Tandem — Apache-2.0

/// Why a model cannot be described or its file does not hold what the description says.
public struct LanguageModelError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The model file.
    public var path: String
    /// The metadata key or tensor at fault.
    public var subject: String
    /// What is wrong with it and what is supported instead.
    public var reason: String

    /// An error about one metadata key or tensor of one file.
    public init(path: String, subject: String, reason: String) {
        self.path = path
        self.subject = subject
        self.reason = reason
    }

    public var description: String { "\(path): \(subject): \(reason)" }
}
