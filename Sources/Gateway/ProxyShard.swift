// Tandem — Apache-2.0

import EngineLink
import HTTPCore
import NIOCore
import NIOPosix
import Requests
import Routing

/// Requests for external engines.
typealias ProxyDispatcher = Dispatcher<ProxyWork, ProxyOutput>

/// Everything a gateway does for the models of external engines on one event loop: it passes requests and answers on as
/// they are, to and from engines that have the model.
final class ProxyShard: ModelShard {
    let eventLoop: any EventLoop
    let metrics: GatewayMetrics
    let configuration: GatewayConfiguration
    let settings: ExternalEngines
    private let workers: NIOThreadPool
    let dispatcher: ProxyDispatcher
    var endpoints: [ProxyEndpoint] = []
    /// Endpoints that are not named any more and finish what they have.
    private var leaving: [ProxyEndpoint] = []
    private var leavingTimer: RepeatedTask?
    private var nextEngineID: UInt64 = 0
    private var excluded: [String?: Set<EngineID>] = [:]
    let settledPromise: EventLoopPromise<Void>
    private(set) var cards: [ModelCard] = []
    /// As their supervisor last named them.
    var entries: [RosterEntry] = []
    var rosterGeneration: UInt64 = 0
    /// What engines of a supervisor have or had, also while they are away.
    var remembered: [Int: [ModelCard]] = [:]
    /// Endpoints that served when they last changed.
    var served: Set<Int> = []

    init(
        eventLoop: any EventLoop, configuration: GatewayConfiguration, engines: ExternalEngines,
        metrics: GatewayMetrics, workers: NIOThreadPool
    ) {
        self.eventLoop = eventLoop
        self.configuration = configuration
        self.metrics = metrics
        self.workers = workers
        settings = engines
        settledPromise = eventLoop.makePromise()
        dispatcher = ProxyDispatcher(
            eventLoop: eventLoop,
            limits: DispatchLimits(sequences: configuration.maximumSequences, hold: configuration.holdTimeout),
            metrics: metrics)
        dispatcher.hints = { $0.hints }
    }

    /// How often is looked whether an endpoint that leaves is done.
    private static let leavingPeriod = TimeAmount.milliseconds(200)

    var hasEngines: Bool { !endpoints.isEmpty || !entries.isEmpty }

    func update(servers: [ServerPlace]) {
        let gone = endpoints.filter { endpoint in
            !servers.contains { $0.index == endpoint.index && $0.endpoint == endpoint.address }
        }
        endpoints.removeAll { endpoint in gone.contains { $0 === endpoint } }
        for endpoint in gone {
            endpoint.retire()
            // Its successor may have its index.
            served.remove(endpoint.index)
            metrics.events.note(
                .removed, endpoint.index, model: endpoint.models?.first?.name ?? "", reason: "\(endpoint.address)")
        }
        leaving += gone
        dropIdle()
        let new = servers.filter { place in !endpoints.contains { $0.index == place.index } }.map {
            ProxyEndpoint(
                index: $0.index, address: $0.endpoint, eventLoop: eventLoop, settings: settings,
                dispatcher: dispatcher, delegate: self)
        }
        endpoints = (endpoints + new).sorted { $0.index < $1.index }
        endpointsChanged()
        new.forEach { $0.probe() }
    }

    /// Forgets endpoints that left and have nothing in hand any more.
    private func dropIdle() {
        for endpoint in leaving where endpoint.isIdle { endpoint.shutdown() }
        leaving.removeAll { $0.isIdle }
        guard !leaving.isEmpty else {
            leavingTimer?.cancel()
            leavingTimer = nil
            return
        }
        guard leavingTimer == nil else { return }
        let shard = NIOLoopBound(self, eventLoop: eventLoop)
        leavingTimer = eventLoop.scheduleRepeatedTask(
            initialDelay: Self.leavingPeriod, delay: Self.leavingPeriod
        ) { _ in shard.value.dropIdle() }
    }

    var servingEngines: Int { dispatcher.servingEngines }
    var unfinished: Int { dispatcher.unfinished }
    var settled: EventLoopFuture<Void> { settledPromise.futureResult }

