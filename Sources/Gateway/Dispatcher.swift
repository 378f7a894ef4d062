// Tandem — Apache-2.0

import NIOCore
import Requests
import Routing
import Synchronization
import Telemetry

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

    /// A class, so that it costs little to look at for each token.
    final class Running {
        /// Strong: a running sequence keeps its request alive; the entry goes when the sequence ends.
        let owner: Owner
        let choice: Int
        let engine: EngineID
        let attempts: Int
        let tried: Set<EngineID>
        /// Engines that cannot do it.
        let excluded: Set<EngineID>
        /// Whether it has got a token from this engine.
        var isProven = false

        init(
            owner: Owner, choice: Int, engine: EngineID, attempts: Int, tried: Set<EngineID>, excluded: Set<EngineID>
        ) {
            self.owner = owner
            self.choice = choice
            self.engine = engine
            self.attempts = attempts
            self.tried = tried
            self.excluded = excluded
        }
    }

    struct Held {
        var owner: Owner
        var choice: Int
        var attempts: Int
        /// `nil` for as long as it waits for its turn: there are engines.
        var deadline: NIODeadline?
    }

    let eventLoop: any EventLoop
    private let limits: Limits
    let metrics: GatewayMetrics
    private var router = Router()
    /// What other event loops have in hand, and what this one told them of itself.
    private var loads: [EngineID: (sum: SharedLoad.Engine, tokens: SharedShare, requests: SharedShare)] = [:]
    private var unfinishedShare = SharedShare()
    private var upstreams: [EngineID: any Upstream<Work>] = [:]
    private(set) var running: [RequestID: Running] = [:]
    private(set) var held: [RequestID: Held] = [:]
    /// When sequences lost their engines that have not gone on yet.
    var interrupted: [RequestID: NIODeadline] = [:]
    var suspicion = Suspicion()
    /// Whether a suspect of this event loop is tried, and no other loop's.
    var hasTrialTurn = false
    /// Whether those that wait for their turn are about to be asked.
    var triesLater = false
    /// Whether engines that were busy are about to be asked.
    private var asksBusyAgain = false
    private var random = QuickGenerator()
    private var nextID: RequestID = 1
    /// What speaks for one engine or another beside their load; asked if there is a choice.
    var hints: (Work) -> RoutingHints = { _ in RoutingHints() }

    init(eventLoop: any EventLoop, limits: Limits = Limits(), metrics: GatewayMetrics) {
        self.eventLoop = eventLoop
        self.limits = limits
        self.metrics = metrics
        metrics.load.eventLoops.add(1, ordering: .relaxed)
    }

    var servingEngines: Int { router.servingEngines }
    /// Every engine with what it has in hand.
    var views: [EngineView] { router.views }
    var now: Duration { .nanoseconds(Int64(clamping: eventLoop.now.uptimeNanoseconds)) }
    /// Sequences that were admitted and did not end.
    var unfinished: Int { running.count + held.count + reserved }
    /// Sequences that wait because no engine serves.
    var heldSequences: Int { held.count }
    /// Sequences that were admitted and are started later.
    private(set) var reserved = 0
    /// Sequences that engines have in hand, by the router's account.
    var outstanding: Int { router.outstandingRequests }

    /// Sequences that an engine has in hand.
    func outstandingRequests(on engine: EngineID) -> Int { router.load(of: engine).requests }

    /// Where the oldest sequences of requests that show themselves are computed, at most so many.
    func placements(limit: Int) -> [(request: String, engine: EngineID, attempts: Int)] {
        running.lazy.filter { !$0.value.owner.requestID.isEmpty }.sorted { $0.key < $1.key }.prefix(limit)
            .map { ($0.value.owner.requestID, $0.value.engine, $0.value.attempts) }
    }

    // MARK: Sequences

    /// Whether so many more sequences may start now, beside those of all event loops.
    func hasRoom(for sequences: Int) -> Bool {
        shareUnfinished()
        return unfinishedOfAll + sequences <= limits.sequences
    }

    /// Sequences that were admitted and did not end, of all event loops.
    var unfinishedOfAll: Int { metrics.load.unfinished.load(ordering: .relaxed) }

    /// Keeps room for sequences that are started later.
    func reserve(_ sequences: Int) {
        reserved += sequences
        shareUnfinished()
    }

    /// Gives room back that was kept: the sequences start now, or never will.
    func release(_ sequences: Int) {
        reserved -= sequences
        shareUnfinished()
    }

    /// Starts a sequence.
    ///
    /// - Returns: the id to pause, resume or cancel it by. It stays the same when the sequence moves.
    func start(owner: Owner, choice: Int) -> RequestID {
        let id = nextID
        nextID += 1
        submit(id, owner: owner, choice: choice, attempts: 0, tried: [])
        shareUnfinished()
        return id
    }

    /// Ends a sequence; its owner hears nothing more of it.
    func cancel(_ id: RequestID) {
        defer { shareUnfinished() }
        held[id] = nil
        interrupted[id] = nil
        defer { leftTrial { $0.forget(id) } }
        guard let sequence = running.removeValue(forKey: id) else { return }
        router.finished(id, on: sequence.engine)
        shareLoad(of: sequence.engine)
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
        leftTrial { $0.suspend(id) }
    }

    func resume(_ id: RequestID) {
        if let sequence = running[id] { upstreams[sequence.engine]?.resume(id) }
    }

    // MARK: Engines

    /// An engine serves from now on.
    func engineAppeared(_ upstream: any Upstream<Work>) {
        upstreams[upstream.engine] = upstream
        // One that comes back still has what it had in hand, and that is in the sums.
        if loads[upstream.engine] == nil {
            loads[upstream.engine] = (metrics.load.engine(upstream.routingKey), SharedShare(), SharedShare())
        }
        router.engineAppeared(
            upstream.engine, key: upstream.routingKey, prefixes: upstream.prefixKnowledge)
        router.setServing(upstream.engine, true)
        releaseHeld()
    }

    /// An engine says which prefix blocks it has stored and evicted since it last did.
    func prefixesChanged(stored: [BlockHash], evicted: [BlockHash], on engine: EngineID) {
        router.prefixesChanged(stored: stored, evicted: evicted, on: engine)
    }

    /// What others have in flight on an engine; see ``Router/setForeignLoad(_:requests:on:)``.
    func setForeignLoad(_ tokens: Int, requests: Int, on engine: EngineID) {
        router.setForeignLoad(tokens, requests: requests, on: engine)
    }

    /// An engine takes nothing new and finishes what it has.
    func engineDraining(_ engine: EngineID) {
        router.setServing(engine, false)
    }

    /// An engine that was draining serves again, with all it still has.
    func engineResumed(_ engine: EngineID) {
        router.setServing(engine, true)
        releaseHeld()
    }

    /// An engine is gone with all it was running: what can go on elsewhere does.
    ///
    /// - Returns: what became of its sequences.
    @discardableResult
    func engineLost(_ engine: EngineID, reason: String) -> MovedSequences {
        var moved = MovedSequences()
        guard let upstream = upstreams.removeValue(forKey: engine) else { return moved }
        router.engineGone(engine)
        shareLoad(of: engine)
        loads[engine] = nil
        let lost = running.filter { $0.value.engine == engine }.sorted { $0.key < $1.key }
        // Who offers no more than the answer's text may have ended it for any reason.
        let convicted = upstream.resumeCapability == .tokens ? suspects(lost.map(\.key), of: engine) : []
        for (id, sequence) in lost {
            // A request that fails cancels its other sequences: they may be gone when it is their turn.
            guard running.removeValue(forKey: id) != nil else { continue }
            let owner = sequence.owner
            if convicted.contains(id) {
                moved.refused += 1
                refuse(id, sequence)
            } else if upstream.resumeCapability == .tokens || owner.maySubmitAgain(choice: sequence.choice) {
                moved.add(countMove(id, owner, sequence.choice, cause: .lost))
                submit(id, owner: owner, choice: sequence.choice, attempts: sequence.attempts, tried: [])
            } else {
                moved.refused += 1
                interrupted[id] = nil
                owner.fail(
                    choice: sequence.choice, error: .server("the engine that ran the request was lost: \(reason)"))
            }
        }
        shareUnfinished()
        return moved
    }

    /// What an engine did, of one step or of one turn of the event loop.
    func receive(_ outputs: some Sequence<Output>, from engine: EngineID) {
        var givenUp: [(id: RequestID, failure: RequestFailure)] = []
        for output in outputs {
            guard let sequence = running[output.id], sequence.engine == engine else { continue }
            let owner = sequence.owner
            router.progressed(output.id, on: engine, newTokens: output.newTokens)
            if output.newTokens > 0 { resumed(output.id) }
            if !sequence.isProven, output.newTokens > 0 {
                sequence.isProven = true
                if !suspicion.isEmpty { cleared(output.id) }
            }
            switch output.end {
            case nil: break
            case .finished:
                running[output.id] = nil
                router.finished(output.id, on: engine)
                resumed(output.id)
                if !suspicion.isEmpty { cleared(output.id) }
                report(.answered, by: engine)
            case .failed(let failure) where failure.kind == .draining:
                // Of a device that failed all of them come at once.
                givenUp.append((output.id, failure))
                continue
            case .failed(let failure):
                running[output.id] = nil
                router.finished(output.id, on: engine)
                retryOrFail(output.id, failure, sequence, owner)
                continue
            case .lost(let reason):
                running[output.id] = nil
                router.finished(output.id, on: engine)
                router.reported(.failed, by: engine, at: now)
                lost(output.id, reason, sequence, owner)
                continue
            }
            owner.receive(choice: sequence.choice, output: output)
        }
        if !givenUp.isEmpty { giveUp(givenUp, engine) }
        shareLoad(of: engine)
        shareUnfinished()
    }

    /// An engine ends, because its device failed for example, and gave up what it ran: as if it had been lost with it.
    private func giveUp(_ sequences: [(id: RequestID, failure: RequestFailure)], _ engine: EngineID) {
        let isOurs = upstreams[engine]?.resumeCapability == .tokens
        let convicted = isOurs ? suspects(sequences.map(\.id), of: engine) : []
        for (id, failure) in sequences {
            guard let sequence = running.removeValue(forKey: id) else { continue }
            router.finished(id, on: engine)
            if convicted.contains(id) {
                refuse(id, sequence)
            } else {
                retryOrFail(id, failure, sequence, sequence.owner)
            }
        }
    }

    /// A sequence got tokens that went to its owner another way.
    func progressed(_ id: RequestID, newTokens: Int, on engine: EngineID) {
        guard running[id]?.engine == engine else { return }
        router.progressed(id, on: engine, newTokens: newTokens)
        resumed(id)
        shareLoad(of: engine)
    }

    /// A sequence goes on, if it was interrupted.
    private func resumed(_ id: RequestID) {
        guard !interrupted.isEmpty, let since = interrupted.removeValue(forKey: id) else { return }
        metrics.migrationPause.observe(Double((eventLoop.now - since).nanoseconds) / 1e9)
    }

    // MARK: Choosing

    private func submit(
        _ id: RequestID, owner: Owner, choice: Int, attempts: Int, tried: Set<EngineID>, deadline: NIODeadline? = nil
    ) {
        guard attempts < limits.attempts else {
            interrupted[id] = nil
            leftTrial { $0.forget(id) }
            owner.fail(choice: choice, error: .unavailable("the request failed on \(attempts) engines in a row"))
            return
        }
        guard mayBegin(id) else {
            held[id] = Held(owner: owner, choice: choice, attempts: attempts, deadline: nil)
            return
        }
        let work = owner.work(choice: choice, id: id)
        let cost = work.cost
        var excluded = work.excluded
        if let only = owner.onlyEngine {
            for (engine, upstream) in upstreams where upstream.routingKey != only { excluded.insert(engine) }
        }
        var hints = RoutingHints()
        if router.servingEngines > 1 {
            hints = self.hints(work)
            if let session = owner.session { hints.session = session }
        }
        seeForeignLoad()
        guard
            let decision = router.decide(
                for: cost, hints: hints, excluding: excluded.isEmpty ? tried : tried.union(excluded), at: now,
                using: &random),
            let upstream = upstreams[decision.engine]
        else {
            leftTrial { _ in }
            hold(id, owner: owner, choice: choice, attempts: attempts, deadline: deadline)
            return
        }
        suspicion.began(id)
        metrics.routed(decision)
        let engine = decision.engine
        var tried = tried
        tried.insert(engine)
        running[id] = Running(
            owner: owner, choice: choice, engine: engine, attempts: attempts + 1, tried: tried, excluded: excluded)
        router.started(id, on: engine, cost: cost, hints: hints, cachedTokens: decision.cachedTokens)
        shareLoad(of: engine)
        owner.placed(choice: choice, on: upstream.routingKey)
        upstream.start(work)
        if owner.isPaused { pause(id) }
    }

    private func report(_ outcome: EngineOutcome, by engine: EngineID) {
        router.reported(outcome, by: engine, at: now, jitter: .random(in: 0...1, using: &random))
    }

    /// - Parameter deadline: of a sequence that was held already.
    private func hold(_ id: RequestID, owner: Owner, choice: Int, attempts: Int, deadline: NIODeadline? = nil) {
        let deadline = deadline ?? eventLoop.now + limits.hold
        held[id] = Held(owner: owner, choice: choice, attempts: attempts, deadline: deadline)
        eventLoop.assumeIsolated().scheduleTask(deadline: deadline) { [weak self] in
            guard let self, let held = self.held[id], let due = held.deadline, due <= deadline else { return }
            self.held[id] = nil
            self.interrupted[id] = nil
            self.leftTrial { $0.forget(id) }
            self.shareUnfinished()
            held.owner.fail(choice: held.choice, error: .unavailable("no engine is serving; try again later"))
        }
    }

    /// How long engines that are busy have before they are asked again.
    private static var busyPeriod: TimeAmount { .milliseconds(250) }

    /// All engines are busy, and the sequence has sent tokens: its client cannot be told to come again later, so it waits
    /// as if there were no engine.
    private func waitForRoom(_ id: RequestID, _ sequence: Running) {
        let since = interrupted[id] ?? eventLoop.now
        interrupted[id] = since
        hold(
            id, owner: sequence.owner, choice: sequence.choice, attempts: sequence.attempts - 1,
            deadline: since + limits.hold)
        guard !asksBusyAgain else { return }
        asksBusyAgain = true
        eventLoop.assumeIsolated().scheduleTask(in: Self.busyPeriod) { [weak self] in
            guard let self else { return }
            self.asksBusyAgain = false
            self.releaseHeld()
            self.shareUnfinished()
        }
    }

    func releaseHeld() {
        // A request that fails here cancels its other sequences, which are held too.
        for id in held.keys.sorted(by: { (suspicion.losses(of: $1), $0) < (suspicion.losses(of: $0), $1) }) {
            guard let sequence = held.removeValue(forKey: id) else { continue }
            submit(
                id, owner: sequence.owner, choice: sequence.choice, attempts: sequence.attempts, tried: [],
                deadline: sequence.deadline)
        }
    }

    /// Whether an engine serves that could do a sequence and has not tried.
    private func hasOther(than sequence: Running) -> Bool {
        router.views.contains {
            guard $0.state == .serving, !sequence.tried.contains($0.id), !sequence.excluded.contains($0.id) else {
                return false
            }
            // One that came since is not among those that were excluded.
            guard let only = sequence.owner.onlyEngine else { return true }
            return upstreams[$0.id]?.routingKey == only
        }
    }

    private func mayGoOn(_ sequence: Running) -> Bool {
        upstreams[sequence.engine]?.resumeCapability == .tokens
            || sequence.owner.maySubmitAgain(choice: sequence.choice)
    }

    private func lost(_ id: RequestID, _ reason: String, _ sequence: Running, _ owner: Owner) {
        guard mayGoOn(sequence) else {
            interrupted[id] = nil
            owner.fail(choice: sequence.choice, error: .server("the engine that ran the request was lost: \(reason)"))
            return
        }
        countMove(id, owner, sequence.choice, cause: .lost)
        let tried = hasOther(than: sequence) ? sequence.tried : []
        submit(id, owner: owner, choice: sequence.choice, attempts: sequence.attempts, tried: tried)
    }

    // MARK: Counting

    /// A sequence goes on elsewhere: after it has sent tokens that is a migration, before it a retry.
    @discardableResult
    private func countMove(_ id: RequestID, _ owner: Owner, _ choice: Int, cause: MigrationCause) -> MovedSequences {
        if !owner.hasSent(choice: choice) {
            metrics.retries.add()
            return MovedSequences(retried: 1)
        }
        metrics.migrated(reason: owner.lossReason ?? cause.rawValue)
        interrupted[id] = interrupted[id] ?? eventLoop.now
        return MovedSequences(continued: 1)
    }

    // MARK: Other event loops

    /// Tells other event loops what this one has in hand.
    func shareUnfinished() {
        unfinishedShare.enter(unfinished, into: metrics.load.unfinished)
    }

    private var isAlone: Bool { metrics.load.eventLoops.load(ordering: .relaxed) < 2 }

    private func shareLoad(of engine: EngineID) {
        guard !isAlone, var load = loads[engine] else { return }
        let (tokens, requests) = router.load(of: engine)
        load.tokens.enter(tokens, into: load.sum.tokens)
        load.requests.enter(requests, into: load.sum.requests)
        loads[engine] = load
    }

    /// Tells the router what other event loops have in hand.
    private func seeForeignLoad() {
        guard !isAlone else { return }
        for (engine, load) in loads {
            router.setForeignLoad(
                load.tokens.foreign(in: load.sum.tokens), requests: load.requests.foreign(in: load.sum.requests),
                on: engine)
        }
    }

    private func retryOrFail(
        _ id: RequestID, _ failure: RequestFailure, _ sequence: Running, _ owner: Owner
    ) {
        // Unless it goes on or waits.
        defer { if running[id] == nil, held[id] == nil { interrupted[id] = nil } }
        switch failure.kind {
        case .overloaded: report(.busy, by: sequence.engine)
        case .engine: report(.failed, by: sequence.engine)
        case .doesNotFit, .invalid, .draining: break
        }
        // An engine that says so is not lost.
        if failure.kind != .draining { leftTrial { $0.forget(id) } }
        switch failure.kind {
        case .doesNotFit:
            owner.fail(
                choice: sequence.choice,
                error: .invalid(nil, failure.message, code: "context_length_exceeded"))
        case .invalid:
            owner.fail(choice: sequence.choice, error: .invalid(nil, failure.message))
        case .overloaded, .engine, .draining:
            if hasOther(than: sequence), mayGoOn(sequence) {
                countMove(id, owner, sequence.choice, cause: MigrationCause(failure.kind))
                submit(
                    id, owner: owner, choice: sequence.choice, attempts: sequence.attempts,
                    tried: sequence.tried)
            } else if failure.kind == .overloaded, owner.hasSent(choice: sequence.choice), mayGoOn(sequence) {
                waitForRoom(id, sequence)
            } else if failure.kind == .overloaded {
                owner.fail(choice: sequence.choice, error: .overloaded(failure.message))
            } else if failure.kind == .draining {
                countMove(id, owner, sequence.choice, cause: .draining)
                // It has not tried: one that ends, and is asked again until it is gone, would use all attempts up.
                hold(id, owner: owner, choice: sequence.choice, attempts: sequence.attempts - 1)
            } else if upstreams[sequence.engine]?.resumeCapability == .tokens,
                sequence.attempts < limits.attemptsWithoutOther
            {
                // One of our own lost a step, for want of memory for example; the next one has other sequences in it.
                countMove(id, owner, sequence.choice, cause: MigrationCause(failure.kind))
                submit(id, owner: owner, choice: sequence.choice, attempts: sequence.attempts, tried: [])
            } else {
                owner.fail(choice: sequence.choice, error: .server(failure.message))
            }
        }
    }
}
