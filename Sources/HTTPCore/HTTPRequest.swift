// Tandem — Apache-2.0

public import NIOCore

/// A request method (RFC 9110, section 9); compared with regard to case.
public struct HTTPMethod: RawRepresentable, Sendable, Hashable {
    public let rawValue: String

    public init(rawValue: String) {
        self.rawValue = rawValue
    }

    public static let get = HTTPMethod(rawValue: "GET")
    public static let head = HTTPMethod(rawValue: "HEAD")
    public static let post = HTTPMethod(rawValue: "POST")
    public static let put = HTTPMethod(rawValue: "PUT")
    public static let delete = HTTPMethod(rawValue: "DELETE")
    public static let options = HTTPMethod(rawValue: "OPTIONS")
}

/// A whole request: head and body have arrived and passed all checks.
public struct HTTPRequest: Sendable {
    public var method: HTTPMethod
    /// The path as it was sent, percent-encoding untouched; begins with `/` (or is `*` for OPTIONS).
    public var path: String
    /// What follows the first `?`, as it was sent; nil without one.
    public var query: String?
    public var headers: HTTPHeaders
    /// Empty if the request has none. Chunked bodies are joined, their trailers dropped.
    public var body: ByteBuffer
    /// The peer of the connection, if the system knew it.
    public var remoteAddress: SocketAddress?

    public init(
        method: HTTPMethod,
        path: String,
        query: String? = nil,
        headers: HTTPHeaders = [:],
        body: ByteBuffer = ByteBuffer(),
        remoteAddress: SocketAddress? = nil
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.remoteAddress = remoteAddress
    }
}

/// What answers requests.
public protocol HTTPRequestHandler: Sendable {
    /// Answers one request, now or later, through its responder.
    ///
    /// Called on the connection's event loop, so it must not block. A connection has one request in hand at a time. If
    /// the last reference to `responder` goes away without an answer, the client gets 500.
    func handle(_ request: HTTPRequest, _ responder: HTTPResponder)

    /// Whether the body of a request is worth waiting for; if not, the request is handed out at once without it, and the
    /// connection is closed after the answer.
    ///
    /// - Parameter head: the request without its body.
    func wantsBody(_ head: HTTPRequest) -> Bool
}

extension HTTPRequestHandler {
    public func wantsBody(_ head: HTTPRequest) -> Bool { true }
}
