// Tandem — Apache-2.0

import JSON
import Requests

/// One prompt as a client wrote it.
enum PromptInput: Equatable {
    case text(String)
    case tokens([TokenID])
}

/// What `/v1/completions` and `/v1/chat/completions` have in common once a body was read and checked.
struct GenerationRequest: Equatable {
    enum Kind: Equatable { case completion, chat }

    var kind: Kind
    var prompts: [PromptInput]
    /// Choices a prompt.
    var choices = 1
    var sampling = SamplingParameters(temperature: 1)
    /// `nil`: as many as the context has room for.
    var maximumNewTokens: Int?
    var stop: [String] = []
    var includeStopText = false
    var stopTokens: [TokenID] = []
    var ignoreEndOfSequence = false
    var stream = false
    var includeUsage = false
    var continuousUsage = false
    var echo = false
    /// `nil`: none; else how many of the likeliest tokens beside the chosen one.
    var logProbabilities: Int?
    var addSpecialTokens = true
    var skipSpecialTokens = true
    /// Keep only so many tokens at the end of a prompt.
    var truncatePromptTokens: Int?
    var priority: Int32 = 0
    var cacheSalt = ""
    var requestedModel: String?
}

/// Most choices a request may ask for.
private let maximumChoices = 128
/// Most stop strings, and the longest of them in bytes.
private let maximumStops = 16
private let maximumStopBytes = 1024
/// Most prompts in one request.
private let maximumPrompts = 2048

extension GenerationRequest {
    /// Reads the body of `POST /v1/completions`.
    ///
    /// - Parameter vocabularySize: token ids of prompts and stops are below it.
    /// - Throws: ``APIError`` naming the field.
    static func completion(_ body: JSONValue, vocabularySize: Int) throws(APIError) -> GenerationRequest {
        let fields = try RequestFields(body: body)
        guard let prompt = fields.value("prompt") else {
            throw .invalid("prompt", "`prompt` is missing: give a string, strings, token ids, or arrays of token ids")
        }
        var request = GenerationRequest(
            kind: .completion, prompts: try readPrompts(prompt, vocabularySize: vocabularySize))
        request.echo = try fields.bool("echo") ?? false
        request.maximumNewTokens = try fields.integer("max_tokens", in: 0...Int(Int32.max)) ?? 16
        if request.maximumNewTokens == 0, !request.echo {
            throw .invalid("max_tokens", "`max_tokens` may be 0 only together with `echo`")
        }
        request.logProbabilities = try fields.integer("logprobs", in: 0...20)
        try request.readCommon(fields, vocabularySize: vocabularySize)
        if let bestOf = try fields.integer("best_of", in: 1...maximumChoices), bestOf != request.choices {
            throw .unsupported("best_of", "generating more choices than are returned")
        }
        if let suffix = try fields.string("suffix"), !suffix.isEmpty {
            throw .unsupported("suffix", "filling in the middle")
        }
        return request
    }

    /// Reads the body of `POST /v1/chat/completions`, all but the conversation: the caller renders it and sets
    /// ``prompts``.
    static func chat(_ body: JSONValue, vocabularySize: Int) throws(APIError) -> GenerationRequest {
        let fields = try RequestFields(body: body)
        var request = GenerationRequest(kind: .chat, prompts: [])
        request.maximumNewTokens = try fields.integer("max_completion_tokens", in: 1...Int(Int32.max))
        let older = try fields.integer("max_tokens", in: 1...Int(Int32.max))
        if request.maximumNewTokens == nil { request.maximumNewTokens = older }
        let wanted = try fields.bool("logprobs") ?? false
        let top = try fields.integer("top_logprobs", in: 0...20)
        if top != nil, !wanted {
            throw .invalid("top_logprobs", "`top_logprobs` needs `logprobs` to be true")
        }
        request.logProbabilities = wanted ? (top ?? 0) : nil
        request.addSpecialTokens = false
        try request.readCommon(fields, vocabularySize: vocabularySize)
        for name in ["tools", "functions"] {
            if let list = try fields.array(name), !list.isEmpty { throw .unsupported(name, "tool calling") }
        }
        switch fields.value("tool_choice") {
        case nil, .string("none"), .string("auto"): break
        default: throw .unsupported("tool_choice", "tool calling")
        }
        if let modalities = try fields.array("modalities"), modalities != [.string("text")] {
            throw .unsupported("modalities", "output other than text")
        }
        for name in ["audio", "prediction", "web_search_options", "function_call"] where fields.value(name) != nil {
            throw .unsupported(name, "this OpenAI feature")
        }
        return request
    }

