// Tandem — Apache-2.0

import JSON
import Requests

/// What completions, chats and responses have in common once a body was read and checked.
struct GenerationRequest: Equatable {
    enum Kind: Equatable { case completion, chat }

    var kind: Kind
    var prompts: [PromptInput]
    /// What follows the text that is to be generated after each prompt; `nil` if nothing does.
    var suffix: String?
    /// Choices a prompt that the client gets.
    var choices = 1
    /// Choices a prompt that are generated; the likeliest ``choices`` of them are given out.
    var candidates = 1
    var sampling = SamplingParameters(temperature: 1)
    var logitBias: [TokenBias] = []
    /// `nil`: as many as the context has room for.
    var maximumNewTokens: Int?
    /// So many tokens come before anything may end the text.
    var minimumNewTokens = 0
    var stop: [String] = []
    /// Whether the answer can be nothing but a call of a tool.
    var mustCall = false
    /// Whether a stop string, or the text of a stop token, stays in the text.
    var includeStopText = false
    var stopTokens: [TokenID] = []
    var ignoreEndOfSequence = false
    /// What the text must look like.
    var structure: StructuredOutput?
    /// Tools that the model is told of.
    var tools: ToolCallRequest?
    /// How it writes calls of them; `nil` without tools.
    var toolCallFormat: ToolCallFormat?
    var stream = false
    var includeUsage = false
    var continuousUsage = false
    var echo = false
    /// `nil`: none; else how many of the likeliest tokens beside the chosen one.
    var logProbabilities: Int?
    /// The same for prompt tokens.
    var promptLogProbabilities: Int?
    /// Whether the client wants token ids beside the text.
    var returnsTokenIDs = false
    var addSpecialTokens = true
    var skipSpecialTokens = true
    var truncation: PromptTruncation?
    var priority: Int32 = 0
    var cacheSalt = ""
    /// What the client calls the session, the user or the prompt that it belongs to; see ``SessionKey``.
    var session: String?
    var requestedModel: String?
    /// The field that holds the prompt, where it is none that belongs to ``kind``.
    var promptField: String?

    /// Log-probabilities that an engine has to report: those that the client wants, or what choosing among candidates
    /// needs.
    var reportedLogProbabilities: Int? { logProbabilities ?? (candidates > choices ? 0 : nil) }
}

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
            kind: .completion, prompts: try PromptInput.read(prompt, name: "prompt", vocabularySize: vocabularySize))
        request.echo = try fields.bool("echo") ?? false
        request.maximumNewTokens = try fields.integer("max_tokens", in: 0...Int(Int32.max)) ?? 16
        if request.maximumNewTokens == 0, !request.echo {
            throw .invalid("max_tokens", "`max_tokens` may be 0 only together with `echo`")
        }
        request.logProbabilities = try fields.integer("logprobs", in: 0...20)
        try request.readCommon(fields, vocabularySize: vocabularySize)
        try request.readCandidates(fields)
        if let suffix = try fields.string("suffix"), !suffix.isEmpty { request.suffix = suffix }
        if request.suffix != nil, request.echo, request.logProbabilities != nil {
            throw .invalid(
                "logprobs",
                "`logprobs` with `echo` cannot be given where `suffix` stands behind the text; leave one out")
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
        if let tools = try ToolCallRequest.read(fields), tools.isActive { request.tools = tools }
        if let list = try fields.array("functions"), !list.isEmpty {
            throw .unsupported("functions", "the older form of `tools`")
        }
        if let modalities = try fields.array("modalities"), modalities != [.string("text")] {
            throw .unsupported("modalities", "output other than text")
        }
        for name in ["audio", "prediction", "web_search_options", "function_call"] where fields.value(name) != nil {
            throw .unsupported(name, "this OpenAI feature")
        }
        return request
    }

    /// Fields of vLLM's that would change an answer: one that is left out without a word may be somebody's filter.
    private static let refused = [
        "bad_words", "allowed_token_ids", "use_beam_search", "logprob_token_ids", "return_tokens_as_token_ids",
        "thinking_token_budget", "repetition_detection",
    ]

    mutating func readCommon(_ fields: RequestFields, vocabularySize: Int) throws(APIError) {
        requestedModel = try fields.string("model")
        for name in Self.refused {
            guard let value = fields.value(name), value != .bool(false), value != .array([]) else { continue }
            throw .unsupported(name, "this field of vLLM's")
        }
        try readStreaming(fields)
        try readSampling(fields, vocabularySize: vocabularySize)
        try readEnds(fields, vocabularySize: vocabularySize)
        structure = try StructuredOutput.read(fields)
        returnsTokenIDs = try fields.bool("return_token_ids") ?? false
        promptLogProbabilities = try fields.integer("prompt_logprobs", in: 0...20)
        if promptLogProbabilities != nil, stream {
            throw .invalid("prompt_logprobs", "`prompt_logprobs` cannot be given in a stream; set `stream` to false")
        }
        addSpecialTokens = try fields.bool("add_special_tokens") ?? addSpecialTokens
        skipSpecialTokens = try fields.bool("skip_special_tokens") ?? true
        truncation = try PromptTruncation.read(fields)
        (priority, cacheSalt) = try Self.readScheduling(fields)
        session = try SessionKey.name(fields)
    }

    private mutating func readStreaming(_ fields: RequestFields) throws(APIError) {
        stream = try fields.bool("stream") ?? false
        guard let options = try fields.nested("stream_options") else { return }
        guard stream else { throw .invalid("stream_options", "`stream_options` needs `stream` to be true") }
        includeUsage = try options.bool("include_usage") ?? false
        continuousUsage = try options.bool("continuous_usage_stats") ?? false
    }

    private mutating func readCandidates(_ fields: RequestFields) throws(APIError) {
        guard let best = try fields.integer("best_of", in: 1...Self.maximumChoices) else { return }
        guard best >= choices else {
            throw .invalid("best_of", "`best_of` is \(best) but must be at least `n`, which is \(choices)")
        }
        guard best == choices || !stream else {
            throw .invalid(
                "best_of", "which choice is best is known at the end: `best_of` above `n` cannot be streamed")
        }
        candidates = best
    }

    /// Order among requests and what they share, for every endpoint that gives engines work.
    static func readScheduling(_ fields: RequestFields) throws(APIError) -> (priority: Int32, cacheSalt: String) {
        let priority = try fields.integer("priority", in: Int(Int32.min)...Int(Int32.max)) ?? 0
        let salt = try fields.string("cache_salt") ?? ""
        guard salt.utf8.count <= 1024 else { throw fields.invalid("cache_salt", "must have at most 1024 bytes") }
        return (Int32(priority), salt)
    }
}
