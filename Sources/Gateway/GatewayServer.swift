// Tandem — Apache-2.0

public import EngineLink
import HTTPCore
import NIOCore
import NIOPosix
import Synchronization
import Telemetry

/// A running gateway: an HTTP server in front of engines.
public final class GatewayServer: Sendable {
    private let server: HTTPServer
    private let group: MultiThreadedEventLoopGroup
    private let workers: NIOThreadPool
    private let shards: ShardTable
    private let upstreams: NIOLoopBoundBox<UpstreamWatch>?
    private let enginePorts: EnginePortServers?
    private let certificates: NIOLoopBoundBox<CertificateWatch>?
    private let supervisor: (any Channel)?
    private let accessLog: AccessLog?
    private let drainTimeout: TimeAmount
    /// Set when the gateway itself ends: then it closes the supervisor's socket.
    private let isEnding: Flag

    private final class Flag: Sendable {
        let value = Atomic<Bool>(false)
    }

    private init(
        server: HTTPServer, group: MultiThreadedEventLoopGroup, workers: NIOThreadPool, shards: ShardTable,
        enginePorts: EnginePortServers?, upstreams: NIOLoopBoundBox<UpstreamWatch>?,
        certificates: NIOLoopBoundBox<CertificateWatch>?, supervisor: (any Channel)?, accessLog: AccessLog?,
        drainTimeout: TimeAmount, isEnding: Flag
    ) {
        self.isEnding = isEnding
        self.server = server
        self.group = group
        self.workers = workers
        self.shards = shards
        self.upstreams = upstreams
        self.enginePorts = enginePorts
        self.certificates = certificates
        self.supervisor = supervisor
        self.accessLog = accessLog
        self.drainTimeout = drainTimeout
    }

    /// Who watches the dashboard.
    var viewers: ViewerHub { shards.viewers }

    /// The TCP port that is served.
    public var port: Int? { server.port }

    /// Starts to serve.
    ///
    /// - Parameters:
    ///   - roster: engines that are known from the start; the supervisor's rosters follow.
    ///   - onSupervisorLost: called once when the supervisor is gone; the process should end.
    /// - Throws: ``HTTPServerError``, or what the system said of the supervisor's socket.
    public static func start(
        _ configuration: GatewayConfiguration,
        roster: Roster? = nil,
        onSupervisorLost: @escaping @Sendable (String) -> Void = { _ in }
    ) async throws -> GatewayServer {
        var configuration = configuration
        configuration.supervisorReports = SupervisorReports(eventLoops: max(1, configuration.eventLoops))
        let group = MultiThreadedEventLoopGroup(numberOfThreads: max(1, configuration.eventLoops))
        // Two, so that one very long request does not keep all other long ones waiting.
        let workers = NIOThreadPool(numberOfThreads: 2)
        workers.start()
        let instruments = GatewayInstruments(
            models: configuration.models.map(\.name), hasExternal: configuration.external != nil,
            clock: configuration.clock, secondsSince1970: configuration.secondsSince1970)
        let shards = ShardTable(
            group: group, configuration: configuration, instruments: instruments, workers: workers)
        var serving = HTTPServerConfiguration()
        serving.limits.maximumBodyBytes = configuration.maximumBodyBytes
        serving.limits.responseStallTimeout = configuration.slowClientTimeout
        serving.errorBody = { status, reason in
            let type = status.code < 500 ? "invalid_request_error" : "server_error"
            let error = APIError(status: status.code, type: type, message: reason)
            return ("application/json", ByteBuffer(bytes: error.body))
        }
        let log = configuration.log
        var certificates: NIOLoopBoundBox<CertificateWatch>?
        if let tls = configuration.tls {
            let metrics = instruments.tls()
            serving.tls = tls
            serving.handshakeObserver = { metrics.count($0) }
            let eventLoop = group.next()
            let watch = NIOLoopBoundBox.makeBoxSendingValue(
                CertificateWatch(
                    eventLoop: eventLoop, tls: tls, workers: workers, secondsSince1970: configuration.secondsSince1970,
                    log: log
                ) { metrics.expiry.set(Double($0.notValidAfter)) }, eventLoop: eventLoop)
            eventLoop.execute { watch.value.start() }
            certificates = watch
        }
        serving.writeObserver = { HostTimes.add($0, to: instruments.hostTimes.write) }
        if let descriptors = DescriptorLimit.current {
            serving.limits.maximumConnections = min(
                serving.limits.maximumConnections,
                connections(descriptors: descriptors, eachHasUpstream: configuration.external != nil))
        }
        serving.incidentLog = { incident in log("http: \(incident)") }
        let accessLog = configuration.accessLog.map { AccessLog($0, dropped: instruments.droppedAccessLines) }
        if let accessLog { serving.accessLog = { accessLog.add($0) } }
        let enginePorts = configuration.enginePorts.map { [serving] ports in
            EnginePortServers(ports) { listener, engine in
                try await HTTPServer.start(
                    group: group, listening: listener, configuration: serving,
                    handler: EnginePortHandler(engine: engine, shards: shards))
            }
        }
        shards.forEach { $0.start() }
        if let roster { shards.update(roster) }
        var upstreams: NIOLoopBoundBox<UpstreamWatch>?
        if let sources = configuration.upstreams {
            let eventLoop = group.next()
            let watch = NIOLoopBoundBox.makeBoxSendingValue(
                UpstreamWatch(
                    eventLoop: eventLoop, sources: sources, table: UpstreamTable(sources), workers: workers, log: log
                ) { table in
                    shards.update(table)
                    openPorts(table.count, of: enginePorts, log)
                }, eventLoop: eventLoop)
            eventLoop.execute { watch.value.start() }
            upstreams = watch
        }
        let isEnding = Flag()
        var supervisor: (any Channel)?
        if let descriptor = configuration.supervisor {
            supervisor = try await SupervisorChannel.open(descriptor, on: group.next()) { message in
                switch message {
                case .roster(let roster): shards.update(roster)
                default: log("the supervisor sent an unexpected message: \(message)")
                }
            } onClose: { reason in
                if !isEnding.value.load(ordering: .acquiring) { onSupervisorLost(reason) }
            }
            if let supervisor { configuration.supervisorReports.connect(supervisor) }
        }
        if supervisor != nil || configuration.upstreams != nil {
            // A gateway that takes another's place knows its engines before it answers for them.
            await shards.settled(within: configuration.settleTimeout)
        }
        let server = try await HTTPServer.start(
            group: group, listening: configuration.listener, configuration: serving, handler: shards)
        switch configuration.enginePorts {
        case .from: try await enginePorts?.open(configuration.upstreams.map { UpstreamTable($0).count } ?? 0)
        case .descriptors(let descriptors): try await enginePorts?.open(descriptors.count)
        case nil: break
        }
        if let supervisor {
            SupervisorChannel.send(.gatewayReady(port: UInt16(clamping: server.port ?? 0)), to: supervisor)
            GatewayPulse.start(group, to: supervisor)
        }
        return GatewayServer(
            server: server, group: group, workers: workers, shards: shards, enginePorts: enginePorts,
            upstreams: upstreams, certificates: certificates, supervisor: supervisor, accessLog: accessLog,
            drainTimeout: configuration.drainTimeout, isEnding: isEnding)
    }

