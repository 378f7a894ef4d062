// Tandem — Apache-2.0

internal import EngineLink

/// Decides when the process that holds one model's weights in a GPU's memory is started; knows no process and no clock.
///
/// It is never in anybody's way: engines that run keep what they have mapped if it dies, and engines that start ask it
/// again, or load weights of their own.
struct WeightOwnerMachine {
    enum Event: Equatable {
        case begin
        case started(pid: Int32)
        case notStarted(reason: String)
        case said(WeightsMessage)
        /// Its process is gone.
        case ended(reason: String)
        case timePassed
        /// No client of MPS may run; told of owners only that are clients.
        case hold
        case admit
    }

    enum Action: Equatable {
        case start
        case kill
        case log(SupervisorOutput.Severity, String)
    }

    enum Phase: Equatable {
        case idle
        case loading
        case holding(SharedWeights)
        /// It holds nothing and says so to everybody.
        case refusing(reason: String)
        case down(until: Duration)
        /// It waits until clients of MPS may run.
        case held
    }

    /// The model's name.
    let title: String
    private let isClient: Bool
    private(set) var phase = Phase.idle
    private(set) var pid: Int32 = 0
    private(set) var restarts: UInt32 = 0
    private var policy = RestartPolicy(settings: .engine)
    private var heldSince = Duration.zero

    /// - Parameter isClient: whether it is a client of MPS, and waits until it may be.
    init(title: String, isClient: Bool = false) {
        self.title = title
        self.isClient = isClient
    }

    var nextDeadline: Duration? {
        if case .down(let until) = phase, pid == 0 { until } else { nil }
    }

    mutating func handle(_ event: Event, at now: Duration) -> [Action] {
        switch event {
        case .begin:
            phase = isClient ? .held : .loading
            return isClient ? [] : [.start]
        case .hold:
            let isAlive = pid != 0
            phase = .held
            return isAlive ? [.kill] : []
        case .admit:
            // One that still ends is started when it has.
            guard phase == .held else { return [] }
            phase = pid == 0 ? .loading : .down(until: now)
            return pid == 0 ? [.start] : []
        case .started(let pid):
            self.pid = pid
            return []
        case .notStarted(let reason): return died("could not be started: \(reason)", at: now)
        case .ended where phase == .held:
            pid = 0
            return []
        case .ended(let reason): return died(reason, at: now)
        case .said where phase == .held: return []
        case .said(.ready(let weights)):
            phase = .holding(weights)
            heldSince = now
            return []
        case .said(.refused(let reason)):
            phase = .refusing(reason: reason)
            return [.log(.warning, "each engine loads its own weights of \(title): \(reason)")]
        case .timePassed:
            guard case .down(let until) = phase, until <= now, pid == 0 else { return [] }
            phase = .loading
            return [.start]
        }
    }

    private mutating func died(_ reason: String, at now: Duration) -> [Action] {
        pid = 0
        var served = Duration.zero
        if case .holding = phase { served = now - heldSince }
        let decision = policy.died(after: served)
        restarts += 1
        phase = .down(until: now + decision.delay)
        return [
            .log(
                .warning,
                "the process that holds the weights of \(title) \(reason); it is started again, and engines that run keep "
                    + "what they have")
        ]
    }
}
