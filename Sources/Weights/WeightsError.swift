// Tandem — Apache-2.0

/// Why a weights file was refused: which file, where in it, and what is wrong there.
public struct WeightsError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The file's path, or the name given to bytes in memory.
    public let path: String
    /// Byte offset in the file of the field at fault; nil if the whole file is.
    public let offset: UInt64?
    /// What is wrong, and what would be right.
    public let reason: String

    init(path: String, offset: UInt64? = nil, reason: String) {
        self.path = path
        self.offset = offset
        self.reason = reason
    }

    /// `path: byte 17: reason`.
    public var description: String {
        guard let offset else { return "\(path): \(reason)" }
        return "\(path): byte \(offset): \(reason)"
    }
}

/// A name from a file as it may stand in a message: quoted, control characters escaped, shortened.
func quoted(_ name: String) -> String {
    let limit = 80
    guard
        let end = name.unicodeScalars.index(
            name.startIndex, offsetBy: limit, limitedBy: name.endIndex), end < name.endIndex
    else { return name.debugDescription }
    return String(name.unicodeScalars[..<end]).debugDescription + "…"
}
