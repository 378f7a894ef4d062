// Tandem — Apache-2.0

import EngineLink
import NIOCore
import Requests
import Routing

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

        var isServing: Bool { hello != nil && entry.state == .ready }
    }

    private struct Link {
        /// New with every attempt to connect, so that nothing of an older link touches its successor.
        var engine: EngineID
        var client: EngineLinkClient
    }

    private let eventLoop: any EventLoop
    private let dispatcher: SequenceDispatcher
    /// Which engines of a roster are the model's; `nil` if all are.
    private let indices: Range<UInt32>?
    private let hello: ClientHello
    private let metrics: GatewayMetrics
    private let log: @Sendable (String) -> Void
    private var generation: UInt64 = 0
    private var engines: [UInt32: EngineState] = [:]
    private var links: [UInt32: Link] = [:]
    private var backoffs: [UInt32: ReconnectBackoff] = [:]
    private var attempts: UInt64 = 0
    /// Succeeds once a roster has come and every engine that was ready in it has answered or could not be reached.
    private let settledPromise: EventLoopPromise<Void>
    private var isSettled = false

    init(
        eventLoop: any EventLoop, dispatcher: SequenceDispatcher, indices: Range<UInt32>? = nil,
        tokenizerFingerprint: Digest128, pid: Int32, metrics: GatewayMetrics, log: @escaping @Sendable (String) -> Void
    ) {
        self.eventLoop = eventLoop
        self.dispatcher = dispatcher
        self.indices = indices
        hello = ClientHello(tokenizerFingerprint: tokenizerFingerprint, pid: pid)
        self.metrics = metrics
        self.log = log
        settledPromise = eventLoop.makePromise()
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
        for index in engines.keys where !known.contains(index) {
            drop(index, reason: "it left the roster")
            engines[index] = nil
        }
        for entry in entries {
            let before = engines[entry.index]
            engines[entry.index, default: EngineState(entry: entry)].entry = entry
            if let before, before.entry.pid != entry.pid, before.hello != nil {
                drop(entry.index, reason: "its process was replaced")
            }
            switch entry.state {
            case .ready:
                if links[entry.index] == nil { connect(entry.index) }
            case .draining:
                if let link = links[entry.index] { dispatcher.engineDraining(link.engine) }
            case .starting, .restarting, .failed:
                drop(entry.index, reason: entry.reason.isEmpty ? "its process ended" : entry.reason)
            }
        }
        settle()
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
        let client = EngineLinkClient.connect(to: address, hello: hello, on: eventLoop) { event in
            pool.value.handle(event, of: engine, index: index)
        }
        links[index] = Link(engine: engine, client: client)
    }

    private func handle(_ event: EngineLinkClient.Event, of engine: EngineID, index: UInt32) {
        guard let link = links[index], link.engine == engine else { return }
        defer { settle() }
        engines[index]?.heard = eventLoop.now
        switch event {
        case .opened(let hello):
            backoffs[index]?.succeeded()
            engines[index]?.hello = hello
            engines[index]?.engine = engine
            dispatcher.engineAppeared(
                LinkUpstream(engine: engine, hello: hello) { [client = link.client] in client.send($0) })
        case .message(.stepOutput(let output)):
            dispatcher.receive(output.outputs, from: engine)
        case .message(.statistics(let statistics)):
            engines[index]?.statistics = statistics
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
        for index in links.keys { drop(index, reason: "the gateway is shutting down") }
    }
}
