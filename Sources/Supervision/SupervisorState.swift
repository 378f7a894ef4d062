// Tandem — Apache-2.0

internal import EngineLink

/// Decides all that a supervisor does; knows no process, no socket and no clock.
struct SupervisorState {
    enum Phase: Equatable {
        case serving
        /// The gateway finishes its streams.
        case drainingGateway
        case drainingEngines
        /// No child is left; what keeps the common device working ends.
        case endingSharing
        /// Everything was killed and is only waited for.
        case killing
    }

    enum Condition: Equatable {
        case idle
        /// It may start as soon as the common device, and engines that start before it, let it.
        case due
        case starting
        /// It says that it serves; whether it does so on the common device is being found out.
        case proving
        case ready
        /// It hangs and was killed; its end is still to come.
        case killed
        case waiting(until: Duration)
    }

    struct Record {
        var condition = Condition.idle
        var pid: Int32 = 0
        var startedAt = Duration.zero
        /// Since when it serves; null while it does not.
        var readyAt: Duration?
        var restarts: UInt32 = 0
        var lastExit = ""
        var policy: RestartPolicy
        var isFailed = false
        var detail = ""
        /// When it last gave a sign of life, and when its work last got anywhere.
        var heardAt = Duration.zero
        var progressAt = Duration.zero
        var progress: UInt64 = 0
        var isWorking = false
        /// Why it was killed.
        var hang: String?
        /// Of an external engine: why it is not known to compute.
        var doubt = ""
        /// Of an external engine: it is drained, and has nothing in hand.
        var isIdle = false
        /// When it is killed by ourselves, if what keeps the common device working has not.
        var killAt: Duration?
        /// Its end is not its own fault.
        var isBlameless = false
        /// It did not end in its time when the server did.
        var wasKilledLate = false

        /// Whether there is a process, or one was just asked for.
        var isAlive: Bool {
            switch condition {
            case .starting, .proving, .ready, .killed: true
            case .idle, .due, .waiting: false
            }
        }
    }

    /// Deaths before the first answer after which a start counts as failed.
    static let deathsUntilStartFails = 3
    /// How long engines get to end after SIGTERM, and the gateway beyond its drain time.
    static let killGrace = Duration.seconds(5)

    /// Of each engine.
    var addresses: [String]
    /// Which process each engine is in. All that is known, ordered and done here is of processes: `.engine(p)`.
    let placement: EnginePlacement
    let external: ExternalRules
    let groups: [EngineGroup]
    /// Of each group, whether it counts as one that does not start. Until the announcement only.
    var doesNotStart: [Bool]
    let shutdownTimeout: Duration
    let hangLimits: HangLimits
    /// How engines share a device; null if they do not.
    let sharing: SharingRules?
    /// Whether engines may start.
    var isAdmitting: Bool
    /// How often engines were let in, but for nothing: none served before they had to go.
    var vainAdmissions = 0
    /// After a fault of the common device.
    var startNotBefore = Duration.zero
    /// Of the common device's faults.
    var faultPolicy = RestartPolicy(settings: .engine)
    /// What shares the device has ended.
    var sharingHasEnded: Bool
    var phase = Phase.serving
    var phaseDeadline: Duration?
    var wasAnnounced = false
    var gateway = Record(policy: RestartPolicy(settings: .gateway))
    /// Of each engine process.
    var engines: [Record]
    var roster = Roster()
    var administration: Administration
    var memory: MemoryWatch
    var exitCode: Int32 = 0
    var hasExited = false

