// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore
import Requests
import Tokenization

extension GatewayShard {
    func completions(_ exchange: Exchange) throws(APIError) {
        let (model, times) = (model, metrics.hostTimes)
        try process(exchange) { (body) throws(APIError) in
            let request = try GenerationRequest.completion(
                .body(body), vocabularySize: model.tokenizer.vocabularySize)
            try model.check(request.requestedModel)
            return PreparedRequest(request: request, tokenizer: model.tokenizer, times: times)
        } finish: { [self] prepared throws(APIError) in
            try start(prepared, exchange)
        }
    }

    func chatCompletions(_ exchange: Exchange) throws(APIError) {
        let (model, times) = (model, metrics.hostTimes)
        try process(exchange) { (body) throws(APIError) in
            let value = try JSONValue.body(body)
            var request = try GenerationRequest.chat(value, vocabularySize: model.tokenizer.vocabularySize)
            try model.check(request.requestedModel)
            let prompt = try times.measure(times.template) { () throws(APIError) in
                try Conversation.render(value, model: model)
            }
            request.prompts = [.text(prompt)]
            return PreparedRequest(request: request, tokenizer: model.tokenizer, times: times)
        } finish: { [self] prepared throws(APIError) in
            try start(prepared, exchange)
        }
    }

    private func start(_ prepared: PreparedRequest, _ exchange: Exchange) throws(APIError) {
        let request = prepared.request
        let prompts = prepared.prompts
        let sequences = prompts.count * request.choices
        // Waiting would not help.
        guard sequences <= configuration.maximumSequences else {
            throw .invalid(
                request.choices > 1 ? "n" : "prompt",
                "\(prompts.count) prompts with \(request.choices) choices each are \(sequences) sequences; the limit is "
                    + "\(configuration.maximumSequences)")
        }
        guard dispatcher.hasRoom(for: sequences) else {
            throw .overloaded(
                "\(dispatcher.unfinished) sequences are waiting or running and this request has \(sequences); "
                    + "the limit is \(configuration.maximumSequences)")
        }
        let parameter = request.kind == .chat ? "messages" : "prompt"
        for prompt in prompts {
            let count = prompt.tokens.count
            guard count > 0 else {
                throw .invalid(parameter, "`\(parameter)` gives no tokens; it must not be empty")
            }
            // A prompt that is only scored needs no room for a new token.
            let least = request.maximumNewTokens == 0 ? 0 : 1
            guard count + max(least, request.maximumNewTokens ?? 1) <= model.contextLength else {
                throw .contextLengthExceeded(
                    prompt: count, requested: request.maximumNewTokens, limit: model.contextLength,
                    parameter: parameter)
            }
        }
        let prefix = request.kind == .chat ? "chatcmpl-" : "cmpl-"
        let owner = GenerationOwner(
            request: request,
            prompts: prompts.map(\.tokens),
            promptTexts: prompts.map(\.text),
            context: GenerationOwner.Context(
                dispatcher: dispatcher, tokenizer: model.tokenizer, contextLength: model.contextLength,
                endTokens: model.endTokens),
            format: ResponseFormat(
                kind: request.kind, id: prefix + exchange.id, created: configuration.secondsSince1970(),
                model: request.requestedModel ?? model.name, usageField: request.includeUsage,
                tokenizer: model.tokenizer),
            responder: exchange.responder,
            headers: exchange.headers,
            observer: RequestObserver(metrics: metrics, clock: configuration.clock, choices: sequences)
        )
        owner.start()
    }
}

/// A request whose prompts are token ids.
struct PreparedRequest: Sendable {
    /// A prompt as token ids, and as the text that `echo` repeats.
    struct Prompt: Sendable {
        var tokens: [TokenID]
        var text: String
    }

    var request: GenerationRequest
    var prompts: [Prompt]

    init(request: GenerationRequest, tokenizer: Tokenizer, times: HostTimes) {
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
            if let limit = request.truncatePromptTokens, tokens.count > limit {
                tokens = Array(tokens.suffix(limit))
                text = nil
            }
            guard request.echo else { return Prompt(tokens: tokens, text: "") }
            return Prompt(
                tokens: tokens, text: text ?? tokenizer.decode(tokens, skipSpecialTokens: request.skipSpecialTokens))
        }
    }
}