    var summary: String {
        guard entries.isEmpty else { return supervisedSummary }
        return endpoints.map { endpoint in
            "\(endpoint.address) " + (endpoint.isServing ? "serves" : "does not serve")
                + (endpoint.reason.isEmpty ? "" : " (\(endpoint.reason))")
        }.joined(separator: ", ")
    }

    var reports: [EngineReport] {
        guard entries.isEmpty else { return supervisedReports }
        let views = dispatcher.views
        let left = leaving.filter { endpoint in !endpoints.contains { $0.index == endpoint.index } }
        return (endpoints + left).map { endpoint in
            let view = endpoint.upstream.flatMap { upstream in views.first { $0.id == upstream.engine } }
            return EngineReport(
                index: endpoint.index, model: endpoint.models?.first?.name ?? "", address: "\(endpoint.address)",
                state: endpoint.state,
                isServing: endpoint.isServing, pid: 0, restarts: endpoint.losses, reason: endpoint.reason, hello: nil,
                statistics: nil, outstandingRequests: view?.outstandingRequests ?? 0,
                outstandingTokens: view?.outstandingTokens ?? 0)
        }
    }

    func has(engine: Int) -> Bool {
        endpoints.contains { $0.index == engine } || entries.contains { $0.index == engine }
    }

    func cards(of engine: Int) -> [ModelCard] { endpoints.first { $0.index == engine }?.models ?? [] }

    var held: Int { dispatcher.heldSequences }

    func placements(limit: Int) -> [RequestPlacement] {
        dispatcher.placements(limit: limit).compactMap { request, engine, attempts in
            guard let endpoint = (endpoints + leaving).first(where: { $0.upstream?.engine == engine }) else {
                return nil
            }
            return RequestPlacement(
                request: request, model: endpoint.models?.first?.name ?? "", engine: endpoint.index,
                attempts: attempts)
        }
    }

    func failAll(_ error: APIError) { dispatcher.failAll(error) }

    func shutdown() {
        leavingTimer?.cancel()
        (endpoints + leaving).forEach { $0.shutdown() }
        settledPromise.succeed()
    }

    // MARK: - Requests

    /// What is passed on, and by which method; everything else that an engine answers is its own.
    private static let paths: [String: (method: HTTPMethod, kind: ProxyRecord.Kind)] = {
        var paths: [String: (method: HTTPMethod, kind: ProxyRecord.Kind)] = [
            "/v1/completions": (.post, .completion), "/v1/chat/completions": (.post, .chat),
            "/tokenizer_info": (.get, .other),
        ]
        for path in [
            "/v1/responses", "/v1/embeddings", "/embeddings", "/v1/score", "/score", "/v1/rerank", "/v2/rerank",
            "/rerank", "/v1/classify", "/classify", "/pooling", "/tokenize", "/detokenize", "/v1/moderations",
            "/v1/audio/speech", "/v1/images/generations",
        ] { paths[path] = (.post, .other) }
        return paths
    }()

    /// Bytes of a body that is read at once: that takes some 20 µs.
    private static let longBody = 64 << 10

    func handle(_ exchange: GatewayShard.Exchange) {
        do throws(APIError) {
            guard let path = Self.paths[exchange.request.path] else { throw .unknownPath(exchange.request.path) }
            try exchange.require(path.method)
            let body = exchange.request.body
            guard body.readableBytes > Self.longBody else {
                try start(exchange, kind: path.kind, fields: ProxyFields(body))
                return
            }
            workers.runIfActive(eventLoop: eventLoop) {
                ProxyFields(body)
            }.assumeIsolated().whenComplete { [self] outcome in
                do throws(APIError) {
                    guard case .success(let fields) = outcome else {
                        throw .unavailable("the server is shutting down")
                    }
                    try start(exchange, kind: path.kind, fields: fields)
                } catch {
                    refuse(exchange, error)
                }
            }
        } catch {
            refuse(exchange, error)
        }
    }

