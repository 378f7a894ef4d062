// Tandem — Apache-2.0

public import JSON

/// What Hugging Face transformers does with messages before a template sees them.
public enum ChatMessages {
    /// The names under which a message may carry reasoning; the first is the one that templates read.
    private static let reasoningNames = ["reasoning_content", "thinking", "reasoning"]

    /// Members that are null are left out, as many templates would print them, and reasoning is found under the usual
    /// name.
    public static func normalized(_ message: JSONObject) -> JSONObject {
        var result = JSONObject()
        for (name, value) in message.entries where !value.isNull { result[name] = value }
        if let reasoning = reasoningNames.lazy.compactMap({ result[$0] }).first {
            if result["thinking"] == nil { result["thinking"] = reasoning }
            result["reasoning_content"] = reasoning
        }
        return result
    }
}
