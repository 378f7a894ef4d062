// Tandem — Apache-2.0

public import HTTPCore
public import NIOCore

/// What a gateway serves and how.
public struct GatewayConfiguration: Sendable {
    /// What is served; requests that name no model get the first. All names differ.
    public var models: [ServedModel]
    /// Set if the models of other servers are served besides.
    public var external: ExternalEngines?
    /// What names the engines, if no supervisor does.
    public var upstreams: UpstreamSources?
    /// Where HTTP connections come from.
    public var listener: HTTPListener
    /// Clients have to speak TLS if set, at all ports.
    public var tls: ServerTLS?
    /// Ports besides, each for one engine.
    public var enginePorts: EnginePorts?
    /// A socket to the supervisor: rosters come in, readiness goes out. Its end is the supervisor's end.
    public var supervisor: Int32?
    var supervisorReports = SupervisorReports(eventLoops: 1)
    /// Event loops, each with links of its own to every engine.
    public var eventLoops = 1
    /// Keys that clients must show one of; empty lets everybody in.
    public var apiKeys: [String] = []
    /// Sequences of a model that may be unfinished at once, on all event loops together; one more is refused with 429.
    public var maximumSequences = 4096
    /// How long a sequence waits when no engine serves before it is refused with 503.
    public var holdTimeout = TimeAmount.seconds(30)
    /// How long an engine may be silent before its requests go on elsewhere; 0 for ever. Engines say something every
    /// 250 ms.
    public var engineSilenceTimeout = TimeAmount.seconds(2)
    /// How long a client may keep its sequences paused by not taking what they generated, or take nothing at all of what
    /// waits for it; then its request is cancelled.
    public var slowClientTimeout = TimeAmount.seconds(60)
    /// How long the gateway waits at its start for the supervisor's roster and for engines that are ready.
    public var settleTimeout = TimeAmount.milliseconds(500)
    /// How long streams may take to finish once the gateway was told to end.
    public var drainTimeout = TimeAmount.seconds(30)
    /// Web pages that may call it from a browser.
    public var allowedOrigins = AllowedOrigins()
    /// Longest request body, in bytes.
    public var maximumBodyBytes = 32 << 20
    /// How often viewers of the dashboard get a new picture.
    public var viewInterval = TimeAmount.milliseconds(500)
    public var version: String
    public var pid: Int32
    /// Of GPUs that are watched; `nil` if none are.
    public var devices: DeviceBoard?
    /// Where every exchange is logged; `nil` for nowhere.
    public var accessLog: AccessLogSettings?
    /// Takes one line for people.
    public var log: @Sendable (String) -> Void
    public var clock: @Sendable () -> NIODeadline = { .now() }
    public var secondsSince1970: @Sendable () -> Int

    public init(
        models: [ServedModel], listener: HTTPListener, supervisor: Int32? = nil, version: String, pid: Int32,
        log: @escaping @Sendable (String) -> Void, secondsSince1970: @escaping @Sendable () -> Int
    ) {
        self.models = models
        self.listener = listener
        self.supervisor = supervisor
        self.version = version
        self.pid = pid
        self.log = log
        self.secondsSince1970 = secondsSince1970
    }
}
