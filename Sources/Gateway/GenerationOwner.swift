// Tandem — Apache-2.0

import HTTPCore
import NIOCore
import Requests
import Tokenization

/// Owns one request for text from its admission until its last byte is sent: it keeps prompt and emitted token ids, so
/// that its sequences can start again on another engine at any moment.
///
/// Lives on its connection's event loop.
final class GenerationOwner: SequenceOwner {
    private let request: GenerationRequest
    private let prompts: [[TokenID]]
    /// What `echo` puts before the generated text, one a prompt.
    private let promptTexts: [String]
    private let endTokens: [TokenID]
    private let contextLength: Int
    private let format: ResponseFormat
    private let dispatcher: Dispatcher
    private let responder: HTTPResponder
    private let responseHeaders: HTTPHeaders
    private let observer: RequestObserver
    private var choices: [ChoiceState]
    private var sequences: [RequestID?]
    /// For a whole response: what each choice has so far.
    private var texts: [String]
    private var entries: [[LogProbabilityText.Entry]]
    /// Unicode scalars of a choice's text that were accounted for, see ``LogProbabilityText/textOffset``.
    private var textOffsets: [Int]
    private var echoed: [Bool]
    private var streamStarted = false
    private var ended = false

    struct Context {
        var dispatcher: Dispatcher
        var tokenizer: Tokenizer
        var contextLength: Int
        var endTokens: [TokenID]
    }

    init(
        request: GenerationRequest,
        prompts: [[TokenID]],
        promptTexts: [String],
        context: Context,
        format: ResponseFormat,
        responder: HTTPResponder,
        headers: HTTPHeaders,
        observer: RequestObserver
    ) {
        self.request = request
        self.prompts = prompts
        self.promptTexts = promptTexts
        endTokens = request.ignoreEndOfSequence ? [] : context.endTokens
        contextLength = context.contextLength
        self.format = format
        dispatcher = context.dispatcher
        self.responder = responder
        responseHeaders = headers
        self.observer = observer
        let count = prompts.count * request.choices
        choices = (0..<count).map { ChoiceState(index: $0, request: request, tokenizer: context.tokenizer) }
        sequences = Array(repeating: nil, count: count)
        texts = Array(repeating: "", count: count)
        entries = Array(repeating: [], count: count)
        textOffsets = Array(repeating: 0, count: count)
        echoed = Array(repeating: !request.echo, count: count)
    }

    /// Starts every choice.
    func start() {
        observer.admitted(
            promptTokens: prompts.reduce(0) { $0 + $1.count }, sequences: choices.count,
            maximumTokens: request.maximumNewTokens)
        responder.onClose { [weak self] in self?.clientGone() }
        responder.onWritabilityChange { [weak self] writable in self?.writabilityChanged(writable) }
        for choice in choices.indices where !ended {
            // A refusal may come back before this call returns; the id is stored first so that it can be cancelled.
            sequences[choice] = dispatcher.start(owner: self, choice: choice)
        }
        if ended { cancelAll() }
    }

    // MARK: Sequences

    func engineRequest(choice: Int, id: RequestID) -> EngineRequest {
        let prompt = prompts[choices[choice].promptIndex]
        let emitted = choices[choice].emitted
        // They are complete before the first token comes, and until then they are computed anew.
        if emitted.isEmpty { choices[choice].forgetPromptLogProbabilities() }
        var sampling = request.sampling
        sampling.choiceIndex = UInt32(choices[choice].sampleIndex)
        return EngineRequest(
            id: id,
            tokens: prompt + emitted,
            resumeOffset: emitted.count,
            sampling: sampling,
            maximumNewTokens: request.maximumNewTokens ?? contextLength - prompt.count,
            stopTokens: endTokens + request.stopTokens,
            logProbabilities: request.logProbabilities,
            promptLogProbabilities: needsPromptLogProbabilities && emitted.isEmpty ? request.logProbabilities : nil,
            priority: request.priority,
            cacheSalt: request.cacheSalt
        )
    }

    func maySubmitAgain(choice: Int) -> Bool { choices[choice].emitted.isEmpty }

    var isPaused: Bool { !responder.isWritable }

    func receive(choice: Int, output: SequenceOutput) {
        guard !ended else { return }
        if output.finish != nil { sequences[choice] = nil }
        let before = choices[choice].completionTokens
        var delta = observer.detokenizing { choices[choice].accept(output) }
        observer.produced(tokens: choices[choice].completionTokens - before, choice: choice)
        if delta.mustCancel, let id = sequences[choice] {
            sequences[choice] = nil
            dispatcher.cancel(id)
        }
        if let finish = delta.finish {
            observer.finished(choice: choice, reason: finish.reason, tokens: choices[choice].completionTokens)
        }
        let newEntries = delta.logProbabilities.map(LogProbabilityText.Entry.known)
        delta.logProbabilities = []
        if !echoed[choice], !output.tokens.isEmpty || output.finish != nil {
            echoed[choice] = true
            addEcho(choice)
        }
        texts[choice] += delta.text
        entries[choice] += newEntries
        if request.stream { observer.writing { sendChunks(choice, finish: delta.finish) } }
        if choices.allSatisfy({ $0.finish != nil }) { observer.writing { complete() } }
    }

