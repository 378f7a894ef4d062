// Tandem — Apache-2.0

import NIOCore
import Requests
import Routing
import Telemetry

/// What a dispatcher tells the owner of a sequence.
protocol WorkOwner<Work, Output>: AnyObject {
    associatedtype Work
    associatedtype Output
    /// The sequence as it must be submitted now: with what was generated before, if it goes on elsewhere.
    func work(choice: Int, id: RequestID) -> Work
    /// Whether the sequence may start again although the engine that ran it can hand over nothing.
    func maySubmitAgain(choice: Int) -> Bool
    /// Whether its client takes nothing at the moment: what starts, or starts again elsewhere, has to start paused.
    var isPaused: Bool { get }
    func receive(choice: Int, output: Output)
    /// The sequence cannot be served.
    func fail(choice: Int, error: APIError)
    /// The id that its answer carries; empty if nobody may know.
    var requestID: String { get }
}

extension WorkOwner {
    var requestID: String { "" }
}

/// What a dispatcher has to know of what it dispatches.
protocol DispatchedWork {
    /// What it will cost its engine.
    var cost: TokenCost { get }
}

/// What a dispatcher has to know of what comes back.
protocol DispatchedOutput {
    var id: RequestID { get }
    /// Tokens that it brings.
    var newTokens: Int { get }
    /// Whether it is the last of its sequence, and how that ended.
    var end: DispatchEnd? { get }
}

/// How a sequence ended on its engine.
enum DispatchEnd {
    case finished
    /// It may go on elsewhere, if the kind of failure permits.
    case failed(RequestFailure)
}

/// Limits of a ``Dispatcher``.
struct DispatchLimits {
    /// Sequences that may be unfinished at once, running or waiting; more are refused with 429.
    var sequences = 4096
    /// How long a sequence waits for an engine when none serves.
    var hold: TimeAmount = .seconds(30)
    /// How often a sequence may be submitted.
    var attempts = 16
}

/// Sequences of token ids for our own engines.
typealias SequenceDispatcher = Dispatcher<EngineRequest, SequenceOutput>
typealias SequenceOwner = WorkOwner<EngineRequest, SequenceOutput>

/// Brings sequences to engines: chooses an engine, holds sequences while none serves, moves them when one is lost.
///
/// Retry, breaker, ledger, queue and migration are here and nowhere else; what a sequence is, and how it gets to an
/// engine, is the affair of its ``WorkOwner`` and its ``Upstream``. Lives on one event loop, like everything it calls.
final class Dispatcher<Work: DispatchedWork, Output: DispatchedOutput> {
    typealias Owner = any WorkOwner<Work, Output>
    typealias Limits = DispatchLimits

    private struct Running {
        /// Strong: a running sequence keeps its request alive; the entry goes when the sequence ends.
        var owner: Owner
        var choice: Int
        var engine: EngineID
        var attempts: Int
        var tried: Set<EngineID>
    }

    private struct Held {
        var owner: Owner
        var choice: Int
        var attempts: Int
        var deadline: NIODeadline
    }

    private let eventLoop: any EventLoop
    private let limits: Limits
    private let metrics: GatewayMetrics
    private var router = Router()
    private var upstreams: [EngineID: any Upstream<Work>] = [:]
    private var running: [RequestID: Running] = [:]
    private var held: [RequestID: Held] = [:]
    /// When sequences lost their engines that have not gone on yet.
    private var interrupted: [RequestID: NIODeadline] = [:]
    private var random = SystemRandomNumberGenerator()
    private var nextID: RequestID = 1
    /// What speaks for one engine or another beside their load; asked if there is a choice.
    var hints: (Work) -> RoutingHints = { _ in RoutingHints() }

    init(eventLoop: any EventLoop, limits: Limits = Limits(), metrics: GatewayMetrics) {
        self.eventLoop = eventLoop
        self.limits = limits
        self.metrics = metrics
    }

    var servingEngines: Int { router.servingEngines }
    /// Every engine with what it has in hand.
    var views: [EngineView] { router.views }
    private var now: Duration { .nanoseconds(Int64(clamping: eventLoop.now.uptimeNanoseconds)) }
    /// Sequences that were admitted and did not end.
    var unfinished: Int { running.count + held.count + reserved }
    /// Sequences that wait because no engine serves.
    var heldSequences: Int { held.count }
    /// Sequences that were admitted and are started later.
    private(set) var reserved = 0
    /// Sequences that engines have in hand, by the router's account.
    var outstanding: Int { router.outstandingRequests }

