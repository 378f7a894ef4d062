// Tandem — Apache-2.0

import Requests
import Tokenization

/// A request whose prompts are token ids.
struct PreparedRequest: Sendable {
    /// A prompt as token ids, and as the text that `echo` repeats.
    struct Prompt: Sendable {
        var tokens: [TokenID]
        var text: String
    }

    var request: GenerationRequest
    var prompts: [Prompt]

    /// - Throws: 400 if a suffix is given and the model cannot fill in the middle.
    init(request: GenerationRequest, model: ServedModel, times: HostTimes) throws(APIError) {
        self.request = request
        let encoder = PromptEncoder(request: request, model: model)
        guard request.suffix == nil || model.fillInTheMiddle != nil else {
            throw .invalid(
                "suffix",
                "`suffix` is for models that can fill in the middle, and the vocabulary of `\(model.name)` has no tokens "
                    + "for that; leave the field out",
                code: "unsupported_parameter")
        }
        prompts = times.measure(times.tokenize) { request.prompts.map(encoder.encode) }
    }

    var promptTokens: Int { prompts.reduce(0) { $0 + $1.tokens.count } }

    /// Checks what depends on the model and on the lengths of the prompts.
    ///
    /// - Throws: 400 naming the field.
    func check(contextLength: Int, maximumSequences: Int) throws(APIError) {
        // Waiting would not help.
        guard sequences <= maximumSequences else {
            throw .invalid(
                request.candidates > request.choices ? "best_of" : request.choices > 1 ? "n" : "prompt",
                "\(prompts.count) prompts with \(request.candidates) choices each are \(sequences) sequences; the limit "
                    + "is \(maximumSequences)")
        }
        if let structure = request.structure, structure.source.text.utf8.count * sequences > Self.maximumGrammarBytes {
            throw .invalid(
                structure.field,
                "`\(structure.field)` has \(structure.source.text.utf8.count) bytes for each of \(sequences) sequences; the "
                    + "limit is \(Self.maximumGrammarBytes) in all")
        }
        let parameter = request.promptField ?? (request.kind == .chat ? "messages" : "prompt")
        for prompt in prompts {
            let count = prompt.tokens.count
            guard count > 0 else {
                throw .invalid(parameter, "`\(parameter)` gives no tokens; it must not be empty")
            }
            // A prompt that is only scored needs no room for a new token.
            let least = request.maximumNewTokens == 0 ? 0 : 1
            let (needed, overflows) = count.addingReportingOverflow(max(least, request.maximumNewTokens ?? 1))
            guard !overflows, needed <= contextLength else {
                throw .contextLengthExceeded(
                    prompt: count, requested: request.maximumNewTokens, limit: contextLength, parameter: parameter)
            }
            guard count + request.minimumNewTokens <= contextLength else {
                throw .contextLengthExceeded(
                    prompt: count, requested: request.minimumNewTokens, limit: contextLength, parameter: "min_tokens")
            }
        }
        let top = max(request.promptLogProbabilities ?? -1, request.echo ? request.logProbabilities ?? -1 : -1)
        let shown = promptTokens * request.choices * (top + 1)
        guard shown <= Self.maximumPromptLogProbabilities else {
            throw .invalid(
                request.promptLogProbabilities != nil ? "prompt_logprobs" : "logprobs",
                "\(promptTokens) prompt tokens with \(top + 1) log-probabilities each"
                    + (request.choices > 1 ? " for \(request.choices) choices" : "") + " are \(shown); the limit is "
                    + "\(Self.maximumPromptLogProbabilities) a request")
        }
    }

    /// Sequences that engines have to run.
    var sequences: Int { prompts.count * request.candidates }

    /// Bytes of grammars that one request sends to engines.
    private static let maximumGrammarBytes = 16 << 20
    /// Log-probabilities of prompts in one answer; each takes some 50 bytes there.
    private static let maximumPromptLogProbabilities = 2 << 20
}

/// Turns the prompts of one request into tokens.
private struct PromptEncoder {
    let request: GenerationRequest
    let model: ServedModel

    func encode(_ input: PromptInput) -> PreparedRequest.Prompt {
        let tokenizer = model.tokenizer
        let limit =
            request.truncation?.limit(contextLength: model.contextLength, new: request.maximumNewTokens ?? 1) ?? .max
        var tokens: [TokenID]
        var text: String?
        switch input {
        case .text(let string):
            // No control tokens are looked for where a suffix follows, see ``FillInTheMiddle``.
            tokens = tokenizer.encode(
                string, addSpecialTokens: request.addSpecialTokens && request.suffix == nil,
                parseSpecialTokens: request.suffix == nil)
            text = string
        case .tokens(let ids):
            tokens = ids
        }
        func shorten(to limit: Int) {
            guard tokens.count > limit else { return }
            tokens = Array(tokens.suffix(limit))
            text = nil
        }
        guard let suffix = request.suffix, let fillInTheMiddle = model.fillInTheMiddle else {
            shorten(to: limit)
            return prompt(tokens, text: text, shown: tokens)
        }
        func whole(_ before: [TokenID]) -> [TokenID] {
            fillInTheMiddle.prompt(
                before: before, after: suffix, tokenizer: tokenizer, beginsWithBOS: request.addSpecialTokens)
        }
        if limit < .max { shorten(to: max(0, limit - whole([]).count)) }
        return prompt(whole(tokens), text: text, shown: tokens)
    }

    /// - Parameter shown: what `echo` repeats, if its text is not known.
    private func prompt(_ tokens: [TokenID], text: String?, shown: [TokenID]) -> PreparedRequest.Prompt {
        guard request.echo else { return PreparedRequest.Prompt(tokens: tokens, text: "") }
        return PreparedRequest.Prompt(
            tokens: tokens,
            text: text ?? model.tokenizer.decode(shown, skipSpecialTokens: request.skipSpecialTokens))
    }
}
