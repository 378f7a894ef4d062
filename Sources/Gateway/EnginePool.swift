// Tandem — Apache-2.0

import EngineLink
import NIOCore
import Requests
import Routing
import Telemetry

/// Keeps one link to every engine of a model that the roster calls ready, and tells the dispatcher which engines serve.
///
/// Lives on one event loop.
final class EnginePool {
    /// An engine as the gateway sees it.
    struct EngineState {
        var entry: RosterEntry
        var hello: EngineHello?
        var statistics: EngineStatistics?
        /// As the dispatcher knows it while it serves.
        var engine: EngineID?
        /// When anything last came from it.
        var heard: NIODeadline?
        /// Whether its link was given up because it was silent.
        var wasSilent = false

        var isServing: Bool { hello != nil && entry.state == .ready }
    }

    /// Connects to an engine; `EngineLinkClient.connect` in a gateway.
    typealias Connect = (LinkAddress, ClientHello, @escaping @Sendable (EngineLinkClient.Event) -> Void) -> any PoolLink

    private final class Link {
        /// New with every attempt to connect, so that nothing of an older link touches its successor.
        let engine: EngineID
        let client: any PoolLink
        var watch: SilenceWatch

        init(engine: EngineID, client: any PoolLink, watch: SilenceWatch) {
            self.engine = engine
            self.client = client
            self.watch = watch
        }
    }

    /// The engine that is the only one gets so many times the usual time: nobody could go on with what it has, and if it
    /// was merely slow, giving its link up would throw that away.
    static let patienceWithTheLast = 5

    private let eventLoop: any EventLoop
    private let dispatcher: SequenceDispatcher
    /// Which engines of a roster are the model's; `nil` if all are.
    private let indices: Range<UInt32>?
    private let hello: ClientHello
    private let metrics: GatewayMetrics
    private let log: @Sendable (String) -> Void
    /// How long an engine may be silent; 0 for ever.
    private let silenceLimit: TimeAmount
    private let openLink: Connect
    private var silenceTimer: RepeatedTask?
    private var generation: UInt64 = 0
    private var engines: [UInt32: EngineState] = [:]
    private var links: [UInt32: Link] = [:]
    /// Links to engines that left the roster and finish what they have.
    private var leaving: [EngineID: (link: Link, index: UInt32)] = [:]
    private var leavingTimer: RepeatedTask?
    private var backoffs: [UInt32: ReconnectBackoff] = [:]
    private var attempts: UInt64 = 0
    /// How the engines cut prompts into blocks; `nil` before one has said so.
    private var promptBlocks: PromptBlocks?
    /// Succeeds once a roster has come and every engine that was ready in it has answered or could not be reached.
    private let settledPromise: EventLoopPromise<Void>
    private var isSettled = false

    init(
        eventLoop: any EventLoop, dispatcher: SequenceDispatcher, indices: Range<UInt32>? = nil,
        tokenizerFingerprint: Digest128, pid: Int32, silenceLimit: TimeAmount = .seconds(2), metrics: GatewayMetrics,
        log: @escaping @Sendable (String) -> Void, connect: Connect? = nil
    ) {
        self.eventLoop = eventLoop
        self.dispatcher = dispatcher
        self.indices = indices
        hello = ClientHello(tokenizerFingerprint: tokenizerFingerprint, pid: pid)
        self.silenceLimit = silenceLimit
        openLink =
            connect ?? { EngineLinkClient.connect(to: $0, hello: $1, on: eventLoop, onEvent: $2) }
        self.metrics = metrics
        self.log = log
        settledPromise = eventLoop.makePromise()
        dispatcher.hints = { [weak self] request in self?.promptBlocks?.hints(for: request) ?? RoutingHints() }
    }

    /// When the gateway knows its engines: before that, an unhealthy answer says nothing about them.
    var settled: EventLoopFuture<Void> { settledPromise.futureResult }

    private func settle() {
        guard !isSettled, generation > 0 || !engines.isEmpty else { return }
        guard links.keys.allSatisfy({ engines[$0]?.hello != nil }) else { return }
        isSettled = true
        settledPromise.succeed()
    }

    var states: [EngineState] { engines.values.sorted { $0.entry.index < $1.entry.index } }

