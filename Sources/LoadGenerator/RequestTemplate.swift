// Tandem — Apache-2.0

public import JSON

/// Writes the bodies of requests.
public struct RequestTemplate: Sendable {
    public var model: String
    public var isChat: Bool
    /// Whether answers come as a stream of events.
    public var streams: Bool
    /// Fields of every request; those of a dataset's line go before them.
    public var fields: JSONObject

    public init(model: String, isChat: Bool, streams: Bool, fields: JSONObject) {
        self.model = model
        self.isChat = isChat
        self.streams = streams
        self.fields = fields
    }

    /// Where they are sent, behind the endpoint's prefix.
    public var target: String { isChat ? "/v1/chat/completions" : "/v1/completions" }

    /// The body of a request.
    public func body(_ item: WorkloadItem) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("model")
        writer.string(model)
        switch item.prompt {
        case .text(let text):
            writer.key(isChat ? "messages" : "prompt")
            if isChat { writer.value(PromptText.messages(text)) } else { writer.string(text) }
        case .messages(let messages):
            writer.key("messages")
            writer.value(messages)
        }
        if let maximum = item.maximumTokens {
            writer.key("max_tokens")
            writer.integer(maximum)
        }
        if streams {
            writer.key("stream")
            writer.bool(true)
            writer.key("stream_options")
            writer.raw(Array(#"{"include_usage":true}"#.utf8))
        }
        for (name, value) in item.fields.entries {
            writer.key(name)
            writer.value(value)
        }
        for (name, value) in fields.entries where item.fields[name] == nil {
            writer.key(name)
            writer.value(value)
        }
        writer.endObject()
        return writer.bytes
    }
}