    func fail(choice: Int, error: APIError) {
        sequences[choice] = nil
        fail(error)
    }

    private func fail(_ error: APIError) {
        guard !ended else { return }
        ended = true
        observer.failed(status: error.status)
        cancelAll()
        if streamStarted {
            responder.write(ResponseFormat.errorEvent(error))
            responder.finish()
        } else {
            responder.respond(error, headers: responseHeaders)
        }
    }

    private func clientGone() {
        guard !ended else { return }
        ended = true
        observer.aborted()
        cancelAll()
    }

    private func cancelAll() {
        for (choice, id) in sequences.enumerated() {
            if let id { dispatcher.cancel(id) }
            sequences[choice] = nil
        }
    }

    private func writabilityChanged(_ writable: Bool) {
        for case .some(let id) in sequences {
            if writable { dispatcher.resume(id) } else { dispatcher.pause(id) }
        }
    }

    // MARK: Response

    private var needsPromptLogProbabilities: Bool { request.echo && request.logProbabilities != nil }

    private func addEcho(_ choice: Int) {
        let prompt = choices[choice].promptIndex
        texts[choice] = promptTexts[prompt] + texts[choice]
        guard request.logProbabilities != nil, let first = prompts[prompt].first else { return }
        entries[choice] =
            [.unknown(first)] + choices[choice].promptLogProbabilities.map(LogProbabilityText.Entry.known)
            + entries[choice]
    }

    private func sendChunks(_ choice: Int, finish: ChoiceFinish?) {
        let index = choices[choice].index
        var bytes: [UInt8] = []
        if !streamStarted { beginStream(&bytes) }
        let usage = request.continuousUsage ? usageSoFar() : nil
        let hasContent = !texts[choice].isEmpty || !entries[choice].isEmpty
        if hasContent || (finish != nil && request.kind == .completion) {
            format.contentChunk(
                choice: index, text: texts[choice], logProbabilities: takeLogProbabilities(choice), finish: finish,
                usage: usage, into: &bytes)
            texts[choice] = ""
        }
        if let finish, request.kind == .chat {
            format.finishChunk(choice: index, finish: finish, usage: usage, into: &bytes)
        }
        if !bytes.isEmpty { responder.write(bytes) }
    }

    private func beginStream(_ bytes: inout [UInt8]) {
        streamStarted = true
        var headers = responseHeaders
        headers.add("Content-Type", "text/event-stream; charset=utf-8")
        headers.add("Cache-Control", "no-cache")
        headers.add("X-Accel-Buffering", "no")
        responder.startStream(status: .ok, headers: headers)
        guard request.kind == .chat else { return }
        let usage = request.continuousUsage ? usageSoFar() : nil
        for choice in choices { format.roleChunk(choice: choice.index, usage: usage, into: &bytes) }
    }

    private func takeLogProbabilities(_ choice: Int) -> LogProbabilityText? {
        guard request.logProbabilities != nil else { return nil }
        let taken = LogProbabilityText(entries: entries[choice], textOffset: textOffsets[choice])
        for entry in entries[choice] {
            textOffsets[choice] += LogProbabilityText.scalarCount(of: entry.token, format.tokenizer)
        }
        entries[choice] = []
        return taken
    }

    private func complete() {
        ended = true
        let usage = usageSoFar()
        observer.completed()
        if request.stream {
            var bytes: [UInt8] = []
            if request.includeUsage { format.usageChunk(usage, into: &bytes) }
            bytes += ResponseFormat.done
            responder.write(bytes)
            responder.finish()
            return
        }
        let whole = choices.indices.compactMap { choice -> ResponseFormat.WholeChoice? in
            guard let finish = choices[choice].finish else { return nil }
            return ResponseFormat.WholeChoice(
                text: texts[choice], logProbabilities: takeLogProbabilities(choice), finish: finish)
        }
        var headers = responseHeaders
        headers.add("Content-Type", "application/json")
        responder.respond(status: .ok, headers: headers, body: format.whole(whole, usage: usage))
    }

    /// Prompt tokens count once a prompt, cached ones as its best placed choice found them.
    private func usageSoFar() -> Usage {
        var usage = Usage()
        for prompt in prompts.indices {
            usage.promptTokens += prompts[prompt].count
            let cached = choices.lazy.filter { $0.promptIndex == prompt && $0.sampleIndex == 0 }
            usage.cachedPromptTokens += min(cached.first?.cachedPromptTokens ?? 0, prompts[prompt].count)
        }
        for choice in choices { usage.completionTokens += choice.completionTokens }
        return usage
    }
}

extension HTTPResponder {
    /// Answers with an OpenAI error object.
    func respond(_ error: APIError, headers: HTTPHeaders) {
        var headers = headers
        headers.add("Content-Type", "application/json")
        for (name, value) in error.headers { headers.add(name, value) }
        respond(status: HTTPStatus(code: error.status), headers: headers, body: error.body)
    }
}
