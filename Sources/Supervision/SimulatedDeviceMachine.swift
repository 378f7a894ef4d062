// Tandem — Apache-2.0

internal import VirtualDevice

/// Decides when the process of a simulated GPU is started, and what its engines do meanwhile; knows no process and no
/// clock. It is for a simulated GPU what the MPS state machine is for a real one, and has fewer rungs: drop the work of
/// an engine that hangs; end all engines and the device with them.
struct SimulatedDeviceMachine {
    enum Event: Equatable {
        case begin
        /// Its process runs.
        case started(pid: Int32)
        case notStarted(reason: String)
        case said(DeviceNotice)
        /// Its process is gone.
        case ended(reason: String)
        case told(SharingNotice)
        case timePassed
    }

    enum Action: Equatable {
        case start
        case kill
        case order(DeviceOrder)
        case report(SharingEvent)
        case log(String)
    }

    enum Phase: Equatable {
        case idle
        /// Its process was started and did not report yet.
        case starting(deadline: Duration)
        case active
        /// It is started again once its engines are gone and the time has come.
        case down(until: Duration)
        case stopping
        case ended
    }

    /// How long a process may take to report first: the machine may be busy.
    static let startLimit = Duration.seconds(60)
    /// How long a device may take to drop an engine's work.
    static let dropLimit = Duration.seconds(3)
    /// Starts in a row that come to nothing before the program gives up.
    static let vainStarts = 3

    let title: String
    private(set) var phase = Phase.idle
    private(set) var pid: Int32 = 0
    private(set) var restarts: UInt32 = 0
    private(set) var report: DeviceReport?
    private var policy = RestartPolicy(settings: .engine)
    private var activeSince = Duration.zero
    private var isAdmitting = false
    private var engines: Set<Int> = []
    /// Until when the device has to drop an engine's work.
    private var drops: [Int: Duration] = [:]
    private var wasLate = false

    init(title: String) {
        self.title = title
    }

    var nextDeadline: Duration? {
        var deadlines = Array(drops.values)
        switch phase {
        case .starting(let deadline): deadlines.append(deadline)
        case .down(let until) where engines.isEmpty: deadlines.append(until)
        default: break
        }
        return deadlines.min()
    }

    mutating func handle(_ event: Event, at now: Duration) -> [Action] {
        var actions: [Action] = []
        switch event {
        case .begin: start(at: now, &actions)
        case .started(let pid): self.pid = pid
        case .notStarted(let reason): died("could not be started: \(reason)", at: now, &actions)
        case .said(.report(let report)): reported(report, at: now, &actions)
        case .said(.dropped(let engine)):
            guard drops.removeValue(forKey: Int(engine)) != nil else { break }
            actions.append(.report(.kill(engine: Int(engine))))
        case .ended(let reason): died(reason, at: now, &actions)
        case .told(let notice): told(notice, at: now, &actions)
        case .timePassed: timePassed(at: now, &actions)
        }
        admitOrStart(at: now, &actions)
        return actions
    }

    private mutating func start(at now: Duration, _ actions: inout [Action]) {
        phase = .starting(deadline: now + Self.startLimit)
        actions.append(.start)
    }

    private mutating func reported(_ report: DeviceReport, at now: Duration, _ actions: inout [Action]) {
        self.report = report
        if case .starting = phase {
            phase = .active
            activeSince = now
        }
        // One that lags says so itself; here it is remembered for the status.
        if report.isFaulted, isAdmitting { endEngines(&actions) }
    }

    private mutating func died(_ reason: String, at now: Duration, _ actions: inout [Action]) {
        pid = 0
        drops = [:]
        report = nil
        guard phase != .stopping, phase != .ended else {
            phase = .ended
            actions.append(.report(.ended))
            return
        }
        let served = phase == .active ? now - activeSince : .zero
        let decision = policy.died(after: served)
        restarts += 1
        actions.append(
            .log("the \(title) \(reason); it is started again, and all its engines with it"))
        if served == .zero, policy.deathsInARow >= Self.vainStarts { actions.append(.report(.failed)) }
        phase = .down(until: now + decision.delay)
        endEngines(&actions)
    }

    /// Nobody may start, and who runs has to go.
    private mutating func endEngines(_ actions: inout [Action]) {
        if isAdmitting { actions.append(.report(.hold)) }
        isAdmitting = false
        for engine in engines.sorted() { actions.append(.report(.kill(engine: engine))) }
    }

    private mutating func told(_ notice: SharingNotice, at now: Duration, _ actions: inout [Action]) {
        switch notice {
        case .started(let engine, _):
            engines.insert(engine)
            // It was let in a moment before the device went.
            if !isAdmitting { actions.append(.report(.kill(engine: engine))) }
        case .ended(let engine):
            engines.remove(engine)
            drops[engine] = nil
        case .fault: endEngines(&actions)
        case .stuck(let engine):
            guard phase == .active else { return actions.append(.report(.kill(engine: engine))) }
            drops[engine] = now + Self.dropLimit
            actions.append(.order(.drop(engine: UInt32(clamping: engine))))
        case .prove(let engine):
            // Whoever serves has the device: it computed on it.
            actions.append(.report(.proved(engine: engine, failure: nil)))
        case .stop:
            guard pid != 0 else {
                phase = .ended
                return actions.append(.report(.ended))
            }
            phase = .stopping
            actions.append(.kill)
        }
    }

    private mutating func timePassed(at now: Duration, _ actions: inout [Action]) {
        if case .starting(let deadline) = phase, deadline <= now {
            let limit = SupervisorState.text(Self.startLimit)
            actions.append(.log("the \(title) did not report within \(limit) and is killed"))
            phase = .starting(deadline: now + Self.startLimit)
            actions.append(.kill)
        }
        if let late = drops.first(where: { $0.value <= now }) {
            drops = [:]
            actions.append(
                .log(
                    "the \(title) does not drop the work of engine \(late.key), which hangs: it is killed, and all its "
                        + "engines with it"))
            actions.append(.kill)
        }
    }

    private mutating func admitOrStart(at now: Duration, _ actions: inout [Action]) {
        guard engines.isEmpty else { return }
        if case .down(let until) = phase, until <= now { start(at: now, &actions) }
        if phase == .active, !isAdmitting {
            isAdmitting = true
            actions.append(.report(.admit))
        }
    }
}
