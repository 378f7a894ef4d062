// Tandem — Apache-2.0

import JSON
import Requests

/// One prompt as a client wrote it.
enum PromptInput: Equatable {
    case text(String)
    case tokens([TokenID])

    /// Most prompts in one request.
    static let maximumCount = 2048

    /// A prompt or several: a string, strings, token ids, or arrays of token ids.
    ///
    /// - Throws: 400 naming the field.
    static func read(_ value: JSONValue, name: String, vocabularySize: Int) throws(APIError) -> [PromptInput] {
        func empty() -> APIError { .invalid(name, "`\(name)` must not be empty") }
        switch value {
        case .string(let text):
            return [.text(text)]
        case .array(let items):
            guard let first = items.first else { throw empty() }
            if case .integer = first {
                return [.tokens(try TokenID.read(items, name: name, vocabularySize: vocabularySize))]
            }
            guard items.count <= maximumCount else {
                throw .invalid(name, "`\(name)` has \(items.count) entries but may have at most \(maximumCount)")
            }
            var prompts: [PromptInput] = []
            prompts.reserveCapacity(items.count)
            for item in items {
                switch item {
                case .string(let text): prompts.append(.text(text))
                case .array(let ids):
                    guard !ids.isEmpty else { throw empty() }
                    prompts.append(.tokens(try TokenID.read(ids, name: name, vocabularySize: vocabularySize)))
                default:
                    throw .invalid(
                        name,
                        "`\(name)` entries must be strings or arrays of token ids, not "
                            + RequestFields.describe(item))
                }
            }
            return prompts
        default:
            throw .invalid(name, "`\(name)` must be a string or an array, not \(RequestFields.describe(value))")
        }
    }
}

extension TokenID {
    /// - Throws: 400 naming the entry that is no token id below `vocabularySize`.
    static func read(_ values: [JSONValue], name: String, vocabularySize: Int) throws(APIError) -> [TokenID] {
        var tokens: [TokenID] = []
        tokens.reserveCapacity(values.count)
        for (index, value) in values.enumerated() {
            guard let integer = RequestFields.integer(value) else {
                throw .invalid(
                    name, "`\(name)[\(index)]` must be an integer token id, not \(RequestFields.describe(value))")
            }
            guard (0..<Int64(vocabularySize)).contains(integer) else {
                throw .invalid(
                    name, "`\(name)[\(index)]` is \(integer) but token ids run from 0 to \(vocabularySize - 1)")
            }
            tokens.append(TokenID(integer))
        }
        return tokens
    }
}

/// How much is kept of a prompt that may be too long.
enum PromptTruncation: Equatable {
    /// So many tokens.
    case tokens(Int)
    /// As many as leave room for the tokens that are to be generated.
    case context

    static func read(_ fields: RequestFields) throws(APIError) -> PromptTruncation? {
        switch try fields.integer("truncate_prompt_tokens", in: -1...Int(Int32.max)) {
        case nil: return nil
        case -1: return .context
        case 0:
            throw fields.invalid(
                "truncate_prompt_tokens", "is 0 but must be at least 1, or -1 for what the model has room for")
        case .some(let count): return .tokens(count)
        }
    }

    /// The most tokens that a prompt may keep.
    ///
    /// - Parameter new: tokens that need room after it.
    func limit(contextLength: Int, new: Int) -> Int {
        switch self {
        case .tokens(let count): count
        // Where nothing is left for a prompt, the whole of it is refused by its own name.
        case .context: new < contextLength ? contextLength - new : .max
        }
    }
}
