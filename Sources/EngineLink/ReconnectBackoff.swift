// Tandem — Apache-2.0

/// How long to wait before the next attempt to connect: doubles from `initial` to `maximum`, each wait shortened by up
/// to a quarter so that many clients of one engine do not come back together. Pure: the caller keeps the clock and the
/// dice.
public struct ReconnectBackoff: Sendable, Equatable {
    public var initial: Duration
    public var maximum: Duration
    /// Attempts that failed since the last success.
    public private(set) var failures = 0

    public init(initial: Duration = .milliseconds(50), maximum: Duration = .seconds(5)) {
        self.initial = initial
        self.maximum = maximum
    }

    /// Counts a failed attempt.
    ///
    /// - Parameter jitter: a number in `0 ... 1`, drawn anew for each call; values outside are taken as the nearest end.
    /// - Returns: how long to wait now.
    public mutating func failed(jitter: Double) -> Duration {
        var delay = min(initial, maximum)
        for _ in 0..<min(failures, 62) where delay < maximum { delay = min(delay * 2, maximum) }
        failures += failures < Int.max ? 1 : 0
        let share = jitter.isFinite ? min(max(jitter, 0), 1) : 0
        return delay * (1 - share / 4)
    }

    /// Forgets the failures.
    public mutating func succeeded() {
        failures = 0
    }
}
