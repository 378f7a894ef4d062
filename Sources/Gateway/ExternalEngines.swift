// Tandem — Apache-2.0

public import HTTPCore
public import NIOCore

/// Servers of the OpenAI API that a gateway puts its clients' requests to as they are.
public struct ExternalEngines: Sendable {
    public var endpoints: [HTTPEndpoint]
    /// Sent to the endpoints in place of what clients send.
    public var apiKey: String?
    /// Times of silence and sizes.
    public var limits = HTTPClientLimits()
    /// How often an endpoint that serves is asked whether it still does.
    public var probeInterval = TimeAmount.seconds(2)
    /// How long an endpoint may take to say so.
    public var probeTimeout = TimeAmount.seconds(3)
    /// Whether a stream whose engine is lost goes on elsewhere.
    public var continuesStreams = true

    public init(endpoints: [HTTPEndpoint]) {
        self.endpoints = endpoints
    }
}