    /// - Parameters:
    ///   - addresses: where the link of each engine is.
    ///   - placement: which process each engine is in; null for one each.
    ///   - groups: the models, with the processes that run them.
    ///   - external: which engines are none of Tandem's own.
    ///   - sharing: null if engines share no device.
    ///   - memory: what is known of the memory that engines may take.
    init(
        addresses: [String], placement: EnginePlacement? = nil, groups: [EngineGroup], shutdownTimeout: Duration,
        hangLimits: HangLimits = HangLimits(),
        external: ExternalRules = ExternalRules(), sharing: SharingRules? = nil, memory: MemoryWatch = MemoryWatch()
    ) {
        let placement = placement ?? EnginePlacement(engines: addresses.count)
        self.placement = placement
        self.external = external
        self.hangLimits = hangLimits
        self.memory = memory
        administration = Administration(orders: placement.engines.map { _ in nil })
        self.sharing = sharing
        isAdmitting = sharing == nil
        sharingHasEnded = sharing == nil
        self.addresses = addresses
        self.groups = groups
        doesNotStart = groups.map { _ in false }
        self.shutdownTimeout = shutdownTimeout
        engines = placement.engines.map { _ in Record(policy: RestartPolicy(settings: .engine)) }
        roster = Roster(
            generation: 0,
            engines: addresses.enumerated().map { RosterEntry(index: UInt32($0), address: $1, state: .starting) })
    }

    /// When ``SupervisorEvent/timePassed`` is due; null if nothing waits.
    var nextDeadline: Duration? {
        let restarts = children.compactMap { child -> Duration? in
            if case .waiting(let until) = self[child].condition { return until }
            return nil
        }
        let hangs = watchedForHanging.compactMap { hangDeadline(of: $0) }
        let kills = engines.compactMap(\.killAt)
        let start = isAdmitting && engines.contains { $0.condition == .due } && startNotBefore > .zero
        let starts = (start ? [startNotBefore] : []) + children.compactMap { startDeadline(of: $0) }
        return (restarts + hangs + kills + starts + [phaseDeadline, administrationDeadline].compactMap { $0 }).min()
    }

    /// The roster that was sent last.
    var currentRoster: Roster { roster }

    /// Takes an event and says what to do about it, in order.
    mutating func handle(_ event: SupervisorEvent, at now: Duration) -> [SupervisorAction] {
        guard !hasExited else { return [] }
        var actions: [SupervisorAction] = []
        switch event {
        case .begin:
            for child in children { start(child, at: now, &actions) }
        case .started(let child, let pid):
            self[child].pid = pid
            tellStarted(child, pid, &actions)
            // A new gateway knows nothing yet.
            if child == .gateway { actions.append(.sendRoster(roster)) }
        case .placed(let engine, let address, let program):
            placed(engine, at: address, program)
        case .reported(let report):
            reported(report, at: now, &actions)
        case .ready(let child, let detail):
            saysReady(child, detail, at: now, &actions)
        case .ended(let child, let exit):
            tellEnded(child, exit, at: now, &actions)
            ended(child, exit, at: now, &actions)
        case .sharing(let event):
            handle(event, at: now, &actions)
        case .heartbeat(let child, let progress, let isWorking):
            heard(child, progress, isWorking, at: now)
        case .timePassed:
            killHanging(at: now, &actions)
            killLate(at: now, &actions)
            timePassed(at: now, &actions)
            administrationTimePassed(at: now, &actions)
        case .stopRequested(let signal):
            stop(signal, at: now, &actions)
        case .administer(let command, let connection):
            let reply = administer(command, at: now, &actions)
            actions.append(.answer(reply, connection: connection))
        case .memoryRead(let samples):
            memoryRead(samples, at: now, &actions)
        case .directoryRestored(let enginesCanRestart):
            directoryRestored(enginesCanRestart, at: now, &actions)
        }
        advanceRollingRestart(at: now, &actions)
        startDueEngines(at: now, &actions)
        updateRoster(&actions)
        finishIfDone(at: now, &actions)
        return actions
    }

    // MARK: - Serving

    /// Starts a child, an engine as soon as it may.
    mutating func start(_ child: Child, at now: Duration, _ actions: inout [SupervisorAction]) {
        if child != .gateway, sharing != nil || isExternal(child) {
            self[child].condition = .due
        } else {
            startNow(child, at: now, &actions)
        }
    }

    mutating func startNow(_ child: Child, at now: Duration, _ actions: inout [SupervisorAction]) {
        self[child].condition = .starting
        self[child].doubt = ""
        self[child].isIdle = false
        self[child].startedAt = now
        self[child].readyAt = nil
        self[child].hang = nil
        self[child].killAt = nil
        self[child].isBlameless = false
        // Whoever asked for its end has what was wanted.
        if case .engine(let index) = child, case .end = administration.orders[index] {
            administration.orders[index] = nil
        }
        actions.append(.start(child))
    }

