// Tandem — Apache-2.0

import NIOCore

#if TLS
    import NIOSSL
#endif

/// TLS as a client speaks it: version 1.2 or 1.3, HTTP/1.1 alone within, and only with servers whose certificate is for
/// the name or address by which they were asked, and comes from an authority that is trusted.
public struct ClientTLS: Sendable {
    #if TLS
        private let context: NIOSSLContext
    #endif

    /// - Parameter authorities: a file with the certificates of authorities that are trusted, as PEM; `nil` trusts those
    ///   of the system.
    /// - Throws: ``TLSError`` that names the file, or says that this program knows no TLS.
    public init(authorities: String?) throws(TLSError) {
        #if TLS
            var configuration = TLSConfiguration.makeClientConfiguration()
            configuration.minimumTLSVersion = .tlsv12
            configuration.applicationProtocols = TLSPEM.applicationProtocols
            if let authorities {
                configuration.trustRoots = .certificates(
                    try TLSPEM.certificates(try TLSFile(path: authorities), path: authorities))
            }
            do {
                context = try NIOSSLContext(configuration: configuration)
            } catch {
                throw TLSError(
                    file: authorities ?? "",
                    reason: authorities == nil
                        ? "the certificates that this system trusts cannot be read; --endpoint-ca names a file with others"
                        : "its certificates cannot be used: \(TLSProblem.text(of: error))")
            }
        #else
            throw TLSError(reason: TLSSupport.remedy)
        #endif
    }

    /// Lets a new channel speak TLS; to be called before it is connected.
    func secure(_ channel: any Channel, to endpoint: HTTPEndpoint) throws {
        #if TLS
            // An address has no name that could be sent; the certificate must be for the address then.
            var name: String? = endpoint.name ?? endpoint.host
            if let text = name, (try? SocketAddress(ipAddress: text, port: 0)) != nil { name = nil }
            if name?.hasSuffix(".") == true { name?.removeLast() }
            let handler = try NIOSSLClientHandler(context: context, serverHostname: name)
            try channel.pipeline.syncOperations.addHandlers([handler, TLSBoundary(above: handler)])
        #endif
    }

    /// Calls `body` once both sides of a connected channel have agreed, or could not until `deadline`; then the channel
    /// is closed.
    static func agree(
        on channel: any Channel, until deadline: NIODeadline, _ body: @escaping ((any Error)?) -> Void
    ) {
        #if TLS
            do {
                try channel.pipeline.syncOperations.handler(type: TLSBoundary.self).agree(
                    until: deadline, channel.eventLoop, body)
            } catch {
                // It was closed at once, and its handlers are gone.
                body(error)
            }
        #else
            body(TLSError(reason: TLSSupport.remedy))
        #endif
    }

    /// What is wrong, for people.
    static func text(of error: any Error) -> String {
        #if TLS
            TLSProblem.text(of: error)
        #else
            "\(error)"
        #endif
    }
}
