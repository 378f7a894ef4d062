// Tandem — Apache-2.0

internal import CTandemSystem
internal import Glibc
internal import Processes

/// Runs command-line tools and waits for them; a signal that asks this process to stop ends the tool first.
struct ToolProcess {
    /// How a tool ended.
    struct Outcome: Equatable {
        var exitCode: Int32
        /// 0 if it exited by itself.
        var signal: Int32
        /// The end of what it printed, errors included.
        var output: String

        var succeeded: Bool { exitCode == 0 && signal == 0 }
    }

    /// Directories with programs, separated by colons.
    var searchPath: String

    /// The file of a program, as a shell would find it.
    func find(_ name: String) -> String? {
        for directory in searchPath.split(separator: ":") {
            let candidate = "\(directory)/\(name)"
            if FileStatus(path: candidate)?.isRegular == true && access(candidate, X_OK) == 0 { return candidate }
        }
        return nil
    }

    /// The most bytes that a program can be given to read: what a pipe holds, so that nobody waits.
    static let maximumInput = 16384

    /// Runs a program to its end.
    ///
    /// - Parameters:
    ///   - input: what it reads from its standard input, at most ``maximumInput`` bytes; what no other user shall see
    ///     goes this way, as command lines are open to all.
    ///   - tick: called a few times a second meanwhile; false ends the program.
    func run(
        _ program: String,
        _ arguments: [String],
        environment: [String: String],
        input: [UInt8] = [],
        signals: borrowing SignalWatch,
        tick: () -> Bool
    ) throws(ModelStoreError) -> Outcome {
        let source = try descriptor(of: input, for: program)
        defer { close(source) }
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw .system(operation: "start", path: program, errno: errno) }
        let reader = ends[0]
        defer { close(reader) }
        _ = fcntl(reader, F_SETFL, O_NONBLOCK)
        let writer = ends[1]
        let child: SpawnedProcess
        do {
            defer { close(writer) }
            // Safe on any thread: it waits here for the child's end.
            child = try Spawn(
                path: program, arguments: [program] + arguments, environment: environment,
                descriptors: [(source, STDIN_FILENO), (writer, STDOUT_FILENO), (writer, STDERR_FILENO)]
            ).start()
        } catch {
            throw .system(operation: "start", path: program, errno: error.code)
        }
        defer { close(child.pidfd) }

        var output = OutputTail()
        var stopSignal: Int32 = 0
        while true {
            var entries = [
                pollfd(fd: child.pidfd, events: Int16(POLLIN), revents: 0),
                pollfd(fd: reader, events: Int16(POLLIN), revents: 0),
                pollfd(fd: signals.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            // Once the tool closed its output, only its end matters.
            if output.ended { entries[1].fd = -1 }
            let count = poll(&entries, nfds_t(entries.count), 200)
            if count < 0 && errno != EINTR { break }
            if entries[1].revents != 0 { output.read(from: reader) }
            if stopSignal == 0, let signal = signals.next() {
                stopSignal = signal
                kill(-child.pid, SIGKILL)
            }
            if entries[0].revents != 0 { break }
            if !tick() { kill(-child.pid, SIGKILL) }
        }
        // A tool may leave helpers of its own.
        kill(-child.pid, SIGKILL)
        var status = tandem_exit_status()
        let reaped = tandem_reap(child.pidfd, true, &status)
        guard reaped == 1 else { throw .system(operation: "wait for", path: program, errno: -reaped) }
        output.read(from: reader)
        if stopSignal != 0 { throw .interrupted(signal: stopSignal) }
        return Outcome(exitCode: status.exit_code, signal: status.signal, output: output.text)
    }

    /// A descriptor from which `input` is read.
    private func descriptor(of input: [UInt8], for program: String) throws(ModelStoreError) -> Int32 {
        guard !input.isEmpty else {
            let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
            guard null >= 0 else { throw .system(operation: "open", path: "/dev/null", errno: errno) }
            return null
        }
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw .system(operation: "start", path: program, errno: errno) }
        defer { close(ends[1]) }
        guard input.count <= Self.maximumInput, write(ends[1], input, input.count) == input.count else {
            close(ends[0])
            throw .system(operation: "start", path: program, errno: E2BIG)
        }
        return ends[0]
    }
}

/// Takes SIGINT, SIGTERM and SIGHUP from their usual course while it lives, so that work in progress can be undone.
struct SignalWatch: ~Copyable {
    /// Readable when a signal came; -1 if signals are not watched.
    let descriptor: Int32
    private let maskBefore: sigset_t

    /// - Parameter enabled: false leaves signals alone, for a process whose other threads take them.
    init(enabled: Bool) {
        var before = sigset_t()
        pthread_sigmask(SIG_BLOCK, nil, &before)
        maskBefore = before
        descriptor = enabled ? tandem_signal_descriptor([SIGINT, SIGTERM, SIGHUP], 3) : -1
    }

    /// The next signal that asks to stop, if there is one.
    func next() -> Int32? {
        guard descriptor >= 0 else { return nil }
        let signal = tandem_signal_read(descriptor)
        return signal > 0 ? signal : nil
    }

    deinit {
        guard descriptor >= 0 else { return }
        close(descriptor)
        var mask = maskBefore
        pthread_sigmask(SIG_SETMASK, &mask, nil)
    }
}

/// The last 16 KiB of a stream.
private struct OutputTail {
    private var bytes: [UInt8] = []
    private(set) var ended = false

    var text: String { String(decoding: bytes, as: UTF8.self) }

    /// Takes what is there without waiting.
    mutating func read(from descriptor: Int32) {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while !ended {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            if count < 0 && errno == EAGAIN { return }
            guard count > 0 else {
                ended = true
                return
            }
            bytes += buffer[..<count]
            if bytes.count > 16384 { bytes.removeFirst(bytes.count - 16384) }
        }
    }
}
