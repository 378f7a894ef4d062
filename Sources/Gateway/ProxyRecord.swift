// Tandem — Apache-2.0

import HTTPCore
import NIOCore
import Requests

/// What has become of a request that is passed on, over all engines that worked on it: enough to go on elsewhere.
final class ProxyRecord {
    enum Kind {
        case completion
        case chat
        /// Of its answer nothing is understood.
        case other
    }

    /// Text so far, with its escapes as they came.
    var text: [UInt8] = []
    /// Tokens so far, as far as they can be counted.
    var tokens = 0
    /// Tokens of the prompt, if an engine says how many.
    var promptTokens = 0
    /// Whether the stream said that it is over.
    var isDone = false
    /// Whether it said that the client did something wrong, which ends it.
    var hasClientError = false

    let kind: Kind
    /// Choices that the answer has.
    let choices: Int
    /// Head of the answer that the client gets.
    var head: HTTPResponseHead?
    /// The last answer that was no answer: too busy, or failed.
    var refusal: ProxyResponse?
    /// The event with which an engine said that it failed.
    var errorEvent: ByteBuffer?

    /// Tokens so far by their ids, if the engines tell them.
    var tokenIDs: [TokenID] = []
    /// How many of these have their text in ``text``: what follows is held back in its engine.
    var shownTokenIDs = 0
    var hasAllTokenIDs = true
    var promptTokenIDs: [TokenID]?
    /// `id` and `created` of the first event, as they were written.
    var id: String?
    var created: Int64?
    var model: String?
    /// Choices that have a reason for their end.
    var finishes = 0
    var finishReason: String?
    /// Whether the client got anything that means something.
    var hasContent = false
    /// Events with content that the client got.
    var events = 0
    /// Why an answer that has begun cannot go on elsewhere.
    var obstacle: Obstacle?
    /// How the last engine failed.
    var cause = Cause.lost

    /// How an engine fails in the middle of an answer. The names are labels of a metric.
    enum Cause: String {
        case lost, silent, malformed, reported
    }

    init(kind: Kind, choices: Int) {
        self.kind = kind
        self.choices = choices
    }

    /// Whether all choices have ended, whatever else was to come.
    var isComplete: Bool { isDone || hasClientError || (kind != .other && finishes >= choices) }

    /// Tokens that an engine that goes on need not generate again.
    var keptTokens: Int { usesTokenIDs ? shownTokenIDs : tokens }
    /// Whether the ids of all tokens are known.
    var usesTokenIDs: Bool { kind == .completion && hasAllTokenIDs && shownTokenIDs > 0 }
}

/// A whole answer of an engine.
struct ProxyResponse {
    var head: HTTPResponseHead
    var body: ByteBuffer
}

/// Why an answer that has begun cannot go on elsewhere. The names are labels of a metric.
enum Obstacle: String, CaseIterable {
    case choices = "n"
    case logProbabilities = "logprobs"
    case toolCalls = "tool_calls"
    case reasoning
    case structuredOutput = "structured_output"
    case echo
    case promptForm = "prompt_form"
    case endpoint
    case format
    case refused
    case notAllowed = "off"
    case noEngine = "no_engine"

    var explanation: String {
        switch self {
        case .choices: "it has several choices"
        case .logProbabilities: "it has log-probabilities"
        case .toolCalls: "it has begun to call a tool"
        case .reasoning: "it has begun with reasoning"
        case .structuredOutput: "its form is prescribed"
        case .echo: "it repeats its prompt"
        case .promptForm: "its prompt is no text"
        case .endpoint: "answers of this endpoint cannot"
        case .format: "its events are of an unknown form"
        case .refused: "the engine that was asked to go on refused"
        case .notAllowed: "that is switched off"
        case .noEngine: "there is no engine to go on"
        }
    }
}
