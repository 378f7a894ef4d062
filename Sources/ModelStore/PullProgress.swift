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
        guard let line = line(for: event), line != lastText else { return "" }
        lastText = line
        guard isTerminal else { return line + "\n" }
        lineIsOpen = Self.isRewritten(event)
        return "\r\u{1B}[K" + line + (lineIsOpen ? "" : "\n")
    }

    /// Whether the next event takes the line of this one on a terminal.
    private static func isRewritten(_ event: PullEvent) -> Bool {
        switch event {
        case .finished, .planned, .fetched, .reused, .cached, .note: false
        default: true
        }
    }

    /// What to print when the pull failed, before the error: ends an open line.
    public mutating func interruption() -> String {
        defer { lineIsOpen = false }
        return lineIsOpen ? "\n" : ""
    }

    private func line(for event: PullEvent) -> String? {
        switch event {
        case .waitingForAnotherPull:
            return "\(name): waiting for another pull into the same cache"
        case .downloading(let received, let total):
            return "\(name): downloading \(total / 1_000_000) MB, \(step(received, total)) %"
        case .unpacking:
            return "\(name): unpacking"
        case .verifying(let done, let total):
            return isTerminal ? "\(name): checking, \(percent(done, total)) %" : "\(name): checking"
        case .finished(let path):
            return "\(name): ready at \(path)"
        case .asking(let endpoint):
            return "\(name): asking \(endpoint)"
        case .planned(let commit, let files, let bytes, let missing):
            let rest =
                missing == bytes ? "" : missing == 0 ? ", all here" : ", \(ByteText.size(missing)) of it to fetch"
            return "\(name): commit \(commit.prefix(12)), \(files == 1 ? "1 file" : "\(files) files"), "
                + ByteText.size(bytes) + rest
        case .fetching(let state):
            return fetching(state)
        case .checking(let file, let done, let total):
            return isTerminal ? "  \(Self.shortened(file)): checking, \(percent(done, total)) %" : nil
        case .fetched(let state):
            let rate = state.rate.map { ", \(ByteText.size($0))/s" } ?? ""
            return "  \(Self.shortened(state.file)): \(ByteText.size(state.total))\(rate), checked"
        case .reused(let file, let bytes):
            return "  \(Self.shortened(file)): \(ByteText.size(bytes)), already here"
        case .retrying(let reason, let seconds):
            return "  \(reason); next attempt "
                + (seconds == 0 ? "at once" : "in \(ByteText.time(seconds: UInt64(max(0, seconds))))")
        case .cached(let commit, let bytes, let path):
            return "\(name): commit \(commit.prefix(12)), \(ByteText.size(bytes)), is at \(path)"
        case .note(let text):
            return "\(name): \(text)"
        }
    }

    private func fetching(_ state: FetchProgress) -> String? {
        let file = Self.shortened(state.file)
        guard isTerminal else {
            // Small files have one line when they are here.
            guard state.total >= Self.largeFile else { return nil }
            return "  \(file): \(ByteText.size(state.total)), \(step(state.received, state.total)) %"
        }
        let rate = state.rate.map { ", \(ByteText.size($0))/s" } ?? ""
        let left = state.secondsLeft.map { ", \(ByteText.time(seconds: $0)) left" } ?? ""
        return "  \(file): \(ByteText.size(state.received)) of \(ByteText.size(state.total))\(rate)\(left)"
    }

    private static let largeFile: UInt64 = 8_000_000

    /// Lines that are rewritten must fit in one line of the terminal; the end of a path says more than its beginning.
    private static func shortened(_ path: String) -> String {
        path.count <= 44 ? path : "…" + path.suffix(43)
    }

    /// Elsewhere than on a terminal a line for each quarter is enough.
    private func step(_ part: UInt64, _ whole: UInt64) -> UInt64 {
        isTerminal ? percent(part, whole) : percent(part, whole) / 25 * 25
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
