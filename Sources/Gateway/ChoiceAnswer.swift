// Tandem — Apache-2.0

import Requests
import Tokenization

/// What the client gets of one choice at once: a chunk of a stream, or the whole.
struct ChoicePiece: Sendable {
    var text = ""
    /// `nil` if none were asked for.
    var logProbabilities: LogProbabilityText?
    /// The prompt's token ids, with the first piece; `nil` if they were not asked for.
    var promptTokens: [TokenID]?
    /// Ids of the tokens that were generated; `nil` if they were not asked for.
    var tokens: [TokenID]?
    var finish: ChoiceFinish?

    /// Whether there is something to show before the end.
    var hasContent: Bool {
        !text.isEmpty || logProbabilities?.entries.isEmpty == false || tokens?.isEmpty == false
    }
}

/// The answer of one choice on its way to the client: takes what ``ChoiceState`` makes of engine outputs, and gives out
/// what was not sent yet.
struct ChoiceAnswer {
    private let tokenizer: Tokenizer
    private let returnsLogProbabilities: Bool
    private let returnsTokenIDs: Bool
    private var text = ""
    private var entries: [LogProbabilityText.Entry] = []
    /// Unicode scalars of the text that was given out, see ``LogProbabilityText/textOffset``.
    private var textOffset = 0
    private var tokens: [TokenID] = []
    private var promptTokens: [TokenID]?
    private var finish: ChoiceFinish?

    init(request: GenerationRequest, prompt: [TokenID], tokenizer: Tokenizer) {
        self.tokenizer = tokenizer
        returnsLogProbabilities = request.logProbabilities != nil
        returnsTokenIDs = request.returnsTokenIDs
        promptTokens = request.returnsTokenIDs ? prompt : nil
    }

    /// Puts the prompt before what comes.
    mutating func addPrompt(_ prompt: String, _ entries: [LogProbabilityText.Entry]) {
        text += prompt
        if returnsLogProbabilities { self.entries += entries }
    }

    mutating func add(_ delta: ChoiceDelta) {
        text += delta.text
        if returnsLogProbabilities { entries += delta.logProbabilities.map(LogProbabilityText.Entry.known) }
        if returnsTokenIDs { tokens += delta.tokens }
        if let finish = delta.finish { self.finish = finish }
    }

    /// Gives out what there is.
    mutating func take() -> ChoicePiece {
        let piece = ChoicePiece(
            text: text,
            logProbabilities: returnsLogProbabilities
                ? LogProbabilityText(entries: entries, textOffset: textOffset) : nil,
            promptTokens: promptTokens, tokens: returnsTokenIDs ? tokens : nil, finish: finish)
        for entry in entries { textOffset += LogProbabilityText.scalarCount(of: entry.token, tokenizer) }
        text = ""
        entries = []
        tokens = []
        promptTokens = nil
        return piece
    }

    /// The prompt's token ids, for a form in which they stand beside the choices.
    mutating func takePromptTokens() -> [TokenID]? {
        defer { promptTokens = nil }
        return promptTokens
    }
}