    /// Where the oldest sequences of requests that show themselves are computed, at most so many.
    func placements(limit: Int) -> [(request: String, engine: EngineID, attempts: Int)] {
        running.lazy.filter { !$0.value.owner.requestID.isEmpty }.sorted { $0.key < $1.key }.prefix(limit)
            .map { ($0.value.owner.requestID, $0.value.engine, $0.value.attempts) }
    }

    // MARK: Sequences

    /// Whether so many more sequences may start now.
    func hasRoom(for sequences: Int) -> Bool { unfinished + sequences <= limits.sequences }

    /// Keeps room for sequences that are started later.
    func reserve(_ sequences: Int) { reserved += sequences }

    /// Gives room back that was kept: the sequences start now, or never will.
    func release(_ sequences: Int) { reserved -= sequences }

    /// Starts a sequence.
    ///
    /// - Returns: the id to pause, resume or cancel it by. It stays the same when the sequence moves.
    func start(owner: Owner, choice: Int) -> RequestID {
        let id = nextID
        nextID += 1
        submit(id, owner: owner, choice: choice, attempts: 0, tried: [])
        return id
    }

    /// Ends a sequence; its owner hears nothing more of it.
    func cancel(_ id: RequestID) {
        held[id] = nil
        interrupted[id] = nil
        guard let sequence = running.removeValue(forKey: id) else { return }
        router.finished(id, on: sequence.engine)
        upstreams[sequence.engine]?.cancel(id)
    }

    /// Ends all sequences, those that wait for an engine too.
    func failAll(_ error: APIError) {
        for id in (Array(running.keys) + Array(held.keys)).sorted() {
            // A request that fails cancels its other sequences: they may be gone when it is their turn.
            let sequence = running[id].map { ($0.owner, $0.choice) } ?? held[id].map { ($0.owner, $0.choice) }
            guard let (owner, choice) = sequence else { continue }
            cancel(id)
            owner.fail(choice: choice, error: error)
        }
    }

    func pause(_ id: RequestID) {
        if let sequence = running[id] { upstreams[sequence.engine]?.pause(id) }
    }

    func resume(_ id: RequestID) {
        if let sequence = running[id] { upstreams[sequence.engine]?.resume(id) }
    }

    // MARK: Engines

    /// An engine serves from now on.
    func engineAppeared(_ upstream: any Upstream<Work>) {
        upstreams[upstream.engine] = upstream
        router.engineAppeared(upstream.engine)
        router.setServing(upstream.engine, true)
        releaseHeld()
    }

    /// An engine takes nothing new and finishes what it has.
    func engineDraining(_ engine: EngineID) {
        router.setServing(engine, false)
    }

    /// An engine is gone with all it was running: what can go on elsewhere does.
    ///
    /// - Returns: what became of its sequences.
    @discardableResult
    func engineLost(_ engine: EngineID, reason: String) -> MovedSequences {
        var moved = MovedSequences()
        guard let upstream = upstreams.removeValue(forKey: engine) else { return moved }
        router.engineGone(engine)
        let lost = running.filter { $0.value.engine == engine }.sorted { $0.key < $1.key }
        for (id, sequence) in lost {
            running[id] = nil
            let owner = sequence.owner
            if owner.maySubmitAgain(choice: sequence.choice) {
                moved.retried += 1
                metrics.retries.add()
                submit(id, owner: owner, choice: sequence.choice, attempts: sequence.attempts, tried: [])
            } else if upstream.resumeCapability == .tokens {
                moved.continued += 1
                metrics.migrated(.continued, cause: .lost)
                interrupted[id] = interrupted[id] ?? eventLoop.now
                submit(id, owner: owner, choice: sequence.choice, attempts: sequence.attempts, tried: [])
            } else {
                moved.refused += 1
                interrupted[id] = nil
                metrics.migrated(.refused, cause: .lost)
                owner.fail(
                    choice: sequence.choice, error: .server("the engine that ran the request was lost: \(reason)"))
            }
        }
        return moved
    }

    /// What an engine did, of one step or of one turn of the event loop.
    func receive(_ outputs: some Sequence<Output>, from engine: EngineID) {
        for output in outputs {
            guard let sequence = running[output.id], sequence.engine == engine else { continue }
            let owner = sequence.owner
            if !interrupted.isEmpty, output.newTokens > 0 || output.end != nil,
                let since = interrupted.removeValue(forKey: output.id)
            {
                metrics.migrationPause.observe(Double((eventLoop.now - since).nanoseconds) / 1e9)
            }
            switch output.end {
            case nil:
                router.progressed(output.id, on: engine, newTokens: output.newTokens)
            case .finished:
                running[output.id] = nil
                router.finished(output.id, on: engine)
                router.reported(.answered, by: engine, at: now)
            case .failed(let failure):
                running[output.id] = nil
                router.finished(output.id, on: engine)
                retryOrFail(output.id, failure, sequence, owner)
                continue
            }
            owner.receive(choice: sequence.choice, output: output)
        }
    }

