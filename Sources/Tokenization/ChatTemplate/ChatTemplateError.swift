// Tandem — Apache-2.0

/// A chat template could not be read, or could not be rendered for these messages.
public struct ChatTemplateError: Error, Equatable, CustomStringConvertible {
    public enum Kind: Sendable, Equatable {
        /// The source is not a Jinja template.
        case syntax
        /// The source uses a part of Jinja that is not supported; the reason names it.
        case unsupported
        /// An operation failed on the values at hand, as it would in Jinja.
        case evaluation
        /// The template called `raise_exception`; the reason is its message, which is meant for the sender.
        case raised
        /// The template nests too deeply, runs too long or writes too much.
        case limit
    }

    public let kind: Kind
    /// Line of the template, from 1; 0 where there is none.
    public let line: Int
    public let reason: String

    public init(kind: Kind, line: Int, reason: String) {
        self.kind = kind
        self.line = line
        self.reason = reason
    }

    public var description: String {
        kind == .raised ? reason : line > 0 ? "chat template, line \(line): \(reason)" : "chat template: \(reason)"
    }
}

/// What a template may use up; chosen so that no real template comes near.
enum TemplateLimits {
    static let sourceBytes = 1 << 20
    /// Brackets, operators and blocks within each other, while parsing and while evaluating.
    static let nesting = 64
    /// Height of an expression tree: long chains of operators are deep as well.
    static let expressionHeight = 128
    /// Statements and expressions within each other while a template is rendered, through calls of macros too.
    static let evaluationDepth = nesting + expressionHeight
    /// Lists and mappings within each other.
    static let valueDepth = 100
    /// Size of a list or mapping, see `TemplateValue.size`.
    static let valueSize = 16 << 20
    /// One string.
    static let textBytes = 16 << 20
    static let outputBytes = 16 << 20
    /// All strings that are made on the way, together.
    static let intermediateBytes = 64 << 20
    /// Evaluated nodes, loop rounds and list elements, together.
    static let steps = 4_000_000
    /// Bytes of a text that are gone through as quickly as a step is made.
    static let bytesPerStep = 16
    /// As in Jinja's sandbox.
    static let rangeLength: Int64 = 100_000
}