    /// It says that it serves.
    mutating func saysReady(
        _ child: Child, _ detail: String, at now: Duration, _ actions: inout [SupervisorAction]
    ) {
        guard self[child].condition == .starting else { return }
        self[child].detail = detail
        if case .engine(let index) = child, sharing != nil {
            self[child].condition = .proving
            actions.append(.sharing(.prove(engine: index)))
        } else {
            becameReady(child, at: now, &actions)
        }
    }

    mutating func becameReady(_ child: Child, at now: Duration, _ actions: inout [SupervisorAction]) {
        self[child].condition = .ready
        self[child].readyAt = now
        self[child].isWorking = false
        self[child].heardAt = now
        self[child].isFailed = false
        if self[child].restarts > 0 {
            let seconds = Self.text(now - self[child].startedAt)
            actions.append(.log(.info, "\(title(child)) is ready again after \(seconds)"))
        }
        if let group = group(of: child) { doesNotStart[group] = false }
        announceIfDue(&actions)
    }

    mutating func announceIfDue(_ actions: inout [SupervisorAction]) {
        guard !wasAnnounced, phase == .serving, gateway.condition == .ready else { return }
        let ready = groups.map { group in group.engines.first { engines[$0].condition == .ready } }
        guard zip(ready, doesNotStart).allSatisfy({ $0 != nil || $1 }), ready.contains(where: { $0 != nil }) else {
            return
        }
        wasAnnounced = true
        actions.append(.announce(devices: ready.map { $0.map { engines[$0].detail } }))
    }

    mutating func ended(
        _ child: Child, _ exit: ChildExit, at now: Duration, _ actions: inout [SupervisorAction]
    ) {
        let served = self[child].readyAt.map { now - $0 } ?? .zero
        self[child].pid = 0
        self[child].killAt = nil
        self[child].lastExit = self[child].hang.map { "was killed: \($0)" } ?? exit.description
        guard phase == .serving || (needsEngines && child != .gateway) else {
            self[child].condition = .idle
            return
        }
        if endedAsOrdered(child, exit, at: now, &actions) { return }
        guard !self[child].isBlameless else {
            self[child].restarts += 1
            self[child].condition = .due
            actions.append(.log(.warning, "\(title(child)) \(self[child].lastExit); starting it again with the others"))
            return
        }
        let decision = self[child].policy.died(after: served)
        self[child].condition = .waiting(until: now + decision.delay)
        self[child].restarts += 1
        self[child].isFailed = decision.isFailed
        if let reason = reasonToGiveUp(child, exit) {
            actions.append(.log(.error, "\(title(child)) \(self[child].lastExit)"))
            actions.append(.log(.error, reason))
            exitCode = exit.isPermanent ? ChildExit.permanentFailureCode : 1
            killAll(at: now, &actions)
            return
        }
        if let group = group(of: child) { hurry(group, at: now) }
        var delay = decision.delay
        if case .waiting(let until) = self[child].condition { delay = until - now }
        let wait = delay == .zero ? "at once" : "in \(Self.text(delay))"
        if decision.isFailed {
            actions.append(
                .log(
                    .error,
                    "\(title(child)) \(self[child].lastExit); it died \(self[child].policy.deathsInARow) times in a row and counts as "
                        + "failed, the next attempt is \(wait)"))
        } else {
            actions.append(.log(.warning, "\(title(child)) \(self[child].lastExit); starting it again \(wait)"))
        }
        announceIfDue(&actions)
        // Without a pause the start belongs to this moment.
        if decision.delay == .zero { start(child, at: now, &actions) }
    }

    /// A model of which no engine lives is not kept waiting for long: the engine that is due first is started soon.
    mutating func hurry(_ group: Int, at now: Duration) {
        var first: (index: Int, until: Duration)?
        for index in groups[group].engines {
            guard case .waiting(let until) = engines[index].condition else { return }
            if until < first?.until ?? .seconds(Int64.max) { first = (index, until) }
        }
        guard let first else { return }
        let soon = now + RestartPolicy.Settings.lastEngineDelay
        engines[first.index].condition = .waiting(until: min(first.until, soon))
    }