    /// For people: `engine 0 starting, engine 1 failed (…)`.
    var summary: String {
        guard !engines.isEmpty else { return "no engine is known" }
        return states.map { state in
            "engine \(state.entry.index) \(state.entry.state)"
                + (state.entry.reason.isEmpty ? "" : " (\(state.entry.reason))")
        }.joined(separator: ", ")
    }

    /// Takes a roster; one that is not newer is ignored.
    func update(_ roster: Roster) {
        guard roster.generation > generation || generation == 0 else { return }
        generation = roster.generation
        let entries = roster.engines.filter { indices?.contains($0.index) ?? true }
        let known = Set(entries.map(\.index))
        for index in engines.keys where !known.contains(index) { leave(index) }
        for entry in entries {
            // It has the place of another.
            if let before = engines[entry.index], before.entry.address != entry.address { leave(entry.index) }
            let before = engines[entry.index]
            engines[entry.index, default: EngineState(entry: entry)].entry = entry
            if let before, before.entry.pid != entry.pid, before.hello != nil {
                drop(entry.index, reason: "its process was replaced")
            }
            switch entry.state {
            case .ready:
                if let link = links[entry.index] {
                    if before?.entry.state == .draining { dispatcher.engineResumed(link.engine) }
                } else {
                    connect(entry.index)
                }
            case .draining:
                if let link = links[entry.index], engines[entry.index]?.hello != nil {
                    dispatcher.engineDraining(link.engine)
                } else {
                    drop(entry.index, reason: "it takes nothing new")
                }
            case .starting, .restarting, .failed:
                drop(entry.index, reason: entry.reason.isEmpty ? "its process ended" : entry.reason)
            }
        }
        settle()
    }

    // MARK: Leaving

    /// How often is looked whether an engine that leaves is done.
    private static let leavingPeriod = TimeAmount.milliseconds(200)

    /// An engine is not in the roster any more: it gets nothing new, and its link is closed when it is done.
    private func leave(_ index: UInt32) {
        defer { engines[index] = nil }
        backoffs[index] = nil
        guard let state = engines[index], state.hello != nil, let link = links.removeValue(forKey: index) else {
            drop(index, reason: "it left the roster")
            return
        }
        dispatcher.engineDraining(link.engine)
        leaving[link.engine] = (link, index)
        dropIdle()
    }

    private func dropIdle() {
        for (engine, place) in leaving where dispatcher.outstandingRequests(on: engine) == 0 {
            forget(engine, at: place, reason: "it left the roster")
        }
        guard !leaving.isEmpty else {
            leavingTimer?.cancel()
            leavingTimer = nil
            return
        }
        guard leavingTimer == nil else { return }
        let pool = NIOLoopBound(self, eventLoop: eventLoop)
        leavingTimer = eventLoop.scheduleRepeatedTask(
            initialDelay: Self.leavingPeriod, delay: Self.leavingPeriod
        ) { _ in pool.value.dropIdle() }
    }

    private func forget(_ engine: EngineID, at place: (link: Link, index: UInt32), reason: String) {
        leaving[engine] = nil
        place.link.client.close()
        lose(engine, index: place.index, reason: reason)
    }

    private func handle(_ event: EngineLinkClient.Event, ofLeaving engine: EngineID) {
        guard let place = leaving[engine] else { return }
        place.link.watch.heard()
        switch event {
        case .message(.stepOutput(let output)): dispatcher.receive(output.outputs, from: engine)
        case .closed(let error): forget(engine, at: place, reason: error.message)
        case .opened, .message: break
        }
    }

    // MARK: Links

    private func connect(_ index: UInt32) {
        guard let entry = engines[index]?.entry else { return }
        let address: LinkAddress
        do {
            address = try LinkAddress(entry.address)
        } catch {
            log("engine \(index): \(error)")
            return
        }
        attempts += 1
        let engine = EngineID(attempts)
        let pool = NIOLoopBound(self, eventLoop: eventLoop)
        let client = openLink(address, hello) { event in pool.value.handle(event, of: engine, index: index) }
        links[index] = Link(
            engine: engine, client: client, watch: SilenceWatch(limit: silenceLimit, now: eventLoop.now))
    }

