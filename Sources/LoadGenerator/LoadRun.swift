// Tandem — Apache-2.0

import Glibc
public import NIOCore
import NIOPosix
import Synchronization

/// A run in progress. Any thread may look at it and stop it.
public final class LoadRun: Sendable {
    private struct State {
        var progress = LoadProgress()
        var isStopped = false
    }

    private let state = Mutex(State())
    private let outcome: EventLoopFuture<LoadOutcome>

    /// Begins to send, on one event loop.
    public init(_ plan: LoadPlan, on eventLoop: any EventLoop) {
        let promise = eventLoop.makePromise(of: LoadOutcome.self)
        outcome = promise.futureResult
        let run = self
        eventLoop.execute {
            LoadWorker(plan, eventLoop: eventLoop, run: run, promise: promise).begin()
        }
    }

    /// Begins to send batches, on one event loop.
    public init(_ plan: BatchPlan, on eventLoop: any EventLoop) {
        let promise = eventLoop.makePromise(of: LoadOutcome.self)
        outcome = promise.futureResult
        let run = self
        eventLoop.execute {
            BatchWorker(plan, eventLoop: eventLoop, run: run, promise: promise).begin()
        }
    }

    /// Succeeds when all is over; never fails.
    public var result: EventLoopFuture<LoadOutcome> { outcome }

    public var progress: LoadProgress { state.withLock { $0.progress } }

    /// Sends nothing more and gives up what is in flight; ``result`` follows within milliseconds.
    public func stop() {
        state.withLock { $0.isStopped = true }
    }

    var isStopped: Bool { state.withLock { $0.isStopped } }

    func report(_ progress: LoadProgress) {
        state.withLock { $0.progress = progress }
    }

    /// CPU time of this process so far.
    static func cpuNanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
