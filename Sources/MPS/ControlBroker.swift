// Tandem — Apache-2.0

internal import Glibc

/// The one way to a control daemon: every query of every process of ours goes through the broker of its pipe directory.
///
/// A daemon keeps a single session; a newcomer pushes out the one in progress, whose tool then says nothing and exits
/// with status 0. A lock beside the pipe directory lets callers, in this process and in others, wait for each other; a
/// session that somebody without the lock cut off is asked again. Calls block: keep them off event loops.
public struct ControlBroker: Sendable {
    /// The directory of the daemon's sockets.
    public let pipeDirectory: String
    /// Longest time for a batch, waiting for the lock included.
    public var limit: Duration
    private let lockPath: String
    private let backEnd: any ControlBackEnd

    /// Sessions that may be cut off until the batch is given up.
    private static let attempts = 5

    /// - Parameters:
    ///   - program: `nvidia-cuda-mps-control`.
    ///   - environment: of the process; its own MPS settings are replaced.
    public init(
        pipeDirectory: String, program: String, environment: [String: String],
        protocolVersion: ControlProtocol = .version2,
        limit: Duration = .seconds(3)
    ) {
        var environment = environment.filter { !$0.key.hasPrefix("CUDA_") }
        environment["CUDA_MPS_PIPE_DIRECTORY"] = pipeDirectory
        switch protocolVersion {
        case .version2:
            self.init(
                pipeDirectory: pipeDirectory, limit: limit,
                backEnd: CommandLineBackEnd(program: program, environment: environment))
        case .version3:
            environment["CUDA_MPS_PROTOCOL_VERSION"] = "3"
            self.init(
                pipeDirectory: pipeDirectory, limit: limit,
                backEnd: ModuleBackEnd(program: program, environment: environment))
        case .none:
            self.init(pipeDirectory: pipeDirectory, limit: limit, backEnd: NoBackEnd())
        }
    }

    init(pipeDirectory: String, limit: Duration, backEnd: any ControlBackEnd) {
        self.pipeDirectory = pipeDirectory
        self.limit = limit
        self.backEnd = backEnd
        lockPath = MPSDirectories.lockPath(ofPipeDirectory: pipeDirectory)
    }

    /// Asks a batch of commands in one session.
    public func ask(_ commands: [ControlCommand]) -> ControlOutcome {
        guard access(pipeDirectory, X_OK) == 0 else { return .noDaemon }
        let deadline = Deadline(limit)
        guard let lock = FileLock(path: lockPath, until: deadline) else { return .busy(.lock) }
        defer { lock.release() }
        var outcome = ControlOutcome.truncated
        for _ in 0..<Self.attempts {
            guard !deadline.isOver else { return .busy(.daemon) }
            outcome = backEnd.ask(commands, within: deadline.left)
            guard outcome == .truncated, commands.allSatisfy(\.isRepeatable) else { return outcome }
        }
        return outcome
    }

    /// Asks for the daemon's end; see whether its process ends. False if it could not even be asked.
    public func quit() -> Bool {
        let deadline = Deadline(limit)
        guard let lock = FileLock(path: lockPath, until: deadline) else { return false }
        defer { lock.release() }
        backEnd.quit(within: deadline.left)
        return true
    }

    /// Changes a setting and reads it back, as refused values are answered like accepted ones. Null: it was not taken.
    public func set(_ command: ControlCommand) -> ControlOutcome? {
        guard let readBack = command.readBack else { return nil }
        let outcome = ask([command, readBack])
        guard case .answer(let answers) = outcome else { return outcome }
        return Self.confirms(command, answers[1]) ? outcome : nil
    }

    private static func confirms(_ command: ControlCommand, _ lines: [String]) -> Bool {
        switch command {
        case .setDefaultThreadPercentage(let value):
            ControlAnswers.percentage(lines).map { Percentage.text($0) == Percentage.text(value) } ?? false
        case .setDefaultMemoryLimit(_, let mebibytes):
            ControlAnswers.memoryLimit(lines) == .mebibytes(mebibytes)
        case .setDefaultPriority(let priority): ControlAnswers.priority(lines) == priority
        default: false
        }
    }
}

/// Language of a control daemon.
public enum ControlProtocol: Sendable, Equatable {
    /// Lines of text: drivers 535 to 610, and later ones unless asked for version 3.
    case version2
    /// Modules and verbs: driver 615 and later, where it was asked for.
    case version3
    /// No daemon: engines share the device by time slices.
    case none
}

/// Without MPS there is nothing to ask.
struct NoBackEnd: ControlBackEnd {
    func ask(_ commands: [ControlCommand], within limit: Duration) -> ControlOutcome { .noDaemon }

    func quit(within limit: Duration) {}
}

/// An advisory lock on a file; the kernel takes it back when its holder dies.
struct FileLock {
    private let descriptor: Int32

    /// Null if it was not to be had in time.
    init?(path: String, until deadline: Deadline) {
        guard let descriptor = Self.open(path) else { return nil }
        self.descriptor = descriptor
        var pause: Duration = .microseconds(500)
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK || errno == EINTR, !deadline.isOver else {
                close(descriptor)
                return nil
            }
            // Of random length, so that several who wait do not keep step.
            let nanoseconds = Int64.random(in: 1...pause.wholeMicroseconds) * 1000
            var time = timespec(tv_sec: 0, tv_nsec: Int(nanoseconds))
            nanosleep(&time, nil)
            pause = min(pause * 2, .milliseconds(10))
        }
    }

    func release() {
        close(descriptor)
    }

    /// A file that another user made in a shared directory can be locked too, but only if it is not to be created.
    private static func open(_ path: String) -> Int32? {
        var descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        if descriptor < 0 && errno == ENOENT {
            descriptor = Glibc.open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
        }
        return descriptor < 0 ? nil : descriptor
    }
}

extension Duration {
    fileprivate var wholeMicroseconds: Int64 {
        components.seconds * 1_000_000 + components.attoseconds / 1_000_000_000_000
    }
}
