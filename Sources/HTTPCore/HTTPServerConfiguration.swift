// Tandem — Apache-2.0

public import NIOCore

/// What a server may be given beside its handler.
public struct HTTPServerConfiguration: Sendable {
    /// Sizes and times.
    public var limits = HTTPLimits()
    /// Length of the queue of connections not yet accepted, if the server binds the socket itself.
    public var backlog: Int32 = 1024
    /// Renders the errors that the server answers by itself: the status and a sentence about what is wrong, to content
    /// type and body.
    public var errorBody:
        @Sendable (_ status: HTTPStatus, _ reason: String) -> (contentType: String, body: ByteBuffer) = {
            status, reason in
            ("text/plain; charset=utf-8", ByteBuffer(string: "\(status.code) \(status.reasonPhrase): \(reason)\n"))
        }
    /// Called on the event loop when an exchange is over. Must not block.
    public var accessLog: (@Sendable (AccessLogEntry) -> Void)?
    /// Called on the event loop when something went wrong that no client can be blamed for, or told. Must not block.
    public var incidentLog: (@Sendable (HTTPIncident) -> Void)?

    /// Clients have to speak TLS if set.
    public var tls: ServerTLS?
    /// Called on the event loop when a client and TLS have agreed, or could not. Must not block.
    public var handshakeObserver: (@Sendable (TLSHandshakeOutcome) -> Void)?

    /// Called on the event loop after bytes were handed to the system, with the time that took. Must not block.
    public var writeObserver: (@Sendable (TimeAmount) -> Void)?

    /// The defaults.
    public init() {}
}

/// One exchange, as it is logged.
public struct AccessLogEntry: Sendable {
    /// Nil if the request was refused before its head was understood; so are ``path`` and ``requestID``.
    public var method: HTTPMethod?
    public var path: String?
    public var requestID: String?
    /// Nil if the connection ended before an answer was begun.
    public var status: HTTPStatus?
    /// Bytes of body given to the connection, without framing.
    public var bodyBytes: Int
    /// From the end of the request to the end of the answer.
    public var duration: TimeAmount
    /// From the end of the request to the head of the answer; nil if none was begun.
    public var timeToFirstByte: TimeAmount?
    public var outcome: ExchangeOutcome
    public var remoteAddress: SocketAddress?
    /// What the handler said of the exchange; see ``HTTPResponder/describe(_:)``.
    public var note: (any Sendable)?

    public init(
        method: HTTPMethod?, path: String?, requestID: String?, status: HTTPStatus?, bodyBytes: Int,
        duration: TimeAmount, timeToFirstByte: TimeAmount?, outcome: ExchangeOutcome, remoteAddress: SocketAddress?,
        note: (any Sendable)? = nil
    ) {
        self.method = method
        self.path = path
        self.requestID = requestID
        self.status = status
        self.bodyBytes = bodyBytes
        self.duration = duration
        self.timeToFirstByte = timeToFirstByte
        self.outcome = outcome
        self.remoteAddress = remoteAddress
        self.note = note
    }

    /// Whether the answer was given whole; false if the client left before or the answer was cut.
    public var isComplete: Bool { outcome == .complete }
}

/// How an exchange ended.
public enum ExchangeOutcome: String, Sendable {
    /// The answer was given whole to the connection.
    case complete
    /// The client left before that.
    case cancelled
    /// The server gave up: the answer is not whole, or the client did not take it.
    case cut
}

/// Something that went wrong on the server's side.
public enum HTTPIncident: Sendable, Equatable {
    /// A handler dropped its responder without an answer; the client got 500.
    case unanswered(method: HTTPMethod, path: String, requestID: String?)
    /// A handler dropped its responder in the middle of a stream; the connection was cut.
    case abandonedStream(method: HTTPMethod, path: String, requestID: String?)
    /// A stream was written to without regard for back-pressure; the connection was cut.
    case outboundOverflow(path: String, requestID: String?, waitingBytes: Int)
    /// A client took nothing of what waited for it; the connection was cut.
    case responseStalled(path: String, requestID: String?, waitingBytes: Int)
    /// There are as many connections as may be; one more was turned away.
    case tooManyConnections(limit: Int)
    /// The system gave no connection that a client asked for, for want of descriptors for example; it is asked again after a
    /// second.
    case acceptFailed(reason: String)
}
