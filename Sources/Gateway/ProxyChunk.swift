// Tandem — Apache-2.0

/// What one event of a stream of completions or of a chat says. Places count from the beginning of its JSON; those of
/// strings are between the quotes.
struct ProxyChunk {
    var id: Range<Int>?
    var created: Int?
    var model: Range<Int>?
    var text: Range<Int>?
    /// The reason why a choice ended, and how many have one.
    var finish: Range<Int>?
    var finishes = 0
    var tokenIDs: Range<Int>?
    var promptTokenIDs: Range<Int>?
    var promptTokens: Int?
    var completionTokens: Int?
    var error: Range<Int>?
    var errorCode: Int?
    var obstacle: Obstacle?
    /// Whether it has a text, which could be another, and nothing else that matters.
    var isPlain = true
    private var choices = 0

    /// - Returns: whether the bytes are a JSON object.
    mutating func read(_ bytes: Span<UInt8>) -> Bool {
        var cursor = JSONCursor(bytes)
        var chunk = self
        let isWhole = cursor.members { cursor, key in
            guard let first = cursor.peek() else { return false }
            if cursor.matches(key, "choices"), first == UInt8(ascii: "[") {
                return cursor.elements { chunk.readChoice(&$0) }
            }
            if cursor.matches(key, "usage"), first == UInt8(ascii: "{") {
                chunk.isPlain = false
                return cursor.members { chunk.readUsage(&$0, $1) }
            }
            if first == UInt8(ascii: "\""), cursor.matches(key, "id") || cursor.matches(key, "model") {
                let isID = cursor.matches(key, "id")
                guard let text = cursor.string() else { return false }
                if isID { chunk.id = text } else { chunk.model = text }
                return true
            }
            guard let value = cursor.value() else { return false }
            if cursor.matches(key, "created") {
                chunk.created = cursor.integer(value)
            } else if cursor.matches(key, "error"), !cursor.matches(value, "null") {
                chunk.error = value
                chunk.errorCode = Self.code(bytes, in: value)
            } else if cursor.matches(key, "prompt_token_ids"), !cursor.matches(value, "null") {
                chunk.promptTokenIDs = value
                chunk.isPlain = false
            }
            return true
        }
        if isWhole { self = chunk }
        return isWhole && cursor.isAtEnd()
    }

    private mutating func readChoice(_ cursor: inout JSONCursor) -> Bool {
        choices += 1
        if choices > 1 {
            isPlain = false
            obstacle = .choices
        }
        var chunk = self
        defer { self = chunk }
        return cursor.members { cursor, key in
            guard let first = cursor.peek() else { return false }
            if cursor.matches(key, "delta"), first == UInt8(ascii: "{") {
                return cursor.members { chunk.readDelta(&$0, $1) }
            }
            if cursor.matches(key, "text"), first == UInt8(ascii: "\"") {
                chunk.text = cursor.string()
                return chunk.text != nil
            }
            if cursor.matches(key, "finish_reason"), first == UInt8(ascii: "\"") {
                guard let reason = cursor.string() else { return false }
                // Some engines send it empty where others send null.
                if !reason.isEmpty {
                    chunk.finish = reason
                    chunk.finishes += 1
                    chunk.isPlain = false
                }
                return true
            }
            guard let value = cursor.value() else { return false }
            guard !cursor.matches(value, "null") else { return true }
            if cursor.matches(key, "index"), !cursor.matches(value, "0") {
                chunk.obstacle = .choices
                chunk.isPlain = false
            } else if cursor.matches(key, "logprobs") {
                chunk.obstacle = .logProbabilities
                chunk.isPlain = false
            } else if cursor.matches(key, "token_ids") {
                chunk.tokenIDs = value
                chunk.isPlain = false
            } else if cursor.matches(key, "prompt_token_ids") {
                chunk.promptTokenIDs = value
                chunk.isPlain = false
            }
            return true
        }
    }

    private mutating func readDelta(_ cursor: inout JSONCursor, _ key: Range<Int>) -> Bool {
        guard let first = cursor.peek() else { return false }
        if cursor.matches(key, "content"), first == UInt8(ascii: "\"") {
            text = cursor.string()
            return text != nil
        }
        guard let value = cursor.value() else { return false }
        guard !cursor.matches(value, "null"), !cursor.matches(value, "\"\""), !cursor.matches(value, "[]") else {
            return true
        }
        if cursor.matches(key, "tool_calls") || cursor.matches(key, "function_call") {
            obstacle = .toolCalls
            isPlain = false
        } else if cursor.matches(key, "reasoning_content") || cursor.matches(key, "reasoning") {
            obstacle = .reasoning
            isPlain = false
        }
        return true
    }

    private mutating func readUsage(_ cursor: inout JSONCursor, _ key: Range<Int>) -> Bool {
        guard let value = cursor.value() else { return false }
        if cursor.matches(key, "completion_tokens") {
            completionTokens = cursor.integer(value)
        } else if cursor.matches(key, "prompt_tokens") {
            promptTokens = cursor.integer(value)
        }
        return true
    }

    /// The number under `code` of an error object.
    private static func code(_ bytes: Span<UInt8>, in place: Range<Int>) -> Int? {
        var cursor = JSONCursor(bytes, at: place.lowerBound)
        var code: Int?
        _ = cursor.members { cursor, key in
            guard let value = cursor.value() else { return false }
            if cursor.matches(key, "code") { code = cursor.integer(value) }
            return true
        }
        return code
    }
}
