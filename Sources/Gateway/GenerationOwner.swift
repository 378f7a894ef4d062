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
    private let prompts: [PreparedRequest.Prompt]
    private let endTokens: [TokenID]
    private let contextLength: Int
    let session: UInt64?
    let onlyEngine: UInt64?
    private var format: any AnswerFormat
    private let dispatcher: SequenceDispatcher
    private let responder: HTTPResponder
    private let responseHeaders: HTTPHeaders
    private let observer: RequestObserver
    /// For the access log.
    private var note: AccessNote
    private let writer: BodyWriter
    private let chunks: ChunkBuffer
    private var choices: [ChoiceState]
    private var answers: [ChoiceAnswer]
    private var sequences: [RequestID?]
    /// Choices that were given to the dispatcher.
    private var started = 0
    private var echoed: [Bool]
    /// Choices that have not ended.
    private var unfinished: Int
    private var usage = Usage()
    /// Prompt tokens that each prompt's first choice found in the prefix cache.
    private var cachedTokens: [Int]
    private var streamStarted = false
    /// What came while the client took nothing, to be written when it does again. Bounded by what engines generate before
    /// a pause reaches them: a step or two.
    private var backlog: [(choice: Int, output: SequenceOutput)] = []
    /// Itself while something waits in the backlog: the dispatcher forgets a request whose last sequence has ended.
    private var keptAlive: GenerationOwner?
    /// Ends the request if the client takes nothing for too long.
    private var slowClient: Scheduled<Void>?
    private let slowClientTimeout: TimeAmount
    private var ended = false

    struct Context {
        var dispatcher: SequenceDispatcher
        var tokenizer: Tokenizer
        var contextLength: Int
        var endTokens: [TokenID]
        var writer: BodyWriter
        var chunks: ChunkBuffer
        /// How long the client may keep the request's sequences paused.
        var slowClientTimeout = TimeAmount.seconds(60)
        var session: UInt64?
        /// The only engine that may have its sequences, if it is given.
        var onlyEngine: UInt64?
    }

    init(
        prepared: PreparedRequest,
        context: Context,
        format: any AnswerFormat,
        responder: HTTPResponder,
        headers: HTTPHeaders,
        note: AccessNote = AccessNote(),
        observer: RequestObserver
    ) {
        let (request, prompts) = (prepared.request, prepared.prompts)
        self.request = request
        self.prompts = prompts
        endTokens = request.ignoreEndOfSequence ? [] : context.endTokens
        contextLength = context.contextLength
        session = context.session
        onlyEngine = context.onlyEngine
        self.format = format
        dispatcher = context.dispatcher
        writer = context.writer
        chunks = context.chunks
        slowClientTimeout = context.slowClientTimeout
        self.responder = responder
        responseHeaders = headers
        self.note = note
        self.observer = observer
        let count = prepared.sequences
        let matcher = StopMatcher(stops: request.stop, includesStop: request.includeStopText)
        choices = (0..<count).map {
            ChoiceState(index: $0, request: request, matcher: matcher, tokenizer: context.tokenizer)
        }
        answers = choices.map {
            ChoiceAnswer(request: request, prompt: prompts[$0.promptIndex].tokens, tokenizer: context.tokenizer)
        }
        sequences = Array(repeating: nil, count: count)
        echoed = Array(repeating: !request.echo, count: count)
        unfinished = count
        cachedTokens = Array(repeating: 0, count: prompts.count)
        usage.promptTokens = prepared.promptTokens
    }

    /// Starts every choice.
    func start() {
        observer.admitted(
            promptTokens: usage.promptTokens, sequences: choices.count, maximumTokens: request.maximumNewTokens)
        responder.describe { [weak self] in self?.describe() ?? AccessNote() }
        responder.onClose { [weak self] in self?.clientGone() }
        responder.onWritabilityChange { [weak self] writable in self?.writabilityChanged(writable) }
        dispatcher.reserve(choices.count)
        startSome()
    }

    /// Starts choices, those of many long prompts in several turns of the event loop, so that others get theirs.
    private func startSome() {
        var cost = 0
        while started < choices.count, !ended, cost < Self.costOfATurn {
            let choice = started
            started += 1
            dispatcher.release(1)
            cost += Self.costOfASequence + prompts[choices[choice].promptIndex].tokens.count
            // A refusal may come back before this call returns.
            let id = dispatcher.start(owner: self, choice: choice)
            if ended { dispatcher.cancel(id) } else { sequences[choice] = id }
        }
        guard started < choices.count, !ended else { return }
        responder.eventLoop.assumeIsolated().execute { self.startSome() }
    }

    /// Tokens that are sent to engines in one turn, and what a sequence costs beside its tokens.
    private static let costOfATurn = 256 << 10
    private static let costOfASequence = 512

    // MARK: Sequences

    func work(choice: Int, id: RequestID) -> EngineRequest {
        let prompt = prompts[choices[choice].promptIndex].tokens
        // It starts again after what was written, and comes to the same.
        backlog.removeAll { $0.choice == choice }
        if backlog.isEmpty { keptAlive = nil }
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
            minimumNewTokens: request.minimumNewTokens,
            logitBias: request.logitBias,
            grammar: request.structure?.source,
            logProbabilities: request.reportedLogProbabilities,
            promptLogProbabilities: emitted.isEmpty ? promptLogProbabilities(of: choice) : nil,
            priority: request.priority,
            cacheSalt: request.cacheSalt
        )
    }

    func maySubmitAgain(choice: Int) -> Bool { choices[choice].emitted.isEmpty }

    var requestID: String { responseHeaders["X-Request-Id"] ?? "" }

    var isPaused: Bool { !backlog.isEmpty || !responder.isWritable }

    func receive(choice: Int, output: SequenceOutput) {
        guard request.stream || format.collects else { return take(output, choice: choice) }
        guard output.tokens.count > 1 else { return takePart(output, choice: choice) }
        for part in output.singleTokens { takePart(part, choice: choice) }
    }

    private func takePart(_ part: SequenceOutput, choice: Int) {
        if request.stream, isPaused {
            backlog.append((choice, part))
            keptAlive = self
        } else {
            take(part, choice: choice)
        }
    }

    private func take(_ output: SequenceOutput, choice: Int) {
        // Behind a stop string nothing counts that the engine generated in the same step.
        guard !ended, answers[choice].finish == nil else { return }
        if output.finish != nil { sequences[choice] = nil }
        let began = observer.now()
        let delta = choices[choice].accept(output)
        if let prefill = output.prefillMicroseconds {
            observer.began(choice: choice, prefillMicroseconds: prefill, at: began)
        }
        // One look at the clock serves three purposes.
        let detokenized = observer.detokenized(since: began)
        account(delta, of: choice, at: detokenized)
        if delta.mustCancel, let id = sequences[choice] {
            sequences[choice] = nil
            dispatcher.cancel(id)
        }
        if let finish = delta.finish {
            unfinished -= 1
            observer.finished(choice: choice, reason: finish.reason, tokens: choices[choice].completionTokens)
        }
        if !echoed[choice], !output.tokens.isEmpty || output.finish != nil {
            echoed[choice] = true
            addEcho(choice)
        }
        answers[choice].add(delta)
        if request.stream {
            sendChunks(choice)
            observer.wrote(since: detokenized)
        } else if format.collects {
            format.collect(answers[choice].take())
        }
        if unfinished == 0 { complete() }
    }

    func placed(choice: Int, on engine: UInt64) { note.engine = engine }

    private func describe() -> AccessNote {
        var note = note
        note.promptTokens = usage.promptTokens
        note.generatedTokens = usage.completionTokens
        return note
    }

    func fail(choice: Int, error: APIError) {
        sequences[choice] = nil
        fail(error)
    }

    private func fail(_ error: APIError) {
        guard !ended else { return }
        end()
        note.hasFailed = true
        observer.failed(status: error.status)
        cancelAll()
        if streamStarted {
            var bytes: [UInt8] = []
            format.fail(error, into: &bytes)
            responder.write(bytes)
            responder.finish()
        } else {
            responder.respond(error, headers: responseHeaders)
        }
    }

    private func clientGone() {
        guard !ended else { return }
        end()
        observer.aborted()
        cancelAll()
    }

    private func end() {
        ended = true
        backlog = []
        keptAlive = nil
        slowClient?.cancel()
        slowClient = nil
    }

    private func cancelAll() {
        dispatcher.release(choices.count - started)
        started = choices.count
        for (choice, id) in sequences.enumerated() {
            if let id { dispatcher.cancel(id) }
            sequences[choice] = nil
        }
    }

    // MARK: Slow clients

    private func writabilityChanged(_ writable: Bool) {
        guard !ended else { return }
        if writable {
            writeBacklog()
            guard !ended, !isPaused else { return }
            slowClient?.cancel()
            slowClient = nil
            for case .some(let id) in sequences { dispatcher.resume(id) }
        } else if slowClient == nil {
            for case .some(let id) in sequences { dispatcher.pause(id) }
            slowClient = responder.eventLoop.assumeIsolated().scheduleTask(in: slowClientTimeout) { [weak self] in
                self?.giveUpSlowClient()
            }
        }
    }

    private func writeBacklog() {
        // Taken out first: what a write brings about may lead here again.
        while let next = backlog.first, responder.isWritable, !ended {
            backlog.removeFirst()
            take(next.output, choice: next.choice)
        }
        if backlog.isEmpty { keptAlive = nil }
    }

    /// Frees what its sequences keep in engines.
    private func giveUpSlowClient() {
        guard !ended else { return }
        end()
        observer.gaveUpSlowClient()
        cancelAll()
        responder.abort()
    }

    // MARK: Prompt

    /// Log-probabilities of the prompt that a choice has to report: with `echo` each shows them, else one choice's do for
    /// the prompt.
    private func promptLogProbabilities(of choice: Int) -> Int? {
        let echoed = request.echo ? request.logProbabilities : nil
        guard choices[choice].sampleIndex == 0, let asked = request.promptLogProbabilities else { return echoed }
        return max(asked, echoed ?? 0)
    }

    private func addEcho(_ choice: Int) {
        let prompt = prompts[choices[choice].promptIndex]
        var entries: [LogProbabilityText.Entry] = []
        if let top = request.logProbabilities {
            entries = LogProbabilityText.entries(
                ofPrompt: prompt.tokens, choices[choice].promptLogProbabilities, top: top)
        }
        answers[choice].addPrompt(prompt.text, entries)
    }

    // MARK: Response

    private func sendChunks(_ choice: Int) {
        chunks.fill { bytes in
            if !streamStarted { beginStream(&bytes) }
            format.add(answers[choice].take(), choice: choices[choice].index, usage: usage, into: &bytes)
            if !bytes.isEmpty { responder.write(bytes) }
        }
    }

    private func beginStream(_ bytes: inout [UInt8]) {
        streamStarted = true
        var headers = responseHeaders
        headers.add("Content-Type", "text/event-stream; charset=utf-8")
        headers.add("Cache-Control", "no-cache")
        headers.add("X-Accel-Buffering", "no")
        responder.startStream(status: .ok, headers: headers)
        let promptTokens = request.kind == .chat ? choices.indices.map { answers[$0].takePromptTokens() } : []
        format.begin(choices: choices.count, promptTokens: promptTokens.first ?? nil, usage: usage, into: &bytes)
    }

    private func complete() {
        end()
        observer.completed()
        if request.stream { observer.writing(endStream) } else { respond() }
    }

    private func endStream() {
        var bytes: [UInt8] = []
        format.end(usage: usage, into: &bytes)
        responder.write(bytes)
        responder.finish()
    }

    private func respond() {
        let pieces = best().map { answers[$0].take() }
        let (prompts, returnsTokenIDs, top) = (prompts, request.returnsTokenIDs, request.promptLogProbabilities)
        let positions = top.map { _ in
            prompts.indices.map { choices[$0 * request.candidates].promptLogProbabilities }
        }
        let (format, usage) = (format, usage)
        // About the words of all choices, and what is shown of each token.
        let shown =
            (request.logProbabilities ?? 0) + (request.returnsTokenIDs ? 2 : 1)
            + (request.promptLogProbabilities.map { $0 + 1 } ?? 0)
        writer.respond(responder, headers: responseHeaders, values: usage.totalTokens * shown) {
            let details = prompts.indices.map { index in
                let tokens = prompts[index].tokens
                return PromptDetails(
                    logProbabilities: top.map { top in
                        LogProbabilityText(
                            entries: LogProbabilityText.entries(ofPrompt: tokens, positions?[index] ?? [], top: top),
                            textOffset: 0)
                    }, tokens: returnsTokenIDs ? tokens : nil)
            }
            return format.whole(pieces, prompts: details, usage: usage)
        }
    }

    /// The choices that are given out, in order: of each prompt's candidates the likeliest a token, first of equal ones
    /// the one that was drawn first.
    private func best() -> [Int] {
        guard request.candidates > request.choices else { return Array(choices.indices) }
        return prompts.indices.flatMap { prompt in
            let first = prompt * request.candidates
            return (first..<first + request.candidates)
                .sorted {
                    let (left, right) = (choices[$0].meanLogProbability, choices[$1].meanLogProbability)
                    return left == right ? $0 < $1 : left > right
                }
                .prefix(request.choices)
        }
    }

    /// Prompt tokens count once a prompt, cached ones as its first choice found them, and generated ones of all
    /// candidates.
    private func account(_ delta: ChoiceDelta, of choice: Int, at now: NIODeadline) {
        observer.produced(tokens: delta.tokens.count, choice: choice, at: now)
        usage.completionTokens += delta.tokens.count
        guard choices[choice].sampleIndex == 0 else { return }
        let prompt = choices[choice].promptIndex
        let cached = min(choices[choice].cachedPromptTokens, prompts[prompt].tokens.count)
        usage.cachedPromptTokens += cached - cachedTokens[prompt]
        cachedTokens[prompt] = cached
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
