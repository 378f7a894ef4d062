// Tandem — Apache-2.0

/// A tokenizer could not be made from a model file.
///
/// The file is at fault, never the text: encoding and decoding do not fail.
public struct TokenizationError: Error, Equatable, CustomStringConvertible {
    /// The metadata field at fault, such as `tokenizer.ggml.merges`.
    public let field: String
    /// What is wrong with it, and where there is one, the remedy.
    public let reason: String

    public init(field: String, reason: String) {
        self.field = field
        self.reason = reason
    }

    public var description: String { "\(field): \(reason)" }
}
