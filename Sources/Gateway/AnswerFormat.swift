// Tandem — Apache-2.0

import Requests

/// How an endpoint writes the answer of one request: as a whole, or as the events of a stream.
protocol AnswerFormat: Sendable {
    /// What a stream begins with.
    ///
    /// - Parameter promptTokens: the prompt's token ids, where they stand before the choices; `nil` if they were not
    ///   asked for.
    mutating func begin(choices: Int, promptTokens: [TokenID]?, usage: Usage, into bytes: inout [UInt8])

    /// What is new of one choice, with its end if it ended.
    ///
    /// - Parameter usage: so far.
    mutating func add(_ piece: ChoicePiece, choice: Int, usage: Usage, into bytes: inout [UInt8])

    /// What a stream ends with once every choice did.
    mutating func end(usage: Usage, into bytes: inout [UInt8])

    /// What a stream ends with if the rest cannot be had.
    mutating func fail(_ error: APIError, into bytes: inout [UInt8])

    /// Whether ``collect(_:)`` is for something: where ``whole(_:prompts:usage:)`` has to know in what order an answer
    /// came.
    var collects: Bool { get }

    /// What is new of a choice, a token at a time, of an answer that is no stream.
    mutating func collect(_ piece: ChoicePiece)

    /// The whole answer.
    ///
    /// - Parameters:
    ///   - choices: in order, the same number for each prompt, with what ``collect(_:)`` did not get of them.
    ///   - prompts: what belongs to each prompt beside its choices.
    func whole(_ choices: [ChoicePiece], prompts: [PromptDetails], usage: Usage) -> [UInt8]
}

extension AnswerFormat {
    var collects: Bool { false }

    mutating func collect(_ piece: ChoicePiece) {}
}

/// What belongs to a prompt beside its choices.
struct PromptDetails: Sendable {
    /// `nil` if they were not asked for.
    var logProbabilities: LogProbabilityText?
    var tokens: [TokenID]?
}
