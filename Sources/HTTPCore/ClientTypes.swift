// Tandem — Apache-2.0

public import NIOCore

/// A server that is spoken to over HTTP, within TLS if its address says `https`: `http://host:port`,
/// `https://host:port/prefix`.
public struct HTTPEndpoint: Sendable, Hashable, CustomStringConvertible {
    public var host: String
    public var port: Int
    /// What stands before every path; empty, or with a slash at its beginning and none at its end.
    public var prefix: String
    /// What it is called, if `host` is only one of the addresses of that name.
    public var name: String?
    /// Whether TLS is spoken.
    public var isSecure: Bool

    public init(host: String, port: Int, prefix: String = "", name: String? = nil, isSecure: Bool = false) {
        self.isSecure = isSecure
        self.host = host
        self.port = port
        self.prefix = prefix
        self.name = name
    }

    /// - Throws: ``HTTPEndpointError`` that says what is wrong with `text`.
    public init(_ text: String) throws(HTTPEndpointError) {
        func wrong(_ reason: String) -> HTTPEndpointError { HTTPEndpointError(address: text, reason: reason) }
        let isSecure = ASCII.equalIgnoringCase(text.prefix(8), "https://")
        let scheme = isSecure ? "https://" : "http://"
        guard ASCII.equalIgnoringCase(text.prefix(scheme.count), scheme) else {
            throw wrong("it must begin with http:// or https://")
        }
        guard !isSecure || TLSSupport.isBuilt else { throw wrong(TLSSupport.remedy) }
        let rest = text.dropFirst(scheme.count)
        guard rest.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }), !rest.contains(where: { "?#@\\".contains($0) }) else {
            throw wrong("it may have a host, a port and a path, and nothing else")
        }
        let authority = rest.prefix { $0 != "/" }
        var path = rest.dropFirst(authority.count)
        while path.hasSuffix("/") { path = path.dropLast() }
        var name = authority
        var port = isSecure ? 443 : 80
        if let colon = authority.lastIndex(of: ":"), !authority.hasSuffix("]") {
            guard let number = UInt16(authority[authority.index(after: colon)...]), number > 0 else {
                throw wrong("the port is not a number from 1 to 65535")
            }
            port = Int(number)
            name = authority[..<colon]
        }
        if name.hasPrefix("["), name.hasSuffix("]") {
            name = name.dropFirst().dropLast()
        } else if name.contains(":") {
            throw wrong("an IPv6 host stands in brackets: http://[::1]:8000")
        }
        guard !name.isEmpty else { throw wrong("the host is missing") }
        self.init(host: String(name), port: port, prefix: String(path), isSecure: isSecure)
    }

    /// Where it is.
    public var authority: String { Self.authority(of: host, port) }

    /// The value of a `Host` header.
    public var hostField: String { Self.authority(of: name ?? host, port) }

    private static func authority(of host: String, _ port: Int) -> String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    public var description: String { "\(isSecure ? "https" : "http")://\(authority)\(prefix)" }
}

/// An address that names no server.
public struct HTTPEndpointError: Error, Sendable, Equatable, CustomStringConvertible {
    public var address: String
    public var reason: String

    public init(address: String, reason: String) {
        self.address = address
        self.reason = reason
    }

    public var description: String { "endpoint \"\(address)\": \(reason)" }
}

/// A request to a server. Host, Content-Length and the fields of the connection are the client's business.
public struct HTTPClientRequest: Sendable {
    public var method: HTTPMethod
    /// Path and query; the endpoint's prefix is put before it.
    public var target: String
    public var headers: HTTPHeaders
    public var body: ByteBuffer

    public init(method: HTTPMethod, target: String, headers: HTTPHeaders = [:], body: ByteBuffer = ByteBuffer()) {
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
    }
}

/// A response's head, checked.
public struct HTTPResponseHead: Sendable {
    public var status: HTTPStatus
    public var headers: HTTPHeaders
    /// Length of the body, if the head tells it.
    public var contentLength: Int?

    public init(status: HTTPStatus, headers: HTTPHeaders = [:], contentLength: Int? = nil) {
        self.status = status
        self.headers = headers
        self.contentLength = contentLength
    }
}

/// Why there is no response, or no whole one.
public struct HTTPClientError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Kind: Sendable {
        /// No connection could be made.
        case unreachable
        /// The connection ended before the response did.
        case cut
        /// What came is no HTTP response, or more than is allowed.
        case malformed
        /// Nothing came for too long.
        case silent
    }

    public var kind: Kind
    public var message: String

    public init(kind: Kind, message: String) {
        self.kind = kind
        self.message = message
    }

    public var description: String { message }

    static func malformed(_ message: String) -> HTTPClientError { HTTPClientError(kind: .malformed, message: message) }
    static func cut(_ message: String) -> HTTPClientError { HTTPClientError(kind: .cut, message: message) }
}

/// Takes the response to one request, on the client's event loop: a head, any number of pieces of the body and the end;
/// or, at any point before the end, one failure. Nothing is called within the call that sends the request.
public protocol HTTPResponseReceiver: AnyObject {
    func received(_ head: HTTPResponseHead)
    /// Not empty; what one turn of the event loop brought comes in one piece.
    func received(_ body: consuming ByteBuffer)
    func ended()
    func failed(_ error: HTTPClientError)
}

/// Limits of a client: sizes in bytes, times of silence.
public struct HTTPClientLimits: Sendable {
    public var connectTimeout = TimeAmount.seconds(2)
    /// From the request to the first byte of the response's body.
    public var firstByteTimeout = TimeAmount.seconds(600)
    /// Between two pieces of the body. Time in which the exchange is paused does not count.
    public var silenceTimeout = TimeAmount.seconds(60)
    /// How long a connection without a request is kept.
    public var keepAliveTimeout = TimeAmount.seconds(30)
    /// Status line and header fields together.
    public var maximumHeadBytes = 64 * 1024
    public var maximumHeaderFields = 100
    /// Connections without a request that are kept.
    public var maximumIdleConnections = 256
    /// Whether a request goes out again if the kept connection that it was sent on ends before anything came: as a rule
    /// the server closed it, for want of requests, just then.
    public var resends = true

    /// The defaults.
    public init() {}
}
