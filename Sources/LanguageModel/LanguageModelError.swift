// Tandem — Apache-2.0

import Weights

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

    /// A file that is no model at all.
    init(_ error: WeightsError) {
        self.init(
            path: error.path, subject: error.offset.map { "byte \($0)" } ?? "file", reason: error.reason)
    }

    public var description: String { "\(path): \(subject): \(reason)" }
}
