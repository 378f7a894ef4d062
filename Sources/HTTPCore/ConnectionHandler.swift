// Tandem — Apache-2.0

import NIOCore
import Synchronization

/// One connection: carries bytes between its channel, its ``ConnectionMachine`` and the request handler.
///
/// Unchecked: all state is touched only on the channel's event loop (the responder checks that); other threads merely
/// pass the reference on.
final class ConnectionHandler: ChannelDuplexHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// The request in hand. A class, so that looking at it copies nothing.
    private final class Exchange {
        // First what is looked at for every token.
        let id: UInt64
        var framing = ResponseFraming.none
        var bodyBytes = 0
        var status: HTTPStatus?
        let method: HTTPMethod
        let isHTTP11: Bool
        var keepAlive: Bool
        let path: String
        let began: NIODeadline
        var requestID: String?
        var firstByte: NIODeadline?
        var describe: (() -> any Sendable)?
        var onClose: (() -> Void)?
        var onWritabilityChange: ((Bool) -> Void)?

        init(id: UInt64, head: RequestHead, began: NIODeadline) {
            self.id = id
            method = head.method
            path = head.path
            isHTTP11 = head.isHTTP11
            self.began = began
            keepAlive = head.wantsKeepAlive
            requestID = head.headers["X-Request-Id"]
        }
    }

    /// A large body leaves in pieces of this size, so that progress on it is seen.
    private static let maximumWriteBytes = 256 * 1024
    private static let usualHeadBytes = 256
    /// A larger buffer is not kept for the next turn.
    private static let keptBufferBytes = 4096

    // First what is looked at for every token, so that it comes with few lines of the processor's cache.
    private var exchange: Exchange?
    private var flushQueue: FlushQueue?
    private var context: ChannelHandlerContext?
    /// The socket, while the channel is open and speaks no TLS: what it takes at once is sent past the channel, whose way
    /// for it costs more than the system's.
    private var socket: CInt?
    private var isOutputClosed = false
    private var isFlushScheduled = false
    private var machine: ConnectionMachine
    private var outbound = ByteBuffer()

    private let shared: ConnectionContext
    private let limits: HTTPLimits
    /// Whether the connection has ended, for any thread: its event loop may end next.
    let isGone = Atomic<Bool>(false)
    private var remoteAddress: SocketAddress?
    private var isRegistered = false
    private var exchangeCount: UInt64 = 0
    private var isProcessing = false
    private var isReadPending = false
    /// The server gave the connection up, not the client.
    private var isCut = false
    /// This connection's part of what all have received of unfinished bodies.
    private var unfinishedBodyBytes = 0
    private var isBackedUp = false
    /// Whether a turn of the loop has passed since it is: who writes on has had time to notice.
    private var isKnownToBeBackedUp = false
    /// Bytes that were written since then.
    private var overrunBytes = 0
    private var timer: (deadline: NIODeadline, task: Scheduled<Void>)?

    init(context: ConnectionContext) {
        shared = context
        limits = context.configuration.limits
        machine = ConnectionMachine(limits: context.configuration.limits, now: .now())
    }

    // MARK: - Channel events

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        flushQueue = shared.flushQueues.queue(
            of: context.eventLoop, observer: shared.configuration.writeObserver)
        machine = ConnectionMachine(limits: limits, now: context.eventLoop.now)
        if context.channel.isActive { begin(context) }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        end()
        isGone.store(true, ordering: .releasing)
        self.context = nil
    }

    func channelActive(context: ChannelHandlerContext) {
        begin(context)
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        isGone.store(true, ordering: .releasing)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        machine.receive(unwrapInboundIn(data), now: context.eventLoop.now)
        process()
        accountForBody()
    }

    /// Many clients that do not finish what they send must not take all memory.
    private func accountForBody() {
        // What every client may have in any case does not count.
        let bytes = max(0, machine.unfinishedBodyBytes - limits.smallBodyBytes)
        guard bytes != unfinishedBodyBytes else { return }
        let sum = shared.unfinishedBodies.enter(bytes, before: unfinishedBodyBytes)
        unfinishedBodyBytes = bytes
        guard bytes > 0, sum > limits.maximumUnfinishedBodyBytes, let context else { return }
        let rejection = HTTPRejection(
            status: .serviceUnavailable, reason: "too many long requests arrive at a time; try again later")
        if case .reject(let rejection, let head) = machine.refuseBody(rejection, now: context.eventLoop.now) {
            reject(rejection, head)
        }
        forgetBody()
        armTimer()
    }

    private func forgetBody() {
        _ = shared.unfinishedBodies.enter(0, before: unfinishedBodyBytes)
        unfinishedBodyBytes = 0
    }

    func read(context: ChannelHandlerContext) {
        if machine.wantsRead { context.read() } else { isReadPending = true }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // Resets and the like: there is nobody to tell. The end of the exchange is logged as incomplete.
        context.close(promise: nil)
    }

    func triggerUserOutboundEvent(context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?) {
        guard case ConnectionEvent.drain? = event as? ConnectionEvent else {
            context.triggerUserOutboundEvent(event, promise: promise)
            return
        }
        promise?.succeed(())
        if machine.drain(now: context.eventLoop.now) { context.close(promise: nil) }
    }

    private func begin(_ context: ChannelHandlerContext) {
        guard !isRegistered else { return }
        socket = isSecure ? nil : DirectSend.socket(of: context)
        switch shared.connections.add(context.channel) {
        case .admitted:
            isRegistered = true
            remoteAddress = context.remoteAddress
            armTimer()
        case .tooMany:
            shared.configuration.incidentLog?(.tooManyConnections(limit: limits.maximumConnections))
            // To agree on TLS first would cost more than to serve the client.
            guard !isSecure else { return context.close(promise: nil) }
            let rejection = HTTPRejection(status: .serviceUnavailable, reason: "the server has too many connections")
            _ = sendError(rejection, isHead: false)
            flush()
            context.close(promise: nil)
        case .draining:
            context.close(promise: nil)
        }
    }

    private func end() {
        if isRegistered, let context {
            isRegistered = false
            shared.connections.remove(context.channel)
        }
        timer?.task.cancel()
        timer = nil
        forgetBody()
        isOutputClosed = true
        // The system may give its number to another one.
        socket = nil
        outbound = ByteBuffer()
        // Taken out first: the callback may come back to us.
        if let ended = exchange.take() {
            log(ended, isCut ? .cut : .cancelled)
            ended.onClose?()
        }
    }

    // MARK: - Requests

    private func process() {
        guard !isProcessing, let context else { return }
        isProcessing = true
        steps: while !isOutputClosed {
            switch machine.next(now: context.eventLoop.now, wantsBody: wantsBody) {
            case .wait:
                break steps
            case .sendContinue:
                send { $0.writeStaticString("HTTP/1.1 100 Continue\r\n\r\n") }
            case .request(let head, let body):
                handOut(head, body, context)
            case .reject(let rejection, let head):
                reject(rejection, head)
            }
        }
        isProcessing = false
        armTimer()
        if isReadPending, machine.wantsRead {
            isReadPending = false
            context.read()
        }
    }

    private func wantsBody(_ head: RequestHead) -> Bool {
        shared.handler.wantsBody(
            HTTPRequest(
                method: head.method, path: head.path, query: head.query, headers: head.headers, body: ByteBuffer(),
                remoteAddress: remoteAddress))
    }

    private func handOut(_ head: RequestHead, _ body: ByteBuffer, _ context: ChannelHandlerContext) {
        exchangeCount += 1
        exchange = Exchange(id: exchangeCount, head: head, began: context.eventLoop.now)
        let request = HTTPRequest(
            method: head.method, path: head.path, query: head.query, headers: head.headers, body: body,
            remoteAddress: remoteAddress)
        let responder = HTTPResponder(connection: self, exchange: exchangeCount, eventLoop: context.eventLoop)
        shared.handler.handle(request, responder)
    }

    private func reject(_ rejection: HTTPRejection, _ head: RequestHead?) {
        let bodyBytes = sendError(rejection, isHead: head?.method == .head)
        shared.configuration.accessLog?(
            AccessLogEntry(
                method: head?.method, path: head?.path, requestID: head?.headers["X-Request-Id"],
                status: rejection.status, bodyBytes: bodyBytes, duration: .zero, timeToFirstByte: .zero,
                outcome: .complete, remoteAddress: remoteAddress))
    }

    /// - Returns: the number of bytes of the body.
    private func sendError(_ rejection: HTTPRejection, isHead: Bool) -> Int {
        let (contentType, body) = shared.configuration.errorBody(rejection.status, rejection.reason)
        send { buffer in
            ResponseHead.append(
                status: rejection.status, headers: ["Content-Type": contentType],
                framing: .length(body.readableBytes), connection: "close", date: shared.clock.now(), to: &buffer)
            if !isHead { buffer.writeImmutableBuffer(body) }
        }
        return isHead ? 0 : body.readableBytes
    }

    /// The answer in hand is complete.
    private func endExchange() {
        guard let context, let ended = exchange.take() else { return }
        log(ended, .complete)
        _ = machine.responseEnded(keepAlive: ended.keepAlive, now: context.eventLoop.now)
        closeOutputIfDone()
        process()
    }

    private func log(_ exchange: Exchange, _ outcome: ExchangeOutcome) {
        guard let accessLog = shared.configuration.accessLog, let context else { return }
        accessLog(
            AccessLogEntry(
                method: exchange.method, path: exchange.path, requestID: exchange.requestID, status: exchange.status,
                bodyBytes: exchange.bodyBytes, duration: context.eventLoop.now - exchange.began,
                timeToFirstByte: exchange.firstByte.map { $0 - exchange.began }, outcome: outcome,
                remoteAddress: remoteAddress, note: exchange.describe?()))
    }

    // MARK: - Sending

    /// - Parameter count: about how many bytes.
    private func send(_ count: Int = ConnectionHandler.usualHeadBytes, _ append: (inout ByteBuffer) -> Void) {
        guard let context, !isOutputClosed else { return }
        let before = outbound.readableBytes
        outbound.reserveCapacity(minimumWritableBytes: count + ResponseHead.chunkFramingBytes)
        append(&outbound)
        machine.outboundQueued(outbound.readableBytes - before, now: context.eventLoop.now)
        scheduleFlush()
        updateWritability()
    }

    private func scheduleFlush() {
        guard !isFlushScheduled else { return }
        isFlushScheduled = true
        flushQueue?.add(self)
    }

    /// Called by the queue at the end of a turn.
    func flush() {
        isFlushScheduled = false
        guard let context, !isOutputClosed, outbound.readableBytes > 0 else { return }
        // Taken out, since writers that are told of the end of this write may write at once.
        var sent = ByteBuffer()
        swap(&sent, &outbound)
        if let socket, sent.readableBytes == machine.waitingBytes {
            let taken = DirectSend.send(sent, to: socket)
            sent.moveReaderIndex(forwardBy: taken)
            if taken > 0 { machine.outboundWritten(taken, now: context.eventLoop.now) }
        }
        if sent.readableBytes > 0 {
            // Also what the system refused for good: the channel finds out, and closes.
            writeThroughChannel(sent, context)
        } else {
            updateWritability()
            closeOutputIfDone()
            if exchange == nil { process() }
        }
        // The system nearly always takes all of it at once, and the buffer is ours again.
        if outbound.capacity == 0, sent.capacity <= Self.keptBufferBytes {
            sent.clear()
            outbound = sent
        }
        isKnownToBeBackedUp = isBackedUp
        armTimer()
    }

    private func writeThroughChannel(_ bytes: ByteBuffer, _ context: ChannelHandlerContext) {
        var bytes = bytes
        while let piece = bytes.readSlice(length: min(bytes.readableBytes, Self.maximumWriteBytes)),
            piece.readableBytes > 0
        {
            let count = piece.readableBytes
            let promise = context.eventLoop.makePromise(of: Void.self)
            promise.futureResult.whenSuccess { self.written(count) }
            context.write(wrapOutboundOut(piece), promise: promise)
        }
        context.flush()
    }

    private func written(_ count: Int) {
        guard let context else { return }
        machine.outboundWritten(count, now: context.eventLoop.now)
        updateWritability()
        closeOutputIfDone()
        process()
    }

    private func updateWritability() {
        let isBackedUpNow =
            isBackedUp
            ? machine.waitingBytes > limits.outboundLowWater
            : machine.waitingBytes >= limits.outboundHighWater
        guard isBackedUpNow != isBackedUp else { return }
        isBackedUp = isBackedUpNow
        isKnownToBeBackedUp = false
        overrunBytes = 0
        let notify = exchange?.onWritabilityChange
        notify?(!isBackedUpNow)
    }

    /// After the last answer: the end is shown to the client, whose own end, or the timer, then closes the connection.
    private func closeOutputIfDone() {
        guard let context, machine.isLingering, machine.waitingBytes == 0, !isOutputClosed else { return }
        isOutputClosed = true
        context.close(mode: .output, promise: nil)
    }

    /// Cuts the connection in the next turn of the loop, so that a caller is not called back in the middle of its call.
    private func cut() {
        guard let context, !isOutputClosed else { return }
        isOutputClosed = true
        isCut = true
        outbound = ByteBuffer()
        context.eventLoop.execute { self.context.map(self.closeCut) }
    }

    private func closeCut(_ context: ChannelHandlerContext) {
        // Without TLS there is nothing that a client could tell it by.
        if isSecure { context.triggerUserOutboundEvent(ConnectionEvent.cut, promise: nil) }
        context.close(promise: nil)
    }

    private var isSecure: Bool { shared.configuration.tls != nil }

    // MARK: - Time

    private func armTimer() {
        guard let context, isRegistered, let deadline = machine.deadline else { return }
        // A timer that fires too early looks again, which is cheaper than a new one for every request.
        if let timer {
            guard deadline < timer.deadline else { return }
            timer.task.cancel()
        }
        timer = (deadline, context.eventLoop.scheduleTask(deadline: deadline) { self.timerFired() })
    }

    private func timerFired() {
        timer = nil
        guard let context else { return }
        switch machine.expire(now: context.eventLoop.now) {
        case .nothing: break
        case .close: context.close(promise: nil)
        case .reject(let rejection, let head): reject(rejection, head)
        case .stalled:
            shared.configuration.incidentLog?(
                .responseStalled(
                    path: exchange?.path ?? "", requestID: exchange?.requestID, waitingBytes: machine.waitingBytes))
            isCut = true
            closeCut(context)
        }
        armTimer()
    }
}

