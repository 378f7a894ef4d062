// Tandem — Apache-2.0

import NIOCore

/// One connection to a server: carries bytes between its channel, its ``ClientMachine`` and the exchange in hand.
///
/// Lives on its channel's event loop. It takes no outbound events, because the channel would send it one for each read.
final class ClientConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// A body up to this size is sent behind its head in one piece.
    private static let smallBody = 16 * 1024
    /// How long a response that nobody waits for any more may take to end before its connection is given up.
    private static let releasedTimeout = TimeAmount.seconds(1)

    // What is looked at for every token stands together, so that it comes with few lines of the processor's cache.
    private var context: ChannelHandlerContext?
    /// Where it lives; it may outlive its channel.
    private var eventLoop: (any EventLoop)?
    private(set) var exchange: HTTPClientExchange?
    /// Since when nothing has happened.
    private var lastActivity = NIODeadline.uptimeNanoseconds(0)
    private var hasReceived = false
    private var hasBody = false
    private var isPaused = false
    /// Whether something has come, or the connection has ended, since it was paused.
    private var hasUnread = false
    private var hasEndedUnread = false
    private var isReleased = false
    /// Whether the channel reads of itself.
    private var isReading = true
    private var isSent = true
    private var isClosed = false
    private var machine: ClientMachine
    /// While the channel is open, if it speaks no TLS.
    private var socket: CInt?

    private let limits: HTTPClientLimits
    private let isSecure: Bool
    /// Who is told that the connection is free or gone; it holds the connection, too.
    weak var client: HTTPClient?
    /// Requests that were answered here.
    private(set) var answered = 0
    private var timer: (deadline: NIODeadline, task: Scheduled<Void>)?

    init(limits: HTTPClientLimits, isSecure: Bool = false) {
        self.limits = limits
        self.isSecure = isSecure
        machine = ClientMachine(limits: limits)
    }

    /// Whether it can carry a request now.
    var isFree: Bool { !isClosed && exchange == nil && isSent && machine.isReusable }

    // MARK: - Requests

    func send(_ exchange: HTTPClientExchange, to endpoint: HTTPEndpoint, host: String) {
        guard let context else {
            exchange.fail(.cut("the connection was closed before the request was sent"))
            return
        }
        self.exchange = exchange
        let request = exchange.request
        machine.begin(isHead: request.method == .head)
        (hasReceived, hasBody, isReleased) = (false, false, false)
        isPaused = exchange.isPaused
        lastActivity = context.eventLoop.now
        var bytes = context.channel.allocator.buffer(capacity: 512 + min(request.body.readableBytes, Self.smallBody))
        ClientRequestHead.append(request, endpoint: endpoint, host: host, to: &bytes)
        if request.body.readableBytes <= Self.smallBody {
            bytes.writeImmutableBuffer(request.body)
            // All before it was sent whole, or the connection would not be free.
            if let socket { bytes.moveReaderIndex(forwardBy: DirectSend.send(bytes, to: socket)) }
            if bytes.readableBytes > 0 { writeThroughChannel(bytes, context) }
        } else {
            context.write(wrapOutboundOut(bytes), promise: nil)
            writeThroughChannel(request.body, context)
        }
        armTimer()
        updateReading()
    }

    private func writeThroughChannel(_ bytes: ByteBuffer, _ context: ChannelHandlerContext) {
        isSent = false
        let promise = context.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolated().whenSuccess { self.sent() }
        context.writeAndFlush(wrapOutboundOut(bytes), promise: promise)
    }

    private func sent() {
        isSent = true
        // A response may come before the request is sent whole.
        if exchange == nil { client?.isFree(self) }
    }

    /// Hands nothing more on until ``resume()``, and reads nothing. The channel reads what has come when the server ends the
    /// connection, whatever it is told; that waits here.
    func pause() {
        isPaused = true
        updateReading()
    }

    func resume() {
        guard isPaused else { return }
        isPaused = false
        if let context { lastActivity = context.eventLoop.now }
        updateReading()
        armTimer()
        guard hasUnread else { return }
        // In a later turn, because nothing is handed on within a caller's call.
        eventLoop?.assumeIsolated().execute { self.catchUp() }
    }

    /// Hands on what came while nobody wanted it, and then the connection's end.
    private func catchUp() {
        guard !isPaused, hasUnread else { return }
        hasUnread = false
        process()
        if hasEndedUnread, !hasUnread { conclude() }
    }

    /// Nobody waits for the rest of the response, which should be short.
    func release() {
        exchange = nil
        isReleased = true
        if let context { lastActivity = context.eventLoop.now }
        resume()
        armTimer()
    }

    /// Gives the connection up at once.
    func cut() {
        exchange = nil
        guard !isClosed else { return }
        isClosed = true
        // The server stops its work when it sees the end of the connection.
        context?.close(promise: nil)
    }

    // MARK: - Channel events

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        eventLoop = context.eventLoop
        lastActivity = context.eventLoop.now
        if context.channel.isActive { channelActive(context: context) }
    }

    func channelActive(context: ChannelHandlerContext) {
        if !isSecure { socket = DirectSend.socket(of: context) }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        end()
        self.context = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if exchange != nil {
            failure = .cut("the connection broke: \(isSecure ? ClientTLS.text(of: error) : "\(error)")")
        }
        context.close(promise: nil)
    }

    /// What the system said before the connection ended.
    private var failure: HTTPClientError?

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        hasReceived = true
        lastActivity = context.eventLoop.now
        var bytes = unwrapInboundIn(data)
        guard !isPaused else {
            hasUnread = true
            machine.receive(bytes)
            return
        }
        if hasBody, !isClosed, machine.isWholeChunk(&bytes) {
            exchange?.receiver?.received(bytes)
            return
        }
        machine.receive(bytes)
        process()
    }

    /// Ends here: nobody behind waits for it.
    func channelReadComplete(context: ChannelHandlerContext) {}

    private func updateReading() {
        guard isReading == isPaused, !isClosed, let context else { return }
        isReading = !isPaused
        // Fails only on a closed channel.
        try? context.channel.syncOptions?.setOption(.autoRead, value: isReading)
    }

    private func process() {
        do throws(HTTPClientError) {
            while !isClosed || exchange != nil {
                guard !isPaused else {
                    hasUnread = true
                    return
                }
                guard let event = try machine.next() else { return }
                switch event {
                case .head(let head): exchange?.receiver?.received(head)
                case .body(let body):
                    if !hasBody {
                        hasBody = true
                        // From the first byte on silence is shorter.
                        armTimer()
                    }
                    exchange?.receiver?.received(body)
                case .end: finish()
                }
            }
        } catch {
            let failed = exchange
            cut()
            failed?.fail(error)
        }
    }

    private func finish() {
        answered += 1
        let ended = exchange
        exchange = nil
        isReleased = false
        isPaused = false
        if isFree { client?.isFree(self) } else if isSent || !machine.isReusable { cut() }
        // Last, since the receiver may send its next request here.
        ended?.end()
        armTimer()
        updateReading()
    }

    private func end() {
        timer?.task.cancel()
        timer = nil
        let wasClosed = isClosed
        isClosed = true
        socket = nil
        client?.isGone(self)
        guard !wasClosed, exchange != nil else { return }
        guard !isPaused else {
            hasUnread = true
            hasEndedUnread = true
            return
        }
        conclude()
    }

    /// The connection has ended, and all that came before was handed on.
    private func conclude() {
        guard let ended = exchange else { return }
        exchange = nil
        do throws(HTTPClientError) {
            guard case .end? = try machine.closed() else { return }
            // It is whole only if it was the server that ended it.
            if let failure { throw failure }
            ended.end()
        } catch {
            // A connection that was free may have been closed just before the request came; a new one knows better.
            if limits.resends, answered > 0, !hasReceived, let client, !ended.isOver {
                client.connect(for: ended)
            } else {
                ended.fail(failure ?? error)
            }
        }
    }

    // MARK: - Time

    private var deadline: NIODeadline? {
        if isReleased { return lastActivity + Self.releasedTimeout }
        guard exchange != nil else { return isFree ? lastActivity + limits.keepAliveTimeout : nil }
        if isPaused { return nil }
        return lastActivity + (hasBody ? limits.silenceTimeout : limits.firstByteTimeout)
    }

    private func armTimer() {
        guard let context, !isClosed, let deadline else { return }
        // A timer that fires too early looks again, which is cheaper than a new one for every request.
        if let timer {
            guard deadline < timer.deadline else { return }
            timer.task.cancel()
        }
        timer = (
            deadline,
            // Not weakly: every later reference to what has once been referred to so costs more. It ends with the timer.
            context.eventLoop.assumeIsolated().scheduleTask(deadline: deadline) { self.timerFired() }
        )
    }

    private func timerFired() {
        timer = nil
        guard let context, let deadline else { return }
        guard deadline <= context.eventLoop.now else { return armTimer() }
        let silent = exchange
        let limit = hasBody ? limits.silenceTimeout : limits.firstByteTimeout
        cut()
        let what = hasBody ? "the server fell silent" : "the server did not answer"
        silent?.fail(HTTPClientError(kind: .silent, message: "\(what) for \(limit.nanoseconds / 1_000_000) ms"))
    }
}

