// Tandem — Apache-2.0

public import NIOCore
import Synchronization

/// The answer to one request.
///
/// Bound to the connection's ``eventLoop``: except for ``eventLoop`` itself everything is to be used on it, and traps
/// elsewhere; from other threads go through `responder.eventLoop.execute`. The answer is either one call of
/// ``respond(status:headers:body:)``, or ``startStream(status:headers:)``, any number of writes and ``finish()``. Once the
/// connection is gone or the answer is complete, every call does nothing.
///
/// Content-Length, Transfer-Encoding and Date are the server's business and ignored among the headers given here;
/// `Connection: close` closes the connection after the answer.
public final class HTTPResponder: Sendable {
    /// The loop that owns the connection.
    public let eventLoop: any EventLoop
    private let connection: ConnectionHandler
    private let exchange: UInt64
    /// Spares the hop in `deinit`, which may run on any thread.
    private let isComplete = Atomic<Bool>(false)

    init(connection: ConnectionHandler, exchange: UInt64, eventLoop: any EventLoop) {
        self.connection = connection
        self.exchange = exchange
        self.eventLoop = eventLoop
    }

    /// Whether somebody waits for the rest of the answer, as far as any thread can know. Whoever kept the responder may
    /// let it go when the connection, and with it the event loop, has ended.
    var isOwed: Bool { !isComplete.load(ordering: .relaxed) && !connection.isGone.load(ordering: .acquiring) }

    deinit {
        guard isOwed else { return }
        let (connection, exchange) = (connection, exchange)
        eventLoop.execute { connection.responderDropped(exchange: exchange) }
    }

    /// The id of this request in the access log; at first the value of its `X-Request-Id`.
    public var requestID: String? {
        get {
            eventLoop.preconditionInEventLoop()
            return connection.requestID(exchange: exchange)
        }
        set {
            eventLoop.preconditionInEventLoop()
            connection.setRequestID(newValue, exchange: exchange)
        }
    }

    /// Whether the client is still there and the answer incomplete.
    public var isOpen: Bool {
        eventLoop.preconditionInEventLoop()
        return connection.isCurrent(exchange: exchange)
    }

    /// Whether the client takes what it is sent: false from ``HTTPLimits/outboundHighWater`` waiting bytes on, until
    /// they fell to ``HTTPLimits/outboundLowWater``. A stream that goes on writing in later
    /// turns of the event loop is cut after ``HTTPLimits/maximumOutboundBytes``.
    public var isWritable: Bool {
        eventLoop.preconditionInEventLoop()
        return connection.isWritable(exchange: exchange)
    }

    /// Sends the whole answer. To HEAD the body's length is told and the body left out.
    public func respond(status: HTTPStatus, headers: HTTPHeaders = [:], body: ByteBuffer) {
        eventLoop.preconditionInEventLoop()
        if connection.respond(status: status, headers: headers, body: body, exchange: exchange) {
            isComplete.store(true, ordering: .relaxed)
        }
    }

    /// Sends the whole answer.
    public func respond(status: HTTPStatus, headers: HTTPHeaders = [:], body: [UInt8] = []) {
        respond(status: status, headers: headers, body: ByteBuffer(bytes: body))
    }

    /// Sends the head of an answer whose length is not known yet.
    public func startStream(status: HTTPStatus, headers: HTTPHeaders = [:]) {
        eventLoop.preconditionInEventLoop()
        connection.startStream(status: status, headers: headers, exchange: exchange)
    }

    /// Sends a piece of the stream. What is written in one turn of the event loop leaves in one system call, so there
    /// is no need to gather small pieces and no need to flush.
    public func write(_ bytes: ByteBuffer) {
        write(bytes.readableBytesUInt8Span)
    }

    /// Sends a piece of the stream.
    public func write(_ bytes: [UInt8]) {
        write(bytes.span)
    }

    /// Sends a piece of the stream.
    public func write(_ bytes: Span<UInt8>) {
        eventLoop.preconditionInEventLoop()
        connection.write(bytes, exchange: exchange)
    }

    /// Sends a piece of the stream at once: for writers that have no more than one in a turn of the event loop, whose
    /// bytes are in the processor's caches now, and not at the turn's end.
    public func send(_ bytes: ByteBuffer) {
        eventLoop.preconditionInEventLoop()
        connection.send(bytes.readableBytesUInt8Span, exchange: exchange)
    }

    /// Ends the stream.
    public func finish() {
        eventLoop.preconditionInEventLoop()
        if connection.finish(exchange: exchange) { isComplete.store(true, ordering: .relaxed) }
    }

    /// Cuts the connection, so that the client sees that the answer is incomplete. The close callback is not called.
    public func abort() {
        eventLoop.preconditionInEventLoop()
        isComplete.store(true, ordering: .relaxed)
        connection.abort(exchange: exchange)
    }

    /// Sets what is asked for ``AccessLogEntry/note`` when the exchange ends, on the event loop, and only if it is logged.
    /// Capture the responder weakly, as in ``onClose(_:)``.
    public func describe(_ note: @escaping () -> any Sendable) {
        eventLoop.preconditionInEventLoop()
        connection.describe(note, exchange: exchange)
    }

    /// Sets what is called, once, if the connection ends before the answer is complete; called at once if it has ended.
    ///
    /// A client that shuts its sending side down counts as gone. Pending reads are not needed to notice it.
    ///
    /// The server holds the closure until the answer is complete: capture the responder weakly, else it cannot notice
    /// that the responder was dropped.
    public func onClose(_ action: @escaping () -> Void) {
        eventLoop.preconditionInEventLoop()
        guard !isComplete.load(ordering: .relaxed) else { return }
        connection.onClose(action, exchange: exchange)
    }

    /// Sets what is called whenever ``isWritable`` changes; to false it may change within a call of ``write(_:)``. Capture the responder weakly, as in ``onClose(_:)``.
    public func onWritabilityChange(_ action: @escaping (Bool) -> Void) {
        eventLoop.preconditionInEventLoop()
        connection.onWritabilityChange(action, exchange: exchange)
    }
}
