// Tandem — Apache-2.0

import CTandemSystem
import Glibc

/// A counter that threads wait on: a bounded spin, then sleep.
///
/// Unchecked: both words are only used atomically, and live at a fixed address until the object goes.
final class Event: @unchecked Sendable {
    // One cache line each: spinning readers of the counter are not disturbed by sleepers coming and going.
    private let memory = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 64)
    private let counter: UnsafeMutablePointer<UInt32>
    private let sleepers: UnsafeMutablePointer<UInt32>

    init() {
        counter = memory.initializeMemory(as: UInt32.self, to: 0)
        sleepers = (memory + 64).initializeMemory(as: UInt32.self, to: 0)
    }

    deinit { memory.deallocate() }

    /// The counter; what its writers wrote before ``advance()`` is visible.
    var value: UInt32 { tandem_atomic_load_acquire(counter) }

    /// Counts up and wakes whoever sleeps.
    func advance() {
        _ = tandem_atomic_fetch_add(counter, 1)
        // A sleeper announces itself before it looks at the counter again; so it is seen here or it sees the new value.
        if tandem_atomic_fetch_add(sleepers, 0) > 0 {
            _ = tandem_futex_wake(counter, .max, false)
        }
    }

    /// Returns when the counter is no longer `old`.
    ///
    /// - Returns: whether polling was not enough.
    @discardableResult
    func wait(whileEqual old: UInt32, spinNanoseconds: UInt64) -> Bool {
        if spinNanoseconds > 0 {
            let deadline = monotonicNanoseconds() &+ spinNanoseconds
            repeat {
                for _ in 0..<32 {
                    if value != old { return false }
                    tandem_spin_hint()
                }
            } while monotonicNanoseconds() < deadline
        }
        _ = tandem_atomic_fetch_add(sleepers, 1)
        while value == old { _ = tandem_futex_wait(counter, old, -1, false) }
        _ = tandem_atomic_fetch_add(sleepers, 0 &- 1)
        return true
    }
}

/// Time of a clock that never jumps.
func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}
