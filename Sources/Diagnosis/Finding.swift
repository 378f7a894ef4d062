// Tandem — Apache-2.0

/// What was found about one matter.
public struct Finding: Sendable, Equatable {
    public enum Level: String, Sendable, Equatable, CaseIterable {
        case ok
        /// Works, with something to know.
        case note
        /// Does not work, or not as asked.
        case problem
    }

    /// Short name of the matter: `driver`, `mps-daemon`, …
    public var check: String
    public var level: Level
    public var text: String
    /// What to do about it; null if there is nothing to do.
    public var fix: String?

    public init(_ check: String, _ level: Level, _ text: String, fix: String? = nil) {
        self.check = check
        self.level = level
        self.text = text
        self.fix = fix
    }
}