    // MARK: Choosing

    private func submit(
        _ id: RequestID, owner: Owner, choice: Int, attempts: Int, tried: Set<EngineID>
    ) {
        guard attempts < limits.attempts else {
            interrupted[id] = nil
            owner.fail(choice: choice, error: .unavailable("the request failed on \(attempts) engines in a row"))
            return
        }
        let work = owner.work(choice: choice, id: id)
        let cost = work.cost
        let hints = router.servingEngines > 1 ? hints(work) : RoutingHints()
        guard
            let engine = router.choose(for: cost, hints: hints, excluding: tried, at: now, using: &random),
            let upstream = upstreams[engine]
        else {
            hold(id, owner: owner, choice: choice, attempts: attempts)
            return
        }
        var tried = tried
        tried.insert(engine)
        running[id] = Running(owner: owner, choice: choice, engine: engine, attempts: attempts + 1, tried: tried)
        router.started(id, on: engine, cost: cost, hints: hints)
        upstream.start(work)
        if owner.isPaused { upstream.pause(id) }
    }

    private func hold(_ id: RequestID, owner: Owner, choice: Int, attempts: Int) {
        let deadline = eventLoop.now + limits.hold
        held[id] = Held(owner: owner, choice: choice, attempts: attempts, deadline: deadline)
        eventLoop.assumeIsolated().scheduleTask(deadline: deadline) { [weak self] in
            guard let self, let held = self.held[id], held.deadline <= deadline else { return }
            self.held[id] = nil
            self.interrupted[id] = nil
            held.owner.fail(choice: held.choice, error: .unavailable("no engine is serving; try again later"))
        }
    }

    private func releaseHeld() {
        let waiting = held.sorted { $0.key < $1.key }
        held.removeAll(keepingCapacity: true)
        for (id, sequence) in waiting {
            let owner = sequence.owner
            submit(id, owner: owner, choice: sequence.choice, attempts: sequence.attempts, tried: [])
        }
    }

    private func retryOrFail(
        _ id: RequestID, _ failure: RequestFailure, _ sequence: Running, _ owner: Owner
    ) {
        switch failure.kind {
        case .overloaded: router.reported(.busy, by: sequence.engine, at: now)
        case .engine: router.reported(.failed, by: sequence.engine, at: now)
        case .doesNotFit, .invalid, .draining: break
        }
        switch failure.kind {
        case .doesNotFit:
            owner.fail(
                choice: sequence.choice,
                error: .invalid(nil, failure.message, code: "context_length_exceeded"))
        case .invalid:
            owner.fail(choice: sequence.choice, error: .invalid(nil, failure.message))
        case .overloaded, .engine, .draining:
            let others = upstreams.keys.contains { !sequence.tried.contains($0) }
            if others || failure.kind == .draining {
                if owner.maySubmitAgain(choice: sequence.choice) {
                    metrics.retries.add()
                } else {
                    metrics.migrated(.continued, cause: MigrationCause(failure.kind))
                    interrupted[id] = eventLoop.now
                }
            }
            if others {
                submit(
                    id, owner: owner, choice: sequence.choice, attempts: sequence.attempts,
                    tried: sequence.tried)
            } else if failure.kind == .overloaded {
                owner.fail(choice: sequence.choice, error: .overloaded(failure.message))
            } else if failure.kind == .draining {
                hold(id, owner: owner, choice: sequence.choice, attempts: sequence.attempts)
            } else {
                owner.fail(choice: sequence.choice, error: .server(failure.message))
            }
        }
    }
}

extension EngineRequest: DispatchedWork {
    var cost: TokenCost { TokenCost(prompt: tokens.count, new: maximumNewTokens - resumeOffset) }
}

extension SequenceOutput: DispatchedOutput {
    var newTokens: Int { tokens.count }

    var end: DispatchEnd? {
        switch finish {
        case nil: nil
        case .failed, .cancelled:
            .failed(
                failure
                    ?? RequestFailure(kind: .engine, message: "the engine gave the request up without a reason"))
        default: .finished
        }
    }
}
