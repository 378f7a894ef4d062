// Tandem — Apache-2.0

internal import Glibc

/// A moment on the monotonic clock until which something is waited for.
struct Deadline {
    private let end: ContinuousClock.Instant

    init(_ duration: Duration) {
        end = ContinuousClock.now + duration
    }

    var isOver: Bool { ContinuousClock.now >= end }

    var left: Duration { max(.zero, end - ContinuousClock.now) }

    /// For `poll`: rounded up, so that a wait does not end early and begin again.
    var milliseconds: Int32 { left.wholeMilliseconds }
}

extension Duration {
    /// Rounded up; at most a day.
    var wholeMilliseconds: Int32 {
        let (seconds, attoseconds) = components
        guard seconds < 86_400 else { return 86_400_000 }
        return Int32(seconds) * 1000 + Int32((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}
