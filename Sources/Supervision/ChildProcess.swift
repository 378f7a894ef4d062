// Tandem — Apache-2.0

internal import CTandemSystem
internal import Glibc
internal import Processes

/// How to start a child.
struct ChildLaunch {
    var executable: String
    /// The first is the name that `ps` shows.
    var arguments: [String]
    var environment: [String: String]
    /// Descriptors besides standard output and standard error, which are inherited; standard input is empty.
    var descriptors: [(parent: Int32, child: Int32)]
    var cores: [Int32] = []
}

/// A running child. It gets SIGKILL when the thread that started it ends.
struct ChildProcess {
    let pid: Int32
    /// Readable when the child ended.
    let pidfd: Int32

    /// - Throws: ``LaunchError`` that names the step that failed; nothing is left behind then.
    init(_ launch: ChildLaunch) throws(LaunchError) {
        let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
        guard null >= 0 else { throw LaunchError(reason: "cannot open /dev/null: \(String(cString: strerror(errno)))") }
        defer { close(null) }
        let spawn = Spawn(
            path: launch.executable, arguments: launch.arguments, environment: launch.environment,
            descriptors: [(null, STDIN_FILENO)] + launch.descriptors, cores: launch.cores)
        do {
            let process = try spawn.start()
            pid = process.pid
            pidfd = process.pidfd
        } catch {
            throw LaunchError(reason: "cannot \(error.stage): \(String(cString: strerror(error.code)))")
        }
    }

    /// Sends a signal to the child alone.
    func send(_ signal: Int32) {
        _ = tandem_pidfd_send_signal(pidfd, signal)
    }

    /// Kills the child and everything it started.
    func killGroup() {
        kill(-pid, SIGKILL)
    }

    /// The same at any time, for a child that may still run.
    func reapIfEnded() -> ChildExit? {
        var entry = pollfd(fd: pidfd, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, 0) > 0 ? reap() : nil
    }

    /// How the child ended; null if it still runs. To be called when ``pidfd`` is readable; afterwards the value must
    /// not be used any more.
    func reap() -> ChildExit? {
        // Helpers of a dead child have nobody left to work for. Before reaping, while nothing else can have its number.
        killGroup()
        var status = tandem_exit_status()
        let result = tandem_reap(pidfd, false, &status)
        guard result != 0 else { return nil }
        close(pidfd)
        guard result == 1 else { return .notStarted(reason: "it was lost: \(String(cString: strerror(-result)))") }
        return status.signal != 0 ? .killed(signal: status.signal) : .exited(code: status.exit_code)
    }
}

/// Why a child did not start.
struct LaunchError: Error {
    var reason: String
}
