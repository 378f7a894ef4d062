// Tandem — Apache-2.0

import CTandemSystem
import Gateway
import Glibc
import Processes

/// The effects of a ``DeviceWatch``: a thread of the gateway that starts the child, reads what it says, and hands views
/// over by value.
///
/// The thread lives as long as the process: the kernel ends the child with it.
final class GatewayMonitor {
    private let arguments: [String]
    private let place: Int
    private let board: DeviceBoard
    private let log: @Sendable (String) -> Void
    private let start = ContinuousClock.now
    private var watch: DeviceWatch
    private var process: SpawnedProcess?
    private var reader: Int32 = -1
    private var line: [UInt8] = []
    private var isFinished = false

    private init(
        gpu: String, arguments: [String], place: Int, board: DeviceBoard, log: @escaping @Sendable (String) -> Void
    ) {
        self.arguments = arguments
        self.place = place
        self.board = board
        self.log = log
        watch = DeviceWatch(gpu: gpu)
    }

    /// Watches GPUs, each by a thread of its own.
    ///
    /// - Parameters:
    ///   - gpus: indices or UUIDs.
    ///   - isSimulated: whether the simulated GPU of the server is watched.
    static func watch(
        _ gpus: [String], isSimulated: Bool, on board: DeviceBoard, log: @escaping @Sendable (String) -> Void
    ) {
        let watched =
            gpus.map { ($0, ["--gpu", $0]) } + (isSimulated ? [("simulated", ["--simulated"])] : [])
        for (place, (gpu, arguments)) in watched.enumerated() {
            startThread(Box { GatewayMonitor(gpu: gpu, arguments: arguments, place: place, board: board, log: log) })
        }
    }

    /// What the thread begins with.
    private final class Box: Sendable {
        let make: @Sendable () -> GatewayMonitor

        init(_ make: @escaping @Sendable () -> GatewayMonitor) { self.make = make }
    }

    private static func startThread(_ box: Box) {
        let context = Unmanaged.passRetained(box)
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { pointer in
                pointer.map { Unmanaged<Box>.fromOpaque($0).takeRetainedValue() }?.make().run()
                return nil
            }, context.toOpaque())
        // Without the thread there are no numbers, and nothing else is missing.
        if code == 0 { pthread_detach(thread) } else { context.release() }
    }

    // MARK: The thread

    private var now: Duration { ContinuousClock.now - start }

    private func run() {
        handle(.begin)
        while !isFinished {
            var entries = [
                pollfd(fd: reader, events: Int16(POLLIN), revents: 0),
                pollfd(fd: process?.pidfd ?? -1, events: Int16(POLLIN), revents: 0),
            ]
            _ = poll(&entries, 2, timeoutMilliseconds)
            if entries[0].revents != 0 { read() }
            if entries[1].revents != 0 { reap() }
            handle(.timePassed)
        }
        if process != nil { reap(wait: true) }
    }

    private var timeoutMilliseconds: Int32 {
        guard let deadline = watch.nextDeadline else { return -1 }
        let (seconds, attoseconds) = max(.zero, deadline - now).components
        // Rounded up: waking a moment too early would spin.
        return Int32(clamping: seconds * 1000 + attoseconds / 1_000_000_000_000_000 + 1)
    }

    private func handle(_ event: DeviceWatch.Event) {
        for action in watch.handle(event, at: now) {
            switch action {
            case .start: startProcess()
            case .kill: if let process { _ = tandem_pidfd_send_signal(process.pidfd, SIGKILL) }
            case .show(let view): board.show(view, at: place)
            case .note(let text), .warn(let text): log(text)
            case .finish: isFinished = true
            }
        }
    }

    private func startProcess() {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return handle(.ended("was not started: \(String(cString: strerror(errno)))")) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
        let spawn = Spawn(
            path: "/proc/self/exe", arguments: ["tandem", "monitor", "--place", "\(place)"] + arguments,
            environment: Process.environment(), descriptors: [(ends[1], STDOUT_FILENO)])
        defer { close(ends[1]) }
        do {
            process = try spawn.start()
            reader = ends[0]
            line = []
        } catch {
            close(ends[0])
            handle(.ended("was not started: cannot \(error.stage): \(String(cString: strerror(error.code)))"))
        }
    }

    private func read() {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while reader >= 0 {
            let count = Glibc.read(reader, &buffer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            if count < 0 && errno == EAGAIN { return }
            guard count > 0 else {
                close(reader)
                reader = -1
                return
            }
            for byte in buffer[..<count] {
                if byte == UInt8(ascii: "\n") {
                    handle(.line(line))
                    line = []
                } else if line.count < 64 << 10 {
                    line.append(byte)
                }
            }
        }
    }

    private func reap(wait: Bool = false) {
        guard let process else { return }
        var status = tandem_exit_status()
        guard tandem_reap(process.pidfd, wait, &status) != 0 else { return }
        // What it said last.
        read()
        close(process.pidfd)
        if reader >= 0 { close(reader) }
        reader = -1
        self.process = nil
        handle(
            .ended(
                status.signal == 0
                    ? "ended with \(status.exit_code)" : "was ended by signal \(status.signal)"))
    }
}
