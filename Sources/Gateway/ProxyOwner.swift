// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore
import Requests
import Routing

/// Owns one request that is passed on, from its arrival until the last byte of its answer is sent: it keeps what is
/// needed to put it to another engine.
///
/// Lives on its connection's event loop.
final class ProxyOwner: WorkOwner {
    typealias Work = ProxyWork
    typealias Output = ProxyOutput

    private let responder: HTTPResponder
    private let observer: RequestObserver
    private let record: ProxyRecord
    private var streamStarted = false
    /// Whether what is sent cannot be told from what a client would take for whole.
    private var isPassage = false
    private var ended = false

    let onlyEngine: UInt64?
    private let responseHeaders: HTTPHeaders
    private let request: HTTPClientRequest
    private let fields: ProxyFields
    private let shard: ProxyShard
    private let dispatcher: ProxyDispatcher
    private let continues: Bool
    private let metrics: GatewayMetrics
    private var sequence: RequestID?
    private var note = AccessNote()
    /// How the answer goes on elsewhere; made when an engine is lost.
    private var plan: ProxyContinuation.Plan?
    private let reference = Reference()

    /// What the responder's callbacks hold, since they must not keep the owner alive. No weak reference: the first one
    /// makes every later strong one cost several times as much.
    private final class Reference {
        unowned var owner: ProxyOwner?
    }

    deinit { reference.owner = nil }

    init(
        exchange: GatewayShard.Exchange, kind: ProxyRecord.Kind, fields: ProxyFields, authorization: String?,
        shard: ProxyShard, dispatcher: ProxyDispatcher, continues: Bool, observer: RequestObserver,
        metrics: GatewayMetrics
    ) {
        onlyEngine = exchange.onlyEngine
        responder = exchange.responder
        responseHeaders = exchange.headers
        let target = exchange.request.path + (exchange.request.query.map { "?\($0)" } ?? "")
        request = HTTPClientRequest(
            method: exchange.request.method, target: target,
            headers: ProxyHeaders.ofRequest(
                exchange.request.headers, id: exchange.id, trace: exchange.trace, authorization: authorization),
            body: exchange.request.body)
        self.fields = fields
        record = ProxyRecord(kind: kind, choices: fields.choices)
        self.shard = shard
        self.dispatcher = dispatcher
        self.continues = continues
        self.observer = observer
        self.metrics = metrics
        note.trace = exchange.trace
        note.model = fields.model
    }

    func start() {
        observer.admitted()
        let reference = reference
        reference.owner = self
        responder.describe { reference.owner?.describe() ?? AccessNote() }
        responder.onClose { reference.owner?.clientGone() }
        responder.onWritabilityChange { reference.owner?.writabilityChanged($0) }
        let id = dispatcher.start(owner: self, choice: 0)
        if ended { dispatcher.cancel(id) } else { sequence = id }
    }

    func placed(choice: Int, on engine: UInt64) { note.engine = engine }

    private func describe() -> AccessNote {
        var note = note
        if record.tokens > 0 { note.generatedTokens = record.tokens }
        return note
    }

    // MARK: - Sequence

    func work(choice: Int, id: RequestID) -> ProxyWork {
        var request = request
        var merge: ProxyContinuation.Merge?
        if case .go(let body, let how) = plan {
            request.body = body
            merge = how
        }
        return ProxyWork(
            id: id, owner: self, request: request, record: record, merge: merge, cost: cost,
            excluded: excluded, fields: fields, body: self.request.body)
    }

    /// The default model of an engine that is asked for by its port is its own first one.
    private var excluded: Set<EngineID> {
        onlyEngine != nil && fields.model == nil ? [] : shard.engines(without: fields.model)
    }

    /// Tokens that an answer has if nobody says how many.
    private static let usualTokens = 256
    private static let bytesPerToken = 4

    private var cost: TokenCost {
        let new = (fields.maximumTokens ?? Self.usualTokens) - record.tokens
        return TokenCost(
            prompt: (fields.prompt?.count ?? request.body.readableBytes) / Self.bytesPerToken,
            new: record.kind == .other ? 0 : new.multipliedReportingOverflow(by: fields.choices).partialValue)
    }

    var requestID: String { responseHeaders["X-Request-Id"] ?? "" }

    func hasSent(choice: Int) -> Bool { record.hasContent }

    private(set) var lossReason: String?

    func maySubmitAgain(choice: Int) -> Bool {
        guard record.hasContent else { return true }
        lossReason = record.cause.rawValue
        record.cause = .lost
        guard continues else { return refuse(.notAllowed) }
        switch ProxyContinuation.plan(request.body, record: record) {
        case .cannot(let obstacle):
            return refuse(obstacle)
        case .ended:
            plan = .ended
            return false
        case .go(let body, let merge):
            plan = .go(body, merge)
            // What is generated again counts again.
            record.tokens = merge.tokens
            record.tokenIDs.removeLast(record.tokenIDs.count - record.shownTokenIDs)
            return true
        }
    }

    private func refuse(_ obstacle: Obstacle) -> Bool {
        plan = .cannot(obstacle)
        return false
    }

    var isPaused: Bool { !responder.isWritable }

    /// Takes whole events of a stream that goes on.
    func pass(_ events: ByteBuffer, tokens: Int) {
        guard !ended else { return }
        observer.produced(tokens: tokens, choice: 0)
        beginStream()
        responder.send(events)
    }

