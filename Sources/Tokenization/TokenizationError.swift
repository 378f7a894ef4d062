// Tandem — Apache-2.0

/// A tokenizer could not be made from a model's files.
///
/// The file is at fault, never the text: encoding and decoding do not fail.
public struct TokenizationError: Error, Equatable, CustomStringConvertible {
    /// The file at fault; nil where the caller named the only one there is.
    public let file: String?
    /// The field at fault, such as `tokenizer.ggml.merges` or `model.vocab`; empty if the whole file is.
    public let field: String
    /// What is wrong with it, and where there is one, the remedy.
    public let reason: String

    public init(file: String? = nil, field: String, reason: String) {
        self.file = file
        self.field = field
        self.reason = reason
    }

    /// `file: field: reason`.
    public var description: String {
        [file, field.isEmpty ? nil : field, reason].compactMap { $0 }.joined(separator: ": ")
    }

    /// The same of a file that the caller knows by another name.
    func inFile(_ name: String) -> TokenizationError {
        TokenizationError(file: name, field: field, reason: reason)
    }
}
