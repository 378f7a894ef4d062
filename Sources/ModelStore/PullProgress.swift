// Tandem — Apache-2.0

internal import Glibc

/// Turns the events of a pull into text: one line that rewrites itself on a terminal, a few plain lines elsewhere.
public struct PullProgress: Sendable {
    private let name: String
    private let isTerminal: Bool
    private var lastText = ""
    private var lineIsOpen = false

    /// - Parameter name: the model that is fetched.
    public init(name: String, isTerminal: Bool) {
        self.name = name
        self.isTerminal = isTerminal
    }

    /// What to print for `event`; empty if nothing changed for the reader.
    public mutating func text(for event: PullEvent) -> String {
        let line = line(for: event)
        guard line != lastText else { return "" }
        lastText = line
        guard isTerminal else { return line + "\n" }
        if case .finished = event {
            lineIsOpen = false
            return "\r\u{1B}[K" + line + "\n"
        }
        lineIsOpen = true
        return "\r\u{1B}[K" + line
    }

    /// What to print when the pull failed, before the error: ends an open line.
    public mutating func interruption() -> String {
        defer { lineIsOpen = false }
        return lineIsOpen ? "\n" : ""
    }

    private func line(for event: PullEvent) -> String {
        switch event {
        case .waitingForAnotherPull:
            return "\(name): waiting for another pull into the same cache"
        case .downloading(let received, let total):
            // Elsewhere than on a terminal a line for each quarter is enough.
            let percent = percent(received, total) / (isTerminal ? 1 : 25) * (isTerminal ? 1 : 25)
            return "\(name): downloading \(total / 1_000_000) MB, \(percent) %"
        case .unpacking:
            return "\(name): unpacking"
        case .verifying(let done, let total):
            return isTerminal ? "\(name): checking, \(percent(done, total)) %" : "\(name): checking"
        case .finished(let path):
            return "\(name): ready at \(path)"
        }
    }

    private func percent(_ part: UInt64, _ whole: UInt64) -> UInt64 {
        whole == 0 ? 100 : min(100, UInt64(Double(part) / Double(whole) * 100))
    }

    /// Prints events on standard error.
    public mutating func report(_ event: PullEvent) {
        Self.print(text(for: event))
    }

    /// Prints what ``interruption()`` gives on standard error.
    public mutating func reportInterruption() {
        Self.print(interruption())
    }

    /// Whether standard error is a terminal.
    public static var standardErrorIsTerminal: Bool { isatty(STDERR_FILENO) == 1 }

    private static func print(_ text: String) {
        let bytes = Array(text.utf8)
        _ = write(STDERR_FILENO, bytes, bytes.count)
    }
}