/// Writes the head of a request.
enum ClientRequestHead {
    /// - Parameter host: the endpoint's ``HTTPEndpoint/hostField``, which is not made anew for each request.
    static func append(
        _ request: HTTPClientRequest, endpoint: HTTPEndpoint, host: String, to buffer: inout ByteBuffer
    ) {
        let own = request.method.rawValue.utf8.count + endpoint.prefix.utf8.count + request.target.utf8.count
        HeadWriter.append(to: &buffer, fields: request.headers, beside: own + host.utf8.count + ownBytes) { head in
            head.add(request.method.rawValue)
            head.add(" ")
            head.add(endpoint.prefix)
            head.add(request.target)
            head.add(" HTTP/1.1\r\nHost: ")
            head.add(host)
            for field in request.headers.fields { head.add(field, unless: isReserved) }
            if request.body.readableBytes > 0 || request.method == .post {
                head.add("\r\nContent-Length: ")
                head.add(String(request.body.readableBytes))
            }
            head.add("\r\n\r\n")
        }
    }

    /// What a head has beside the texts of the request, at most.
    private static let ownBytes = 80

    /// Fields that are the client's business.
    private static func isReserved(_ name: String) -> Bool {
        switch name.utf8.count {
        case 4: return ASCII.equalIgnoringCase(name, "Host")
        case 10: return ASCII.equalIgnoringCase(name, "Connection")
        case 14: return ASCII.equalIgnoringCase(name, "Content-Length")
        case 17: return ASCII.equalIgnoringCase(name, "Transfer-Encoding")
        default: return false
        }
    }
}