    /// Before the first answer a start that cannot succeed ends the program, so that the user sees it fail. One of
    /// several models alone does not: the others are served.
    mutating func reasonToGiveUp(_ child: Child, _ exit: ChildExit) -> String? {
        guard !wasAnnounced, phase == .serving else { return nil }
        if let group = group(of: child) {
            let isOver =
                exit.isPermanent
                || groups[group].engines.allSatisfy {
                    engines[$0].policy.deathsInARow >= Self.deathsUntilStartFails && engines[$0].condition != .ready
                }
            if isOver { doesNotStart[group] = true }
            guard isOver, doesNotStart.allSatisfy({ $0 }) else { return nil }
        } else {
            guard exit.isPermanent || gateway.policy.deathsInARow >= Self.deathsUntilStartFails else { return nil }
        }
        let who = child == .gateway ? "the gateway" : title(child)
        return exit.isPermanent
            ? "cannot start: \(who) said why above"
            : "cannot start: \(who) \(self[child].lastExit), \(Self.deathsUntilStartFails) times in a row"
    }

    mutating func timePassed(at now: Duration, _ actions: inout [SupervisorAction]) {
        for child in children {
            if case .waiting(let until) = self[child].condition, until <= now { start(child, at: now, &actions) }
        }
        killOverdue(at: now, &actions)
        guard let deadline = phaseDeadline, deadline <= now else { return }
        phaseDeadline = nil
        switch phase {
        case .endingSharing:
            let title = sharing?.title ?? ""
            actions.append(
                .log(.warning, "\(title) did not end in time; what is left of it is ended at the next start"))
            sharingHasEnded = true
        case .drainingGateway, .drainingEngines, .killing: endLate(at: now, &actions)
        case .serving: break
        }
    }

    // MARK: - Records

    /// The model of an engine process, by its place; null for the gateway.
    func group(of child: Child) -> Int? {
        guard case .engine(let index) = child else { return nil }
        return groups.firstIndex { $0.engines.contains(index) }
    }

    /// The child as people are told of it: with its model if there are several.
    func title(_ child: Child) -> String {
        guard case .engine(let index) = child else { return "\(child)" }
        let title = placement.title(index)
        guard groups.count > 1, let group = group(of: child) else { return title }
        return "\(title) (\(groups[group].name))"
    }

    var children: [Child] { [.gateway] + engines.indices.map { .engine($0) } }

    subscript(_ child: Child) -> Record {
        get {
            switch child {
            case .gateway: gateway
            case .engine(let index): engines[index]
            }
        }
        set {
            switch child {
            case .gateway: gateway = newValue
            case .engine(let index): engines[index] = newValue
            }
        }
    }

    mutating func updateRoster(_ actions: inout [SupervisorAction]) {
        let entries = addresses.enumerated().map { number, address in
            let index = placement.process(of: number) ?? 0
            let engine = engines[index]
            let state: RosterEntry.State =
                switch engine.condition {
                case .starting, .proving: .starting
                case .due where engine.restarts == 0: .starting
                case .ready: administration.orders[index] == nil ? .ready : .draining
                case .killed: .restarting
                case .waiting, .idle, .due: engine.isFailed ? .failed : .restarting
                }
            return RosterEntry(
                index: UInt32(number), address: address, state: state, pid: engine.pid, restarts: engine.restarts,
                reason: engine.lastExit)
        }
        guard entries != roster.engines else { return }
        roster = Roster(generation: roster.generation + 1, engines: entries)
        // Without a gateway there is nobody to tell; a new one gets the roster when it starts.
        if gateway.pid != 0 { actions.append(.sendRoster(roster)) }
    }

    static func text(_ duration: Duration) -> String {
        let (seconds, attoseconds) = duration.components
        let tenths = seconds * 10 + (attoseconds + 50_000_000_000_000_000) / 100_000_000_000_000_000
        return tenths % 10 == 0 ? "\(tenths / 10) s" : "\(tenths / 10).\(tenths % 10) s"
    }
}
