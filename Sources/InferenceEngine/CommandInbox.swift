// Tandem — Apache-2.0

internal import Glibc

/// Hands values from any thread to one thread that sleeps while there are none.
///
/// `@unchecked Sendable`: `values` is only touched while `mutex` is held.
final class CommandInbox<Value: Sendable>: @unchecked Sendable {
    // Allocated because the address of a lock must not change.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var values: [Value] = []

    init() {
        mutex = .allocate(capacity: 1)
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        condition = .allocate(capacity: 1)
        condition.initialize(to: pthread_cond_t())
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        condition.deallocate()
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    func send(_ new: some Collection<Value>) {
        guard !new.isEmpty else { return }
        pthread_mutex_lock(mutex)
        let wasEmpty = values.isEmpty
        values.append(contentsOf: new)
        pthread_mutex_unlock(mutex)
        // Only one thread receives, and it empties the box: it can only sleep in front of an empty one.
        if wasEmpty { pthread_cond_signal(condition) }
    }

    /// Exchanges the values in the box with the empty array `received`.
    ///
    /// - Parameter wait: sleep until there is at least one.
    func receive(into received: inout [Value], wait: Bool) {
        received.removeAll(keepingCapacity: true)
        pthread_mutex_lock(mutex)
        while wait, values.isEmpty { pthread_cond_wait(condition, mutex) }
        swap(&values, &received)
        pthread_mutex_unlock(mutex)
    }
}
