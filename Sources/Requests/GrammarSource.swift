// Tandem — Apache-2.0

/// A grammar as a client wrote it: what a generated text must look like, from its first byte to its last.
///
/// The gateway and the engine compile the same source, so equal sources mean equal languages.
public struct GrammarSource: Hashable, Sendable {
    public enum Kind: UInt8, Sendable {
        /// Any JSON object; ``GrammarSource/text`` is empty.
        case jsonObject = 1
        /// A JSON schema.
        case jsonSchema = 2
        /// A regular expression that the whole text must match.
        case regularExpression = 3
        /// Rules in the notation of llama.cpp (GBNF), beginning with `root`.
        case gbnf = 4
        /// One of several texts: a JSON array of strings.
        case choice = 5
    }

    public var kind: Kind
    public var text: String
    /// Stands literally before what ``text`` describes.
    public var prefix: String
    /// Stands literally after it.
    public var suffix: String

    public init(kind: Kind, text: String, prefix: String = "", suffix: String = "") {
        self.kind = kind
        self.text = text
        self.prefix = prefix
        self.suffix = suffix
    }
}
