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

    init(request: GenerationRequest, model: ServedModel, times: HostTimes) {
        let tokenizer = model.tokenizer
        self.request = request
        prompts = request.prompts.map { input in
            var tokens: [TokenID]
            var text: String?
            switch input {
            case .text(let string):
                tokens = times.measure(times.tokenize) {
                    tokenizer.encode(
                        string, addSpecialTokens: request.addSpecialTokens, parseSpecialTokens: true)
                }
                text = string
            case .tokens(let ids):
                tokens = ids
            }
            if let limit = request.truncation?.limit(
                contextLength: model.contextLength, new: request.maximumNewTokens ?? 1), tokens.count > limit
            {
                tokens = Array(tokens.suffix(limit))
                text = nil
            }
            guard request.echo else { return Prompt(tokens: tokens, text: "") }
            return Prompt(
                tokens: tokens, text: text ?? tokenizer.decode(tokens, skipSpecialTokens: request.skipSpecialTokens))
        }
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
        let parameter = request.kind == .chat ? "messages" : "prompt"
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

    /// Log-probabilities of prompts in one answer; each takes some 50 bytes there.
    private static let maximumPromptLogProbabilities = 2 << 20
}
