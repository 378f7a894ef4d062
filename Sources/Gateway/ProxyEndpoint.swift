// Tandem — Apache-2.0

import EngineLink
import HTTPCore
import JSON
import NIOCore
import Requests
import Routing

/// One external engine as a gateway's event loop sees it: asks whether it lives and which models it has, and tells the
/// dispatcher when it serves.
///
/// What is certain (nobody listens, `/health` says no) takes the engine out at once; what it has in hand stays there. Mere
/// silence must last for several questions in a row in which nothing else came from it either, and never takes the last
/// engine out: being busy is not being dead.
final class ProxyEndpoint {
    /// What is told of an endpoint.
    protocol Delegate: AnyObject {
        func newEngineID() -> EngineID
        /// Its models are others now, or its engine has another id.
        func endpointChanged(_ endpoint: ProxyEndpoint)
        /// It was asked for the first time.
        func endpointSettled(_ endpoint: ProxyEndpoint)
        /// It was silent, and has to compute something before it is trusted again.
        func endpointDoubted(_ endpoint: ProxyEndpoint, _ reason: String)
        /// It did.
        func endpointProved(_ endpoint: ProxyEndpoint)
        func log(_ line: String)
    }

    /// Questions without an answer, one after the other, after which an engine is given up.
    private static let strikesToLose = 3
    private static let maximumAnswerBytes = 4 << 20
    /// Models of one endpoint that are listed.
    private static let maximumModels = 1024

    let index: Int
    let address: HTTPEndpoint
    let eventLoop: any EventLoop
    private let settings: ExternalEngines
    let dispatcher: ProxyDispatcher
    unowned let delegate: any Delegate
    let client: HTTPClient
    private let prober: HTTPClient
    /// Set if a supervisor started it.
    var supervision: Supervision?
    private(set) var upstream: ProxyUpstream?
    private(set) var isServing = false
    /// What it has; nil if it does not say, and is believed to have everything that it is asked for.
    private(set) var models: [ModelCard]?
    /// Whether it has ever said what it has.
    private(set) var isKnown = false
    private(set) var hasAnswer = false
    /// Why it does not serve.
    private(set) var reason = ""
    private(set) var losses: UInt32 = 0
    private var backoff = ReconnectBackoff(initial: .milliseconds(100), maximum: .seconds(2))
    private var strikes = 0
    private var receivedAtStrike: UInt64 = 0
    private var isProbing = false
    private var mustProbeAgain = false
    private var isShutDown = false
    /// Whether it is not named any more: it finishes what it has.
    private(set) var isRetired = false
    private var timer: Scheduled<Void>?

    init(
        index: Int, address: HTTPEndpoint, eventLoop: any EventLoop, settings: ExternalEngines,
        dispatcher: ProxyDispatcher, delegate: any Delegate, supervision: Supervision? = nil
    ) {
        self.supervision = supervision
        self.index = index
        self.address = address
        self.eventLoop = eventLoop
        self.settings = settings
        self.dispatcher = dispatcher
        self.delegate = delegate
        client = HTTPClient(endpoint: address, eventLoop: eventLoop, limits: settings.limits, tls: settings.tls)
        var limits = settings.limits
        limits.firstByteTimeout = settings.probeTimeout
        limits.silenceTimeout = settings.probeTimeout
        prober = HTTPClient(endpoint: address, eventLoop: eventLoop, limits: limits, tls: settings.tls)
    }

    /// Whether it may be asked for a model; `nil` is its default.
    func has(_ model: String?) -> Bool {
        guard let model, let models else { return true }
        return models.contains { $0.name == model }
    }

    var state: RosterEntry.State {
        isRetired ? .draining : isServing ? .ready : isKnown ? .restarting : .starting
    }

    /// Whether it has nothing in hand.
    var isIdle: Bool { upstream.map { dispatcher.outstandingRequests(on: $0.engine) == 0 } ?? true }

    /// Gives it nothing new; what it has in hand may finish.
    func retire() {
        isRetired = true
        timer?.cancel()
        isServing = false
        if let upstream { dispatcher.engineDraining(upstream.engine) }
    }

