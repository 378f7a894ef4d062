// Tandem — Apache-2.0

import HTTPCore
import NIOCore
import Requests
import Routing

/// An external engine, spoken to over HTTP.
final class ProxyUpstream: Upstream {
    let engine: EngineID
    let routingKey: UInt64
    private let client: HTTPClient
    private let dispatcher: ProxyDispatcher
    /// Told when the engine could not be reached, or broke off.
    private let onTrouble: (HTTPClientError) -> Void
    private var calls: [RequestID: ProxyCall] = [:]
    /// Grows with everything that comes from the engine.
    fileprivate(set) var received: UInt64 = 0

    /// - Parameter index: its place among the endpoints.
    init(
        engine: EngineID, index: Int, client: HTTPClient, dispatcher: ProxyDispatcher,
        onTrouble: @escaping (HTTPClientError) -> Void
    ) {
        self.engine = engine
        routingKey = UInt64(index)
        self.client = client
        self.dispatcher = dispatcher
        self.onTrouble = onTrouble
    }

    /// Its owner decides: text, or token ids where the engine gave them.
    var resumeCapability: ResumeCapability { .text }

    func start(_ work: ProxyWork) {
        let call = ProxyCall(work, upstream: self)
        calls[work.id] = call
        call.exchange = client.send(work.request, to: call)
    }

    func cancel(_ id: RequestID) { calls.removeValue(forKey: id)?.exchange?.cancel() }
    func pause(_ id: RequestID) { calls[id]?.exchange?.pause() }
    func resume(_ id: RequestID) { calls[id]?.exchange?.resume() }

    /// Gives everything up that is on its way.
    func cutAll() {
        for call in calls.values { call.exchange?.cancel() }
        calls.removeAll()
    }

    fileprivate func report(_ output: ProxyOutput) {
        if output.end != nil { calls[output.id] = nil }
        dispatcher.receive(CollectionOfOne(output), from: engine)
    }

    /// A request got tokens, which its owner has already.
    fileprivate func progressed(_ id: RequestID, newTokens: Int) {
        dispatcher.progressed(id, newTokens: newTokens, on: engine)
    }

    fileprivate func trouble(_ error: HTTPClientError) { onTrouble(error) }
}

/// One attempt of an engine to answer a request.
private final class ProxyCall: HTTPResponseReceiver {
    private enum Mode {
        case waiting
        /// The response is read whole before anything is done with it.
        case whole(HTTPResponseHead, ByteBuffer, Outcome)
        case events(ProxyEvents)
        /// The response is passed on as it comes.
        case passage
        case over
    }

    private enum Outcome {
        case answer, busy, failure
    }

    /// Bytes of an answer up to which a loss is made good by asking another engine; a longer one is passed on as it comes.
    private static let maximumWholeBytes = 8 << 20
    /// Bytes of an error that are read.
    private static let maximumErrorBytes = 64 << 10
    /// Tokens of which the dispatcher hears together: that it knows of each at once is not worth what telling it costs.
    private static let tokensPerReport = 16

    private let owner: ProxyOwner
    private let record: ProxyRecord
    /// It holds its calls, too, until they are over.
    private let upstream: ProxyUpstream
    /// Tokens of which the dispatcher has not heard; of the first it hears at once.
    private var unreported = 0
    private var reportsAt = 1
    private var mode = Mode.waiting
    private let id: RequestID
    private let merge: ProxyContinuation.Merge?
    var exchange: HTTPClientExchange?

    init(_ work: ProxyWork, upstream: ProxyUpstream) {
        id = work.id
        owner = work.owner
        record = work.record
        merge = work.merge
        self.upstream = upstream
    }

    func received(_ head: HTTPResponseHead) {
        upstream.received &+= 1
        let isStream =
            head.status == .ok && head.headers["Content-Type"]?.lowercased().hasPrefix("text/event-stream") == true
            && head.headers["Content-Encoding"] == nil
        if isStream {
            if record.head == nil { record.head = head }
            mode = .events(ProxyEvents(record: record, continuation: merge))
        } else {
            mode = .whole(head, ByteBuffer(), Self.outcome(head))
        }
    }

