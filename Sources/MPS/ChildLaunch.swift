// Tandem — Apache-2.0

internal import CTandemSystem
internal import Glibc

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
        var argv: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        let mappings = [
            tandem_descriptor_mapping(parent: input, child: 0),
            tandem_descriptor_mapping(parent: output, child: 1),
            tandem_descriptor_mapping(parent: errors, child: 2),
        ]
        let result = program.withCString { path in
            mappings.withUnsafeBufferPointer { mappings in
                argv.withUnsafeMutableBufferPointer { argv in
                    envp.withUnsafeMutableBufferPointer { envp in
                        var options = tandem_spawn_options()
                        options.path = path
                        options.arguments = UnsafePointer(argv.baseAddress)
                        options.environment = UnsafePointer(envp.baseAddress)
                        options.descriptors = mappings.baseAddress
                        options.descriptor_count = Int32(mappings.count)
                        options.parent_death_signal = SIGKILL
                        options.new_process_group = true
                        return tandem_spawn(&options)
                    }
                }
            }
        }
        guard result.error == 0 else {
            let stage = String(cString: tandem_spawn_stage_name(result.stage))
            throw .system(operation: stage, subject: program, errno: result.error)
        }
        return Child(pid: result.pid, pidfd: result.pidfd)
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
