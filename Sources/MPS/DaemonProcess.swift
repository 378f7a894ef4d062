// Tandem — Apache-2.0

internal import Glibc

/// A control daemon that is a child of this process.
///
/// It runs in the foreground (`-f`), so that its end is seen at once and with its status, and ends with the thread that
/// started it. Its server does not: see ``MPSKiller``.
struct DaemonProcess {
    let child: ChildLaunch.Child

    /// - Throws: ``MPSError`` if it cannot be started; that it ends at once is seen later.
    init(
        programs: MPSPrograms, directories: MPSDirectories, environment: [String: String], device: String?,
        version: ControlProtocol
    ) throws(MPSError) {
        try directories.make()
        var variables = environment.filter { !$0.key.hasPrefix("CUDA_MPS_") }
        variables["PATH"] = programs.searchPath(environment["PATH"])
        variables["CUDA_MPS_PIPE_DIRECTORY"] = directories.pipe
        variables["CUDA_MPS_LOG_DIRECTORY"] = directories.log
        if version == .version3 { variables["CUDA_MPS_PROTOCOL_VERSION"] = "3" }
        // By UUID: daemon and clients count ordinals each for themselves.
        variables["CUDA_VISIBLE_DEVICES"] = device ?? environment["CUDA_VISIBLE_DEVICES"]
        let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
        guard null >= 0 else { throw .system(operation: "open", subject: "/dev/null", errno: errno) }
        defer { close(null) }
        // Appending: the file is cut in place when it has grown.
        let flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW
        let log = open(directories.controlLog, flags, 0o600)
        guard log >= 0 else { throw .system(operation: "open", subject: directories.controlLog, errno: errno) }
        defer { close(log) }
        child = try ChildLaunch(
            program: programs.control, arguments: ["-f"], environment: variables, input: null, output: log, errors: log
        ).start()
    }
}

/// Ends processes of MPS in one pipe directory: only this user's, and only those that work in it.
struct MPSKiller {
    var pipeDirectory: String
    var processes = ProcessTable()

    /// Kills what has this role and waits until it is gone; false if something is left.
    func kill(_ role: MPSRole, within limit: Duration) -> Bool {
        let deadline = Deadline(limit)
        while true {
            let found = processes.processes(inPipeDirectory: pipeDirectory).filter {
                $0.role == role && $0.user == getuid()
            }
            if found.isEmpty { return true }
            for process in found { processes.send(SIGKILL, to: process.identity) }
            if deadline.isOver { return false }
            var pause = timespec(tv_sec: 0, tv_nsec: 10_000_000)
            nanosleep(&pause, nil)
        }
    }
}