    /// Busy is no fault, and what is wrong with a request is an answer.
    private static func outcome(_ head: HTTPResponseHead) -> Outcome {
        switch head.status.code {
        case 429: .busy
        case 503 where head.headers["Retry-After"] != nil: .busy
        case 501, 505: .answer
        case 500...: .failure
        default: .answer
        }
    }

    func received(_ body: consuming ByteBuffer) {
        upstream.received &+= 1
        switch mode {
        case .waiting, .over:
            break
        case .whole(let head, var whole, let outcome):
            // Taken out, so that the buffer has one owner and grows in place.
            mode = .waiting
            guard whole.readableBytes + body.readableBytes > Self.maximumWholeBytes, case .answer = outcome else {
                if case .answer = outcome {
                    whole.writeImmutableBuffer(body)
                } else if whole.readableBytes < Self.maximumErrorBytes {
                    whole.writeImmutableBuffer(body)
                }
                mode = .whole(head, whole, outcome)
                return
            }
            mode = .passage
            record.head = record.head ?? head
            record.hasContent = true
            record.obstacle = record.obstacle ?? .endpoint
            whole.writeImmutableBuffer(body)
            upstream.report(ProxyOutput(id: id, part: .passage(whole)))
        case .passage:
            upstream.report(ProxyOutput(id: id, part: .passage(body)))
        case .events(let events):
            if events.isSimilarEvent(body) { pass(body, tokens: 1) } else { deliver(events.receive(body)) }
        }
    }

    private func deliver(_ batch: ProxyEvents.Batch) {
        if let failure = batch.failure {
            pass(batch)
            guard case .events = mode else { return }
            mode = .over
            exchange?.cancel()
            record.cause = .reported
            end(.failed(RequestFailure(kind: .engine, message: failure)))
        } else if record.isDone {
            exchange?.release()
            reportProgress()
            mode = .over
            upstream.report(
                ProxyOutput(
                    id: id, newTokens: batch.tokens, end: .finished,
                    part: batch.events.map { .events($0) } ?? .nothing))
        } else {
            pass(batch)
        }
    }

    private func pass(_ batch: ProxyEvents.Batch) {
        if let events = batch.events { pass(events, tokens: batch.tokens) }
    }

    private func pass(_ events: ByteBuffer, tokens: Int) {
        unreported += tokens
        if unreported >= reportsAt { reportProgress() }
        owner.pass(events, tokens: tokens)
    }

    private func reportProgress() {
        guard unreported > 0 else { return }
        upstream.progressed(id, newTokens: unreported)
        unreported = 0
        reportsAt = Self.tokensPerReport
    }

    private func end(_ end: DispatchEnd, _ part: ProxyOutput.Part = .nothing) {
        reportProgress()
        mode = .over
        upstream.report(ProxyOutput(id: id, end: end, part: part))
    }

    func ended() {
        upstream.received &+= 1
        switch mode {
        case .waiting, .over:
            break
        case .whole(let head, let body, let outcome):
            let response = ProxyResponse(head: head, body: body)
            switch outcome {
            case .answer:
                end(.finished, .response(response))
            case .busy:
                record.refusal = response
                end(.failed(RequestFailure(kind: .overloaded, message: "the engine has too many requests")))
            case .failure:
                record.refusal = response
                end(.failed(RequestFailure(kind: .engine, message: "the engine answered \(head.status.code)")))
            }
        case .passage:
            end(.finished)
        case .events(let events):
            if record.isComplete || (record.kind == .other && !events.hasPartialEvent) {
                end(.finished)
            } else {
                lose(.init(kind: .cut, message: "the engine ended its stream before the answer was complete"))
            }
        }
    }

    func failed(_ error: HTTPClientError) {
        // What matters of the answer may have come.
        if case .events = mode, record.isComplete {
            end(.finished)
            return
        }
        lose(error)
    }

    private func lose(_ error: HTTPClientError) {
        mode = .over
        switch error.kind {
        case .unreachable, .cut:
            record.cause = .lost
            // First, so that the request is not sent there again before it is known whether the engine lives.
            upstream.trouble(error)
            end(.lost(error.message))
        case .malformed, .silent:
            record.cause = error.kind == .silent ? .silent : .malformed
            upstream.trouble(error)
            end(.failed(RequestFailure(kind: .engine, message: error.message)))
        }
    }
}