    func receive(choice: Int, output: ProxyOutput) {
        guard !ended else { return }
        observer.produced(tokens: output.newTokens, choice: 0)
        if output.end != nil { sequence = nil }
        switch output.part {
        case .nothing:
            break
        case .events(let events):
            beginStream()
            responder.write(events)
        case .passage(let bytes):
            isPassage = true
            beginStream()
            responder.send(bytes)
        case .response(let response):
            guard !streamStarted else {
                plan = .cannot(.refused)
                fail(.badGateway("an engine answered \(response.head.status.code)"))
                return
            }
            complete(with: response)
            respond(response)
            return
        }
        if output.end != nil { endStream() }
    }

    func fail(choice: Int, error: APIError) {
        sequence = nil
        guard !ended else { return }
        // All that was asked for came before the engine was lost.
        if case .ended = plan { return finishForEngine() }
        fail(error)
    }

    private func fail(_ error: APIError) {
        ended = true
        note.hasFailed = true
        if let id = sequence { dispatcher.cancel(id) }
        sequence = nil
        guard streamStarted else {
            if let refusal = record.refusal {
                observer.failed(status: refusal.head.status.code)
                respond(refusal)
            } else {
                let error = error.status == 500 ? .badGateway(error.message) : error
                observer.failed(status: error.status)
                responder.respond(error, headers: responseHeaders)
            }
            return
        }
        observer.failed(status: error.status)
        var obstacle = record.hasContent ? Obstacle.noEngine : nil
        if case .cannot(let found) = plan { obstacle = found }
        if let obstacle { metrics.migrationRefused(reason: obstacle.rawValue) }
        guard !isPassage else {
            // A body that was announced as something else than events can only be cut.
            responder.abort()
            return
        }
        if let event = record.errorEvent {
            responder.write(event)
        } else {
            let why = obstacle.map { ", and the answer cannot go on elsewhere: \($0.explanation)" } ?? ""
            var told = error.status == 500 ? APIError.badGateway(error.message) : error
            told.message += why
            told.code = "stream_interrupted"
            responder.write(errorEvent(told))
        }
        responder.finish()
    }

    /// The last event of a stream that ends too early, in the form of its endpoint.
    private func errorEvent(_ error: APIError) -> [UInt8] {
        guard request.target == "/v1/responses" else {
            return Array("data: ".utf8) + error.body + Array("\n\n".utf8)
        }
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("type")
        writer.string("error")
        writer.key("code")
        writer.string(error.code ?? error.type)
        writer.key("message")
        writer.string(error.message)
        writer.key("param")
        writer.null()
        writer.key("sequence_number")
        writer.integer(record.events)
        writer.endObject()
        return Array("event: error\ndata: ".utf8) + writer.bytes + Array("\n\n".utf8)
    }

    private func clientGone() {
        guard !ended else { return }
        ended = true
        observer.aborted()
        if let id = sequence { dispatcher.cancel(id) }
        sequence = nil
    }

    private func writabilityChanged(_ writable: Bool) {
        guard let id = sequence else { return }
        if writable { dispatcher.resume(id) } else { dispatcher.pause(id) }
    }

    // MARK: - Answer

    private func beginStream() {
        guard !streamStarted, let head = record.head else { return }
        streamStarted = true
        responder.startStream(
            status: head.status, headers: ProxyHeaders.ofResponse(head.headers, own: responseHeaders))
    }

    private func complete() {
        ended = true
        if record.promptTokens > 0 { observer.prompted(tokens: record.promptTokens) }
        observer.finished(choice: 0, reason: FinishLabel.label(record.finishReason), tokens: record.tokens)
        observer.completed()
    }

    /// Ends with a whole answer, whose tokens and reason stand in it.
    private func complete(with response: ProxyResponse) {
        guard response.head.status.code < 400 else {
            ended = true
            note.hasFailed = true
            observer.failed(status: response.head.status.code)
            return
        }
        guard record.kind != .other else { return complete() }
        var answer = ProxyChunk()
        let bytes = response.body.readableBytesUInt8Span
        guard answer.read(bytes) else { return complete() }
        record.finishReason = answer.finish.flatMap { ProxyEvents.text(bytes, $0) }
        if let tokens = answer.completionTokens, tokens > 0 {
            observer.generated(tokens: tokens - record.tokens)
            record.tokens = tokens
        }
        record.promptTokens = max(0, answer.promptTokens ?? 0)
        complete()
    }

    private func endStream() {
        complete()
        beginStream()
        // An engine that was lost after its last word owes the stream's last word.
        if record.hasClientError { note.hasFailed = true }
        if !isPassage, record.kind != .other, !record.isDone, !record.hasClientError {
            responder.write(Array("data: [DONE]\n\n".utf8))
        }
        responder.finish()
    }

    private func respond(_ response: ProxyResponse) {
        responder.respond(
            status: response.head.status, headers: ProxyHeaders.ofResponse(response.head.headers, own: responseHeaders),
            body: response.body)
    }

    /// Says what the engine would have said: that the answer is as long as it may be.
    private func finishForEngine() {
        record.finishReason = "length"
        var writer = JSONWriter(Array("data: ".utf8))
        writer.beginObject()
        if let id = record.id {
            writer.key("id")
            writer.string(id)
        }
        writer.key("object")
        writer.string(record.kind == .chat ? "chat.completion.chunk" : "text_completion")
        if let created = record.created {
            writer.key("created")
            writer.integer(created)
        }
        if let model = record.model {
            writer.key("model")
            writer.string(model)
        }
        writer.key("choices")
        writer.beginArray()
        writer.beginObject()
        writer.key("index")
        writer.integer(0)
        if record.kind == .chat {
            writer.key("delta")
            writer.beginObject()
            writer.endObject()
        } else {
            writer.key("text")
            writer.string("")
        }
        writer.key("finish_reason")
        writer.string("length")
        writer.endObject()
        writer.endArray()
        writer.endObject()
        responder.write(writer.bytes + Array("\n\n".utf8))
        endStream()
    }
}
