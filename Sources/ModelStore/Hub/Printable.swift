// Tandem — Apache-2.0

/// Makes text from outside fit for a terminal or a log.
enum Printable {
    /// At most `limit` characters, with a question mark for each that would move the cursor, hide others or turn the
    /// direction of writing.
    static func text(_ text: some StringProtocol, limit: Int = 200) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars.prefix(limit) { result.append(isPlain(scalar) ? scalar : "?") }
        let isCut = text.unicodeScalars.count > limit
        return String(result) + (isCut ? "…" : "")
    }

    static func quoted(_ text: some StringProtocol) -> String { "\"\(Self.text(text))\"" }

    /// Whether a character is shown as itself.
    static func isPlain(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned: false
        default: true
        }
    }
}
