// Tandem — Apache-2.0

internal import CTandemSystem
internal import Glibc

/// Speaks version 2 through `nvidia-cuda-mps-control`, which works with every release.
struct CommandLineBackEnd: ControlBackEnd {
    /// The program.
    var program: String
    var environment: [String: String]

    func ask(_ commands: [ControlCommand], within limit: Duration) -> ControlOutcome {
        let session = ControlSession(commands, nonce: .random(in: .min ... .max))
        let run = ToolRun(program: program, arguments: [], environment: environment, input: session.lines, limit: limit)
        switch run.result {
        case .notStarted: return .noDaemon
        case .timedOut: return .busy(.daemon)
        case .ended(let status):
            if let answers = session.split(run.output) { return .answer(answers) }
            if status.code == 1, run.errors.contains(where: { $0.hasPrefix("Cannot find MPS control daemon") }) {
                return .noDaemon
            }
            return .truncated
        }
    }

    func quit(within limit: Duration) {
        _ = ToolRun(program: program, arguments: [], environment: environment, input: ["quit"], limit: limit)
    }
}

/// A run of one of NVIDIA's command-line tools, to its end or to the limit; the caller waits.
public struct ToolRun: Sendable {
    public enum Result: Sendable, Equatable {
        case ended(ProcessExit)
        case timedOut
        case notStarted
    }

    public private(set) var result = Result.notStarted
    /// Lines of its standard output.
    public private(set) var output: [String] = []
    /// Lines of its standard error.
    public private(set) var errors: [String] = []

    /// More than any listing of 60 clients.
    private static let maximumOutput = 1 << 20

    /// - Parameter input: lines of its standard input, 4096 bytes at most.
    public init(
        program: String, arguments: [String], environment: [String: String], input: [String], limit: Duration
    ) {
        let deadline = Deadline(limit)
        guard let source = Pipe(), let standard = Pipe(), let complaints = Pipe() else { return }
        defer { for end in [source.reader, standard.reader, complaints.reader] { close(end) } }
        // Few commands, which a pipe holds, so that nobody waits.
        let text = Array(input.map { $0 + "\n" }.joined().utf8.prefix(4096))
        let written = write(source.writer, text, text.count)
        close(source.writer)
        let launch = ChildLaunch(
            program: program, arguments: arguments, environment: environment, input: source.reader,
            output: standard.writer, errors: complaints.writer)
        let child = try? launch.start()
        close(standard.writer)
        close(complaints.writer)
        guard let child else { return }
        guard written == text.count else {
            child.send(SIGKILL)
            _ = child.reap(wait: true)
            return
        }
        var texts: [[UInt8]] = [[], []]
        var ends = [standard.reader, complaints.reader]
        var hasEnded = false
        while !(hasEnded && ends.allSatisfy { $0 < 0 }) && !deadline.isOver {
            var entries = (ends + [hasEnded ? -1 : child.pidfd]).map {
                pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
            }
            guard poll(&entries, nfds_t(entries.count), deadline.milliseconds) > 0 else { continue }
            for index in 0..<2 where entries[index].revents != 0 {
                if !Self.read(ends[index], into: &texts[index]) { ends[index] = -1 }
            }
            if entries[2].revents != 0 { hasEnded = true }
        }
        if !hasEnded { child.send(SIGKILL) }
        guard let status = child.reap(wait: true) else { return }
        result = hasEnded ? .ended(status) : .timedOut
        output = Self.lines(texts[0])
        errors = Self.lines(texts[1])
    }

    /// False at the end.
    private static func read(_ descriptor: Int32, into bytes: inout [UInt8]) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = Glibc.read(descriptor, &buffer, buffer.count)
        if count < 0 && errno == EINTR { return true }
        guard count > 0, bytes.count < maximumOutput else { return false }
        bytes += buffer[..<count]
        return true
    }

    private static func lines(_ bytes: [UInt8]) -> [String] {
        var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        if lines.last?.isEmpty == true { lines.removeLast() }
        return lines.map { String(decoding: $0, as: UTF8.self) }
    }
}

/// Both ends of a pipe, close-on-exec.
struct Pipe {
    let reader: Int32
    let writer: Int32

    init?() {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return nil }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        reader = ends[0]
        writer = ends[1]
    }
}
