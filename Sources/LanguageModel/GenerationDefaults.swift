// Tandem — Apache-2.0

import JSON

/// What a model's authors recommend for generating text: `generation_config.json`. Numbers that are not stated are nil.
public struct GenerationDefaults: Sendable, Equatable {
    /// Tokens that end a text.
    public var endTokens: [Int32] = []
    public var temperature: Float?
    public var topP: Float?
    public var topK: Int?
    public var repetitionPenalty: Float?

    /// Nothing is recommended.
    public init() {}

    /// Reads a file; end tokens that it does not state are those of the model's configuration.
    ///
    /// - Parameters:
    ///   - path: the file; where there is none, nothing is recommended.
    ///   - configuration: the model's configuration.
    /// - Throws: ``LanguageModelError`` naming the key at fault.
    init(path: String?, configuration: ModelConfiguration) throws(LanguageModelError) {
        var stated: [Int32]?
        if let path {
            let object = try readJSONObject(path: path)
            stated = try endTokenList(object, path: path)
            temperature = try Self.number("temperature", in: 0...100, object, path)
            topP = try Self.number("top_p", in: 0...1, object, path)
            repetitionPenalty = try Self.number("repetition_penalty", in: 0...100, object, path)
            if let value = object["top_k"], !value.isNull {
                guard let integer = value.integer, (0...(1 << 30)).contains(integer) else {
                    throw LanguageModelError(path: path, subject: "top_k", reason: "not an integer from 0")
                }
                topK = Int(integer)
            }
        }
        if stated == nil { stated = try configuration.endTokens() }
        endTokens = stated ?? []
    }

    private static func number(
        _ key: String, in range: ClosedRange<Float>, _ object: JSONObject, _ path: String
    ) throws(LanguageModelError) -> Float? {
        guard let value = object[key], !value.isNull else { return nil }
        guard let number = value.number.map({ Float($0) }), range.contains(number) else {
            throw LanguageModelError(
                path: path, subject: key, reason: "not a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }
}

/// The value of `eos_token_id`: a token, a list of them, or nil for none.
func endTokenList(_ object: JSONObject, path: String) throws(LanguageModelError) -> [Int32]? {
    guard let value = object["eos_token_id"], !value.isNull else { return nil }
    let list = value.array ?? [value]
    let tokens = list.compactMap { $0.integer.flatMap { Int32(exactly: $0) } }.filter { $0 >= 0 }
    guard tokens.count == list.count else {
        throw LanguageModelError(path: path, subject: "eos_token_id", reason: "neither a token nor a list of tokens")
    }
    return tokens
}