    private func refuse(_ exchange: GatewayShard.Exchange, _ error: APIError) {
        metrics.refused(status: error.status)
        exchange.responder.respond(error, headers: exchange.headers)
    }

    private func start(
        _ exchange: GatewayShard.Exchange, kind: ProxyRecord.Kind, fields: ProxyFields
    ) throws(APIError) {
        try check(fields.model, of: exchange)
        guard dispatcher.hasRoom(for: 1) else {
            metrics.rejected()
            throw .overloaded(
                "\(dispatcher.unfinished) requests are waiting or running; the limit is "
                    + "\(configuration.maximumSequences)")
        }
        // A key that was checked here is not the engine's.
        let clientsOwn = configuration.apiKeys.isEmpty ? exchange.request.headers["Authorization"] : nil
        let owner = ProxyOwner(
            exchange: exchange, kind: kind, fields: fields,
            authorization: settings.apiKey.map { "Bearer \($0)" } ?? clientsOwn, shard: self, dispatcher: dispatcher,
            continues: settings.continuesStreams,
            observer: RequestObserver(
                metrics: metrics, model: knownName(fields.model), clock: configuration.clock, choices: 1),
            metrics: metrics)
        owner.start()
    }

    /// - Throws: 404 if no engine that may have the request has the model.
    private func check(_ model: String?, of exchange: GatewayShard.Exchange) throws(APIError) {
        guard let model else { return }
        guard entries.isEmpty else { return try checkSupervised(model, engine: exchange.engine) }
        let candidates = exchange.engine.map { only in endpoints.filter { $0.index == only } } ?? endpoints
        guard !candidates.contains(where: { !$0.isKnown || $0.has(model) }) else { return }
        throw .modelNotFound(model, known: candidates.flatMap { $0.models ?? [] }.map(\.name))
    }

    /// What a request is counted under: the name of a model that there is, which is the first if it names none.
    private func knownName(_ model: String?) -> String? {
        guard let model else { return cards.first?.name }
        return cards.contains { $0.name == model } ? model : nil
    }

    /// Engines that do not have a model; `nil` is what a request that names none gets, the first model that there is.
    func engines(without model: String?) -> Set<EngineID> {
        if let known = excluded[model] { return known }
        let name = model ?? cards.first?.name
        let engines = Set(endpoints.filter { !$0.has(name) }.compactMap { $0.upstream?.engine })
        // Clients may name anything, and a server that does not tell its models may have it: only what one tells is kept.
        if model == nil || cards.contains(where: { $0.name == model }) { excluded[model] = engines }
        return engines
    }
}

extension ProxyShard: ProxyEndpoint.Delegate {
    func newEngineID() -> EngineID {
        nextEngineID += 1
        return EngineID(nextEngineID)
    }

    func endpointChanged(_ endpoint: ProxyEndpoint) {
        guard !endpoint.isRetired else { return }
        // What its supervisor says of it is told elsewhere.
        guard endpoint.supervision == nil else { return endpointsChanged() }
        if endpoint.isServing, served.insert(endpoint.index).inserted {
            metrics.events.note(.ready, endpoint.index, model: endpoint.models?.first?.name ?? "")
        } else if !endpoint.isServing, served.remove(endpoint.index) != nil {
            metrics.events.note(
                .lost, endpoint.index, model: endpoint.models?.first?.name ?? "", reason: endpoint.reason)
        }
        endpointsChanged()
    }

    func endpointsChanged() {
        excluded.removeAll()
        for endpoint in endpoints where endpoint.supervision != nil {
            if let models = endpoint.models { remembered[endpoint.index] = models }
        }
        var names: Set<String> = []
        let models = entries.isEmpty ? endpoints.map(\.models) : entries.map { remembered[Int($0.index)] }
        cards = models.flatMap { $0 ?? [] }.filter { names.insert($0.name).inserted }
    }

    func endpointSettled(_ endpoint: ProxyEndpoint) {
        if endpoints.allSatisfy({ $0.hasAnswer || $0.supervision?.mayServe == false }) { settledPromise.succeed() }
    }

    func log(_ line: String) { configuration.log(line) }
}