    /// Its supervisor gives it nothing new; what it has in hand may finish.
    func retract() {
        timer?.cancel()
        guard isServing, let upstream else { return }
        isServing = false
        dispatcher.engineDraining(upstream.engine)
        delegate.endpointChanged(self)
    }

    func shutdown(reason: String = "the gateway is shutting down") {
        isShutDown = true
        timer?.cancel()
        lose(reason: reason)
        client.shutdown()
        prober.shutdown()
    }

    // MARK: - Probes

    /// Asks now.
    func probe() {
        guard !isShutDown, !isRetired else { return }
        if let supervision, !supervision.mayServe, !supervision.needsProof { return }
        guard !isProbing else {
            mustProbeAgain = true
            return
        }
        isProbing = true
        mustProbeAgain = false
        timer?.cancel()
        ask("/health", by: prober) { [weak self] in self?.gotHealth($0) }
    }

    /// - Parameter body: is posted; without one the target is read.
    func ask(
        _ target: String, _ body: [UInt8]? = nil, by client: HTTPClient,
        _ answer: @escaping (Result<ProxyResponse, HTTPClientError>) -> Void
    ) {
        var headers: HTTPHeaders = ["Accept": "application/json"]
        if body != nil { headers.add("Content-Type", "application/json") }
        if let key = settings.apiKey { headers.add("Authorization", "Bearer \(key)") }
        client.send(
            HTTPClientRequest(
                method: body == nil ? .get : .post, target: target, headers: headers,
                body: ByteBuffer(bytes: body ?? [])),
            to: Answer(limit: Self.maximumAnswerBytes, answer))
    }

    private func gotHealth(_ result: Result<ProxyResponse, HTTPClientError>) {
        guard !isRetired else { return }
        switch result {
        case .failure(let error):
            unanswered(error)
        case .success(let response) where response.head.status.code >= 500 && response.head.status.code != 501:
            down("/health answered \(response.head.status.code)")
        case .success:
            // Some have no such path, and some want a key for it: that they answer is enough.
            ask("/v1/models", by: prober) { [weak self] in self?.gotModels($0) }
        }
    }

    private func gotModels(_ result: Result<ProxyResponse, HTTPClientError>) {
        guard !isRetired else { return }
        switch result {
        case .failure(let error):
            unanswered(error)
        case .success(let response):
            switch response.head.status.code {
            case 200:
                guard let models = Self.models(response.body) else {
                    down("/v1/models did not answer with a list of models")
                    return
                }
                lives(models)
            case 401, 403:
                down("/v1/models answered \(response.head.status.code): give the key by --endpoint-api-key")
            case 429:
                lives(models)
            case 404, 405, 501:
                lives(nil)
            case let code:
                down("/v1/models answered \(code)")
            }
        }
    }

    private static func models(_ body: ByteBuffer) -> [ModelCard]? {
        let value = try? JSONParser.parse(
            body.readableBytesView, limits: JSONLimits(maximumDepth: 32, maximumValues: 1 << 18))
        guard let list = value?.object?["data"]?.array else { return nil }
        return list.prefix(maximumModels).compactMap { entry in
            guard let fields = entry.object, let name = fields["id"]?.string else { return nil }
            return ModelCard(
                name: name, root: fields["root"]?.string ?? name,
                created: Int(clamping: fields["created"]?.integer ?? 0),
                contextLength: fields["max_model_len"]?.integer.map { Int(clamping: $0) },
                owner: fields["owned_by"]?.string ?? "unknown")
        }
    }

    // MARK: - What it is

    private func lives(_ models: [ModelCard]?) {
        if supervision?.needsProof == true { prove(models) } else { serves(models) }
    }

