// Tandem — Apache-2.0

internal import CTandemSystem
internal import Glibc

/// How to start a child process: the one way in which Tandem does.
///
/// The child leads a process group of its own, so that a terminal's Ctrl-C does not reach it and the whole group can be
/// killed; it has the default signal handlers and mask, and gets SIGKILL when the *thread* that started it ends.
public struct Spawn {
    /// The program's file.
    public var path: String
    /// The first is the name that `ps` shows.
    public var arguments: [String]
    public var environment: [String: String]
    /// What is open in the child, and there as what. It inherits the three standard ones that are not given; everything
    /// else is closed.
    public var descriptors: [(parent: Int32, child: Int32)]
    /// CPU numbers; empty for those of this thread.
    public var cores: [Int32]

    public init(
        path: String, arguments: [String], environment: [String: String],
        descriptors: [(parent: Int32, child: Int32)], cores: [Int32] = []
    ) {
        self.path = path
        self.arguments = arguments
        self.environment = environment
        self.descriptors = descriptors
        self.cores = cores
    }

    /// Starts the child and waits until its program runs.
    ///
    /// - Throws: ``SpawnError`` if it does not; nothing is left behind then.
    public func start() throws(SpawnError) -> SpawnedProcess {
        var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        let mappings = descriptors.map { tandem_descriptor_mapping(parent: $0.parent, child: $0.child) }
        let result = path.withCString { path in
            mappings.withUnsafeBufferPointer { mappings in
                cores.withUnsafeBufferPointer { cores in
                    argv.withUnsafeMutableBufferPointer { argv in
                        envp.withUnsafeMutableBufferPointer { envp in
                            var options = tandem_spawn_options()
                            options.path = path
                            options.arguments = UnsafePointer(argv.baseAddress)
                            options.environment = UnsafePointer(envp.baseAddress)
                            options.descriptors = mappings.baseAddress
                            options.descriptor_count = Int32(mappings.count)
                            options.cpus = cores.baseAddress
                            options.cpu_count = Int32(cores.count)
                            options.parent_death_signal = SIGKILL
                            options.new_process_group = true
                            return tandem_spawn(&options)
                        }
                    }
                }
            }
        }
        guard result.error == 0 else {
            throw SpawnError(stage: String(cString: tandem_spawn_stage_name(result.stage)), code: result.error)
        }
        return SpawnedProcess(pid: result.pid, pidfd: result.pidfd)
    }
}

/// A child that runs, or has ended and was not reaped.
public struct SpawnedProcess: Sendable {
    public let pid: Int32
    /// Readable once it has ended; the caller's to reap and close.
    public let pidfd: Int32
}

/// Why a child did not start.
public struct SpawnError: Error, Sendable, Equatable {
    /// What was attempted: `start the program`, …
    public var stage: String
    /// Errno.
    public var code: Int32
}
