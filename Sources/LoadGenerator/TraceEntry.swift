// Tandem — Apache-2.0

import JSON

/// One request of a trace: a moment and sizes, and which parts of prompts are the same.
public struct TraceEntry: Sendable, Equatable {
    /// Seconds from the trace's own beginning.
    public var moment: Double
    /// Tokens of the prompt and of the answer.
    public var inputTokens: Int
    public var outputTokens: Int
    /// One a block of ``blockTokens`` tokens of the prompt; the same number means the same tokens.
    public var blocks: [Int]

    /// Tokens of a block of Mooncake's published traces.
    static let blockTokens = 512

    public init(moment: Double, inputTokens: Int, outputTokens: Int, blocks: [Int] = []) {
        self.moment = moment
        self.inputTokens = inputTokens
        self.outputTokens = outputTokens
        self.blocks = blocks
    }

    func item(_ random: inout RandomSource, text: PromptText, seed: UInt64) -> WorkloadItem {
        let length = max(1, inputTokens - text.overhead)
        var left = length
        var parts: [String] = []
        // Of its last word nothing is shared, so that no two prompts are the same.
        for block in blocks where left > 1 {
            let size = min(Self.blockTokens, left - 1)
            parts.append(Workload.sharedText(block, size, text: text, seed: seed))
            left -= size
        }
        parts.append(text.text(left, &random))
        return WorkloadItem(
            prompt: .text(parts.joined(separator: " ")), maximumTokens: outputTokens,
            promptTokens: text.isExact ? text.overhead + length : nil)
    }
}

/// Reads files of one JSON object a line.
public enum WorkloadFile {
    /// Mooncake's format: `{"timestamp": milliseconds, "input_length": …, "output_length": …, "hash_ids": […]}`, the
    /// last of which may be left out.
    ///
    /// - Throws: ``LoadGeneratorError`` naming the line.
    public static func trace(_ bytes: [UInt8], path: String) throws(LoadGeneratorError) -> [TraceEntry] {
        try lines(bytes, path: path) { object, wrong throws(LoadGeneratorError) in
            guard let moment = object["timestamp"]?.number, (0...1e12).contains(moment) else {
                throw wrong("`timestamp` is no number of milliseconds")
            }
            let lengths = ["input_length", "output_length"].map { object[$0]?.integer.flatMap { Int(exactly: $0) } }
            guard let input = lengths[0], let output = lengths[1], (1...LengthDistribution.maximum).contains(input),
                (1...LengthDistribution.maximum).contains(output)
            else { throw wrong("`input_length` and `output_length` must be numbers of tokens") }
            let blocks = object["hash_ids"]?.array ?? []
            let numbers = blocks.compactMap { $0.integer.flatMap { Int(exactly: $0) } }
            guard numbers.count == blocks.count else { throw wrong("`hash_ids` must be integers") }
            return TraceEntry(moment: moment / 1000, inputTokens: input, outputTokens: output, blocks: numbers)
        }
    }

    /// A line has `prompt` or `messages`; it may have `output_tokens` or `max_tokens`, and other fields of a request,
    /// which are sent as they are. A line of OpenAI's batch format has all that in `body`.
    ///
    /// - Throws: ``LoadGeneratorError`` naming the line.
    public static func dataset(
        _ bytes: [UInt8], path: String, isChat: Bool
    ) throws(LoadGeneratorError) -> [WorkloadItem] {
        try lines(bytes, path: path) { object, wrong throws(LoadGeneratorError) in
            var rest = object["body"]?.object ?? object
            let prompt: WorkloadItem.Prompt
            switch (rest["prompt"], rest["messages"]) {
            case (.string(let text)?, nil): prompt = isChat ? .messages(PromptText.messages(text)) : .text(text)
            case (nil, .array(let messages)?):
                guard isChat else { throw wrong("it has `messages`, which need --chat") }
                prompt = .messages(.array(messages))
            default: throw wrong("it must have either `prompt`, a string, or `messages`, an array")
            }
            var maximum: Int?
            for name in ["output_tokens", "max_tokens", "max_completion_tokens"] {
                guard let value = rest[name], !value.isNull else { continue }
                guard let number = value.integer.flatMap({ Int(exactly: $0) }), number >= 1 else {
                    throw wrong("`\(name)` is no number of tokens")
                }
                maximum = maximum ?? number
            }
            for name in ["prompt", "messages", "model", "stream", "stream_options"] + ["output_tokens", "max_tokens"]
                + ["max_completion_tokens"]
            { rest[name] = nil }
            return WorkloadItem(prompt: prompt, maximumTokens: maximum, fields: rest)
        }
    }

    private static func lines<Value>(
        _ bytes: [UInt8], path: String,
        _ read: (JSONObject, (String) -> LoadGeneratorError) throws(LoadGeneratorError) -> Value
    ) throws(LoadGeneratorError) -> [Value] {
        var values: [Value] = []
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            guard line.contains(where: { $0 > 0x20 }) else { continue }
            let wrong = { (reason: String) in LoadGeneratorError("\(path), line \(index + 1): \(reason)") }
            let value: JSONValue
            do {
                value = try JSONParser.parse(line)
            } catch {
                throw wrong("\(error)")
            }
            guard let object = value.object else { throw wrong("it is no JSON object") }
            values.append(try read(object, wrong))
        }
        guard !values.isEmpty else { throw LoadGeneratorError("\(path): there is no line in it") }
        return values
    }
}
