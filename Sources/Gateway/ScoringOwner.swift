// Tandem — Apache-2.0

import HTTPCore
import NIOCore
import Requests

/// Owns one request that only computes prompts from its admission until it is answered. Nothing of it is sent before all
/// of it is known, so that each of its sequences can start again on another engine at any moment.
///
/// Lives on its connection's event loop.
final class ScoringOwner: SequenceOwner {
    private let work: ScoringWork
    let onlyEngine: UInt64?
    private let head: ScoringWork.Head
    private let dispatcher: SequenceDispatcher
    private let responder: HTTPResponder
    private let responseHeaders: HTTPHeaders
    private let observer: RequestObserver
    private let writer: BodyWriter
    private var scores: [PromptScore]
    private var sequences: [Int: RequestID] = [:]
    /// Items that were started; the next one starts when another is done.
    private var started = 0
    private var finished = 0
    private var usage = Usage()
    /// Prompt tokens that each item found in the prefix cache.
    private var cachedTokens: [Int]
    private var ended = false

    /// Sequences of one request that engines have at once: enough to keep several busy, and few enough for others to get
    /// their turn.
    static let window = 64

    init(
        work: ScoringWork, head: ScoringWork.Head, dispatcher: SequenceDispatcher, writer: BodyWriter,
        responder: HTTPResponder, headers: HTTPHeaders, onlyEngine: UInt64? = nil, observer: RequestObserver
    ) {
        self.onlyEngine = onlyEngine
        self.work = work
        self.head = head
        self.dispatcher = dispatcher
        self.writer = writer
        self.responder = responder
        responseHeaders = headers
        self.observer = observer
        scores = Array(repeating: PromptScore(), count: work.items.count)
        cachedTokens = Array(repeating: 0, count: work.items.count)
        usage.promptTokens = work.items.reduce(0) { $0 + $1.tokens.count }
    }

    func start() {
        observer.admitted(promptTokens: usage.promptTokens, sequences: work.items.count, maximumTokens: nil)
        responder.onClose { [weak self] in self?.clientGone() }
        dispatcher.reserve(work.items.count)
        for _ in 0..<min(Self.window, work.items.count) where !ended { startNext() }
    }

    private func startNext() {
        let item = started
        started += 1
        dispatcher.release(1)
        // A refusal may come back before this call returns.
        let id = dispatcher.start(owner: self, choice: item)
        if ended { dispatcher.cancel(id) } else { sequences[item] = id }
    }

    func work(choice: Int, id: RequestID) -> EngineRequest {
        let item = work.items[choice]
        return EngineRequest(
            id: id, tokens: item.tokens, maximumNewTokens: 0, pooling: item.pooling, labelTokens: item.labels,
            priority: work.priority, cacheSalt: work.cacheSalt)
    }

    func maySubmitAgain(choice: Int) -> Bool { true }

    /// The answer goes out at once in the end; until then the client has nothing to take.
    var isPaused: Bool { false }

    func receive(choice: Int, output: SequenceOutput) {
        guard !ended else { return }
        // Of an item that started again elsewhere, what it found there counts.
        if let cached = output.cachedPromptTokens {
            cachedTokens[choice] = min(cached, work.items[choice].tokens.count)
        }
        guard output.finish != nil else { return }
        sequences[choice] = nil
        do throws(APIError) {
            let score = try Self.checked(output.score, work.items[choice])
            try work.check(score)
            scores[choice] = score
        } catch {
            fail(error)
            return
        }
        finished += 1
        observer.scored()
        if finished == work.items.count {
            complete()
        } else if started < work.items.count {
            startNext()
        }
    }

    func fail(choice: Int, error: APIError) {
        sequences[choice] = nil
        guard error.status == 400, error.parameter == nil else {
            fail(error)
            return
        }
        var error = error
        error.parameter = work.items[choice].name
        fail(error)
    }

    private static func checked(_ score: PromptScore?, _ item: ScoringItem) throws(APIError) -> PromptScore {
        guard let score, score.labels.count == item.labels.count, score.pooled.isEmpty == (item.pooling == nil)
        else { throw .server("an engine did not report the numbers that it was asked for") }
        guard score.labels.allSatisfy({ !$0.isNaN }), score.pooled.allSatisfy(\.isFinite) else {
            throw .server("an engine reported numbers that are none")
        }
        return score
    }

    private func complete() {
        ended = true
        observer.completed()
        usage.cachedPromptTokens = cachedTokens.reduce(0, +)
        let (work, head, scores, usage) = (work, head, scores, usage)
        let values = scores.reduce(scores.count) { $0 + $1.pooled.count + $1.labels.count }
        writer.respond(responder, headers: responseHeaders, values: values) { () throws(APIError) in
            try work.write(scores, usage, head)
        }
    }

    private func fail(_ error: APIError) {
        guard !ended else { return }
        ended = true
        observer.failed(status: error.status)
        cancelAll()
        responder.respond(error, headers: responseHeaders)
    }

    private func clientGone() {
        guard !ended else { return }
        ended = true
        observer.aborted()
        cancelAll()
    }

    private func cancelAll() {
        dispatcher.release(work.items.count - started)
        started = work.items.count
        for id in sequences.values { dispatcher.cancel(id) }
        sequences = [:]
    }
}
