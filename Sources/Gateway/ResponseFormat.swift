// Tandem — Apache-2.0

import JSON
import Requests
import Tokenization

/// Writes the answers of completions and chats: whole objects, or chunks for a stream. The parts that do not change between
/// chunks are escaped once.
struct ResponseFormat: AnswerFormat {
    let kind: GenerationRequest.Kind
    let tokenizer: Tokenizer
    private let showsUsageField: Bool
    private let showsUsageAlways: Bool
    /// `{"id":…,"object":…,"created":…,"model":…,"choices":[`
    private let chunkHead: [UInt8]
    private let wholeHead: [UInt8]
    /// What stands around the text of the first choice's chunks that show nothing else: nearly all chunks there are.
    private let plainHead: [UInt8]
    private let plainTail: [UInt8]

    /// - Parameters:
    ///   - id: `cmpl-…` or `chatcmpl-…`.
    ///   - created: seconds since 1970.
    ///   - usageAlways: whether each chunk shows what was used so far.
    init(
        kind: GenerationRequest.Kind, id: String, created: Int, model: String, usageField: Bool, usageAlways: Bool,
        tokenizer: Tokenizer
    ) {
        self.kind = kind
        showsUsageAlways = usageAlways
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
        let (before, after) =
            switch kind {
            case .completion: (#""text":""#, #"","logprobs":null,"finish_reason":null,"stop_reason":null}]"#)
            case .chat: (#""delta":{"content":""#, #""},"logprobs":null,"finish_reason":null}]"#)
            }
        plainHead = Array("data: ".utf8) + chunkHead + Array((#"{"index":0,"# + before).utf8)
        plainTail = Array((after + (usageField ? #","usage":null"# : "") + "}\n\n").utf8)
    }

    // MARK: Chunks

    func begin(choices: Int, promptTokens: [TokenID]?, usage: Usage, into bytes: inout [UInt8]) {
        guard kind == .chat else { return }
        for choice in 0..<choices {
            roleChunk(
                choice: choice, promptTokens: choice == 0 ? promptTokens : nil, usage: showsUsageAlways ? usage : nil,
                into: &bytes)
        }
    }

    func add(_ piece: ChoicePiece, choice: Int, usage: Usage, into bytes: inout [UInt8]) {
        if choice == 0, !showsUsageAlways, piece.isPlainText {
            bytes += plainHead
            JSONWriter.appendEscaped(piece.text.utf8, to: &bytes)
            bytes += plainTail
            return
        }
        let usage = showsUsageAlways ? usage : nil
        if piece.hasContent || (piece.finish != nil && kind == .completion) {
            contentChunk(choice: choice, piece, usage: usage, into: &bytes)
        }
        if let finish = piece.finish, kind == .chat {
            finishChunk(choice: choice, finish: finish, usage: usage, into: &bytes)
        }
    }

    func end(usage: Usage, into bytes: inout [UInt8]) {
        if showsUsageField { usageChunk(usage, into: &bytes) }
        bytes += "data: [DONE]\n\n".utf8
    }

    func fail(_ error: APIError, into bytes: inout [UInt8]) {
        bytes += "data: ".utf8
        bytes += error.body
        bytes += "\n\n".utf8
    }

    /// First chunk of a chat choice: the role.
    ///
    /// - Parameter promptTokens: the prompt's token ids, in the first chunk of a stream that returns them.
    private func roleChunk(choice: Int, promptTokens: [TokenID]?, usage: Usage?, into bytes: inout [UInt8]) {
        beginChunk(choice: choice, &bytes)
        bytes += #","delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}"#.utf8
        endChunk(promptTokens: promptTokens, usage, &bytes)
    }

    /// What one choice has to show: text, and beside it what was asked for; in the completion form also its end.
    private func contentChunk(choice: Int, _ piece: ChoicePiece, usage: Usage?, into bytes: inout [UInt8]) {
        beginChunk(choice: choice, &bytes)
        switch kind {
        case .completion:
            bytes += #","text":""#.utf8
            JSONWriter.appendEscaped(piece.text.utf8, to: &bytes)
            bytes += #"","logprobs":"#.utf8
            append(piece.logProbabilities, &bytes)
            appendFinish(piece.finish, &bytes)
            append("prompt_token_ids", piece.promptTokens, &bytes)
        case .chat:
            bytes += #","delta":{"#.utf8
            if !piece.text.isEmpty || piece.calls.isEmpty {
                bytes += #""content":""#.utf8
                JSONWriter.appendEscaped(piece.text.utf8, to: &bytes)
                bytes += #"""#.utf8
                if !piece.calls.isEmpty { bytes += ",".utf8 }
            }
            append(piece.calls, showsIndex: true, &bytes)
            bytes += #"},"logprobs":"#.utf8
            append(piece.logProbabilities, &bytes)
            bytes += #","finish_reason":null"#.utf8
        }
        append("token_ids", piece.tokens, &bytes)
        bytes += "}".utf8
        endChunk(usage, &bytes)
    }

    /// Last chunk of a chat choice.
    private func finishChunk(choice: Int, finish: ChoiceFinish, usage: Usage?, into bytes: inout [UInt8]) {
        beginChunk(choice: choice, &bytes)
        bytes += #","delta":{},"logprobs":null"#.utf8
        appendFinish(finish, &bytes)
        bytes += "}".utf8
        endChunk(usage, &bytes)
    }

    /// The chunk after all choices, if usage was asked for.
    private func usageChunk(_ usage: Usage, into bytes: inout [UInt8]) {
        bytes += "data: ".utf8
        bytes += chunkHead
        bytes += #"],"usage":"#.utf8
        append(usage, &bytes)
        bytes += "}\n\n".utf8
    }

    private func beginChunk(choice: Int, _ bytes: inout [UInt8]) {
        bytes += "data: ".utf8
        bytes += chunkHead
        bytes += #"{"index":"#.utf8
        bytes += String(choice).utf8
    }

    private func endChunk(promptTokens: [TokenID]? = nil, _ usage: Usage?, _ bytes: inout [UInt8]) {
        bytes += "]".utf8
        if let usage {
            bytes += #","usage":"#.utf8
            append(usage, &bytes)
        } else if showsUsageField {
            bytes += #","usage":null"#.utf8
        }
        append("prompt_token_ids", promptTokens, &bytes)
        bytes += "}\n\n".utf8
    }

    // MARK: Whole responses

    /// Completions show what belongs to a prompt with each of its choices, chats beside them.
    func whole(_ choices: [ChoicePiece], prompts: [PromptDetails], usage: Usage) -> [UInt8] {
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
                bytes += #","message":{"role":"assistant","content":"#.utf8
                if choice.text.isEmpty, !choice.calls.isEmpty {
                    bytes += "null".utf8
                } else {
                    bytes += #"""#.utf8
                    JSONWriter.appendEscaped(choice.text.utf8, to: &bytes)
                    bytes += #"""#.utf8
                }
                bytes += #","refusal":null"#.utf8
                if !choice.calls.isEmpty { bytes += ",".utf8 }
                append(choice.calls, showsIndex: false, &bytes)
                bytes += #"},"logprobs":"#.utf8
            }
            append(choice.logProbabilities, &bytes)
            appendFinish(choice.finish, &bytes)
            if kind == .completion { append(prompts[index * prompts.count / choices.count], &bytes) }
            append("token_ids", choice.tokens, &bytes)
            bytes += "}".utf8
        }
        bytes += #"],"usage":"#.utf8
        append(usage, &bytes)
        if kind == .chat, let prompt = prompts.first { append(prompt, &bytes) }
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

    /// The member `tool_calls`, if there are any.
    private func append(_ calls: [ToolCallDelta], showsIndex: Bool, _ bytes: inout [UInt8]) {
        guard !calls.isEmpty else { return }
        bytes += #""tool_calls":["#.utf8
        for (position, call) in calls.enumerated() {
            bytes += position == 0 ? "{".utf8 : ",{".utf8
            if showsIndex { bytes += #""index":\#(call.index),"#.utf8 }
            if let id = call.id { bytes += #""id":"\#(id)","type":"function","#.utf8 }
            bytes += #""function":{"#.utf8
            if let name = call.name {
                bytes += #""name":""#.utf8
                JSONWriter.appendEscaped(name.utf8, to: &bytes)
                bytes += #"","#.utf8
            }
            bytes += #""arguments":""#.utf8
            JSONWriter.appendEscaped(call.arguments.utf8, to: &bytes)
            bytes += #""}}"#.utf8
        }
        bytes += "]".utf8
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

    private func append(_ prompt: PromptDetails, _ bytes: inout [UInt8]) {
        if let logProbabilities = prompt.logProbabilities {
            bytes += #","prompt_logprobs":"#.utf8
            var writer = JSONWriter()
            logProbabilities.writePrompt(&writer, tokenizer: tokenizer)
            bytes += writer.bytes
        }
        append("prompt_token_ids", prompt.tokens, &bytes)
    }

    /// A member of token ids, if there are any to show.
    private func append(_ name: String, _ tokens: [TokenID]?, _ bytes: inout [UInt8]) {
        guard let tokens else { return }
        bytes += #","\#(name)":["#.utf8
        for (index, token) in tokens.enumerated() {
            if index > 0 { bytes += ",".utf8 }
            bytes += String(token).utf8
        }
        bytes += "]".utf8
    }
}
