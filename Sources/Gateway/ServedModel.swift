// Tandem — Apache-2.0

public import Requests
public import Tokenization

/// A model behind a gateway, as far as text is concerned.
public struct ServedModel: Sendable {
    /// Its engines, by their indices in the roster; `nil` if all are.
    public var engines: Range<UInt32>?
    /// Names that clients may use; the first is the one that responses carry.
    public var names: [String]
    public var tokenizer: Tokenizer
    /// Missing if the model has none: then `/v1/chat/completions` is refused.
    public var chatTemplate: ChatTemplate?
    /// Longest sequence, generated tokens included.
    public var contextLength: Int
    /// Seconds since 1970 when the model's file was made or fetched.
    public var created: Int
    /// Tokens with which an answer ends, ascending.
    public var endTokens: [TokenID]
    /// Numbers of a vector of the model; `nil` if unknown.
    public var vectorSize: Int?
    /// How the model is asked for what stands between two texts; missing if its vocabulary has no tokens for that.
    let fillInTheMiddle: FillInTheMiddle?
    /// How the model writes calls of tools.
    var toolCallFormat: ToolCallFormat

    /// - Parameter endTokens: beside the tokenizer's own, those that the model's other files name.
    public init(
        names: [String], tokenizer: Tokenizer, chatTemplate: ChatTemplate?, contextLength: Int, created: Int,
        endTokens: [TokenID] = [], vectorSize: Int? = nil
    ) {
        self.vectorSize = vectorSize
        self.names = names
        self.tokenizer = tokenizer
        self.chatTemplate = chatTemplate
        self.contextLength = contextLength
        self.created = created
        toolCallFormat = .detect(template: chatTemplate, tokenizer: tokenizer)
        fillInTheMiddle = FillInTheMiddle(tokenizer)
        self.endTokens = tokenizer.endOfGenerationTokens.union(endTokens).sorted()
    }

    var name: String { names.first ?? "model" }

    /// - Throws: 404 if `requested` is none of ``names``.
    func check(_ requested: String?) throws(APIError) {
        guard let requested, !names.contains(requested) else { return }
        throw .modelNotFound(requested, known: names)
    }
}
