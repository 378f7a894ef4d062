// Tandem — Apache-2.0

/// Why bytes are not the JSON that was expected: where, and what is wrong there.
public struct JSONError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Offset of the byte at fault.
    public let offset: Int
    /// What is wrong there.
    public let reason: String

    /// Creates an error.
    public init(offset: Int, reason: String) {
        self.offset = offset
        self.reason = reason
    }

    /// `byte 17: reason`.
    public var description: String { "byte \(offset): \(reason)" }
}
