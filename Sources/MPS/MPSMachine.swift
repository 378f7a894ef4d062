// Tandem — Apache-2.0

/// Decides all that is done about MPS on one GPU; knows no process, no file and no clock.
///
/// Times are durations since any fixed instant.
public struct MPSMachine: Sendable {
    /// How long things may take.
    public struct Limits: Sendable {
        public var start = Duration.seconds(10)
        public var initialize = Duration.seconds(60)
        public var terminateClient = Duration.seconds(5)
        public var killEngine = Duration.seconds(5)
        /// Until all engines ended and the daemon lists no client.
        public var killGroup = Duration.seconds(15)
        public var quit = Duration.seconds(5)
        public var killServer = Duration.seconds(3)
        public var killDaemon = Duration.seconds(5)
        /// Between queries when all is well: each makes the daemon write to its log.
        public var probe = Duration.seconds(20)
        /// Between queries while something is waited for.
        public var retry = Duration.milliseconds(500)
        /// Queries in a row without an answer until the daemon counts as wedged.
        public var unansweredQueries = 3
        /// Wait before the first restart; it doubles from there.
        public var firstDelay = Duration.milliseconds(100)
        public var maximumDelay = Duration.seconds(10)
        public var restartsUntilFailed = 5
        public var failedDelay = Duration.seconds(30)
        /// Having served so long makes earlier restarts forgotten.
        public var healthyAfter = Duration.seconds(60)

        /// - Parameter scale: factor on all times.
        public init(scale: Double = 1) {
            let times: [WritableKeyPath<Limits, Duration>] = [
                \.start, \.initialize, \.terminateClient, \.killEngine, \.killGroup, \.quit, \.killServer, \.killDaemon,
                \.probe, \.retry, \.firstDelay, \.maximumDelay, \.failedDelay, \.healthyAfter,
            ]
            for time in times { self[keyPath: time] = self[keyPath: time] * scale }
        }
    }

    public let limits: Limits
    public private(set) var ownership: DaemonOwnership
    public private(set) var phase = MPSPhase.absent
    /// The rung of recovery; null when nothing has to be recovered.
    public private(set) var rung: RecoveryRung?
    /// How often each rung was climbed.
    public private(set) var counts: [RecoveryRung: Int] = [:]
    /// Whether engines may start and get requests.
    public private(set) var isAdmitting = false
    /// When ``MPSEvent/timePassed`` is due; null while only something else can happen.
    public private(set) var deadline: Duration?
    /// Engines that have a process.
    public private(set) var engines: Set<Int> = []
    public private(set) var daemonLives = false
    /// Restarts since it last served well.
    public private(set) var restarts = 0

