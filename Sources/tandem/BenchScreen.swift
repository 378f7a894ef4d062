// Tandem — Apache-2.0

import Glibc
import LoadGenerator
import NIOCore

/// Waits for a run, shows where it is, and ends it at Ctrl-C.
struct BenchScreen {
    /// Milliseconds between two looks.
    private static let interval: Int32 = 250

    private let events: ProcessEvents
    private let title: String
    private let expected: Int?
    private let seconds: Double?
    /// Whether requests come when they are due, whatever became of others.
    private let isOpen: Bool
    private let isTerminal = isatty(STDERR_FILENO) == 1

    init(_ events: ProcessEvents, title: String, expected: Int) {
        self.events = events
        self.title = title
        self.expected = expected
        seconds = nil
        isOpen = false
    }

    init(_ events: ProcessEvents, title: String, plan: LoadPlan) {
        self.events = events
        self.title = title
        expected = plan.expectedRequests
        if case .open(let schedule, _) = plan.pace {
            seconds = schedule.last.map { Double($0) / 1e9 }
            isOpen = true
        } else {
            isOpen = false
            seconds = plan.nanoseconds.map { Double($0) / 1e9 }
        }
    }

    func watch(_ run: LoadRun) throws -> LoadOutcome {
        let begin = Process.nanoseconds()
        run.result.whenComplete { [events] _ in events.end(with: 0) }
        while true {
            switch events.next(within: isTerminal ? Self.interval : -1) {
            case .end?:
                if isTerminal { Process.write("\r\u{1B}[K", to: STDERR_FILENO) }
                return try run.result.wait()
            case .signal?: run.stop()
            case nil: show(run.progress, after: Double(Process.nanoseconds() - begin) / 1e9)
            }
        }
    }

    private func show(_ progress: LoadProgress, after passed: Double) {
        let done = progress.complete + progress.failed
        var text = "\(title): \(done)\(expected.map { "/\($0)" } ?? "") requests, \(progress.inFlight) in flight"
        if progress.failed > 0 { text += ", \(progress.failed) failed" }
        if passed > 0 { text += ", \(Int(Double(progress.chunks) / passed)) chunks/s" }
        if let left = secondsLeft(done: done, passed: passed) { text += ", \(Self.clock(left)) left" }
        Process.write("\r\(text)\u{1B}[K", to: STDERR_FILENO)
    }

    /// As time tells, or as requests do, whichever ends first in a closed loop and last in an open one.
    private func secondsLeft(done: Int, passed: Double) -> Double? {
        let byTime = seconds.map { max(0, $0 - passed) }
        guard let expected, done > 0 else { return byTime }
        let byRequests = passed * Double(expected - done) / Double(done)
        guard let byTime else { return byRequests }
        return isOpen ? max(byTime, byRequests) : min(byTime, byRequests)
    }

    private static func clock(_ seconds: Double) -> String {
        let whole = Int(min(seconds, 1e6).rounded(.up))
        return "\(whole / 60):\(whole % 60 < 10 ? "0" : "")\(whole % 60)"
    }
}
