// Tandem — Apache-2.0

import ArgumentParser
import CTandemSystem
import Glibc
import JSON
import TerminalView

/// Shows a running server.
struct TopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top",
        abstract: "Watch a running server: engines, throughput, latency, events.",
        discussion: """
            Asks the gateway for /engines. Where the output is no terminal, or TERM is dumb, it prints once as with -1. \
            NO_COLOR turns colours off; a locale without UTF-8 gets plain ASCII.

            Keys: q quits, p pauses, h explains the columns.

            Example:
              tandem top
              tandem top http://127.0.0.1:8000 -1 --no-color
            """)

    @Argument(help: "Where the server is.")
    var url = "http://127.0.0.1:8000"

    @Flag(name: .customShort("1"), help: "Print once and end; with 1 if the server cannot be asked.")
    var once = false

    @Option(help: ArgumentHelp("Time between two looks: 500ms, 2s.", valueName: "time"), transform: Self.interval)
    var interval: Double = 1

    @Flag(help: "Use no colours.")
    var noColor = false

    @Flag(help: "Print the answer of /engines and end.")
    var json = false

    @Option(help: ArgumentHelp("Key to show. (environment: TANDEM_API_KEY)", valueName: "key"))
    var apiKey: String?

    func run() throws {
        let environment = Process.environment()
        let address: WebAddress
        do {
            address = try WebAddress(url)
        } catch {
            throw ValidationError("\(error)")
        }
        let key = apiKey ?? environment["TANDEM_API_KEY"].flatMap { $0.isEmpty ? nil : $0 }
        let source = EnginesSource(address: address, key: key)
        signal(SIGPIPE, SIG_IGN)
        if json {
            let body = try once(source) { $0.1 }
            Process.write(String(decoding: body, as: UTF8.self) + "\n", to: STDOUT_FILENO)
            return
        }
        let isDumb = environment["TERM"].map { $0.isEmpty || $0 == "dumb" } ?? true
        let isTerminal = isatty(STDOUT_FILENO) == 1 && isatty(STDIN_FILENO) == 1
        let glyphs = TerminalGlyphs.of(environment: environment)
        let isColoured =
            !noColor && (environment["NO_COLOR"] ?? "").isEmpty && isatty(STDOUT_FILENO) == 1 && !isDumb
        if once || isDumb || !isTerminal {
            try printOnce(source, glyphs: glyphs, isColoured: isColoured)
        } else {
            TopScreen(source: source, interval: interval, glyphs: glyphs, isColoured: isColoured).run()
        }
    }

    /// Two looks, since one alone has no rates.
    private func printOnce(_ source: EnginesSource, glyphs: TerminalGlyphs, isColoured: Bool) throws {
        var model = TopModel(endpoint: source.address.text, interval: interval)
        model.received(try once(source) { $0.0 }, at: Self.now())
        usleep(UInt32(min(interval, 5) * 1e6))
        model.received(try once(source) { $0.0 }, at: Self.now())
        let size = Terminal.size()
        // What does not fit is still there to be scrolled to, or to be read by a program.
        let view = TopView(
            columns: size.map { max($0.columns, 40) } ?? 120, rows: 1000, glyphs: glyphs, isLive: false)
        let lines = view.lines(of: model, at: Self.now()).map { line in
            var text = isColoured ? line.coloured : line.text
            while text.last == " " { text.removeLast() }
            return text
        }
        Process.write(lines.joined(separator: "\n") + "\n", to: STDOUT_FILENO)
    }

    private func once<Value>(
        _ source: EnginesSource, _ value: ((EnginesSnapshot, [UInt8])) -> Value
    ) throws -> Value {
        switch source.askAndWait() {
        case .success(let answer): return value(answer)
        case .failure(let problem):
            Process.log("tandem top: \(source.address.text): \(problem)")
            throw ExitCode(1)
        }
    }

    /// Seconds on a clock that only goes forward.
    static func now() -> Double { Double(Process.nanoseconds()) / 1e9 }

    private static func interval(_ text: String) throws -> Double {
        let isMilliseconds = text.hasSuffix("ms")
        let digits = text.dropLast(isMilliseconds ? 2 : text.hasSuffix("s") ? 1 : 0)
        let factor = isMilliseconds ? 0.001 : 1
        guard let value = Double(digits), (0.1...3600).contains(value * factor) else {
            throw ValidationError("it must be a time from 100ms to 1h, such as 500ms or 2s")
        }
        return value * factor
    }
}
