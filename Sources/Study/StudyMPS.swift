// Tandem — Apache-2.0

internal import Glibc
internal import MPS
internal import Processes

/// An MPS control daemon for a study's workers, in a directory of its own. On the double of the CUDA driver a setting
/// stands in its place. Belongs to the thread that started it.
final class StudyMPS {
    /// For workers.
    let environment: [String: String]
    private let process: SpawnedProcess?
    private let control: String

    private static let startSeconds = 10

    /// - Parameters:
    ///   - directory: exists; it gets directories for pipes and logs.
    ///   - isDouble: whether the driver is the double.
    /// - Throws: ``StudyError`` if NVIDIA's programs are missing or the daemon does not come up.
    init(directory: String, environment: [String: String], isDouble: Bool) throws(StudyError) {
        var variables = environment.filter { !$0.key.hasPrefix("CUDA_MPS_") }
        if isDouble {
            variables["TANDEM_DOUBLE_MPS"] = "1"
            (self.environment, process, control) = (variables, nil, "")
            return
        }
        let programs: MPSPrograms
        do {
            programs = try MPSPrograms(searchPath: environment["PATH"] ?? "/usr/bin:/bin")
        } catch {
            throw StudyError(subject: "MPS", reason: "\(error)")
        }
        for (name, variable) in [("pipe", "CUDA_MPS_PIPE_DIRECTORY"), ("log", "CUDA_MPS_LOG_DIRECTORY")] {
            variables[variable] = "\(directory)/mps-\(name)"
            guard mkdir("\(directory)/mps-\(name)", 0o700) == 0 || errno == EEXIST else {
                throw StudyError(subject: directory, reason: String(cString: strerror(errno)))
            }
        }
        let folder = programs.control.split(separator: "/").dropLast().map { "/\($0)" }.joined()
        variables["PATH"] = "\(environment["PATH"] ?? "/usr/bin:/bin"):\(folder)"
        self.environment = variables
        control = programs.control
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        defer { close(null) }
        do {
            process = try Spawn(
                path: control, arguments: [control, "-f"], environment: variables,
                descriptors: [(null, STDIN_FILENO), (null, STDOUT_FILENO), (null, STDERR_FILENO)]
            ).start()
        } catch {
            throw StudyError(
                subject: control, reason: "cannot \(error.stage): \(String(cString: strerror(error.code)))")
        }
        let begin = ContinuousClock.now
        while access("\(directory)/mps-pipe/control", F_OK) != 0 {
            guard begin.duration(to: .now) < .seconds(Self.startSeconds) else {
                stop()
                throw StudyError(subject: "MPS", reason: "the control daemon does not come up; see tandem doctor")
            }
            usleep(20_000)
        }
    }

    /// Ends daemon and server; workers have ended before.
    func stop() {
        guard let process else { return }
        var ends: [Int32] = [-1, -1]
        if pipe(&ends) == 0 {
            let text = Array("quit -t 2\n".utf8)
            _ = write(ends[1], text, text.count)
            close(ends[1])
            let null = open("/dev/null", O_RDWR | O_CLOEXEC)
            let asker = try? Spawn(
                path: control, arguments: [control], environment: environment,
                descriptors: [(ends[0], STDIN_FILENO), (null, STDOUT_FILENO), (null, STDERR_FILENO)]
            ).start()
            close(ends[0])
            close(null)
            if let asker { Self.reap(asker, milliseconds: 5000) }
        }
        Self.reap(process, milliseconds: 5000)
    }

    private static func reap(_ process: SpawnedProcess, milliseconds: Int32) {
        var entry = pollfd(fd: process.pidfd, events: Int16(POLLIN), revents: 0)
        if poll(&entry, 1, milliseconds) <= 0 { kill(-process.pid, SIGKILL) }
        var status: Int32 = 0
        waitpid(process.pid, &status, 0)
        close(process.pidfd)
    }
}
