// Tandem — Apache-2.0

public import HTTPCore
public import NIOCore

/// How a gateway deals with servers of the OpenAI API, which get its clients' requests as they are. Where they are,
/// ``UpstreamSources`` says.
public struct ExternalEngines: Sendable {
    /// Sent to the endpoints in place of what clients send.
    public var apiKey: String?
    /// Times of silence and sizes.
    public var limits = HTTPClientLimits()
    /// Whom to trust where TLS is spoken; endpoints with it cannot be reached without.
    public var tls: ClientTLS?
    /// How often an endpoint that serves is asked whether it still does.
    public var probeInterval = TimeAmount.seconds(2)
    /// How long an endpoint may take to say so.
    public var probeTimeout = TimeAmount.seconds(3)
    /// Whether a stream whose engine is lost goes on elsewhere.
    public var continuesStreams = true

    public init() {}
}
