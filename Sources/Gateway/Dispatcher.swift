// Tandem — Apache-2.0

import NIOCore
import Requests
import Routing
import Telemetry

/// What a dispatcher tells the owner of a sequence.
protocol SequenceOwner: AnyObject {
    /// The sequence as it must be submitted now: with what was generated before, if it goes on elsewhere.
    func engineRequest(choice: Int, id: RequestID) -> EngineRequest
    /// Whether the sequence may start again although the engine that ran it can hand over nothing.
    func maySubmitAgain(choice: Int) -> Bool
    /// Whether its client takes nothing at the moment: what starts, or starts again elsewhere, has to start paused.
    var isPaused: Bool { get }
    func receive(choice: Int, output: SequenceOutput)
    /// The sequence cannot be served.
    func fail(choice: Int, error: APIError)
}

/// Brings sequences to engines: chooses an engine, holds sequences while none serves, moves them when one is lost.
///
/// Lives on one event loop, like everything it calls.
final class Dispatcher {
    struct Limits {
        /// Sequences that may be unfinished at once, running or waiting; more are refused with 429.
        var sequences = 4096
        /// How long a sequence waits for an engine when none serves.
        var hold: TimeAmount = .seconds(30)
        /// How often a sequence may be submitted.
        var attempts = 16
    }

    private struct Running {
        /// Strong: a running sequence keeps its request alive; the entry goes when the sequence ends.
        var owner: any SequenceOwner
        var choice: Int
        var engine: EngineID
        var attempts: Int
        var tried: Set<EngineID>
    }

    private struct Held {
        var owner: any SequenceOwner
        var choice: Int
        var attempts: Int
        var deadline: NIODeadline
    }

    private let eventLoop: any EventLoop
    private let limits: Limits
    private let metrics: GatewayMetrics
    private var router = Router()
    private var upstreams: [EngineID: any Upstream] = [:]
    private var running: [RequestID: Running] = [:]
    private var held: [RequestID: Held] = [:]
    private var random = SystemRandomNumberGenerator()
    private var nextID: RequestID = 1

    init(eventLoop: any EventLoop, limits: Limits = Limits(), metrics: GatewayMetrics) {
        self.eventLoop = eventLoop
        self.limits = limits
        self.metrics = metrics
    }

    var servingEngines: Int { router.views.count { $0.state == .serving } }
    /// Sequences that were admitted and did not end.
    var unfinished: Int { running.count + held.count + reserved }
    /// Sequences that were admitted and are started later.
    private(set) var reserved = 0
    /// Sequences that engines have in hand, by the router's account.
    var outstanding: Int { router.outstandingRequests }

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
    func start(owner: any SequenceOwner, choice: Int) -> RequestID {
        let id = nextID
        nextID += 1
        submit(id, owner: owner, choice: choice, attempts: 0, tried: [])
        return id
    }

    /// Ends a sequence; its owner hears nothing more of it.
    func cancel(_ id: RequestID) {
        held[id] = nil
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
    func engineAppeared(_ upstream: any Upstream) {
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
    func engineLost(_ engine: EngineID, reason: String) {
        guard let upstream = upstreams.removeValue(forKey: engine) else { return }
        router.engineGone(engine)
        let lost = running.filter { $0.value.engine == engine }.sorted { $0.key < $1.key }
        for (id, sequence) in lost {
            running[id] = nil
            let owner = sequence.owner
            if upstream.resumeCapability == .tokens || owner.maySubmitAgain(choice: sequence.choice) {
                metrics.retries.add()
                submit(id, owner: owner, choice: sequence.choice, attempts: sequence.attempts, tried: [])
            } else {
                owner.fail(
                    choice: sequence.choice, error: .server("the engine that ran the request was lost: \(reason)"))
            }
        }
    }

    /// Outputs of one engine step.
    func receive(_ outputs: [SequenceOutput], from engine: EngineID) {
        for output in outputs {
            guard let sequence = running[output.id], sequence.engine == engine else { continue }
            let owner = sequence.owner
            if let finish = output.finish {
                running[output.id] = nil
                router.finished(output.id, on: engine)
                if finish == .failed || finish == .cancelled {
                    retryOrFail(output, sequence, owner)
                    continue
                }
            } else {
                router.progressed(output.id, on: engine, newTokens: output.tokens.count)
            }
            owner.receive(choice: sequence.choice, output: output)
        }
    }

    // MARK: Choosing

    private func submit(
        _ id: RequestID, owner: any SequenceOwner, choice: Int, attempts: Int, tried: Set<EngineID>
    ) {
        guard attempts < limits.attempts else {
            owner.fail(choice: choice, error: .unavailable("the request failed on \(attempts) engines in a row"))
            return
        }
        let request = owner.engineRequest(choice: choice, id: id)
        guard let engine = router.choose(excluding: tried, using: &random), let upstream = upstreams[engine]
        else {
            hold(id, owner: owner, choice: choice, attempts: attempts)
            return
        }
        var tried = tried
        tried.insert(engine)
        running[id] = Running(owner: owner, choice: choice, engine: engine, attempts: attempts + 1, tried: tried)
        router.started(
            id, on: engine,
            cost: TokenCost(prompt: request.tokens.count, new: request.maximumNewTokens - request.resumeOffset))
        upstream.start(request)
        if owner.isPaused { upstream.pause(id) }
    }

    private func hold(_ id: RequestID, owner: any SequenceOwner, choice: Int, attempts: Int) {
        let deadline = eventLoop.now + limits.hold
        held[id] = Held(owner: owner, choice: choice, attempts: attempts, deadline: deadline)
        eventLoop.assumeIsolated().scheduleTask(deadline: deadline) { [weak self] in
            guard let self, let held = self.held[id], held.deadline <= deadline else { return }
            self.held[id] = nil
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

    private func retryOrFail(_ output: SequenceOutput, _ sequence: Running, _ owner: any SequenceOwner) {
        let failure =
            output.failure ?? RequestFailure(kind: .engine, message: "the engine gave the request up without a reason")
        switch failure.kind {
        case .doesNotFit:
            owner.fail(
                choice: sequence.choice,
                error: .invalid(nil, failure.message, code: "context_length_exceeded"))
        case .invalid:
            owner.fail(choice: sequence.choice, error: .invalid(nil, failure.message))
        case .overloaded, .engine, .draining:
            let others = upstreams.keys.contains { !sequence.tried.contains($0) }
            if others {
                metrics.retries.add()
                submit(
                    output.id, owner: owner, choice: sequence.choice, attempts: sequence.attempts,
                    tried: sequence.tried)
            } else if failure.kind == .overloaded {
                owner.fail(choice: sequence.choice, error: .overloaded(failure.message))
            } else if failure.kind == .draining {
                hold(output.id, owner: owner, choice: sequence.choice, attempts: sequence.attempts)
            } else {
                owner.fail(choice: sequence.choice, error: .server(failure.message))
            }
        }
    }
}