    func serves(_ models: [ModelCard]?) {
        backoff.succeeded()
        strikes = 0
        reason = ""
        let isNew = upstream == nil
        let upstream = upstream ?? makeUpstream()
        if isNew || models != self.models || !isKnown {
            self.upstream = upstream
            self.models = models
            isKnown = true
            delegate.endpointChanged(self)
        }
        if !isServing, supervision?.mayServe != false {
            isServing = true
            dispatcher.engineAppeared(upstream)
            delegate.endpointChanged(self)
        }
        probed(again: settings.probeInterval)
    }

    private func makeUpstream() -> ProxyUpstream {
        ProxyUpstream(
            engine: delegate.newEngineID(), index: index, client: client, dispatcher: dispatcher
        ) { [weak self] error in self?.inTrouble(error) }
    }

    /// It is certain that it takes nothing now.
    func down(_ reason: String) {
        stopServing(reason)
        strike()
        probed(again: TimeAmount(backoff.failed(jitter: .random(in: 0...1))))
    }

    func unanswered(_ error: HTTPClientError) {
        guard error.kind == .silent else { return down(error.message) }
        strike()
        probed(again: min(settings.probeInterval, .milliseconds(500)))
    }

    private func strike() {
        let received = upstream?.received ?? 0
        strikes = strikes > 0 && received != receivedAtStrike ? 1 : strikes + 1
        receivedAtStrike = received
        guard strikes >= Self.strikesToLose, upstream != nil else { return }
        let loss = reason.isEmpty ? "it has not answered for a while" : reason
        doubt(loss)
        if isServing, dispatcher.servingEngines <= 1 { return }
        // What is certain is asked for in quick succession: streams get as long as silence would have to last.
        if !isServing, strikes < Self.strikesToLose * 3 { return }
        lose(reason: loss)
    }

    private func stopServing(_ reason: String) {
        // While an engine starts, its supervisor says what there is to say.
        if isServing || (self.reason != reason && supervision?.mayServe != false) {
            delegate.log("endpoint \(address) does not serve: \(reason)")
        }
        tellDoubt(reason)
        self.reason = reason
        guard isServing, let upstream else { return }
        isServing = false
        dispatcher.engineDraining(upstream.engine)
    }

    private func lose(reason: String) {
        guard let lost = upstream else { return }
        upstream = nil
        isServing = false
        losses &+= 1
        self.reason = reason
        delegate.endpointChanged(self)
        // First, so that nothing of it comes any more when its requests start elsewhere.
        lost.cutAll()
        dispatcher.engineLost(lost.engine, reason: reason)
    }

    /// A request found the engine unreachable, silent or gone: it gets nothing new until it is known to live.
    private func inTrouble(_ error: HTTPClientError) {
        switch error.kind {
        case .unreachable, .cut: stopServing(error.message)
        case .silent:
            doubt(error.message)
            // The last one is not taken out for being slow.
            if supervision != nil, dispatcher.servingEngines > 1 { stopServing(error.message) }
        case .malformed: break
        }
        probe()
    }

    private func probed(again delay: TimeAmount) {
        isProbing = false
        if !hasAnswer {
            hasAnswer = true
            delegate.endpointSettled(self)
        }
        guard !isShutDown else { return }
        if mustProbeAgain {
            probe()
            return
        }
        timer?.cancel()
        timer = eventLoop.assumeIsolated().scheduleTask(in: delay) { [weak self] in self?.probe() }
    }

    /// Reads one response whole.
    private final class Answer: HTTPResponseReceiver {
        private let limit: Int
        private let answer: (Result<ProxyResponse, HTTPClientError>) -> Void
        private var response = ProxyResponse(head: HTTPResponseHead(status: .ok), body: ByteBuffer())

        init(limit: Int, _ answer: @escaping (Result<ProxyResponse, HTTPClientError>) -> Void) {
            self.limit = limit
            self.answer = answer
        }

        func received(_ head: HTTPResponseHead) { response.head = head }

        func received(_ body: ByteBuffer) {
            // Of what is longer nothing will be made.
            if response.body.readableBytes < limit { response.body.writeImmutableBuffer(body) }
        }

        func ended() { answer(.success(response)) }
        func failed(_ error: HTTPClientError) { answer(.failure(error)) }
    }
}