    private mutating func readCommon(_ fields: RequestFields, vocabularySize: Int) throws(APIError) {
        requestedModel = try fields.string("model")
        choices = try fields.integer("n", in: 1...maximumChoices) ?? 1
        stream = try fields.bool("stream") ?? false
        if let options = try fields.nested("stream_options") {
            guard stream else { throw .invalid("stream_options", "`stream_options` needs `stream` to be true") }
            includeUsage = try options.bool("include_usage") ?? false
            continuousUsage = try options.bool("continuous_usage_stats") ?? false
        }
        sampling.temperature = Float(try fields.number("temperature", in: 0...2) ?? 1)
        let topP = try fields.number("top_p", in: 0...1) ?? 1
        guard topP > 0 else { throw .invalid("top_p", "`top_p` is 0.0 but must be above 0.0 and at most 1.0") }
        // A tiny double must not become a zero float.
        sampling.topP = max(Float(topP), .leastNormalMagnitude)
        let topK = try fields.integer("top_k", in: -1...Int(Int32.max)) ?? 0
        sampling.topK = Int32(max(topK, 0))
        sampling.minP = Float(try fields.number("min_p", in: 0...1) ?? 0)
        if let value = fields.value("seed") {
            guard let seed = RequestFields.integer(value) else {
                throw .invalid("seed", "`seed` must be an integer of at most 64 bits")
            }
            sampling.seed = UInt64(bitPattern: seed)
        } else {
            sampling.seed = .random(in: .min ... .max)
        }
        stop = try readStops(fields)
        includeStopText = try fields.bool("include_stop_str_in_output") ?? false
        stopTokens = try readTokenIDs(fields, "stop_token_ids", vocabularySize: vocabularySize)
        ignoreEndOfSequence = try fields.bool("ignore_eos") ?? false
        addSpecialTokens = try fields.bool("add_special_tokens") ?? addSpecialTokens
        skipSpecialTokens = try fields.bool("skip_special_tokens") ?? true
        truncatePromptTokens = try fields.integer("truncate_prompt_tokens", in: 1...Int(Int32.max))
        priority = Int32(try fields.integer("priority", in: Int(Int32.min)...Int(Int32.max)) ?? 0)
        cacheSalt = try fields.string("cache_salt") ?? ""
        guard cacheSalt.utf8.count <= 1024 else {
            throw .invalid("cache_salt", "`cache_salt` must have at most 1024 bytes")
        }
        _ = try fields.string("user")
        try refuseLaterFields(fields)
    }

    /// Fields this server understands and cannot serve yet: their neutral value is accepted, any other is refused.
    private func refuseLaterFields(_ fields: RequestFields) throws(APIError) {
        for name in ["presence_penalty", "frequency_penalty"] {
            if let penalty = try fields.number(name, in: -2...2), penalty != 0 {
                throw .unsupported(name, "a penalty other than 0")
            }
        }
        if let penalty = try fields.number("repetition_penalty", in: 0...10), penalty != 1 {
            throw .unsupported("repetition_penalty", "a penalty other than 1")
        }
        if let bias = try fields.nested("logit_bias"), !bias.object.entries.isEmpty {
            throw .unsupported("logit_bias", "biasing tokens")
        }
        if let minimum = try fields.integer("min_tokens", in: 0...Int(Int32.max)), minimum != 0 {
            throw .unsupported("min_tokens", "a least number of tokens")
        }
        if try fields.bool("return_token_ids") == true {
            throw .unsupported("return_token_ids", "returning token ids")
        }
        if let format = try fields.nested("response_format") {
            guard try format.string("type") == "text" else {
                throw .unsupported("response_format", "structured output (`type` other than `text`)")
            }
        }
        for name in [
            "prompt_logprobs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs",
            "grammar",
        ] where fields.value(name) != nil {
            throw .unsupported(name, "this extension")
        }
    }

    private func readStops(_ fields: RequestFields) throws(APIError) -> [String] {
        let stops: [String]
        switch fields.value("stop") {
        case nil: return []
        case .string(let string): stops = [string]
        case .array(let values):
            var strings: [String] = []
            for value in values {
                guard case .string(let string) = value else {
                    throw .invalid("stop", "`stop` must be a string or an array of strings")
                }
                strings.append(string)
            }
            stops = strings
        case .some(let value): throw fields.wrongType("stop", "a string or an array of strings", value)
        }
        guard stops.count <= maximumStops else {
            throw .invalid("stop", "`stop` has \(stops.count) strings but may have at most \(maximumStops)")
        }
        for string in stops {
            guard !string.isEmpty else { throw .invalid("stop", "`stop` must not contain an empty string") }
            guard string.utf8.count <= maximumStopBytes else {
                throw .invalid(
                    "stop", "a `stop` string has \(string.utf8.count) bytes but may have at most \(maximumStopBytes)")
            }
        }
        return stops
    }

    private func readTokenIDs(
        _ fields: RequestFields, _ name: String, vocabularySize: Int
    ) throws(APIError) -> [TokenID] {
        guard let values = try fields.array(name) else { return [] }
        guard values.count <= 128 else { throw .invalid(name, "`\(name)` may have at most 128 entries") }
        return try Self.tokenIDs(values, name: name, vocabularySize: vocabularySize)
    }

    static func tokenIDs(
        _ values: [JSONValue], name: String, vocabularySize: Int
    ) throws(APIError) -> [TokenID] {
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

    private static func readPrompts(_ value: JSONValue, vocabularySize: Int) throws(APIError) -> [PromptInput] {
        func empty() -> APIError { .invalid("prompt", "`prompt` must not be empty") }
        switch value {
        case .string(let text):
            return [.text(text)]
        case .array(let items):
            guard let first = items.first else { throw empty() }
            if case .integer = first {
                return [.tokens(try tokenIDs(items, name: "prompt", vocabularySize: vocabularySize))]
            }
            guard items.count <= maximumPrompts else {
                throw .invalid(
                    "prompt", "`prompt` has \(items.count) entries but may have at most \(maximumPrompts)")
            }
            var prompts: [PromptInput] = []
            for item in items {
                switch item {
                case .string(let text): prompts.append(.text(text))
                case .array(let ids):
                    guard !ids.isEmpty else { throw empty() }
                    prompts.append(.tokens(try tokenIDs(ids, name: "prompt", vocabularySize: vocabularySize)))
                default:
                    throw .invalid(
                        "prompt",
                        "`prompt` entries must be strings or arrays of token ids, not "
                            + RequestFields.describe(item))
                }
            }
            return prompts
        default:
            throw .invalid("prompt", "`prompt` must be a string or an array, not \(RequestFields.describe(value))")
        }
    }
}