// MARK: - What the responder asks for

extension ConnectionHandler {
    func isCurrent(exchange id: UInt64) -> Bool { exchange?.id == id }

    func isWritable(exchange id: UInt64) -> Bool { isCurrent(exchange: id) && !isBackedUp }

    func requestID(exchange id: UInt64) -> String? { isCurrent(exchange: id) ? exchange?.requestID : nil }

    func setRequestID(_ requestID: String?, exchange id: UInt64) {
        if isCurrent(exchange: id) { exchange?.requestID = requestID }
    }

    /// - Returns: whether this was the answer.
    func respond(status: HTTPStatus, headers: HTTPHeaders, body: ByteBuffer, exchange id: UInt64) -> Bool {
        guard isCurrent(exchange: id), let method = exchange?.method, exchange?.status == nil else { return false }
        let framing: ResponseFraming = status.forbidsBody ? .none : .length(body.readableBytes)
        sendHead(status: status, headers: headers, framing: framing)
        if method != .head, !status.forbidsBody {
            exchange?.bodyBytes = body.readableBytes
            send { $0.writeImmutableBuffer(body) }
        }
        endExchange()
        return true
    }

    func startStream(status: HTTPStatus, headers: HTTPHeaders, exchange id: UInt64) {
        guard isCurrent(exchange: id), let isHTTP11 = exchange?.isHTTP11, exchange?.status == nil else { return }
        let framing: ResponseFraming = status.forbidsBody ? .none : isHTTP11 ? .chunked : .untilClose
        sendHead(status: status, headers: headers, framing: framing)
    }

