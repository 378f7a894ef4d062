// Tandem — Apache-2.0

import CTandemSystem
import Glibc
import Testing

@Suite struct SystemCallTests {
    @Test func waitsAsShortAsWanted() {
        #expect(tandem_set_timer_slack(1) == 0)
        #expect(tandem_poll(nil, 0, 0) == 0)
        #expect(tandem_poll(nil, 0, 1000) == 0)
        var entry = pollfd(fd: 1_000_000, events: Int16(POLLIN), revents: 0)
        #expect(tandem_poll(&entry, 1, -1) == 1)
        #expect(entry.revents == Int16(POLLNVAL))
    }

    @Test func futexTimesOutAndNoticesAChangedWord() {
        var word: UInt32 = 1
        #expect(tandem_futex_wait(&word, 2, -1, false) == -EAGAIN)
        #expect(tandem_futex_wait(&word, 1, 1_000_000, false) == -ETIMEDOUT)
        #expect(tandem_futex_wake(&word, 1, false) == 0)
    }

    @Test(arguments: [false, true]) func futexWakesASleeper(shared: Bool) {
        let word = UnsafeMutablePointer<UInt32>.allocate(capacity: 2)
        word.initialize(repeating: 0, count: 2)
        word[1] = shared ? 1 : 0
        defer { word.deallocate() }
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { raw in
                let word = raw!.assumingMemoryBound(to: UInt32.self)
                while tandem_atomic_load_acquire(word) == 0 {
                    _ = tandem_futex_wait(word, 0, -1, word[1] == 1)
                }
                return nil
            }, word)
        tandem_atomic_store_release(word, 1)
        #expect(tandem_futex_wake(word, Int32.max, shared) >= 0)
        pthread_join(thread, nil)
    }

    @Test func atomicsDoWhatTheirNamesSay() {
        var word: UInt32 = 5
        #expect(tandem_atomic_fetch_add(&word, 2) == 5)
        #expect(!tandem_atomic_compare_exchange(&word, 5, 9))
        #expect(tandem_atomic_compare_exchange(&word, 7, 9))
        #expect(tandem_atomic_load_acquire(&word) == 9)
    }

    @Test func sealedMemoryRefusesNewWriters() {
        let descriptor = tandem_memfd_create("test")
        defer { close(descriptor) }
        #expect(descriptor >= 0)
        #expect(ftruncate(descriptor, 8192) == 0)
        #expect(tandem_memfd_get_seals(descriptor) == 0)
        let seals = Int32(tandem_seal_shrink | tandem_seal_grow | tandem_seal_future_write)
        #expect(tandem_memfd_add_seals(descriptor, seals) == 0)
        #expect(tandem_memfd_get_seals(descriptor) == seals)
        #expect(ftruncate(descriptor, 4096) == -1 && errno == EPERM)
        #expect(write(descriptor, "x", 1) == -1 && errno == EPERM)
        #expect(mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0) == MAP_FAILED)
        let read = mmap(nil, 4096, PROT_READ, MAP_SHARED, descriptor, 0)
        #expect(read != MAP_FAILED)
        munmap(read, 4096)
        #expect(tandem_memfd_get_seals(-1) == -EBADF)
    }

    /// On a thread of its own: what is set here must not stay with a thread that others use.
    @Test func threadsHaveTheirOwnCoresAndPriority() {
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { _ in
                var cpus = [Int32](repeating: -1, count: 4096)
                let count = tandem_affinity_get(0, &cpus, 4096)
                #expect(count > 0)
                #expect(Array(cpus[..<Int(count)]) == cpus[..<Int(count)].sorted())
                #expect(tandem_affinity_set(0, [cpus[0]], 1) == 0)
                #expect(tandem_affinity_get(tandem_thread_id(), &cpus, 4096) == 1)
                #expect(tandem_affinity_set(0, [-1], 1) == -EINVAL)
                var before: Int32 = 0
                var after: Int32 = 0
                #expect(tandem_thread_get_nice(0, &before) == 0)
                #expect(tandem_thread_set_nice(tandem_thread_id(), min(before + 1, 19)) == 0)
                #expect(tandem_thread_get_nice(0, &after) == 0)
                #expect(after == min(before + 1, 19))
                return nil
            }, nil)
        pthread_join(thread, nil)
    }
}
