// Tandem — Apache-2.0

import CTandemSystem
import Glibc
import TerminalView

/// The terminal that this process writes to.
enum Terminal {
    /// `nil` if it is none.
    static func size() -> (columns: Int, rows: Int)? {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else { return nil }
        return (Int(size.ws_col), Int(size.ws_row))
    }
}

/// `tandem top` on a terminal: takes it over, and gives it back as it was, however it ends.
final class TopScreen {
    private let source: EnginesSource
    private let glyphs: TerminalGlyphs
    private let isColoured: Bool
    private var model: TopModel
    private var saved = termios()
    private var question: Question?
    private var nextLook = 0.0

    init(source: EnginesSource, interval: Double, glyphs: TerminalGlyphs, isColoured: Bool) {
        self.source = source
        self.glyphs = glyphs
        self.isColoured = isColoured
        model = TopModel(endpoint: source.address.text, interval: interval)
    }

    /// Returns when the user or a signal ends it.
    func run() {
        let signals = tandem_signal_descriptor([SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP], 5)
        enter()
        defer { leave() }
        while true {
            let now = TopCommand.now()
            if question == nil, !model.isPaused, now >= nextLook {
                question = source.ask()
                nextLook = now + model.interval
            }
            if let answer = question?.advance() {
                question = nil
                switch answer {
                case .success((let snapshot, _)): model.received(snapshot, at: TopCommand.now())
                case .failure(let problem): model.failed(problem.description, at: TopCommand.now())
                }
                draw()
            }
            var entries = [
                pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0),
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
            ]
            if let question { entries.append(question.pollEntry) }
            // A question that gets no answer must be given up in time.
            let wait = question != nil ? 0.1 : model.isPaused ? 3600 : max(0, nextLook - TopCommand.now())
            poll(&entries, nfds_t(entries.count), Int32((wait * 1000).rounded(.up)))
            while case let number = tandem_signal_read(signals), number != 0 {
                switch number {
                case SIGWINCH: draw()
                case SIGTSTP: suspend()
                default: return
                }
            }
            if entries[0].revents != 0, !takeKeys() { return }
        }
    }

    /// - Returns: whether it goes on.
    private func takeKeys() -> Bool {
        var keys = [UInt8](repeating: 0, count: 64)
        let count = read(STDIN_FILENO, &keys, keys.count)
        // Whoever typed is gone.
        guard count > 0 else { return count < 0 && (errno == EAGAIN || errno == EINTR) }
        for key in keys[..<count] {
            switch key {
            case UInt8(ascii: "q"), UInt8(ascii: "Q"), 0x03, 0x04: return false
            case UInt8(ascii: "p"), UInt8(ascii: "P"), UInt8(ascii: " "):
                model.isPaused.toggle()
                if !model.isPaused { nextLook = 0 }
            case UInt8(ascii: "h"), UInt8(ascii: "H"), UInt8(ascii: "?"): model.showsHelp.toggle()
            default: break
            }
        }
        draw()
        return true
    }

    private func draw() {
        let size = Terminal.size() ?? (80, 24)
        let view = TopView(columns: size.0, rows: size.1, glyphs: glyphs)
        let lines = view.lines(of: model, at: TopCommand.now())
        // Over what is there, line by line, in one piece: nothing flickers.
        var text = "\u{1B}[H"
        for (index, line) in lines.enumerated() {
            text += (isColoured ? line.coloured : line.text) + "\u{1B}[K"
            if index < lines.count - 1 { text += "\r\n" }
        }
        Process.write(text + "\u{1B}[J", to: STDOUT_FILENO)
    }

    private func suspend() {
        leave()
        kill(getpid(), SIGSTOP)
        enter()
        draw()
    }

    private func enter() {
        tcgetattr(STDIN_FILENO, &saved)
        var raw = saved
        raw.c_lflag &= ~tcflag_t(ICANON | ECHO)
        tcsetattr(STDIN_FILENO, TCSANOW, &raw)
        // The alternate screen, without a cursor and without line wrap.
        Process.write("\u{1B}[?1049h\u{1B}[?25l\u{1B}[?7l\u{1B}[H\u{1B}[2J", to: STDOUT_FILENO)
    }

    private func leave() {
        Process.write("\u{1B}[?7h\u{1B}[?25h\u{1B}[?1049l", to: STDOUT_FILENO)
        tcsetattr(STDIN_FILENO, TCSANOW, &saved)
    }
}
