// Tandem — Apache-2.0

internal import MPS

/// What concerns the sharing of a GPU.
extension Diagnosis {
    static func programs(_ facts: MachineFacts) -> Finding {
        guard let control = facts.mpsControl else {
            return Finding(
                "mps-programs", .problem,
                "nvidia-cuda-mps-control is neither in PATH nor at its usual places: engines "
                    + "would share the GPU by time slices",
                fix:
                    "install it (Debian: nvidia-cuda-mps; other drivers bring it), mount it into the container, or use "
                    + "--mps off")
        }
        guard let server = facts.mpsServer else {
            return Finding(
                "mps-programs", .problem, "\(control) is here, nvidia-cuda-mps-server is not",
                fix: "put it beside nvidia-cuda-mps-control, of the same version")
        }
        return Finding("mps-programs", .ok, "\(control), \(server)")
    }

    static func daemon(_ facts: MachineFacts) -> Finding {
        guard let daemon = facts.daemon else {
            return Finding("mps-daemon", .ok, "no daemon runs; tandem starts its own")
        }
        switch daemon.outcome {
        case .answer where daemon.isInFault:
            return Finding(
                "mps-daemon", .problem,
                "the server of the daemon in \(daemon.pipeDirectory) is in state FAULT: it takes no "
                    + "client until all it has are gone (CUDA error 807)",
                fix: "end all its clients (nvidia-cuda-mps-control <<< ps lists them)")
        case .answer: return Finding("mps-daemon", .ok, "a daemon answers in \(daemon.pipeDirectory)")
        case .noDaemon:
            return Finding(
                "mps-daemon", .note, "\(daemon.pipeDirectory) holds the remains of a daemon that is gone",
                fix: "none needed: tandem uses a directory of its own")
        case .busy(.lock), .truncated:
            return Finding("mps-daemon", .note, "the daemon in \(daemon.pipeDirectory) is being asked by others")
        case .busy(.daemon):
            return Finding(
                "mps-daemon", .problem,
                "the daemon in \(daemon.pipeDirectory) does not answer: its server starts, or "
                    + "both are wedged",
                fix: "if it stays so: SIGKILL to nvidia-cuda-mps-server frees the daemon, and ends its clients")
        }
    }

    static func user(_ facts: MachineFacts) -> Finding {
        if let daemon = facts.daemon, let owner = daemon.owner, owner != facts.user, owner != 0 || facts.user != 0 {
            return Finding(
                "mps-user", .problem,
                "the daemon in \(daemon.pipeDirectory) belongs to user \(owner), and this is user "
                    + "\(facts.user): servers of different users take turns on the GPU",
                fix: "run tandem as user \(owner), or let it start a daemon of its own on another GPU")
        }
        return Finding("mps-user", .ok, "user \(facts.user)")
    }

    /// What daemons that are gone left behind, and what can be reached no more.
    static func remains(_ facts: MachineFacts) -> Finding {
        let (daemons, servers) = (
            facts.mpsProcesses.filter { $0.process.role == .control },
            facts.mpsProcesses.filter { $0.process.role == .server }
        )
        let orphans = servers.filter { server in
            server.process.pipeDirectory != nil
                && !daemons.contains { $0.process.pipeDirectory == server.process.pipeDirectory }
        }
        if let orphan = orphans.first?.process {
            return Finding(
                "mps-processes", .problem,
                "process \(orphan.identity.pid) is an MPS server whose daemon is gone: it keeps the GPU, and its "
                    + "clients are broken",
                fix: "kill -9 \(orphan.identity.pid)\(orphan.user == facts.user ? "" : ", as user \(orphan.user)")")
        }
        if let lost = daemons.first(where: { $0.directoryExists == false })?.process {
            return Finding(
                "mps-processes", .problem,
                "process \(lost.identity.pid) is an MPS daemon whose directory \(lost.pipeDirectory ?? "") was removed: "
                    + "nobody can reach it",
                fix:
                    "kill \(lost.identity.pid), and start it again\(lost.user == facts.user ? "" : ", as user \(lost.user)")"
            )
        }
        let others = Set(daemons.map(\.process.user)).filter { $0 != facts.user }
        if let other = others.min() {
            return Finding(
                "mps-processes", .note,
                "user \(other) has an MPS daemon on this machine: on one GPU, servers of different users take turns",
                fix: "run all that share a GPU as one user")
        }
        guard daemons.count < 2 else {
            return Finding(
                "mps-processes", .note,
                "\(daemons.count) MPS daemons run: only clients of the same one share a GPU at the same time")
        }
        return Finding("mps-processes", .ok, "nothing is left of earlier daemons")
    }

    /// Contexts that one device takes: 48, and 60 from driver 590 on.
    static func clientLimit(driver: String?) -> Int {
        let major = driver?.split(separator: ".").first.flatMap { Int($0) } ?? 0
        return major >= 590 ? 60 : 48
    }

    static func clients(_ facts: MachineFacts) -> Finding {
        guard let clients = facts.daemon?.clients else {
            return Finding("mps-clients", .ok, "no clients are known")
        }
        let limit = clientLimit(driver: facts.driver)
        guard clients < limit - 4 else {
            return Finding(
                "mps-clients", .problem,
                "\(clients) clients, and one GPU takes \(limit) contexts: newcomers are refused (CUDA error 808)",
                fix: "end clients, or lower --engines")
        }
        return Finding("mps-clients", .ok, "\(clients) of at most \(limit) clients of one GPU")
    }
}
