// Tandem — Apache-2.0

public import EngineLink
public import HTTPCore

/// Where an engine of a gateway without a supervisor is, as people write it.
public enum UpstreamAddress: Sendable, Hashable, CustomStringConvertible {
    /// `http://host:port[/prefix]`, or with `https`.
    case server(HTTPEndpoint)
    /// `link+tcp:host:port` or `link+unix:/path`.
    case engine(LinkAddress)
    /// `dns+http://name:port[/prefix]`, the same with `https`, or `dns+link+tcp:name:port`: one at every address of the name.
    case name(UpstreamName)

    /// A `/v1` at the end of a server's address is dropped: that is how clients are given it.
    ///
    /// - Throws: ``UpstreamAddressError`` that says what is wrong with `text`.
    public init(_ text: String) throws(UpstreamAddressError) {
        let isName = text.hasPrefix("dns+")
        let address = isName ? String(text.dropFirst(4)) : text
        do {
            if address.hasPrefix("link+") {
                let link = try LinkAddress(address)
                guard isName else {
                    self = .engine(link)
                    return
                }
                guard case .tcp(let host, let port) = link else {
                    throw UpstreamAddressError(
                        address: text, reason: "a socket's path is no name: dns+link+tcp:NAME:PORT")
                }
                self = .name(UpstreamName(host: host, port: port, kind: .engine))
            } else {
                var server = try HTTPEndpoint(address)
                if server.prefix.hasSuffix("/v1") { server.prefix.removeLast(3) }
                self =
                    isName
                    ? .name(UpstreamName(host: server.host, port: server.port, kind: Self.kind(of: server)))
                    : .server(server)
            }
        } catch let error as HTTPEndpointError {
            throw UpstreamAddressError(address: text, reason: error.reason)
        } catch let error as LinkAddressError {
            throw UpstreamAddressError(address: text, reason: error.reason)
        } catch let error as UpstreamAddressError {
            throw error
        } catch {
            throw UpstreamAddressError(address: text, reason: "\(error)")
        }
    }

    private static func kind(of server: HTTPEndpoint) -> UpstreamName.Kind {
        .server(prefix: server.prefix, isSecure: server.isSecure)
    }

    /// Whether an engine of Tandem itself is meant, which needs the model.
    public var isEngine: Bool {
        switch self {
        case .server: false
        case .engine: true
        case .name(let name): name.kind == .engine
        }
    }

    /// Whether TLS is spoken there.
    public var isSecure: Bool {
        switch self {
        case .server(let endpoint): endpoint.isSecure
        case .name(let name): if case .server(_, let isSecure) = name.kind { isSecure } else { false }
        case .engine: false
        }
    }

    public var description: String {
        switch self {
        case .server(let endpoint): "\(endpoint)"
        case .engine(let address): "\(address)"
        case .name(let name): "\(name)"
        }
    }
}

/// A name that stands for every address it has.
public struct UpstreamName: Sendable, Hashable, CustomStringConvertible {
    /// What answers there.
    public enum Kind: Sendable, Hashable {
        /// A server of the OpenAI API, under a path; see ``HTTPCore/HTTPEndpoint``.
        case server(prefix: String, isSecure: Bool)
        /// An engine of Tandem.
        case engine
    }

    public var host: String
    public var port: Int
    public var kind: Kind

    /// The upstream at one of its addresses, which is given as a number.
    func upstream(at address: String) -> UpstreamAddress {
        switch kind {
        case .server(let prefix, let isSecure):
            .server(HTTPEndpoint(host: address, port: port, prefix: prefix, name: host, isSecure: isSecure))
        case .engine: .engine(.tcp(host: address, port: port))
        }
    }

    public var description: String {
        switch kind {
        case .server(let prefix, let isSecure):
            "dns+\(HTTPEndpoint(host: host, port: port, prefix: prefix, isSecure: isSecure))"
        case .engine: "dns+\(LinkAddress.tcp(host: host, port: port))"
        }
    }
}

/// An address that names no upstream.
public struct UpstreamAddressError: Error, Sendable, Equatable, CustomStringConvertible {
    public var address: String
    public var reason: String

    public var description: String { "endpoint \"\(address)\": \(reason)" }
}
