// Tandem — Apache-2.0

import Requests
import Tokenization

/// What the client gets of one choice at once: a chunk of a stream, or the whole.
struct ChoicePiece: Sendable {
    var text = ""
    /// What there is of calls of tools, at most once for each call.
    var calls: [ToolCallDelta] = []
    /// `nil` if none were asked for.
    var logProbabilities: LogProbabilityText?
    /// The prompt's token ids, with the first piece; `nil` if they were not asked for.
    var promptTokens: [TokenID]?
    /// Ids of the tokens that were generated; `nil` if they were not asked for.
    var tokens: [TokenID]?
    var finish: ChoiceFinish?

    /// Whether there is text to show and nothing else.
    var isPlainText: Bool {
        !text.isEmpty && calls.isEmpty && logProbabilities == nil && promptTokens == nil && tokens == nil
            && finish == nil
    }

    /// Whether there is something to show before the end.
    var hasContent: Bool {
        !text.isEmpty || !calls.isEmpty || logProbabilities?.entries.isEmpty == false || tokens?.isEmpty == false
    }
}

/// The answer of one choice on its way to the client: takes what ``ChoiceState`` makes of engine outputs, and gives out
/// what was not sent yet.
struct ChoiceAnswer {
    private let tokenizer: Tokenizer
    private let returnsLogProbabilities: Bool
    private let returnsTokenIDs: Bool
    private var text = ""
    /// Looks for calls where tools are on offer.
    private var parser: ToolCallParser?
    private let endsWithCalls: Bool
    private let mustCall: Bool
    private var calls: [ToolCallDelta] = []
    private var entries: [LogProbabilityText.Entry] = []
    /// Unicode scalars of the text that was given out, see ``LogProbabilityText/textOffset``.
    private var textOffset = 0
    private var tokens: [TokenID] = []
    private var promptTokens: [TokenID]?
    /// How it ended; nothing comes after that.
    private(set) var finish: ChoiceFinish?

    /// - Parameter makeCallID: gives a call its id; random ones if not given.
    init(
        request: GenerationRequest, prompt: [TokenID], tokenizer: Tokenizer,
        makeCallID: (@Sendable () -> String)? = nil
    ) {
        self.tokenizer = tokenizer
        returnsLogProbabilities = request.logProbabilities != nil
        returnsTokenIDs = request.returnsTokenIDs
        mustCall = request.mustCall
        promptTokens = request.returnsTokenIDs ? prompt : nil
        // As OpenAI has it: an answer that had to be this call just stops.
        if case .named = request.tools?.choice { endsWithCalls = false } else { endsWithCalls = true }
        if let tools = request.tools, let format = request.toolCallFormat {
            parser = ToolCallParser(
                format: format, tools: tools.names, allowsSeveral: tools.allowsSeveral,
                makeID: makeCallID ?? {
                    var generator = SystemRandomNumberGenerator()
                    return format.callID(using: &generator)
                })
        }
    }

    /// Puts the prompt before what comes.
    mutating func addPrompt(_ prompt: String, _ entries: [LogProbabilityText.Entry]) {
        text += prompt
        if returnsLogProbabilities { self.entries += entries }
    }

    mutating func add(_ delta: ChoiceDelta) {
        addText(delta)
        if returnsLogProbabilities { entries += delta.logProbabilities.map(LogProbabilityText.Entry.known) }
        if returnsTokenIDs { tokens += delta.tokens }
        if var finish = delta.finish {
            if finish.reason == "stop", endsWithCalls, let parser, parser.count > 0, !parser.isCut {
                finish.reason = "tool_calls"
            }
            self.finish = finish
        }
    }

    private mutating func addText(_ delta: ChoiceDelta) {
        guard parser != nil else {
            text += delta.text
            return
        }
        if !delta.text.isEmpty, let output = parser?.append(delta.text) { add(output) }
        if delta.finish != nil, let output = parser?.finish() { add(output) }
    }

    private mutating func add(_ output: ToolCallOutput) {
        // Of a call that must be, the marks are no text even where the answer was too short for more.
        if !mustCall { text += output.content }
        for call in output.calls {
            if let last = calls.indices.last, calls[last].index == call.index {
                calls[last].arguments += call.arguments
            } else {
                calls.append(call)
            }
        }
    }

    /// Gives out what there is.
    mutating func take() -> ChoicePiece {
        let piece = ChoicePiece(
            text: text, calls: calls,
            logProbabilities: returnsLogProbabilities
                ? LogProbabilityText(entries: entries, textOffset: textOffset) : nil,
            promptTokens: promptTokens, tokens: returnsTokenIDs ? tokens : nil, finish: finish)
        if finish == nil {
            for entry in entries { textOffset += LogProbabilityText.scalarCount(of: entry.token, tokenizer) }
        }
        text = ""
        calls = []
        entries = []
        tokens = []
        // A piece without content is not shown: a long prompt's log-probabilities come in several parts, before any text.
        if piece.hasContent || piece.finish != nil { promptTokens = nil }
        return piece
    }

    /// The prompt's token ids, for a form in which they stand beside the choices.
    mutating func takePromptTokens() -> [TokenID]? {
        defer { promptTokens = nil }
        return promptTokens
    }
}
