// Tandem — Apache-2.0

import NIOCore

/// How long somebody who should be heard at a fixed period has been silent.
///
/// Only time in which this event loop could have heard it counts: a turn of the loop that took long, or a machine that
/// stood still, adds no more than one tick, however long it was.
struct SilenceWatch {
    /// How much silence is too much.
    let limit: TimeAmount
    private(set) var silence = TimeAmount.nanoseconds(0)
    private var lastTick: NIODeadline

    init(limit: TimeAmount, now: NIODeadline) {
        self.limit = limit
        lastTick = now
    }

    /// How often to call ``tick(now:)``.
    static func period(for limit: TimeAmount) -> TimeAmount {
        max(.milliseconds(1), .nanoseconds(limit.nanoseconds / 8))
    }

    /// It said something, no matter what.
    mutating func heard() {
        silence = .nanoseconds(0)
    }

    /// - Parameter patience: how many times the usual limit is permitted now.
    /// - Returns: whether it was silent for too long.
    mutating func tick(now: NIODeadline, patience: Int = 1) -> Bool {
        silence = silence + min(now - lastTick, Self.period(for: limit))
        lastTick = now
        return silence >= .nanoseconds(limit.nanoseconds * Int64(patience))
    }
}
