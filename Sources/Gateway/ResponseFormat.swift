// Tandem — Apache-2.0

import JSON
import Requests
import Tokenization

/// Writes the responses of one request: whole objects, or chunks for a stream. The parts that do not change between
/// chunks are escaped once.
struct ResponseFormat {
    let kind: GenerationRequest.Kind
    let tokenizer: Tokenizer
    private let showsUsageField: Bool
    /// `{"id":…,"object":…,"created":…,"model":…,"choices":[`
    private let chunkHead: [UInt8]
    private let wholeHead: [UInt8]

    /// - Parameters:
    ///   - id: `cmpl-…` or `chatcmpl-…`.
    ///   - created: seconds since 1970.
    init(kind: GenerationRequest.Kind, id: String, created: Int, model: String, usageField: Bool, tokenizer: Tokenizer)
    {
        self.kind = kind
        self.tokenizer = tokenizer
        showsUsageField = usageField
        func head(_ object: String) -> [UInt8] {
            var writer = JSONWriter()
            writer.beginObject()
            writer.key("id")
            writer.string(id)
            writer.key("object")
            writer.string(object)
            writer.key("created")
            writer.integer(Int64(created))
            writer.key("model")
            writer.string(model)
            return writer.bytes + Array(#","choices":["#.utf8)
        }
        chunkHead = head(kind == .chat ? "chat.completion.chunk" : "text_completion")
        wholeHead = head(kind == .chat ? "chat.completion" : "text_completion")
    }

    // MARK: Chunks

    /// First chunk of a chat choice: the role.
    func roleChunk(choice: Int, usage: Usage?, into bytes: inout [UInt8]) {
        beginChunk(choice: choice, &bytes)
        bytes += #","delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}"#.utf8
        endChunk(usage, &bytes)
    }

    /// Text of one choice, with its log-probabilities if they were asked for; in the completion form also its end.
    func contentChunk(
        choice: Int, text: String, logProbabilities: LogProbabilityText?, finish: ChoiceFinish?, usage: Usage?,
        into bytes: inout [UInt8]
    ) {
        beginChunk(choice: choice, &bytes)
        switch kind {
        case .completion:
            bytes += #","text":""#.utf8
            JSONWriter.appendEscaped(text.utf8, to: &bytes)
            bytes += #"","logprobs":"#.utf8
            append(logProbabilities, &bytes)
            appendFinish(finish, &bytes)
        case .chat:
            bytes += #","delta":{"content":""#.utf8
            JSONWriter.appendEscaped(text.utf8, to: &bytes)
            bytes += #""},"logprobs":"#.utf8
            append(logProbabilities, &bytes)
            bytes += #","finish_reason":null"#.utf8
        }
        bytes += "}".utf8
        endChunk(usage, &bytes)
    }

    /// Last chunk of a chat choice.
    func finishChunk(choice: Int, finish: ChoiceFinish, usage: Usage?, into bytes: inout [UInt8]) {
        beginChunk(choice: choice, &bytes)
        bytes += #","delta":{},"logprobs":null"#.utf8
        appendFinish(finish, &bytes)
        bytes += "}".utf8
        endChunk(usage, &bytes)
    }

    /// The chunk after all choices, if usage was asked for.
    func usageChunk(_ usage: Usage, into bytes: inout [UInt8]) {
        bytes += "data: ".utf8
        bytes += chunkHead
        bytes += #"],"usage":"#.utf8
        append(usage, &bytes)
        bytes += "}\n\n".utf8
    }

    static let done = Array("data: [DONE]\n\n".utf8)

    static func errorEvent(_ error: APIError) -> [UInt8] {
        Array("data: ".utf8) + error.body + Array("\n\n".utf8)
    }

    private func beginChunk(choice: Int, _ bytes: inout [UInt8]) {
        bytes += "data: ".utf8
        bytes += chunkHead
        bytes += #"{"index":"#.utf8
        bytes += String(choice).utf8
    }

    private func endChunk(_ usage: Usage?, _ bytes: inout [UInt8]) {
        bytes += "]".utf8
        if let usage {
            bytes += #","usage":"#.utf8
            append(usage, &bytes)
        } else if showsUsageField {
            bytes += #","usage":null"#.utf8
        }
        bytes += "}\n\n".utf8
    }

    // MARK: Whole responses

    /// A choice of a whole response.
    struct WholeChoice {
        var text: String
        var logProbabilities: LogProbabilityText?
        var finish: ChoiceFinish
    }

    func whole(_ choices: [WholeChoice], usage: Usage) -> [UInt8] {
        var bytes = wholeHead
        for (index, choice) in choices.enumerated() {
            bytes += index == 0 ? #"{"index":"#.utf8 : #",{"index":"#.utf8
            bytes += String(index).utf8
            switch kind {
            case .completion:
                bytes += #","text":""#.utf8
                JSONWriter.appendEscaped(choice.text.utf8, to: &bytes)
                bytes += #"","logprobs":"#.utf8
            case .chat:
                bytes += #","message":{"role":"assistant","content":""#.utf8
                JSONWriter.appendEscaped(choice.text.utf8, to: &bytes)
                bytes += #"","refusal":null},"logprobs":"#.utf8
            }
            append(choice.logProbabilities, &bytes)
            appendFinish(choice.finish, &bytes)
            bytes += "}".utf8
        }
        bytes += #"],"usage":"#.utf8
        append(usage, &bytes)
        bytes += "}".utf8
        return bytes
    }

    // MARK: Parts

    private func appendFinish(_ finish: ChoiceFinish?, _ bytes: inout [UInt8]) {
        guard let finish else {
            bytes += #","finish_reason":null"#.utf8
            if kind == .completion { bytes += #","stop_reason":null"#.utf8 }
            return
        }
        bytes += #","finish_reason":""#.utf8
        bytes += finish.reason.utf8
        bytes += #"","stop_reason":"#.utf8
        switch finish.stopReason {
        case nil: bytes += "null".utf8
        case .token(let token): bytes += String(token).utf8
        case .text(let text):
            bytes += "\"".utf8
            JSONWriter.appendEscaped(text.utf8, to: &bytes)
            bytes += "\"".utf8
        }
    }

    private func append(_ usage: Usage, _ bytes: inout [UInt8]) {
        bytes += #"{"prompt_tokens":\#(usage.promptTokens),"completion_tokens":\#(usage.completionTokens),"#.utf8
        bytes += #""total_tokens":\#(usage.totalTokens),"#.utf8
        bytes += #""prompt_tokens_details":{"cached_tokens":\#(usage.cachedPromptTokens)}}"#.utf8
    }

    private func append(_ logProbabilities: LogProbabilityText?, _ bytes: inout [UInt8]) {
        guard let logProbabilities else {
            bytes += "null".utf8
            return
        }
        var writer = JSONWriter()
        switch kind {
        case .completion: logProbabilities.writeLegacy(&writer, tokenizer: tokenizer)
        case .chat: logProbabilities.writeChat(&writer, tokenizer: tokenizer)
        }
        bytes += writer.bytes
    }
}
