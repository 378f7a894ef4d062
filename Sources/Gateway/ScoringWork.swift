// Tandem — Apache-2.0

import Requests
import Tokenization

/// One sequence of which engines compute only the prompt.
struct ScoringItem: Sendable, Equatable {
    var tokens: [TokenID]
    var pooling: Pooling?
    /// Tokens whose probability to come next is asked for.
    var labels: [TokenID] = []
    /// The field that it came from, for messages: `input[3]`.
    var name: String
}

/// What an endpoint that generates nothing wants of engines, and what its answer makes of their numbers.
struct ScoringWork: Sendable {
    /// What stands at the head of an answer.
    struct Head: Sendable {
        /// Without the prefix of its endpoint.
        var id: String
        var created: Int
        var model: String
    }

    var items: [ScoringItem]
    var requestedModel: String?
    var priority: Int32 = 0
    var cacheSalt = ""
    /// Looks at each score when it comes, so that a request that cannot be answered ends early.
    var check: @Sendable (PromptScore) throws(APIError) -> Void = { _ in }
    /// Writes the answer; scores are in the order of the items.
    var write: @Sendable ([PromptScore], Usage, Head) throws(APIError) -> [UInt8]

    /// Most items of one request.
    static let maximumItems = PromptInput.maximumCount

    /// Checks what depends on the lengths of the items.
    ///
    /// - Throws: 400 naming the item's field.
    func checkLengths(contextLength: Int) throws(APIError) {
        for item in items {
            guard !item.tokens.isEmpty else { throw .invalid(item.name, "`\(item.name)` gives no tokens") }
            guard item.tokens.count <= contextLength else {
                throw .invalid(
                    item.name,
                    "this model's maximum context length is \(contextLength) tokens, but `\(item.name)` is a prompt of "
                        + "\(item.tokens.count); shorten it or give `truncate_prompt_tokens`",
                    code: "context_length_exceeded")
            }
        }
    }
}
