// Tandem — Apache-2.0

internal import CTandemSystem
internal import Glibc
internal import Processes

/// Starts a program of MPS.
struct ChildLaunch {
    var program: String
    var arguments: [String] = []
    var environment: [String: String]
    var input: Int32
    var output: Int32
    var errors: Int32

    /// The child leads its own process group, and gets SIGKILL when the thread that started it ends.
    func start() throws(MPSError) -> Child {
        let spawn = Spawn(
            path: program, arguments: [program] + arguments, environment: environment,
            descriptors: [(input, STDIN_FILENO), (output, STDOUT_FILENO), (errors, STDERR_FILENO)])
        do {
            let process = try spawn.start()
            return Child(pid: process.pid, pidfd: process.pidfd)
        } catch {
            throw .system(operation: error.stage, subject: program, errno: error.code)
        }
    }

    /// A child that runs, or has ended and was not reaped.
    struct Child {
        let pid: Int32
        /// Readable once it has ended.
        let pidfd: Int32

        func send(_ signal: Int32) {
            _ = tandem_pidfd_send_signal(pidfd, signal)
        }

        /// How it ended; null if it still runs and `wait` is false. Afterwards the value must not be used any more.
        func reap(wait: Bool = false) -> ProcessExit? {
            var status = tandem_exit_status()
            let result = tandem_reap(pidfd, wait, &status)
            guard result != 0 else { return nil }
            close(pidfd)
            guard result == 1 else { return ProcessExit(code: -1, signal: 0) }
            return ProcessExit(code: status.exit_code, signal: status.signal)
        }
    }
}

/// How a program ended.
public struct ProcessExit: Sendable, Equatable, CustomStringConvertible {
    public var code: Int32
    /// 0 if it exited by itself.
    public var signal: Int32

    public init(code: Int32, signal: Int32) {
        self.code = code
        self.signal = signal
    }

    public var description: String { signal == 0 ? "exit status \(code)" : "signal \(signal)" }
}
