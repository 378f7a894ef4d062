// Tandem — Apache-2.0

/// Why a grammar was refused: it has a mistake, uses what is not supported, or would need too much to match.
public struct GrammarError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Kind: Sendable {
        /// The source is not well formed.
        case malformed
        /// The source is well formed and uses what this implementation does not do.
        case unsupported
        /// The source asks for more memory or time than any grammar may.
        case tooComplex
        /// No text matches.
        case empty
    }

    public var kind: Kind
    /// Where: a JSON pointer into a schema (`#/properties/age`), `byte 17` of a regular expression, or
    /// `line 3, column 5` of a GBNF grammar.
    public var place: String
    /// What is wrong there, and what to do about it.
    public var reason: String

    public init(kind: Kind, place: String, reason: String) {
        self.kind = kind
        self.place = place
        self.reason = reason
    }

    public var description: String { place.isEmpty ? reason : "\(place): \(reason)" }
}
