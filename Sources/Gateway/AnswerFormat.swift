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

    /// Of an answer that is no stream: may take what is new of a choice, where ``whole(_:prompts:usage:)`` needs to know
    /// in what order it came.
    mutating func collect(_ answer: inout ChoiceAnswer)

    /// The whole answer.
    ///
    /// - Parameters:
    ///   - choices: in order, the same number for each prompt, with what ``collect(_:)`` left of them.
    ///   - prompts: what belongs to each prompt beside its choices.
    func whole(_ choices: [ChoicePiece], prompts: [PromptDetails], usage: Usage) -> [UInt8]
}

extension AnswerFormat {
    mutating func collect(_ answer: inout ChoiceAnswer) {}
}

/// What belongs to a prompt beside its choices.
struct PromptDetails: Sendable {
    /// `nil` if they were not asked for.
    var logProbabilities: LogProbabilityText?
    var tokens: [TokenID]?
}
