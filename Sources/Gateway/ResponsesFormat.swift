// Tandem — Apache-2.0

import JSON
import Requests
import Tokenization

/// Writes responses: whole objects, or a stream of events with their names and numbers.
struct ResponsesFormat: AnswerFormat {
    private let id: String
    private let created: Int
    private let model: String
    private let settings: ResponsesSettings
    private let tokenizer: Tokenizer
    private let secondsSince1970: @Sendable () -> Int
    /// `<request id>_`, as it stands in JSON; makes ids of items.
    private let itemSuffix: [UInt8]
    private var answer = ResponsesAnswer()
    /// The number of the next event.
    private var sequence = 0

    /// - Parameters:
    ///   - requestID: without a prefix.
    ///   - secondsSince1970: now.
    init(
        requestID: String, model: String, settings: ResponsesSettings, tokenizer: Tokenizer,
        secondsSince1970: @escaping @Sendable () -> Int
    ) {
        id = "resp_" + requestID
        self.model = model
        self.settings = settings
        self.tokenizer = tokenizer
        self.secondsSince1970 = secondsSince1970
        created = secondsSince1970()
        var bytes: [UInt8] = []
        JSONWriter.appendEscaped(requestID.utf8, to: &bytes)
        itemSuffix = bytes + Array("_".utf8)
    }

    // MARK: Whole

    var collects: Bool { true }

    mutating func collect(_ piece: ChoicePiece) {
        _ = answer.add(piece)
    }

    func whole(_ choices: [ChoicePiece], prompts: [PromptDetails], usage: Usage) -> [UInt8] {
        var bytes: [UInt8] = []
        appendResponse(status: endStatus, usage: usage, &bytes)
        return bytes
    }

    private var endStatus: String { answer.isCut ? "incomplete" : "completed" }

    // MARK: Stream

    mutating func begin(choices: Int, promptTokens: [TokenID]?, usage: Usage, into bytes: inout [UInt8]) {
        for name in ["response.created", "response.in_progress"] {
            beginEvent(name, &bytes)
            bytes += #","response":"#.utf8
            appendResponse(status: "in_progress", usage: nil, &bytes)
            endEvent(&bytes)
        }
    }

    mutating func add(_ piece: ChoicePiece, choice: Int, usage: Usage, into bytes: inout [UInt8]) {
        for event in answer.add(piece) {
            switch event {
            case .opened(let index): appendOpened(index, &bytes)
            case .text(let index, let text, let logProbabilities):
                beginItemEvent("response.output_text.delta", index, hasParts: true, &bytes)
                bytes += #","delta":"#.utf8
                append(text, &bytes)
                append(logProbabilities, &bytes)
                endEvent(&bytes)
            case .arguments(let index, let arguments):
                beginItemEvent("response.function_call_arguments.delta", index, hasParts: false, &bytes)
                bytes += #","delta":"#.utf8
                append(arguments, &bytes)
                endEvent(&bytes)
            case .closed(let index): appendClosed(index, &bytes)
            }
        }
    }

    mutating func end(usage: Usage, into bytes: inout [UInt8]) {
        beginEvent("response." + endStatus, &bytes)
        bytes += #","response":"#.utf8
        appendResponse(status: endStatus, usage: usage, &bytes)
        endEvent(&bytes)
    }

    mutating func fail(_ error: APIError, into bytes: inout [UInt8]) {
        answer.fail()
        beginEvent("response.failed", &bytes)
        bytes += #","response":"#.utf8
        appendResponse(status: "failed", usage: nil, error: error, &bytes)
        endEvent(&bytes)
    }

    private mutating func beginEvent(_ name: String, _ bytes: inout [UInt8]) {
        bytes += "event: \(name)\ndata: {\"type\":\"\(name)\",\"sequence_number\":\(sequence)".utf8
        sequence += 1
    }

