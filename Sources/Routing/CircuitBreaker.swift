// Tandem — Apache-2.0

public import Requests

/// Whether an engine is trusted with work, by how it dealt with what it was sent: a value without a clock or random
/// numbers of its own.
///
/// It is closed at first. ``BreakerLimits/failures`` failures in a row open it: the engine gets nothing for a while,
/// each time twice as long. Then it is half open: one request is tried, and closes it or opens it again. Answers and
/// refusals of a busy engine are no failures, and neither is what clients give up.
public struct CircuitBreaker: Sendable, Equatable {
    public enum State: Sendable, Equatable {
        case closed
        /// Gets nothing before `until`.
        case open(until: Duration)
        /// Gets one request, or has it.
        case halfOpen(trial: RequestID?)
    }

    public private(set) var state = State.closed
    /// Failures in a row.
    public private(set) var failures = 0
    /// How often it has opened since the engine last did well.
    public private(set) var openings = 0
    private let limits: BreakerLimits

    public init(limits: BreakerLimits = BreakerLimits()) {
        self.limits = limits
    }

    /// Whether the engine may get a request, once ``advance(to:)`` was called.
    public var admits: Bool {
        switch state {
        case .closed: true
        case .open: false
        case .halfOpen(let trial): trial == nil
        }
    }

    /// Whether it is closed: an engine that is on trial is not to be relied upon.
    public var isTrusted: Bool { state == .closed }

    /// Lets time pass: what was open for long enough is half open.
    public mutating func advance(to now: Duration) {
        if case .open(let until) = state, now >= until { state = .halfOpen(trial: nil) }
    }

    /// A request was sent to the engine; the first one while it is half open is the trial.
    public mutating func started(_ request: RequestID) {
        if case .halfOpen(nil) = state { state = .halfOpen(trial: request) }
    }

    /// A request has brought tokens. If it is the trial, the engine is trusted again, but the next failure opens the
    /// breaker.
    public mutating func progressed(_ request: RequestID) {
        guard case .halfOpen(let trial?) = state, trial == request else { return }
        state = .closed
        failures = limits.failures - 1
    }

    /// A request ended without a word on how: if it was the trial, another one may be tried.
    public mutating func ended(_ request: RequestID) {
        guard case .halfOpen(let trial?) = state, trial == request else { return }
        state = .halfOpen(trial: nil)
    }

    /// How the engine dealt with something.
    ///
    /// - Parameters:
    ///   - isLast: whether there is no other engine that would get the work: then the breaker does not open.
    ///   - jitter: 0 to 1; spreads the ends of breakers that opened together.
    public mutating func reported(_ outcome: EngineOutcome, isLast: Bool, at now: Duration, jitter: Double) {
        advance(to: now)
        switch outcome {
        case .busy: break
        case .answered:
            // What it was sent before the breaker opened says nothing of now.
            if case .open = state { return }
            state = .closed
            failures = 0
            openings = 0
        case .failed:
            if case .open = state { return }
            // What was sent before is no trial, but a failure all the same.
            failures = min(failures + 1, limits.failures)
            if state == .closed, failures < limits.failures { return }
            guard !isLast else {
                state = .closed
                return
            }
            state = .open(until: now + limits.pause(after: openings, jitter: jitter))
            openings += 1
        }
    }
}

/// When a ``CircuitBreaker`` opens, and for how long.
public struct BreakerLimits: Sendable, Equatable {
    /// Failures in a row that open it; at least 1.
    public var failures = 5
    /// How long it is open the first time.
    public var firstPause = Duration.seconds(1)
    /// How long at most.
    public var longestPause = Duration.seconds(60)

    public init() {}

    /// Doubles with each opening; three quarters of it are fixed, a half of it is up to `jitter`.
    func pause(after openings: Int, jitter: Double) -> Duration {
        let doubled = min(longestPause, firstPause * (1 << min(openings, 16)))
        return doubled * (0.75 + 0.5 * min(1, max(0, jitter)))
    }
}
