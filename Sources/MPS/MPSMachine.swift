// Tandem — Apache-2.0

/// Decides all that is done about MPS on one GPU; knows no process, no file and no clock.
///
/// Times are durations since any fixed instant.
public struct MPSMachine: Sendable {
    public let limits: Limits
    public internal(set) var ownership: DaemonOwnership
    public internal(set) var phase = MPSPhase.absent
    /// The rung of recovery; null when nothing has to be recovered.
    public internal(set) var rung: RecoveryRung?
    /// How often each rung was climbed.
    public internal(set) var counts: [RecoveryRung: Int] = [:]
    /// Whether engines may start and get requests.
    public internal(set) var isAdmitting = false
    /// When ``MPSEvent/timePassed`` is due; null while only something else can happen.
    public internal(set) var deadline: Duration?
    /// Engines that have a process.
    public internal(set) var engines: Set<Int> = []
    public internal(set) var daemonLives = false
    /// Restarts since it last served well.
    public internal(set) var restarts = 0

    /// The end of the present rung or phase; queries are repeated before it.
    var limit: Duration?
    var suspect: Int?
    var suspectWasTerminated = false
    var unanswered = 0
    var isStopping = false
    var admittedAt = Duration.zero
    var ownerWasTold = false
    /// Answers of FAULT since all engines ended.
    var faultAnswers = 0
    /// Engines were let in though the server still said FAULT.
    var faultIsForgiven = false

    public init(ownership: DaemonOwnership, limits: Limits = Limits()) {
        self.ownership = ownership
        self.limits = limits
    }

    /// Takes note of an event.
    public mutating func handle(_ event: MPSEvent, now: Duration) -> [MPSAction] {
        var actions: [MPSAction] = []
        switch event {
        case .begin: if phase == .absent && !isStopping { start(now, &actions) }
        case .stop: stop(now, &actions)
        case .daemonStarted: daemonStarted(now, &actions)
        case .daemonNotStarted(let reason): daemonNotStarted(reason, now, &actions)
        case .daemonEnded: daemonEnded(now, &actions)
        case .answered(let snapshot): answered(snapshot, now, &actions)
        case .notAnswered(let outcome): notAnswered(outcome, now, &actions)
        case .serverStarting: serverStarting(now)
        case .serverReady: if rung == nil && phase == .initializing { rest(.active, now) }
        case .serverEnded: serverEnded(now, &actions)
        case .serverFault: faulted("the MPS server had a fatal fault", now, &actions)
        case .serversGone: serversGone(now, &actions)
        case .engineStarted(let engine): engineStarted(engine, &actions)
        case .engineEnded(let engine): engineEnded(engine, now, &actions)
        case .engineStuck(let engine): engineStuck(engine, now, &actions)
        // Of one that ended before it was known, too: the others have the same fault, and starts wait for the end of it.
        case .engineFault(let engine): faulted("engine \(engine) reported a fault of all engines", now, &actions)
        case .terminated(let engine, let succeeded): terminated(engine, succeeded, now, &actions)
        case .timePassed: timePassed(now, &actions)
        }
        return actions
    }

    // MARK: - Start and end

    mutating func start(_ now: Duration, _ actions: inout [MPSAction]) {
        phase = .starting
        unanswered = 0
        wait(for: limits.start, now)
        if ownership == .own {
            actions.append(.startDaemon)
        } else {
            actions.append(.query)
        }
    }

    mutating func daemonStarted(_ now: Duration, _ actions: inout [MPSAction]) {
        guard phase == .starting, ownership == .own, !daemonLives else { return }
        daemonLives = true
        actions.append(.query)
    }

    mutating func daemonNotStarted(_ reason: String, _ now: Duration, _ actions: inout [MPSAction]) {
        guard phase == .starting, ownership == .own, !daemonLives else { return }
        actions.append(.log("the MPS control daemon does not start: \(reason)"))
        restartLater(now, &actions)
    }

    mutating func stop(_ now: Duration, _ actions: inout [MPSAction]) {
        guard !isStopping else { return }
        isStopping = true
        hold(&actions)
        guard ownership.mayEndIt, daemonLives else { return finish(&actions) }
        // A daemon that is about to answer for the first time is told to quit like one that has.
        if let rung, rung >= .quit, rung != .restart { return }
        phase = .draining
        climb(to: engines.isEmpty ? .quit : .killGroup, now, &actions)
    }

    mutating func finish(_ actions: inout [MPSAction]) {
        phase = .absent
        rung = nil
        limit = nil
        deadline = nil
    }