    /// - Parameter hasParts: whether the event is about the part of a message.
    private mutating func beginItemEvent(_ name: String, _ index: Int, hasParts: Bool, _ bytes: inout [UInt8]) {
        beginEvent(name, &bytes)
        bytes += #","item_id":"#.utf8
        appendItemID(index, &bytes)
        bytes += #","output_index":\#(index)"#.utf8
        if hasParts { bytes += #","content_index":0"#.utf8 }
    }

    private func endEvent(_ bytes: inout [UInt8]) { bytes += "}\n\n".utf8 }

    private mutating func appendOpened(_ index: Int, _ bytes: inout [UInt8]) {
        beginEvent("response.output_item.added", &bytes)
        bytes += #","output_index":\#(index),"item":"#.utf8
        switch answer.items[index].content {
        case .message: appendItem(index, .inProgress, parts: [], &bytes)
        case .call(let id, let name, _): appendCall(index, .inProgress, id: id, name: name, arguments: "", &bytes)
        }
        endEvent(&bytes)
        guard case .message = answer.items[index].content else { return }
        beginItemEvent("response.content_part.added", index, hasParts: true, &bytes)
        bytes += #","part":"#.utf8
        bytes += part("", LogProbabilityText(entries: [], textOffset: 0))
        endEvent(&bytes)
    }

    private mutating func appendClosed(_ index: Int, _ bytes: inout [UInt8]) {
        switch answer.items[index].content {
        case .message(let text, let logProbabilities):
            beginItemEvent("response.output_text.done", index, hasParts: true, &bytes)
            bytes += #","text":"#.utf8
            append(text, &bytes)
            append(logProbabilities, &bytes)
            endEvent(&bytes)
            beginItemEvent("response.content_part.done", index, hasParts: true, &bytes)
            bytes += #","part":"#.utf8
            bytes += part(text, logProbabilities)
            endEvent(&bytes)
        case .call(_, let name, let arguments):
            beginItemEvent("response.function_call_arguments.done", index, hasParts: false, &bytes)
            bytes += #","name":"#.utf8
            append(name, &bytes)
            bytes += #","arguments":"#.utf8
            append(arguments, &bytes)
            endEvent(&bytes)
        }
        beginEvent("response.output_item.done", &bytes)
        bytes += #","output_index":\#(index),"item":"#.utf8
        append(answer.items[index], index, &bytes)
        endEvent(&bytes)
    }

    // MARK: The response

    private func appendResponse(status: String, usage: Usage?, error: APIError? = nil, _ bytes: inout [UInt8]) {
        bytes += #"{"id":"#.utf8
        append(id, &bytes)
        bytes += #","object":"response","created_at":\#(created),"status":"\#(status)","background":false"#.utf8
        bytes += #","completed_at":"#.utf8
        bytes += (status == "completed" ? String(secondsSince1970()) : "null").utf8
        bytes += #","error":"#.utf8
        if let error {
            bytes += #"{"code":"\#(error.status == 429 ? "rate_limit_exceeded" : "server_error")","message":"#.utf8
            append(error.message, &bytes)
            bytes += "}".utf8
        } else {
            bytes += "null".utf8
        }
        bytes += #","incomplete_details":"#.utf8
        bytes += (status == "incomplete" ? #"{"reason":"max_output_tokens"}"# : "null").utf8
        bytes += ",".utf8
        bytes += settings.beginning
        bytes += #","model":"#.utf8
        append(model, &bytes)
        bytes += #","output":["#.utf8
        if status != "in_progress" {
            for (index, item) in answer.items.enumerated() {
                if index > 0 { bytes += ",".utf8 }
                append(item, index, &bytes)
            }
        }
        bytes += "],".utf8
        bytes += settings.middle
        bytes += #","usage":"#.utf8
        append(usage, &bytes)
        bytes += ",".utf8
        bytes += settings.end
        bytes += "}".utf8
    }

    private func append(_ usage: Usage?, _ bytes: inout [UInt8]) {
        guard let usage else {
            bytes += "null".utf8
            return
        }
        bytes += #"{"input_tokens":\#(usage.promptTokens),"input_tokens_details":"#.utf8
        // Clients need to be told of writes, which cost nothing here.
        bytes += #"{"cached_tokens":\#(usage.cachedPromptTokens),"cache_write_tokens":0},"#.utf8
        bytes += #""output_tokens":\#(usage.completionTokens),"output_tokens_details":{"reasoning_tokens":0},"#.utf8
        bytes += #""total_tokens":\#(usage.totalTokens)}"#.utf8
    }

    private func append(_ item: ResponsesAnswer.Item, _ index: Int, _ bytes: inout [UInt8]) {
        switch item.content {
        case .message(let text, let logProbabilities):
            appendItem(index, item.status, parts: part(text, logProbabilities), &bytes)
        case .call(let id, let name, let arguments):
            appendCall(index, item.status, id: id, name: name, arguments: arguments, &bytes)
        }
    }

    private func appendItem(
        _ index: Int, _ status: ResponsesAnswer.Status, parts: [UInt8], _ bytes: inout [UInt8]
    ) {
        bytes += #"{"id":"#.utf8
        appendItemID(index, &bytes)
        bytes += #","type":"message","status":"\#(status.rawValue)","role":"assistant","content":["#.utf8
        bytes += parts
        bytes += "]}".utf8
    }

    private func appendCall(
        _ index: Int, _ status: ResponsesAnswer.Status, id: String, name: String, arguments: String,
        _ bytes: inout [UInt8]
    ) {
        bytes += #"{"id":"#.utf8
        appendItemID(index, &bytes)
        bytes += #","type":"function_call","status":"\#(status.rawValue)","call_id":"#.utf8
        append(id, &bytes)
        bytes += #","name":"#.utf8
        append(name, &bytes)
        bytes += #","arguments":"#.utf8
        append(arguments, &bytes)
        bytes += "}".utf8
    }

    private func part(_ text: String, _ logProbabilities: LogProbabilityText) -> [UInt8] {
        var bytes = Array(#"{"type":"output_text","annotations":[]"#.utf8)
        append(logProbabilities, &bytes)
        bytes += #","text":"#.utf8
        append(text, &bytes)
        bytes += "}".utf8
        return bytes
    }

    private func appendItemID(_ index: Int, _ bytes: inout [UInt8]) {
        if case .call = answer.items[index].content { bytes += #""fc_"#.utf8 } else { bytes += #""msg_"#.utf8 }
        bytes += itemSuffix
        bytes += #"\#(index)""#.utf8
    }

    /// The member `logprobs`, which is empty if none were asked for.
    private func append(_ logProbabilities: LogProbabilityText, _ bytes: inout [UInt8]) {
        bytes += #","logprobs":"#.utf8
        guard !logProbabilities.entries.isEmpty else {
            bytes += "[]".utf8
            return
        }
        var writer = JSONWriter()
        logProbabilities.writeList(&writer, tokenizer: tokenizer)
        bytes += writer.bytes
    }

    private func append(_ text: String, _ bytes: inout [UInt8]) {
        bytes += "\"".utf8
        JSONWriter.appendEscaped(text.utf8, to: &bytes)
        bytes += "\"".utf8
    }
}
