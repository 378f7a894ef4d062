// Tandem — Apache-2.0

internal import CTandemSystem
internal import Glibc

/// A control daemon in a directory of its own for measurements: started, used, ended. Nobody watches it or brings it
/// back; ``MPSController`` does that for servers.
///
/// Belongs to the thread that made it, with which the daemon ends.
public final class TemporaryDaemon {
    /// Of programs that are to be its clients.
    public let environment: [String: String]
    private let programs: MPSPrograms
    private let directories: MPSDirectories
    private let child: ChildLaunch.Child
    private var hasEnded = false

    /// How long it may take to come up, and to end when it is asked.
    private static let limit = Duration.seconds(10)

    /// Starts the daemon and waits until it listens.
    ///
    /// - Parameters:
    ///   - base: a directory with a short path that the caller removes afterwards.
    ///   - environment: of this process; NVIDIA's programs are looked for in its `PATH`.
    /// - Throws: ``MPSError`` if the programs are missing, the path is too long, or the daemon does not come up.
    public init(base: String, environment: [String: String]) throws(MPSError) {
        programs = try MPSPrograms(searchPath: environment["PATH"] ?? "/usr/bin:/bin")
        directories = try MPSDirectories(base: base, device: "study")
        child = try DaemonProcess(
            programs: programs, directories: directories, environment: environment, device: nil, version: .version2
        ).child
        var variables = ClientEnvironment(
            pipeDirectory: directories.pipe, token: "\(UInt64.random(in: .min ... .max))"
        ).variables(over: environment)
        variables["CUDA_MPS_LOG_DIRECTORY"] = directories.log
        variables["PATH"] = programs.searchPath(environment["PATH"])
        self.environment = variables
        let deadline = Deadline(Self.limit)
        while access("\(directories.pipe)/control", F_OK) != 0 {
            var entry = pollfd(fd: child.pidfd, events: Int16(POLLIN), revents: 0)
            // Its socket appears without a word, so that it is looked for every 20 ms.
            if poll(&entry, 1, 20) > 0 || deadline.isOver {
                end()
                throw .system(operation: "start", subject: programs.control, errno: ETIMEDOUT)
            }
        }
    }

    /// Ends daemon and server; clients have ended before. Once is enough.
    public func end() {
        guard !hasEnded else { return }
        hasEnded = true
        CommandLineBackEnd(program: programs.control, environment: environment).quit(within: Self.limit)
        var entry = pollfd(fd: child.pidfd, events: Int16(POLLIN), revents: 0)
        if poll(&entry, 1, Self.limit.wholeMilliseconds) <= 0 { child.send(SIGKILL) }
        _ = child.reap(wait: true)
        _ = MPSKiller(pipeDirectory: directories.pipe).kill(.server, within: Self.limit)
    }
}