    mutating func daemonEnded(_ now: Duration, _ actions: inout [MPSAction]) {
        daemonLives = false
        if isStopping { return ownership.mayEndIt ? finishOwn(&actions) : finish(&actions) }
        guard phase != .absent && phase != .failed else { return }
        if let rung, rung >= .quit { return afterDaemon(now, &actions) }
        let wasKnown = phase == .dead
        phase = .dead
        hold(&actions)
        if !wasKnown { actions.append(.log("the MPS control daemon ended unexpectedly")) }
        if engines.isEmpty {
            afterDaemon(now, &actions)
        } else if rung != .killGroup {
            climb(to: .killGroup, now, &actions)
        }
    }

    mutating func finishOwn(_ actions: inout [MPSAction]) {
        // It ends without a word to its servers when it is killed.
        actions += [.killServer, .cleanDirectory]
        finish(&actions)
    }

    /// The daemon is gone and its place is made ready for another one.
    mutating func afterDaemon(_ now: Duration, _ actions: inout [MPSAction]) {
        guard ownership.mayEndIt else {
            phase = .dead
            rung = nil
            tellOwner("start it again", &actions)
            return wait(for: limits.probe, now)
        }
        note(.killServer)
        note(.cleanDirectory)
        actions += [.killServer, .cleanDirectory]
        restartLater(now, &actions)
    }

    mutating func restartLater(_ now: Duration, _ actions: inout [MPSAction]) {
        hold(&actions)
        ownership = .own
        daemonLives = false
        restarts += 1
        rung = .restart
        suspect = nil
        faultIsForgiven = false
        guard restarts < limits.restartsUntilFailed else {
            phase = .failed
            actions.append(.log("MPS is given up for \(limits.failedDelay): \(restarts) restarts did not help"))
            return wait(for: limits.failedDelay, now)
        }
        phase = .dead
        var delay = limits.firstDelay
        for _ in 1..<restarts { delay = min(delay * 2, limits.maximumDelay) }
        wait(for: delay, now)
    }

    // MARK: - Answers

    mutating func answered(_ snapshot: MPSSnapshot, _ now: Duration, _ actions: inout [MPSAction]) {
        guard !isStopping, phase != .absent else { return }
        // An own one is known by its process; this may be the last word of an earlier one.
        if ownership != .own { daemonLives = true }
        guard daemonLives else { return }
        unanswered = 0
        switch rung {
        case nil, .restart:
            guard phase != .dead || !ownership.mayEndIt else { return }
            if snapshot.server == .active { faultIsForgiven = false }
            guard snapshot.server != .fault || faultIsForgiven else {
                return faulted("the MPS server is in state FAULT", now, &actions)
            }
            settle(snapshot, now, &actions)
        case .terminateClient: break
        case .killEngine:
            guard let suspect, !engines.contains(suspect) else { return }
            if snapshot.server == .fault {
                faulted("the MPS server is in state FAULT", now, &actions)
            } else {
                settle(snapshot, now, &actions)
            }
        case .killGroup:
            guard engines.isEmpty, snapshot.clients == 0 || (!ownership.mayEndIt && snapshot.server != .fault) else {
                return
            }
            if snapshot.server == .fault {
                // A server without clients takes new ones within 0.3 s, and may say FAULT until one comes. That is
                // believed once: if the newcomers meet a fault again, the daemon goes.
                faultAnswers += 1
                guard faultAnswers > 1, !faultIsForgiven else { return }
                faultIsForgiven = true
            }
            settle(snapshot, now, &actions)
        case .killServer:
            guard snapshot.server != .fault else { return }
            settle(snapshot, now, &actions)
        case .quit, .killDaemon, .cleanDirectory: break
        }
    }

    /// All is well.
    mutating func settle(_ snapshot: MPSSnapshot, _ now: Duration, _ actions: inout [MPSAction]) {
        rung = nil
        suspect = nil
        ownerWasTold = false
        let next: MPSPhase =
            switch snapshot.server {
            case .none: .idle
            case .initializing: .initializing
            case .active: .active
            case .fault: .idle
            }
        if next == .initializing && phase == .initializing {
            deadline = min(limit ?? now, now + limits.retry)
        } else {
            rest(next, now)
        }
        if !isAdmitting {
            isAdmitting = true
            admittedAt = now
            actions.append(.admit)
        }
    }

    mutating func rest(_ next: MPSPhase, _ now: Duration) {
        phase = next
        if next == .initializing {
            wait(for: limits.initialize, now)
        } else {
            limit = nil
            deadline = now + limits.probe
        }
    }

