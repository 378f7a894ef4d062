// Tandem — Apache-2.0

import Glibc
import InferenceEngine
import Synchronization

/// Work for all threads of a pool: every thread runs the same program and the threads meet at barriers.
protocol PoolProgram: AnyObject, Sendable {
    /// Runs on the coordinator alone, before the others start.
    func begin()
    /// Runs on every thread; all of them must pass the same barriers in the same order.
    func run(worker: Int)
    /// Runs on the coordinator alone, after all threads have returned from ``run(worker:)``.
    func finish()
}

/// Dedicated threads that run programs in the order of submission. Thread 0 coordinates and computes; whoever submits
/// does neither.
///
/// Unchecked: the queue is behind a lock; `current` is written by the coordinator while the others stand at a barrier,
/// which orders the accesses.
final class ComputePool: @unchecked Sendable {
    struct Settings {
        var threads: Int
        var spinNanoseconds: UInt64
        var cpus: [Int]?
        var niceIncrement: Int32
    }

    let threads: Int
    private let settings: Settings
    private let queue = Mutex<[any PoolProgram]>([])
    private let submitted = Event()
    private let stopping = Atomic<Bool>(false)
    private let arrived = Atomic<Int>(0)
    private let generation = Event()
    /// Waits that will sleep at once, because polling failed a moment ago.
    private let waitsWithoutPolling = Atomic<Int>(0)
    private let tickets: UnsafeMutablePointer<Ticket>
    private var current: (any PoolProgram)?
    private var handles: [pthread_t] = []

    /// One counter a cache line, so that stages do not disturb each other.
    private struct Ticket: ~Copyable {
        let next = Atomic<Int>(0)
        private let padding: (Int, Int, Int, Int, Int, Int, Int) = (0, 0, 0, 0, 0, 0, 0)
    }

    init(_ settings: Settings) throws(ExecutorError) {
        self.settings = settings
        threads = settings.threads
        tickets = .allocate(capacity: 4)
        for index in 0..<4 { (tickets + index).initialize(to: Ticket()) }
        for worker in 0..<threads {
            var handle = pthread_t()
            let start = Unmanaged.passRetained(ThreadStart(pool: self, worker: worker))
            let code = pthread_create(&handle, nil, computeThreadMain, start.toOpaque())
            guard code == 0 else {
                start.release()
                // Threads that exist wait at a barrier for one that will never come; let the coordinator's absence end
                // them instead.
                missing = threads - worker
                shutdown()
                throw ExecutorError(
                    kind: .outOfMemory,
                    message: "cannot start compute thread \(worker): \(String(cString: strerror(code)))")
            }
            handles.append(handle)
        }
    }

    /// Threads that could not be started; they count as arrived at every barrier.
    private var missing = 0

    deinit {
        tickets.deinitialize(count: 4)
        tickets.deallocate()
    }

    /// Queues a program; returns at once.
    func submit(_ program: any PoolProgram) {
        queue.withLock { $0.append(program) }
        submitted.advance()
    }

    /// Runs a program and waits for its end.
    func perform(_ work: @escaping @Sendable (Int) -> Void) {
        let program = ClosureProgram(work)
        submit(program)
        program.done.wait(whileEqual: 0, spinNanoseconds: 0)
    }

    /// Lets queued programs run, then ends and joins the threads. Called once, by the owner.
    func shutdown() {
        guard !stopping.exchange(true, ordering: .sequentiallyConsistent) else { return }
        submitted.advance()
        for handle in handles { pthread_join(handle, nil) }
        handles = []
    }

    /// So many waits sleep at once after one that polled in vain.
    private static let pollingPause = 32

    /// Waits until all threads of the program are here; what they wrote before is visible afterwards.
    ///
    /// Polling in vain means that another process has the core of a thread that is waited for. Threads that then go on
    /// polling use up their own share of the cores, and the system makes them wait when they have work.
    ///
    /// - Parameter isIdle: the wait is for the next program, which may be long in coming.
    func barrier(isIdle: Bool = false) {
        let old = generation.value
        if arrived.wrappingAdd(1, ordering: .acquiringAndReleasing).newValue == threads - missing {
            arrived.store(0, ordering: .relaxed)
            // The stage after the next one counts from zero again; its counter was last used two stages ago.
            tickets[Int((old &+ 2) & 3)].next.store(0, ordering: .relaxed)
            generation.advance()
        } else {
            let polls = waitsWithoutPolling.load(ordering: .relaxed) <= 0
            if !polls { waitsWithoutPolling.wrappingSubtract(1, ordering: .relaxed) }
            let slept = generation.wait(
                whileEqual: old, spinNanoseconds: polls ? settings.spinNanoseconds : 0)
            if slept, polls, !isIdle { waitsWithoutPolling.store(Self.pollingPause, ordering: .relaxed) }
        }
    }

    /// The next item of the stage between two barriers; counts up from 0 without end. One stage claims at most once.
    func claim() -> Int {
        tickets[Int(generation.value & 3)].next.wrappingAdd(1, ordering: .relaxed).oldValue
    }

    fileprivate func main(worker: Int) {
        configureThread(worker)
        worker == 0 ? coordinate() : follow(worker)
    }

    private func coordinate() {
        while let program = nextProgram() {
            program.begin()
            current = program
            barrier()
            program.run(worker: 0)
            barrier()
            current = nil
            program.finish()
        }
        barrier()
    }

    private func follow(_ worker: Int) {
        while true {
            barrier(isIdle: true)
            guard let current else { return }
            current.run(worker: worker)
            barrier()
        }
    }

    private func nextProgram() -> (any PoolProgram)? {
        while true {
            let seen = submitted.value
            let program: (any PoolProgram)? = queue.withLock { $0.isEmpty ? nil : $0.removeFirst() }
            if let program { return program }
            if stopping.load(ordering: .sequentiallyConsistent) { return nil }
            submitted.wait(whileEqual: seen, spinNanoseconds: settings.spinNanoseconds)
        }
    }

    private func configureThread(_ worker: Int) {
        ThreadPlacement.apply(
            name: "tandem-cpu-\(worker)", niceIncrement: settings.niceIncrement,
            cpu: settings.cpus.flatMap { $0.isEmpty ? nil : $0[worker % $0.count] })
    }
}

/// What a new thread is told.
private final class ThreadStart {
    let pool: ComputePool
    let worker: Int

    init(pool: ComputePool, worker: Int) {
        self.pool = pool
        self.worker = worker
    }
}

private func computeThreadMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    let start = Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue()
    start.pool.main(worker: start.worker)
    return nil
}

private final class ClosureProgram: PoolProgram {
    let done = Event()
    private let work: @Sendable (Int) -> Void

    init(_ work: @escaping @Sendable (Int) -> Void) {
        self.work = work
    }

    func begin() {}
    func run(worker: Int) { work(worker) }
    func finish() { done.advance() }
}
