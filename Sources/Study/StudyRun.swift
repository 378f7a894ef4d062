// Tandem — Apache-2.0

internal import Synchronization

/// Measurements that are to be made, given out to threads and counted.
public final class StudyRun: Sendable {
    /// Where a run is.
    public struct Progress: Sendable, Equatable {
        public var done = 0
        public var total = 0
        public var failed = 0
        /// Share of the work that is done: tasks do not take equally long.
        public var share = 0.0
        /// What is being measured: `F1`.
        public var figure = ""
    }

    private struct State {
        var next = 0
        var progress = Progress()
        var weightDone = 0.0
        var isStopped = false
        var error: StudyError?
        /// Tasks of each figure that are not done.
        var left: [String: Int] = [:]
    }

    private let tasks: [StudyTask]
    private let weight: Double
    private let state: Mutex<State>

    /// - Parameter tasks: those that are not done yet, of all figures, in order.
    public init(_ tasks: [StudyTask]) {
        self.tasks = tasks
        weight = tasks.reduce(0) { $0 + $1.weight }
        var state = State()
        state.progress.total = tasks.count
        for task in tasks { state.left[task.cell.figure, default: 0] += 1 }
        self.state = Mutex(state)
    }

    /// The next task; null if there is none, or the run was stopped.
    public func next() -> StudyTask? {
        state.withLock { state in
            guard !state.isStopped, state.next < tasks.count else { return nil }
            state.next += 1
            state.progress.figure = tasks[state.next - 1].cell.figure
            return tasks[state.next - 1]
        }
    }

    /// Counts what was measured.
    public func finish(_ measurement: StudyMeasurement, of task: StudyTask) {
        state.withLock { state in
            state.progress.done += 1
            state.left[task.cell.figure, default: 0] -= 1
            if measurement.failure != nil { state.progress.failed += 1 }
            state.weightDone += task.weight
            state.progress.share = weight > 0 ? state.weightDone / weight : 1
        }
    }

    /// Whether nothing of a figure is left to be measured.
    public func hasFinished(_ figure: String) -> Bool { state.withLock { $0.left[figure, default: 0] <= 0 } }

    /// Lets no further task begin. The first reason is kept.
    public func stop(_ error: StudyError? = nil) {
        state.withLock { state in
            state.isStopped = true
            state.error = state.error ?? error
        }
    }

    public var progress: Progress { state.withLock(\.progress) }

    /// Whether it ended before everything was measured.
    public var isStopped: Bool { state.withLock { $0.isStopped } }

    /// Why it ended early, if something went wrong.
    public var error: StudyError? { state.withLock(\.error) }
}

extension StudyTask {
    /// How long it takes, relative to others: simulated load takes some hundred times as long as equal steps.
    var weight: Double { cell.phase == .serving ? 400 : 1 }
}