    func write(_ bytes: Span<UInt8>, exchange id: UInt64) {
        guard let current = exchange, current.id == id, current.status != nil, current.method != .head,
            !isOutputClosed
        else { return }
        if isKnownToBeBackedUp {
            guard overrunBytes < limits.maximumOutboundBytes else {
                overflow(current)
                return
            }
            overrunBytes += bytes.count
        }
        current.bodyBytes += bytes.count
        switch current.framing {
        case .none, .length: return
        case .untilClose: send(bytes.count) { $0.writeBytes(bytes.bytes) }
        case .chunked: send(bytes.count) { ResponseHead.appendChunk(bytes, to: &$0) }
        }
    }

    /// Sends at once if nothing waits before it; what the system does not take waits as after ``write(_:exchange:)``.
    func send(_ bytes: Span<UInt8>, exchange id: UInt64) {
        guard machine.waitingBytes == 0, bytes.count <= Self.keptBufferBytes, let current = exchange, current.id == id,
            current.status != nil, current.method != .head, let socket, let flushQueue, !isOutputClosed
        else { return write(bytes, exchange: id) }
        // Memory that all connections share stays in the processor's caches.
        var framed = ByteBuffer()
        swap(&framed, &flushQueue.scratch)
        framed.clear(minimumCapacity: bytes.count + ResponseHead.chunkFramingBytes)
        switch current.framing {
        case .none, .length: break
        case .untilClose: framed.writeBytes(bytes.bytes)
        case .chunked: ResponseHead.appendChunk(bytes, to: &framed)
        }
        current.bodyBytes += bytes.count
        framed.moveReaderIndex(forwardBy: DirectSend.send(framed, to: socket))
        if framed.readableBytes > 0 { send(framed.readableBytes) { $0.writeImmutableBuffer(framed) } }
        swap(&framed, &flushQueue.scratch)
    }

