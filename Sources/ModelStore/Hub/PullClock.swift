// Tandem — Apache-2.0

internal import Glibc

/// Time, as a pull sees it.
struct PullClock: Sendable {
    /// Nanoseconds since some moment in the past.
    var now: @Sendable () -> UInt64
    /// Sleeps for so many seconds, or until the descriptor (-1 for none) becomes readable.
    var wait: @Sendable (_ seconds: Int, _ descriptor: Int32) -> Void

    static let system = PullClock(
        now: {
            var time = timespec()
            clock_gettime(CLOCK_MONOTONIC, &time)
            return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
        },
        wait: { seconds, descriptor in
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            _ = poll(&entry, 1, Int32(clamping: seconds * 1000))
        })
}
