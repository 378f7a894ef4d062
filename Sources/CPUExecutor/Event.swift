// Tandem — Apache-2.0

import CPUKernels
import Glibc
import Synchronization

/// A counter that threads wait on: a bounded spin, then sleep.
///
/// Unchecked: the counters are atomic, and the mutex and condition variable live at a fixed address until the object
/// goes.
final class Event: @unchecked Sendable {
    private let counter = Atomic<UInt32>(0)
    private let sleepers = Atomic<UInt32>(0)
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// The counter; what its writers wrote before ``advance()`` is visible.
    var value: UInt32 { counter.load(ordering: .acquiring) }

    /// Counts up and wakes whoever sleeps.
    func advance() {
        counter.wrappingAdd(1, ordering: .sequentiallyConsistent)
        // A sleeper announces itself before it looks at the counter again; so it is seen here or it sees the new value.
        guard sleepers.load(ordering: .sequentiallyConsistent) > 0 else { return }
        pthread_mutex_lock(mutex)
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Returns when the counter is no longer `old`.
    func wait(whileEqual old: UInt32, spinNanoseconds: UInt64) {
        if spinNanoseconds > 0 {
            let deadline = monotonicNanoseconds() &+ spinNanoseconds
            repeat {
                for _ in 0..<32 {
                    if counter.load(ordering: .acquiring) != old { return }
                    tandem_relax()
                }
            } while monotonicNanoseconds() < deadline
        }
        sleepers.wrappingAdd(1, ordering: .sequentiallyConsistent)
        pthread_mutex_lock(mutex)
        while counter.load(ordering: .sequentiallyConsistent) == old {
            pthread_cond_wait(condition, mutex)
        }
        pthread_mutex_unlock(mutex)
        sleepers.wrappingSubtract(1, ordering: .sequentiallyConsistent)
    }
}

/// Time of a clock that never jumps.
func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}