    /// Clients that have room beside what a gateway opens for itself: event loops, links, the model's files, logs.
    ///
    /// - Parameters:
    ///   - descriptors: what the process may have open.
    ///   - eachHasUpstream: whether a client's request may need a connection to a server behind.
    static func connections(descriptors: Int, eachHasUpstream: Bool) -> Int {
        let own = min(128, descriptors / 2)
        return max(1, (descriptors - own) / (eachHasUpstream ? 2 : 1))
    }

    /// Opens ports of engines that came after the start.
    private static func openPorts(
        _ count: Int, of ports: EnginePortServers?, _ log: @escaping @Sendable (String) -> Void
    ) {
        guard let ports else { return }
        _ = Task {
            do { try await ports.open(count) } catch { log("\(error)") }
        }
    }

    /// Takes a roster from elsewhere than the supervisor's socket.
    public func update(_ roster: Roster) {
        shards.update(roster)
    }

    /// How long clients may take to read the error that ends their requests.
    private static let errorGrace = TimeAmount.seconds(1)

    /// Stops accepting, lets requests finish for at most the configured time, ends those that did not with an error,
    /// then ends everything.
    public func drain() async {
        let (server, shards, enginePorts) = (self.server, self.shards, self.enginePorts)
        // They would not end by themselves.
        shards.viewers.close()
        let eventLoop = group.next()
        // The drain below ends when the connections do.
        let deadlines = [
            eventLoop.scheduleTask(in: drainTimeout) {
                shards.failAll(.unavailable("the server is shutting down and the request took too long to finish"))
            },
            eventLoop.scheduleTask(in: drainTimeout + Self.errorGrace) {
                _ = Task {
                    await server.close()
                    await enginePorts?.close()
                }
            },
        ]
        async let ports: Void? = enginePorts?.drain()
        await server.drain()
        _ = await ports
        for deadline in deadlines { deadline.cancel() }
        if let certificates { certificates.eventLoop.execute { certificates.value.shutdown() } }
        if let upstreams { upstreams.eventLoop.execute { upstreams.value.shutdown() } }
        await shards.shutdown()
        isEnding.value.store(true, ordering: .releasing)
        await accessLog?.shutdown()
        try? await workers.shutdownGracefully()
        try? await group.shutdownGracefully()
    }
}

