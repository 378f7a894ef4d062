// Tandem — Apache-2.0

/// Where an engine's link is: `link+unix:/path` or `link+tcp:host:port`; an IPv6 host stands in brackets.
public enum LinkAddress: Sendable, Hashable, CustomStringConvertible {
    case unix(path: String)
    case tcp(host: String, port: Int)

    /// Longest path of a Unix socket, in bytes: `sun_path` of `sockaddr_un` without its terminating zero.
    public static let maximumPathBytes = 107

    /// - Throws: ``LinkAddressError`` that says what is wrong with `text`.
    public init(_ text: String) throws(LinkAddressError) {
        if let path = text.removing(prefix: "link+unix:") {
            guard !path.isEmpty else { throw LinkAddressError(address: text, reason: "the path is missing") }
            guard !path.utf8.contains(0) else {
                throw LinkAddressError(address: text, reason: "the path has a zero byte")
            }
            guard path.utf8.count <= Self.maximumPathBytes else {
                throw LinkAddressError(
                    address: text,
                    reason: "the path takes \(path.utf8.count) bytes, a Unix socket at most \(Self.maximumPathBytes); "
                        + "use a shorter directory"
                )
            }
            self = .unix(path: path)
        } else if let rest = text.removing(prefix: "link+tcp:") {
            guard let colon = rest.lastIndex(of: ":") else {
                throw LinkAddressError(address: text, reason: "the port is missing; write link+tcp:host:port")
            }
            var host = rest[..<colon]
            if host.hasPrefix("["), host.hasSuffix("]") {
                host = host.dropFirst().dropLast()
            } else if host.contains(":") {
                throw LinkAddressError(address: text, reason: "an IPv6 host stands in brackets: link+tcp:[::1]:9000")
            }
            guard !host.isEmpty else { throw LinkAddressError(address: text, reason: "the host is missing") }
            guard let port = UInt16(rest[rest.index(after: colon)...]) else {
                throw LinkAddressError(address: text, reason: "the port is not a number from 0 to 65535")
            }
            self = .tcp(host: String(host), port: Int(port))
        } else {
            throw LinkAddressError(address: text, reason: "it starts with neither link+unix: nor link+tcp:")
        }
    }

    /// The address as it is written.
    public var description: String {
        switch self {
        case .unix(let path): "link+unix:\(path)"
        case .tcp(let host, let port): host.contains(":") ? "link+tcp:[\(host)]:\(port)" : "link+tcp:\(host):\(port)"
        }
    }
}

/// An address that names no engine link.
public struct LinkAddressError: Error, Sendable, Equatable, CustomStringConvertible {
    public var address: String
    public var reason: String

    public init(address: String, reason: String) {
        self.address = address
        self.reason = reason
    }

    public var description: String { "engine address \"\(address)\": \(reason)" }
}

extension String {
    fileprivate func removing(prefix: String) -> String? {
        hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil
    }
}