    private func overflow(_ current: Exchange) {
        shared.configuration.incidentLog?(
            .outboundOverflow(path: current.path, requestID: current.requestID, waitingBytes: machine.waitingBytes))
        cut()
    }

    /// - Returns: whether the stream was ended by this call.
    func finish(exchange id: UInt64) -> Bool {
        guard isCurrent(exchange: id), let current = exchange, current.status != nil else { return false }
        if case .chunked = current.framing, current.method != .head {
            send { $0.writeStaticString("0\r\n\r\n") }
        }
        endExchange()
        return true
    }

    func abort(exchange id: UInt64) {
        guard isCurrent(exchange: id), let ended = exchange.take() else { return }
        log(ended, .cut)
        cut()
    }

    func describe(_ note: @escaping () -> any Sendable, exchange id: UInt64) {
        if isCurrent(exchange: id) { exchange?.describe = note }
    }

    func onClose(_ action: @escaping () -> Void, exchange id: UInt64) {
        guard isCurrent(exchange: id) else {
            action()
            return
        }
        exchange?.onClose = action
    }

    func onWritabilityChange(_ action: @escaping (Bool) -> Void, exchange id: UInt64) {
        if isCurrent(exchange: id) { exchange?.onWritabilityChange = action }
    }

    func responderDropped(exchange id: UInt64) {
        guard isCurrent(exchange: id), let current = exchange else { return }
        if current.status == nil {
            shared.configuration.incidentLog?(
                .unanswered(method: current.method, path: current.path, requestID: current.requestID))
            let (contentType, body) = shared.configuration.errorBody(
                .internalServerError, "the server lost track of the request")
            _ = respond(
                status: .internalServerError, headers: ["Content-Type": contentType], body: body, exchange: id)
        } else {
            shared.configuration.incidentLog?(
                .abandonedStream(method: current.method, path: current.path, requestID: current.requestID))
            abort(exchange: id)
        }
    }

    private func sendHead(status: HTTPStatus, headers: HTTPHeaders, framing: ResponseFraming) {
        let isUntilClose = if case .untilClose = framing { true } else { false }
        let saysClose = headers.list(named: "Connection").contains { ASCII.equalIgnoringCase($0, "close") }
        let isHTTP11 = exchange?.isHTTP11 ?? true
        let keepAlive = exchange?.keepAlive == true && !saysClose && !isUntilClose && !machine.isDraining
        exchange?.keepAlive = keepAlive
        exchange?.status = status
        exchange?.firstByte = context?.eventLoop.now
        exchange?.framing = framing
        send { buffer in
            ResponseHead.append(
                status: status, headers: headers, framing: framing,
                connection: keepAlive ? (isHTTP11 ? nil : "keep-alive") : "close",
                date: shared.clock.now(), to: &buffer)
        }
    }
}
