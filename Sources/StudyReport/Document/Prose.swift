// Tandem — Apache-2.0

/// Text of a report with the few distinctions that it makes.
public struct Prose: Sendable, Equatable, ExpressibleByStringLiteral, ExpressibleByStringInterpolation {
    /// What colour and sign a verdict has.
    public enum Tone: String, Sendable, Equatable {
        case good
        case bad
        case open
    }

    public enum Span: Sendable, Equatable {
        case plain(String)
        case strong(String)
        case code(String)
        case link(String, to: String)
        /// A verdict.
        case verdict(String, Tone)
        /// Where numbers come from.
        case mark(Provenance.Kind)
    }

    public var spans: [Span]

    public init(_ spans: [Span] = []) { self.spans = spans }

    public init(_ text: String) { spans = text.isEmpty ? [] : [.plain(text)] }

    public init(stringLiteral value: String) { self.init(value) }

    public static func strong(_ text: String) -> Prose { Prose([.strong(text)]) }
    public static func code(_ text: String) -> Prose { Prose([.code(text)]) }
    public static func link(_ text: String, to target: String) -> Prose { Prose([.link(text, to: target)]) }
    public static func verdict(_ text: String, _ tone: Tone) -> Prose { Prose([.verdict(text, tone)]) }
    public static func mark(_ kind: Provenance.Kind) -> Prose { Prose([.mark(kind)]) }

    public static func + (left: Prose, right: Prose) -> Prose { Prose(left.spans + right.spans) }

    /// Without distinctions.
    public var text: String {
        spans.map { span in
            switch span {
            case .plain(let text), .strong(let text), .code(let text), .link(let text, _), .verdict(let text, _): text
            case .mark(let kind): kind.rawValue.uppercased()
            }
        }.joined()
    }
}