    mutating func notAnswered(_ outcome: ControlOutcome, _ now: Duration, _ actions: inout [MPSAction]) {
        guard !isStopping, rung == nil || rung == .restart else { return }
        switch phase {
        case .idle, .active, .initializing: break
        default: return
        }
        switch outcome {
        case .answer, .truncated, .busy(.lock):
            // Somebody else's sessions say nothing about the daemon.
            deadline = min(limit ?? .seconds(Int64.max / 2), now + limits.retry)
        case .noDaemon where !ownership.mayEndIt || ownership == .adopted:
            daemonEnded(now, &actions)
        case .busy(.daemon), .noDaemon:
            // Commands block while a server starts; that has a limit of its own.
            guard phase != .initializing else {
                deadline = min(limit ?? now, now + limits.retry)
                return
            }
            unanswered += 1
            deadline = now + limits.retry
            guard unanswered >= limits.unansweredQueries else { return }
            wedged("the MPS control daemon left \(unanswered) queries in a row unanswered", now, &actions)
        }
    }

    // MARK: - Server

    mutating func serverStarting(_ now: Duration) {
        guard rung == nil, phase == .idle || phase == .active else { return }
        rest(.initializing, now)
    }

    mutating func serverEnded(_ now: Duration, _ actions: inout [MPSAction]) {
        guard rung == nil else { return }
        switch phase {
        case .initializing, .active:
            guard engines.isEmpty else { return faulted("the MPS server ended", now, &actions) }
            rest(.idle, now)
        default: break
        }
    }

    mutating func serversGone(_ now: Duration, _ actions: inout [MPSAction]) {
        guard rung == .killServer else { return }
        if daemonLives {
            // At the end nobody waits for an answer: free of its server, the daemon quits, or is killed next.
            if !isStopping { actions.append(.query) }
        } else {
            afterDaemonOrEnd(now, &actions)
        }
    }

    /// All engines have to go: none that was attached works any more, and new ones are refused until then.
    mutating func faulted(_ reason: String, _ now: Duration, _ actions: inout [MPSAction]) {
        guard !isStopping, rung == nil || rung == .terminateClient || rung == .killEngine else { return }
        switch phase {
        case .idle, .initializing, .active: break
        default: return
        }
        phase = .fault
        actions.append(.log(reason + ": all engines of this GPU start again"))
        climb(to: .killGroup, now, &actions)
    }

    mutating func wedged(_ reason: String, _ now: Duration, _ actions: inout [MPSAction]) {
        phase = .wedged
        actions.append(.log(reason))
        climb(to: .killGroup, now, &actions)
    }

    // MARK: - Engines

    mutating func engineStarted(_ engine: Int, _ actions: inout [MPSAction]) {
        engines.insert(engine)
        // It was on its way when the group was killed.
        if let rung, rung >= .killGroup, rung != .restart { actions.append(.killEngine(engine)) }
    }

    mutating func engineEnded(_ engine: Int, _ now: Duration, _ actions: inout [MPSAction]) {
        guard engines.remove(engine) != nil else { return }
        switch rung {
        case .terminateClient where engine == suspect:
            // Ended while it was asked to; what it left behind is not known.
            suspectWasTerminated = false
            climb(to: .killEngine, now, &actions)
        case .killEngine where engine == suspect: suspectEnded(now, &actions)
        case .killGroup where engines.isEmpty: groupEnded(now, &actions)
        default: break
        }
    }

    mutating func engineStuck(_ engine: Int, _ now: Duration, _ actions: inout [MPSAction]) {
        guard !isStopping, rung == nil, phase == .active || phase == .initializing || phase == .idle,
            engines.contains(engine)
        else { return }
        suspect = engine
        suspectWasTerminated = false
        actions.append(.log("engine \(engine) is stuck: its work on the GPU is dropped before it is killed"))
        climb(to: .terminateClient, now, &actions)
    }

    mutating func terminated(
        _ engine: Int, _ succeeded: Bool, _ now: Duration, _ actions: inout [MPSAction]
    ) {
        guard rung == .terminateClient, engine == suspect else { return }
        suspectWasTerminated = succeeded
        climb(to: .killEngine, now, &actions)
    }

    mutating func suspectEnded(_ now: Duration, _ actions: inout [MPSAction]) {
        if suspectWasTerminated {
            rung = nil
            suspect = nil
            rest(phase, now)
        } else {
            // Killed with work in flight: what the server says of itself decides.
            actions.append(.query)
        }
    }

    mutating func groupEnded(_ now: Duration, _ actions: inout [MPSAction]) {
        if isStopping {
            climb(to: .quit, now, &actions)
        } else if phase == .dead {
            afterDaemon(now, &actions)
        } else {
            deadline = min(limit ?? now, now + limits.retry)
            actions.append(.query)
        }
    }
}
