// Tandem — Apache-2.0

import JSON

/// Understands what an answer brings, event by event.
///
/// Events of one stream differ, as a rule, in nothing but their text: what stands around it is kept, and an event with
/// the same needs no parser. So the generator keeps up with servers that are faster than it.
struct AnswerReader {
    /// What an event was.
    enum Event: Equatable {
        case text
        case other
        /// The stream's last event.
        case done
        /// The server says that it failed.
        case error(String)
    }

    private(set) var promptTokens: Int?
    private(set) var completionTokens: Int?
    /// Whether a choice told why it ended.
    private(set) var hasFinish = false

    private var before: [UInt8] = []
    private var after: [UInt8] = []

    mutating func read(_ data: [UInt8]) -> Event {
        if isSimilar(data) { return .text }
        if data.elementsEqual("[DONE]".utf8) { return .done }
        guard let object = try? JSONParser.parse(data).object else { return .error("an event is no JSON object") }
        return read(object, bytes: data)
    }

    /// - Parameter bytes: what the object was read from, to be learnt from; empty for a whole answer.
    mutating func read(_ object: JSONObject, bytes: [UInt8] = []) -> Event {
        if let error = object["error"], !error.isNull { return .error(Self.message(of: object)) }
        if let usage = object["usage"]?.object {
            promptTokens = usage["prompt_tokens"]?.integer.flatMap { Int(exactly: $0) } ?? promptTokens
            completionTokens = usage["completion_tokens"]?.integer.flatMap { Int(exactly: $0) } ?? completionTokens
        }
        var hasText = false
        for choice in object["choices"]?.array ?? [] {
            guard let choice = choice.object else { continue }
            if choice["finish_reason"]?.string != nil { hasFinish = true }
            let parts = choice["delta"]?.object ?? choice["message"]?.object
            let texts = [choice["text"], parts?["content"], parts?["reasoning_content"], parts?["reasoning"]]
            let calls = parts?["tool_calls"]?.array ?? []
            if !calls.isEmpty || texts.contains(where: { !($0?.string ?? "").isEmpty }) { hasText = true }
        }
        if hasText, !hasFinish { learn(bytes, hasUsage: object["usage"]?.object != nil) }
        return hasText ? .text : .other
    }

    /// What a server's error says: OpenAI's object, or whatever else there is.
    static func message(of object: JSONObject) -> String {
        switch object["error"] {
        case .object(let error)?: error["message"]?.string ?? "an error without a message"
        case .string(let text)?: text
        default: object["message"]?.string ?? object["detail"]?.string ?? "an error without a message"
        }
    }

    private func isSimilar(_ data: [UInt8]) -> Bool {
        guard !before.isEmpty, data.count > before.count + after.count, data.starts(with: before) else { return false }
        var end = before.count
        while end < data.count, data[end] != UInt8(ascii: "\"") { end += data[end] == UInt8(ascii: "\\") ? 2 : 1 }
        return end > before.count && data.count - end == after.count && data[end...].elementsEqual(after)
    }

    private mutating func learn(_ data: [UInt8], hasUsage: Bool) {
        before.removeAll(keepingCapacity: true)
        // Usage that comes with every event must be read with every event.
        guard !hasUsage else { return }
        for key in [Array(#""content":""#.utf8), Array(#""text":""#.utf8)] {
            guard let place = data.firstRange(of: key) else { continue }
            var end = place.upperBound
            while end < data.count, data[end] != UInt8(ascii: "\"") { end += data[end] == UInt8(ascii: "\\") ? 2 : 1 }
            guard end < data.count, end > place.upperBound else { return }
            before = Array(data[..<place.upperBound])
            after = Array(data[end...])
            return
        }
    }
}
