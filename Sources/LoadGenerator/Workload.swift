// Tandem — Apache-2.0

public import JSON

/// One request to be made.
public struct WorkloadItem: Sendable, Equatable {
    /// What is asked.
    public enum Prompt: Sendable, Equatable {
        case text(String)
        /// An array of messages, for chats.
        case messages(JSONValue)
    }

    public var prompt: Prompt
    /// The longest answer; nil leaves it to the server.
    public var maximumTokens: Int?
    /// Tokens that the prompt has by the server's count; nil if not known.
    public var promptTokens: Int?
    /// Fields of the request that a dataset gave, beside those above.
    public var fields: JSONObject

    public init(
        prompt: Prompt, maximumTokens: Int? = nil, promptTokens: Int? = nil, fields: JSONObject = JSONObject()
    ) {
        self.prompt = prompt
        self.maximumTokens = maximumTokens
        self.promptTokens = promptTokens
        self.fields = fields
    }
}

/// What is asked, request by request: the same for the same seed, and made when it is needed.
public struct Workload: Sendable {
    /// Where requests come from.
    public enum Source: Sendable {
        case synthetic(SyntheticWorkload)
        /// Taken in order, and again from the beginning if they do not suffice.
        case dataset([WorkloadItem])
        /// Sizes and prefixes as a trace has them.
        case trace([TraceEntry])
    }

    public var source: Source
    public var text: PromptText
    public var seed: UInt64

    public init(source: Source, text: PromptText, seed: UInt64) {
        self.source = source
        self.text = text
        self.seed = seed
    }

    /// The request at a place, from 0.
    public func item(at index: Int) -> WorkloadItem {
        // Stream 0 of the seed is the schedule's.
        var random = RandomSource(seed: seed, stream: UInt64(index) &* 2 &+ 1)
        switch source {
        case .synthetic(let synthetic): return synthetic.item(&random, text: text, seed: seed)
        case .dataset(let items): return items[index % items.count]
        case .trace(let entries): return entries[index % entries.count].item(&random, text: text, seed: seed)
        }
    }

    /// A text that is the same for the same number, to be shared by prompts.
    static func sharedText(_ number: Int, _ length: Int, text: PromptText, seed: UInt64) -> String {
        var random = RandomSource(seed: seed, stream: UInt64(bitPattern: Int64(number)) &* 2 &+ 2)
        return text.text(length, &random)
    }
}

/// Prompts of random words with lengths from distributions.
public struct SyntheticWorkload: Sendable, Equatable {
    /// Tokens of the whole prompt, what is shared and the server's template included.
    public var inputTokens: LengthDistribution
    /// Nil for answers as long as what the prompt brought, instruction aside, as a correction is.
    public var outputTokens: LengthDistribution?
    /// Words that every prompt begins with.
    public var instruction = ""
    /// Tokens at the beginning that many prompts share, after the instruction.
    public var prefixTokens = 0
    /// How many such beginnings there are; each prompt has one of them.
    public var prefixes = 1

    public init(inputTokens: LengthDistribution, outputTokens: LengthDistribution?) {
        self.inputTokens = inputTokens
        self.outputTokens = outputTokens
    }

    func item(_ random: inout RandomSource, text: PromptText, seed: UInt64) -> WorkloadItem {
        let wanted = inputTokens.length(&random)
        let around = text.overhead + (text.count(instruction) ?? instruction.split(separator: " ").count)
        // At least one word of its own, or prompts were all the same.
        let length = max(1, wanted - around)
        let shared = min(prefixTokens, length - 1)
        let number = prefixes > 1 ? Int.random(in: 0..<prefixes, using: &random) : 0
        var parts = instruction.isEmpty ? [] : [instruction]
        if shared > 0 { parts.append(Workload.sharedText(number, shared, text: text, seed: seed)) }
        parts.append(text.text(length - shared, &random))
        return WorkloadItem(
            prompt: .text(parts.joined(separator: " ")), maximumTokens: outputTokens?.length(&random) ?? length,
            promptTokens: text.isExact ? around + length : nil)
    }
}

/// Kinds of work that small models are used for: sizes and shapes, with random words for contents.
public enum WorkloadPreset: String, Sendable, CaseIterable {
    /// Texts go on: prompt and answer of middling, differing lengths.
    case completion
    /// Questions about long passages of which many are asked more than once, with short answers.
    case retrieval
    /// A sentence or two, given back corrected: as long an answer as the text.
    case grammar
    /// A page, of which a few fields are wanted.
    case extraction

    public var workload: SyntheticWorkload {
        switch self {
        case .completion:
            return SyntheticWorkload(
                inputTokens: .logNormal(mean: 160, deviation: 120), outputTokens: .logNormal(mean: 100, deviation: 60))
        case .retrieval:
            var workload = SyntheticWorkload(inputTokens: .uniform(900...1500), outputTokens: .uniform(30...90))
            workload.instruction = "Answer the question at the end from the text before it."
            (workload.prefixTokens, workload.prefixes) = (800, 8)
            return workload
        case .grammar:
            var workload = SyntheticWorkload(inputTokens: .uniform(40...120), outputTokens: nil)
            workload.instruction = "Correct the grammar of this text and give back nothing else:"
            return workload
        case .extraction:
            var workload = SyntheticWorkload(inputTokens: .uniform(350...700), outputTokens: .uniform(25...60))
            workload.instruction = "Give the names, dates and amounts in this text as JSON:"
            return workload
        }
    }
}
