// Tandem — Apache-2.0

import Glibc
import Study
import Synchronization

/// Waits for a study, shows where it is, and ends it at Ctrl-C.
struct StudyScreen {
    private let events: ProcessEvents
    private let isTerminal = isatty(STDERR_FILENO) == 1

    /// Milliseconds between two looks on a terminal, and seconds between two lines in a log.
    private static let interval: Int32 = 250
    private static let secondsBetweenLines = 10.0

    init(_ events: ProcessEvents) { self.events = events }

    /// - Parameter stopping: is called at Ctrl-C, to give up what is being measured.
    func watch(_ run: StudyRun, stopping: () -> Void) {
        let begin = Process.nanoseconds()
        var lastLine = 0.0
        while true {
            let event = events.next(within: Self.interval)
            let passed = Double(Process.nanoseconds() - begin) / 1e9
            switch event {
            case .end?:
                if isTerminal { Process.write("\r\u{1B}[K", to: STDERR_FILENO) }
                return
            case .signal?:
                run.stop()
                stopping()
            case nil:
                if isTerminal {
                    Process.write("\r\(Self.text(run.progress, passed))\u{1B}[K", to: STDERR_FILENO)
                } else if passed - lastLine >= Self.secondsBetweenLines {
                    lastLine = passed
                    Process.log(Self.text(run.progress, passed))
                }
            }
        }
    }

    private static func text(_ progress: StudyRun.Progress, _ passed: Double) -> String {
        var text = "study: \(progress.figure), \(progress.done) of \(progress.total) measurements"
        if progress.failed > 0 { text += ", \(progress.failed) failed" }
        if progress.share > 0, progress.share < 1 {
            let left = Int((passed / progress.share * (1 - progress.share)).rounded(.up))
            text += ", \(left / 60):\(left % 60 < 10 ? "0" : "")\(left % 60) left"
        }
        return text
    }
}

/// Tells the last of several threads that it is the last.
final class Countdown: Sendable {
    private let left: Mutex<Int>

    init(_ count: Int) { left = Mutex(count) }

    /// Counts the caller off.
    func isLast() -> Bool {
        left.withLock { left in
            left -= 1
            return left == 0
        }
    }
}
