// Tandem — Apache-2.0

/// How a piece of text looks.
public enum TextStyle: Sendable, Equatable {
    case plain, strong, faint, good, warning, bad, accent

    /// As in ECMA-48 (SGR), with the terminal's own 16 colours, so that light and dark ones are both readable.
    var code: String? {
        switch self {
        case .plain: nil
        case .strong: "1"
        case .faint: "2"
        case .good: "32"
        case .warning: "33"
        case .bad: "1;31"
        case .accent: "36"
        }
    }
}

/// A line of a terminal: pieces of text, each column one character wide.
public struct StyledLine: Sendable, Equatable {
    struct Piece: Sendable, Equatable {
        var text: String
        var style: TextStyle
    }

    private(set) var pieces: [Piece] = []
    /// In columns.
    public private(set) var width = 0

    public init(_ text: String = "", _ style: TextStyle = .plain) { add(text, style) }

    public mutating func add(_ text: String, _ style: TextStyle = .plain) {
        guard !text.isEmpty else { return }
        width += text.count
        if pieces.last?.style == style {
            pieces[pieces.count - 1].text += text
        } else {
            pieces.append(Piece(text: text, style: style))
        }
    }

    public mutating func add(_ line: StyledLine) {
        for piece in line.pieces { add(piece.text, piece.style) }
    }

    /// Adds spaces up to a column.
    mutating func pad(to column: Int) {
        if width < column { add(String(repeating: " ", count: column - width)) }
    }

    /// Cut at a width; what is cut shows by `mark`.
    func cut(to columns: Int, mark: String) -> StyledLine {
        guard width > columns else { return self }
        guard columns > 0 else { return StyledLine() }
        var line = StyledLine()
        let room = max(0, columns - mark.count)
        for piece in pieces where line.width < room {
            line.add(String(piece.text.prefix(room - line.width)), piece.style)
        }
        line.add(String(mark.prefix(columns)), .faint)
        return line
    }

    /// Without colours.
    public var text: String { pieces.map(\.text).joined() }

    /// With the terminal's control sequences.
    public var coloured: String {
        pieces.map { piece in
            guard let code = piece.style.code else { return piece.text }
            return "\u{1B}[\(code)m\(piece.text)\u{1B}[0m"
        }.joined()
    }
}

/// Characters that a terminal may not have.
public struct TerminalGlyphs: Sendable, Equatable {
    /// From empty to full.
    var spark: [Character]
    var full: Character
    var half: Character?
    var empty: Character
    var ellipsis: String
    var dash: String

    public static let unicode = TerminalGlyphs(
        spark: Array("▁▂▃▄▅▆▇█"), full: "█", half: "▌", empty: "░", ellipsis: "…", dash: "–")
    public static let ascii = TerminalGlyphs(
        spark: Array("_.:-=+*#"), full: "#", half: nil, empty: ".", ellipsis: "~", dash: "-")

    /// Whether the locale's characters are UTF-8, by the variables that decide it (POSIX, 8.2).
    public static func of(environment: [String: String]) -> TerminalGlyphs {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].lazy.compactMap { environment[$0] }.first { !$0.isEmpty } ?? ""
        let name = locale.lowercased()
        return name.contains("utf-8") || name.contains("utf8") ? .unicode : .ascii
    }

    /// The latest values as a row of small columns; the largest is full.
    func sparkline(_ values: [Double], width: Int) -> String {
        guard width > 0 else { return "" }
        let shown = values.suffix(width)
        let most = shown.max() ?? 0
        let marks = shown.map { value in
            spark[most > 0 ? Int((value / most * Double(spark.count - 1)).rounded()) : 0]
        }
        return String(repeating: " ", count: width - marks.count) + String(marks)
    }

    /// - Parameter share: 0 to 1.
    func bar(_ share: Double, width: Int) -> (filled: String, rest: String) {
        let halves = Int((min(max(share, 0), 1) * Double(width * 2)).rounded())
        var filled = String(repeating: full, count: halves / 2)
        if halves % 2 == 1 { filled.append(half ?? (halves == 1 ? full : empty)) }
        // Something is never shown as nothing.
        if filled.isEmpty, share > 0, width > 0 { filled.append(half ?? full) }
        return (filled, String(repeating: empty, count: max(0, width - filled.count)))
    }
}

/// Numbers and foreign texts as they are shown.
enum Shown {
    /// Three or more digits: `7.3`, `123`, `12.3k`, `4.6M`.
    static func number(_ value: Double) -> String {
        switch value {
        case ..<0.05: "0"
        case ..<9.95: tenths(value)
        case ..<9999.5: String(Int(value.rounded()))
        case ..<999_950: tenths(value / 1e3) + "k"
        default: tenths(value / 1e6) + "M"
        }
    }

    /// `0.4 ms`, `12 ms`, `1.2 s`.
    static func seconds(_ value: Double) -> String {
        switch value {
        case ..<0.00995: tenths(value * 1e3) + " ms"
        case ..<0.9995: String(Int((value * 1e3).rounded())) + " ms"
        case ..<9.95: tenths(value) + " s"
        default: String(Int(min(value.rounded(), 1e15))) + " s"
        }
    }

    /// `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`.
    static func span(_ value: Double) -> String {
        let seconds = Int(min(max(value, 0), 1e12))
        switch seconds {
        case ..<60: return "\(seconds) s"
        case ..<3600: return "\(seconds / 60) min \(seconds % 60) s"
        case ..<86400: return "\(seconds / 3600) h \(seconds / 60 % 60) min"
        default: return "\(seconds / 86400) d \(seconds / 3600 % 24) h"
        }
    }

    static func percent(_ share: Double) -> String { "\(Int((share * 100).rounded()))%" }

    /// Text from elsewhere: control characters would command the terminal, and wide ones would shift what follows.
    static func foreign(_ text: String) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.map { scalar in
                    switch scalar.value {
                    case 0x20...0x7E, 0xA1...0xAC, 0xAE...0x24F, 0x2013, 0x2014, 0x2018...0x201E, 0x2026: scalar
                    default: "?"
                    }
                }))
    }

    private static func tenths(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }
}