/// The shards of a gateway, one a model, on each event loop. Immutable; each is touched on its own loop only.
final class ShardTable: HTTPRequestHandler {
    private let fronts: [ObjectIdentifier: NIOLoopBoundBox<GatewayFront>]
    private let events: GatewayEvents
    /// What models of other servers are called together.
    private let otherModels: String
    private let modelRanges: [(engines: Range<UInt32>?, name: String)]
    private let keys: [String]
    let viewers: ViewerHub

    init(
        group: MultiThreadedEventLoopGroup, configuration: GatewayConfiguration, instruments: GatewayInstruments,
        workers: NIOThreadPool
    ) {
        var fronts: [ObjectIdentifier: NIOLoopBoundBox<GatewayFront>] = [:]
        for eventLoop in group.makeIterator() {
            fronts[ObjectIdentifier(eventLoop)] = NIOLoopBoundBox.makeBoxSendingValue(
                GatewayFront(
                    eventLoop: eventLoop, configuration: configuration, instruments: instruments, workers: workers),
                eventLoop: eventLoop)
        }
        self.fronts = fronts
        keys = configuration.apiKeys
        events = instruments.events
        modelRanges = configuration.models.map { ($0.engines, $0.name) }
        otherModels = configuration.external == nil ? "" : "external"
        let others = Array(fronts.values)
        viewers = ViewerHub(eventLoop: group.next(), interval: configuration.viewInterval) { eventLoop in
            Self.census(of: others, on: eventLoop).map {
                EnginesDocument(
                    census: $0, instruments: instruments, configuration: configuration, showsPlacements: true
                ).event
            }
        }
        for front in fronts.values { front.eventLoop.execute { front.value.table = self } }
    }

    var eventLoops: Int { fronts.count }

    /// What all event loops know, as they know it when it is their turn.
    func census(on eventLoop: any EventLoop) -> EventLoopFuture<EngineCensus> {
        Self.census(of: Array(fronts.values), on: eventLoop)
    }

    private static func census(
        of fronts: [NIOLoopBoundBox<GatewayFront>], on eventLoop: any EventLoop
    ) -> EventLoopFuture<EngineCensus> {
        EventLoopFuture.whenAllSucceed(
            fronts.map { front in front.eventLoop.submit { EngineCensus(front.value.shards) } }, on: eventLoop
        ).flatMapThrowing {
            guard let census = EngineCensus.merged($0) else { throw ChannelError.ioOnClosedChannel }
            return census
        }
    }

    func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        handle(request, responder, engine: nil)
    }

    /// Not of somebody who may not come in.
    func wantsBody(_ head: HTTPRequest) -> Bool {
        do throws(APIError) {
            try GatewayFront.authorize(head, keys: keys)
            return true
        } catch {
            return false
        }
    }

    func handle(_ request: HTTPRequest, _ responder: HTTPResponder, engine: Int?) {
        fronts[ObjectIdentifier(responder.eventLoop)]?.value.handle(request, responder, engine: engine)
    }

    func update(_ roster: Roster) {
        events.update(roster) { index in
            modelRanges.first { $0.engines?.contains(index) ?? true }?.name ?? otherModels
        }
        forEach { $0.update(roster) }
    }

    func update(_ table: UpstreamTable) {
        update(table.roster)
        let servers = table.servers
        forEach { $0.update(servers: servers) }
    }

    /// Calls `body` with every shard, on its own loop.
    func forEach(_ body: @escaping @Sendable (any ModelShard) -> Void) {
        for front in fronts.values {
            front.eventLoop.execute { front.value.shards.forEach(body) }
        }
    }

    /// Waits until every shard knows its engines, or for `timeout`.
    func settled(within timeout: TimeAmount) async {
        for front in fronts.values {
            let deadline = front.eventLoop.makePromise(of: Void.self)
            let timer = front.eventLoop.scheduleTask(in: timeout) { deadline.succeed() }
            front.eventLoop.execute { front.value.settled.cascade(to: deadline) }
            try? await deadline.futureResult.get()
            timer.cancel()
        }
    }

    /// Ends all requests with an error.
    func failAll(_ error: APIError) {
        forEach { $0.failAll(error) }
    }

    func shutdown() async {
        for front in fronts.values {
            try? await front.eventLoop.submit { front.value.shards.forEach { $0.shutdown() } }.get()
        }
    }
}