    private func handle(_ event: EngineLinkClient.Event, of engine: EngineID, index: UInt32) {
        guard let link = links[index], link.engine == engine else {
            handle(event, ofLeaving: engine)
            return
        }
        link.watch.heard()
        defer { settle() }
        engines[index]?.heard = eventLoop.now
        switch event {
        case .opened(let hello):
            backoffs[index]?.succeeded()
            watchSilence()
            engines[index]?.hello = hello
            promptBlocks = PromptBlocks(hello)
            engines[index]?.engine = engine
            if engines[index]?.wasSilent == true {
                engines[index]?.wasSilent = false
                metrics.events.note(.ready, Int(index), model: metrics.modelName)
            }
            dispatcher.engineAppeared(
                LinkUpstream(engine: engine, index: index, hello: hello) { [client = link.client] in client.send($0) })
        case .message(.stepOutput(let output)):
            dispatcher.receive(output.outputs, from: engine)
        case .message(.statistics(let statistics)):
            dispatcher.prefixesChanged(
                stored: statistics.storedBlocks, evicted: statistics.evictedBlocks, on: engine)
            // The router has them: here they would only take memory.
            var statistics = statistics
            statistics.storedBlocks = []
            statistics.evictedBlocks = []
            engines[index]?.statistics = statistics
        case .message(.heartbeat):
            break
        case .message(let message):
            log("engine \(index) sent an unexpected message: \(message)")
        case .closed(let error):
            links[index] = nil
            engines[index]?.hello = nil
            lose(engine, index: index, reason: error.message)
            guard engines[index]?.entry.state == .ready else { return }
            if error.code != .connection { log("engine \(index): \(error.message)") }
            reconnectLater(index)
        }
    }

    private func reconnectLater(_ index: UInt32) {
        let delay = backoffs[index, default: ReconnectBackoff()].failed(jitter: .random(in: 0...1))
        eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(delay)) { [weak self] in
            guard let self, self.links[index] == nil, self.engines[index]?.entry.state == .ready else { return }
            self.connect(index)
        }
    }

    // MARK: Silence

    private func watchSilence() {
        guard silenceTimer == nil, silenceLimit > .nanoseconds(0) else { return }
        let period = SilenceWatch.period(for: silenceLimit)
        let pool = NIOLoopBound(self, eventLoop: eventLoop)
        silenceTimer = eventLoop.scheduleRepeatedTask(initialDelay: period, delay: period) { _ in
            pool.value.checkSilence()
        }
    }

    /// Gives up links of which nothing was heard for too long: the process is frozen, or the way to it is cut. What it
    /// ran goes on elsewhere; it is taken back as soon as it answers.
    private func checkSilence() {
        let now = eventLoop.now
        for (index, link) in links.sorted(by: { $0.key < $1.key }) {
            guard let state = engines[index], state.hello != nil else { continue }
            let isLast = state.isServing && dispatcher.servingEngines <= 1
            guard link.watch.tick(now: now, patience: isLast ? Self.patienceWithTheLast : 1) else { continue }
            let reason = "nothing was heard of it for \(link.watch.silence)"
            log("engine \(index): \(reason); its requests go on elsewhere")
            metrics.silences(engine: Int(index)).add()
            metrics.events.note(.silent, Int(index), model: metrics.modelName, reason: reason)
            engines[index]?.wasSilent = true
            drop(index, reason: reason)
            if state.entry.state == .ready { reconnectLater(index) }
        }
        for (engine, place) in leaving where place.link.watch.tick(now: now, patience: 1) {
            forget(engine, at: place, reason: "nothing was heard of it for \(place.link.watch.silence)")
        }
    }

    /// Gives an engine's link up, without waiting for the system to notice that the other end is gone.
    private func drop(_ index: UInt32, reason: String) {
        engines[index]?.hello = nil
        engines[index]?.statistics = nil
        guard let link = links.removeValue(forKey: index) else { return }
        link.client.close()
        lose(link.engine, index: index, reason: reason)
    }

    private func lose(_ engine: EngineID, index: UInt32, reason: String) {
        let moved = dispatcher.engineLost(engine, reason: reason)
        metrics.events.moved(moved, from: Int(index), model: metrics.modelName, reason: reason)
    }

    /// Closes all links.
    func shutdown() {
        if !isSettled {
            isSettled = true
            settledPromise.succeed()
        }
        silenceTimer?.cancel()
        leavingTimer?.cancel()
        for (engine, place) in leaving { forget(engine, at: place, reason: "the gateway is shutting down") }
        for index in links.keys { drop(index, reason: "the gateway is shutting down") }
    }
}

/// A link as the pool uses it.
protocol PoolLink: Sendable {
    func send(_ message: LinkMessage)
    func close()
}

extension EngineLinkClient: PoolLink {}