    /// The end of the present rung or phase; queries are repeated before it.
    private var limit: Duration?
    private var suspect: Int?
    private var suspectWasTerminated = false
    private var unanswered = 0
    private var isStopping = false
    private var admittedAt = Duration.zero
    private var ownerWasTold = false
    /// Answers of FAULT since all engines ended.
    private var faultAnswers = 0
    /// Engines were let in though the server still said FAULT.
    private var faultIsForgiven = false

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
        case .engineFault(let engine):
            if engines.contains(engine) { faulted("engine \(engine) reported a fault of all engines", now, &actions) }
        case .terminated(let engine, let succeeded): terminated(engine, succeeded, now, &actions)
        case .timePassed: timePassed(now, &actions)
        }
        return actions
    }

    // MARK: - Start and end

    private mutating func start(_ now: Duration, _ actions: inout [MPSAction]) {
        phase = .starting
        unanswered = 0
        wait(for: limits.start, now)
        if ownership == .own {
            actions.append(.startDaemon)
        } else {
            actions.append(.query)
        }
    }

    private mutating func daemonStarted(_ now: Duration, _ actions: inout [MPSAction]) {
        guard phase == .starting, ownership == .own, !daemonLives else { return }
        daemonLives = true
        actions.append(.query)
    }

    private mutating func daemonNotStarted(_ reason: String, _ now: Duration, _ actions: inout [MPSAction]) {
        guard phase == .starting, ownership == .own, !daemonLives else { return }
        actions.append(.log("the MPS control daemon does not start: \(reason)"))
        restartLater(now, &actions)
    }

    private mutating func stop(_ now: Duration, _ actions: inout [MPSAction]) {
        guard !isStopping else { return }
        isStopping = true
        hold(&actions)
        guard ownership.mayEndIt, daemonLives else { return finish(&actions) }
        if let rung, rung >= .quit { return }
        phase = .draining
        climb(to: engines.isEmpty ? .quit : .killGroup, now, &actions)
    }

    private mutating func finish(_ actions: inout [MPSAction]) {
        phase = .absent
        rung = nil
        limit = nil
        deadline = nil
    }

    private mutating func daemonEnded(_ now: Duration, _ actions: inout [MPSAction]) {
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

    private mutating func finishOwn(_ actions: inout [MPSAction]) {
        // It ends without a word to its servers when it is killed.
        actions += [.killServer, .cleanDirectory]
        finish(&actions)
    }

    /// The daemon is gone and its place is made ready for another one.
    private mutating func afterDaemon(_ now: Duration, _ actions: inout [MPSAction]) {
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

    private mutating func restartLater(_ now: Duration, _ actions: inout [MPSAction]) {
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

    private mutating func answered(_ snapshot: MPSSnapshot, _ now: Duration, _ actions: inout [MPSAction]) {
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
    private mutating func settle(_ snapshot: MPSSnapshot, _ now: Duration, _ actions: inout [MPSAction]) {
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

    private mutating func rest(_ next: MPSPhase, _ now: Duration) {
        phase = next
        if next == .initializing {
            wait(for: limits.initialize, now)
        } else {
            limit = nil
            deadline = now + limits.probe
        }
    }

    private mutating func notAnswered(_ outcome: ControlOutcome, _ now: Duration, _ actions: inout [MPSAction]) {
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

    private mutating func serverStarting(_ now: Duration) {
        guard rung == nil, phase == .idle || phase == .active else { return }
        rest(.initializing, now)
    }

    private mutating func serverEnded(_ now: Duration, _ actions: inout [MPSAction]) {
        guard rung == nil else { return }
        switch phase {
        case .initializing, .active:
            guard engines.isEmpty else { return faulted("the MPS server ended", now, &actions) }
            rest(.idle, now)
        default: break
        }
    }

    private mutating func serversGone(_ now: Duration, _ actions: inout [MPSAction]) {
        guard rung == .killServer else { return }
        if daemonLives {
            // At the end nobody waits for an answer: free of its server, the daemon quits, or is killed next.
            if !isStopping { actions.append(.query) }
        } else {
            afterDaemonOrEnd(now, &actions)
        }
    }

    /// All engines have to go: none that was attached works any more, and new ones are refused until then.
    private mutating func faulted(_ reason: String, _ now: Duration, _ actions: inout [MPSAction]) {
        guard !isStopping, rung == nil || rung == .terminateClient || rung == .killEngine else { return }
        switch phase {
        case .idle, .initializing, .active: break
        default: return
        }
        phase = .fault
        actions.append(.log(reason + ": all engines of this GPU start again"))
        climb(to: .killGroup, now, &actions)
    }

    private mutating func wedged(_ reason: String, _ now: Duration, _ actions: inout [MPSAction]) {
        phase = .wedged
        actions.append(.log(reason))
        climb(to: .killGroup, now, &actions)
    }

    // MARK: - Engines

    private mutating func engineStarted(_ engine: Int, _ actions: inout [MPSAction]) {
        engines.insert(engine)
        // It was on its way when the group was killed.
        if let rung, rung >= .killGroup, rung != .restart { actions.append(.killEngine(engine)) }
    }

    private mutating func engineEnded(_ engine: Int, _ now: Duration, _ actions: inout [MPSAction]) {
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

    private mutating func engineStuck(_ engine: Int, _ now: Duration, _ actions: inout [MPSAction]) {
        guard !isStopping, rung == nil, phase == .active || phase == .initializing || phase == .idle,
            engines.contains(engine)
        else { return }
        suspect = engine
        suspectWasTerminated = false
        actions.append(.log("engine \(engine) is stuck: its work on the GPU is dropped before it is killed"))
        climb(to: .terminateClient, now, &actions)
    }

    private mutating func terminated(
        _ engine: Int, _ succeeded: Bool, _ now: Duration, _ actions: inout [MPSAction]
    ) {
        guard rung == .terminateClient, engine == suspect else { return }
        suspectWasTerminated = succeeded
        climb(to: .killEngine, now, &actions)
    }

    private mutating func suspectEnded(_ now: Duration, _ actions: inout [MPSAction]) {
        if suspectWasTerminated {
            rung = nil
            suspect = nil
            rest(phase, now)
        } else {
            // Killed with work in flight: what the server says of itself decides.
            actions.append(.query)
        }
    }

    private mutating func groupEnded(_ now: Duration, _ actions: inout [MPSAction]) {
        if isStopping {
            climb(to: .quit, now, &actions)
        } else if phase == .dead {
            afterDaemon(now, &actions)
        } else {
            deadline = min(limit ?? now, now + limits.retry)
            actions.append(.query)
        }
    }

    // MARK: - The ladder

    private mutating func climb(to next: RecoveryRung, _ now: Duration, _ actions: inout [MPSAction]) {
        rung = next
        note(next)
        switch next {
        case .terminateClient:
            wait(for: limits.terminateClient, now, repeating: false)
            if let suspect { actions.append(.terminateClient(engine: suspect)) }
        case .killEngine:
            wait(for: limits.killEngine, now)
            if let suspect, engines.contains(suspect) {
                actions.append(.killEngine(suspect))
            } else {
                suspectEnded(now, &actions)
            }
        case .killGroup:
            hold(&actions)
            suspect = nil
            faultAnswers = 0
            wait(for: limits.killGroup, now)
            for engine in engines.sorted() { actions.append(.killEngine(engine)) }
            if engines.isEmpty { groupEnded(now, &actions) }
        case .quit:
            guard ownership.mayEndIt else { return leaveToOwner(now, &actions) }
            guard daemonLives else { return climb(to: .killServer, now, &actions) }
            wait(for: limits.quit, now, repeating: false)
            actions.append(.quit)
        case .killServer:
            wait(for: limits.killServer, now)
            actions += [.log("SIGKILL to the MPS server"), .killServer]
        case .killDaemon:
            wait(for: limits.killDaemon, now, repeating: false)
            actions += [.log("SIGKILL to the MPS control daemon"), .killDaemon]
        case .cleanDirectory, .restart:
            afterDaemon(now, &actions)
        }
    }

    private mutating func leaveToOwner(_ now: Duration, _ actions: inout [MPSAction]) {
        rung = .killGroup
        tellOwner("end it with 'quit', or kill its server, and start it again", &actions)
        actions += engines.isEmpty ? [.query] : engines.sorted().map { .killEngine($0) }
        wait(for: limits.probe, now)
    }

    private mutating func tellOwner(_ remedy: String, _ actions: inout [MPSAction]) {
        guard !ownerWasTold else { return }
        ownerWasTold = true
        actions.append(.log("the MPS daemon is not ours and does not work: \(remedy)"))
    }

    private mutating func timePassed(_ now: Duration, _ actions: inout [MPSAction]) {
        guard let deadline, now >= deadline else { return }
        if isAdmitting, rung == nil, now - admittedAt >= limits.healthyAfter { restarts = 0 }
        guard let limit, now >= limit else {
            // Not the end: ask again.
            self.deadline = min(limit ?? now + limits.probe, now + (limit == nil ? limits.probe : limits.retry))
            if asksWhileWaiting { actions.append(.query) }
            return
        }
        if phase == .dead && (rung == .restart || rung == nil) || phase == .failed {
            return begin(again: now, &actions)
        }
        switch rung {
        case nil, .restart:
            if phase == .initializing {
                wedged("the MPS server has not become ready in \(limits.initialize)", now, &actions)
            } else {
                notReached(now, &actions)
            }
        case .terminateClient: climb(to: .killEngine, now, &actions)
        case .killEngine:
            phase = .fault
            climb(to: .killGroup, now, &actions)
        case .killGroup where phase == .dead: afterDaemon(now, &actions)
        case .killGroup: climb(to: .quit, now, &actions)
        case .quit: climb(to: .killServer, now, &actions)
        case .killServer where !daemonLives: afterDaemonOrEnd(now, &actions)
        case .killServer: climb(to: .killDaemon, now, &actions)
        case .killDaemon:
            actions.append(.log("the MPS control daemon cannot be killed"))
            daemonLives = false
            afterDaemonOrEnd(now, &actions)
        case .cleanDirectory: afterDaemonOrEnd(now, &actions)
        }
    }

    private mutating func afterDaemonOrEnd(_ now: Duration, _ actions: inout [MPSAction]) {
        if isStopping { finishOwn(&actions) } else { afterDaemon(now, &actions) }
    }

    private mutating func begin(again now: Duration, _ actions: inout [MPSAction]) {
        if phase == .failed { restarts = limits.restartsUntilFailed - 1 }
        if ownership == .own { note(.restart) }
        start(now, &actions)
    }

    /// The daemon was started, or looked for, and does not answer.
    private mutating func notReached(_ now: Duration, _ actions: inout [MPSAction]) {
        guard phase == .starting else { return rest(phase, now) }
        guard ownership != .external, daemonLives else {
            phase = .dead
            rung = nil
            if ownership == .adopted { return restartLater(now, &actions) }
            tellOwner("start it", &actions)
            return wait(for: limits.probe, now)
        }
        actions.append(.log("the MPS control daemon does not answer after its start"))
        phase = .wedged
        climb(to: .killServer, now, &actions)
    }

    /// Whether an answer would be of use before the time is up.
    private var asksWhileWaiting: Bool {
        guard !isStopping else { return false }
        switch rung {
        case nil, .restart:
            return phase != .dead && phase != .failed && (phase != .starting || daemonLives || ownership != .own)
        case .killEngine: return suspect.map { !engines.contains($0) } ?? false
        case .killGroup: return engines.isEmpty && phase != .dead
        case .killServer: return daemonLives
        default: return false
        }
    }

    private mutating func hold(_ actions: inout [MPSAction]) {
        guard isAdmitting else { return }
        isAdmitting = false
        actions.append(.hold)
    }

    private mutating func wait(for duration: Duration, _ now: Duration, repeating: Bool = true) {
        limit = now + duration
        deadline = now + (repeating ? min(duration, limits.retry) : duration)
    }

    private mutating func note(_ rung: RecoveryRung) {
        counts[rung, default: 0] += 1
    }
}

extension MPSMachine {
    /// All that decides what a machine does, but for times: of those it counts only whether there are any.
    struct Signature: Hashable {
        var ownership: DaemonOwnership
        var phase: MPSPhase
        var rung: RecoveryRung?
        var engines: Set<Int>
        var flags: [Bool]
        var numbers: [Int]
    }

    /// Equal for machines that behave alike.
    var signature: Signature {
        Signature(
            ownership: ownership, phase: phase, rung: rung, engines: engines,
            flags: [
                isAdmitting, deadline != nil, limit != nil, daemonLives, suspectWasTerminated, isStopping, ownerWasTold,
                faultIsForgiven,
            ],
            numbers: [restarts, unanswered, suspect ?? -1, min(faultAnswers, 2)])
    }
}
