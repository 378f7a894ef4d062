// Tandem — Apache-2.0

internal import Glibc
internal import MPS

/// Judges a machine: whether Tandem can serve on it, and whether several engines can share its GPU.
public enum Diagnosis {
    static let hostPIDNamespace = "pid:[4026531836]"
    static let hostIPCNamespace = "ipc:[4026531839]"

    /// All findings, always in the same order.
    public static func findings(_ facts: MachineFacts) -> [Finding] {
        var findings = [driver(facts)]
        if hasGPU(facts) {
            findings += [
                gpu(facts), programs(facts), daemon(facts), remains(facts), clients(facts), user(facts),
                computeMode(facts), namespaces(facts),
            ]
        }
        findings += cuda(facts) + monitor(facts)
        findings += environment(facts)
        findings += [
            sharedMemory(facts), openFiles(facts), runDirectory(facts), port(facts), model(facts), cores(facts),
            memory(facts),
        ]
        return findings
    }

    private static func hasGPU(_ facts: MachineFacts) -> Bool { facts.driver != nil || facts.deviceError == 0 }

    static func driver(_ facts: MachineFacts) -> Finding {
        if facts.kernelIsWSL && hasGPU(facts) {
            return Finding(
                "driver", .note, "Windows Subsystem for Linux: CUDA works here, MPS does not",
                fix: "use --mps off, or Linux itself")
        }
        guard let driver = facts.driver else {
            return facts.deviceError == 0
                ? Finding("driver", .note, "GPU devices are there, and the driver's version is hidden")
                : Finding("driver", .note, "no NVIDIA driver: engines compute on the CPU")
        }
        guard let major = driver.split(separator: ".").first.flatMap({ Int($0) }), major >= 535 else {
            return Finding(
                "driver", .problem, "driver \(driver) is older than what Tandem's MPS control was made for",
                fix: "install driver 535 or later")
        }
        return Finding("driver", .ok, "NVIDIA driver \(driver)")
    }

    static func gpu(_ facts: MachineFacts) -> Finding {
        if let code = facts.deviceError, code != 0 {
            let reason = String(cString: strerror(code))
            return Finding(
                "gpu", .problem, "/dev/nvidiactl cannot be opened: \(reason)",
                fix: code == EACCES
                    ? "give this user access to /dev/nvidia*"
                    : "load the driver (nvidia-modprobe), or start the container with --gpus all")
        }
        guard let gpus = facts.gpus else {
            return Finding(
                "gpu", .note, "nvidia-smi is not here: which GPUs there are is not known",
                fix: "install the driver's nvidia-utils")
        }
        guard !gpus.isEmpty else {
            return Finding("gpu", .problem, "the driver sees no GPU", fix: "look at nvidia-smi and dmesg")
        }
        let names = gpus.map { "\($0.index): \($0.name)" }.joined(separator: ", ")
        return Finding("gpu", .ok, names)
    }

    static func computeMode(_ facts: MachineFacts) -> Finding {
        guard let gpus = facts.gpus, !gpus.isEmpty else {
            return Finding("compute-mode", .note, "not known")
        }
        if let gpu = gpus.first(where: { $0.computeMode.hasPrefix("Prohibited") }) {
            return Finding(
                "compute-mode", .problem, "GPU \(gpu.index) lets nobody compute",
                fix: "nvidia-smi -i \(gpu.index) -c EXCLUSIVE_PROCESS")
        }
        if let gpu = gpus.first(where: \.usesMIG) {
            return Finding(
                "compute-mode", .note, "GPU \(gpu.index) is divided (MIG): engines share one instance",
                fix: "name the instance by its MIG-… UUID")
        }
        guard let gpu = gpus.first(where: { !$0.computeMode.hasPrefix("Exclusive") }) else {
            return Finding("compute-mode", .ok, "exclusive: whoever misses the daemon is told so (CUDA error 46)")
        }
        return Finding(
            "compute-mode", .note,
            "GPU \(gpu.index) is open to all: a program that misses the daemon runs on, slowly and "
                + "without a word; tandem checks its own engines",
            fix: "nvidia-smi -i \(gpu.index) -c EXCLUSIVE_PROCESS (as root)")
    }

    static func namespaces(_ facts: MachineFacts) -> Finding {
        guard let pid = facts.pidNamespace, let ipc = facts.ipcNamespace else {
            return Finding("namespaces", .note, "PID and IPC namespaces cannot be seen")
        }
        var own: [String] = []
        if pid != hostPIDNamespace { own.append("PID") }
        if ipc != hostIPCNamespace { own.append("IPC") }
        guard !own.isEmpty else { return Finding("namespaces", .ok, "those of the host") }
        let text = "this is a container with \(own.joined(separator: " and ")) namespaces of its own"
        guard facts.daemon != nil else {
            return Finding("namespaces", .note, text + "; good as long as daemon and engines both live in it")
        }
        return Finding(
            "namespaces", .note,
            text + ": a daemon outside lists its clients with process id 0, so that nobody can "
                + "prove who is attached",
            fix: "let tandem start the daemon, or share the namespaces (--pid=host --ipc=host; hostPID, hostIPC)")
    }

    static func environment(_ facts: MachineFacts) -> [Finding] {
        let conflicts = ClientEnvironment.lint(facts.environment)
        guard !conflicts.isEmpty else { return [] }
        return conflicts.map {
            Finding(
                "environment", $0.severity == .error ? .problem : .note, "\($0.variable): \($0.reason)", fix: $0.remedy)
        }
    }

    static func sharedMemory(_ facts: MachineFacts) -> Finding {
        guard let bytes = facts.sharedMemoryBytes else {
            return Finding("shared-memory", .problem, "/dev/shm is not there", fix: "mount -t tmpfs tmpfs /dev/shm")
        }
        guard bytes >= 1 << 30 || !hasGPU(facts) else {
            return Finding(
                "shared-memory", .note,
                "/dev/shm holds \(mebibytes(bytes)) MiB, and page-locked memory of MPS clients "
                    + "may be limited by it",
                fix: "start the container with --shm-size=8g")
        }
        return Finding("shared-memory", .ok, "/dev/shm holds \(mebibytes(bytes)) MiB")
    }

    static func openFiles(_ facts: MachineFacts) -> Finding {
        guard facts.openFileLimit >= 4096 else {
            return Finding(
                "open-files", .note, "at most \(facts.openFileLimit) open files: about as many connections at once",
                fix: "ulimit -n 65536, or LimitNOFILE=65536 of the service")
        }
        let limit = facts.openFileLimit == .max ? "any number of" : "\(facts.openFileLimit)"
        return Finding("open-files", .ok, "\(limit) open files")
    }

    static func runDirectory(_ facts: MachineFacts) -> Finding {
        guard facts.runDirectoryIsWritable else {
            return Finding(
                "run-directory", .problem, "\(facts.runDirectory) cannot be written to, and sockets go there",
                fix: "set XDG_RUNTIME_DIR to a directory of this user's")
        }
        if let refused = facts.refusedRunDirectory {
            return Finding(
                "run-directory", .note,
                "\(facts.runDirectory), as XDG_RUNTIME_DIR is \(refused): not a directory that this user can write to, or "
                    + "too long for sockets in it",
                fix: "nothing, unless sockets are to be there")
        }
        return Finding("run-directory", .ok, facts.runDirectory)
    }

    static func port(_ facts: MachineFacts) -> Finding {
        guard facts.portError != 0 else { return Finding("port", .ok, "port \(facts.port) is free") }
        return Finding(
            "port", .problem, "port \(facts.port): \(String(cString: strerror(facts.portError)))",
            fix: facts.portError == EACCES
                ? "take a port above 1023 with --port" : "take another with --port, or end who listens there")
    }

    static func model(_ facts: MachineFacts) -> Finding {
        if let problem = facts.modelProblem {
            return Finding(
                "model", .problem, "\(facts.modelName): \(problem)",
                fix: "name another; tandem pull --list shows those that are here")
        }
        if let path = facts.modelPath { return Finding("model", .ok, "\(facts.modelName): \(path)") }
        guard facts.missingTools.isEmpty else {
            return Finding(
                "model", .problem,
                "\(facts.modelName) is not here, and what fetches it is missing: "
                    + facts.missingTools.joined(separator: ", "),
                fix: "install \(facts.missingTools.joined(separator: ", ")), or name a model file")
        }
        return Finding(
            "model", .note, "\(facts.modelName) is not here yet; tandem serve fetches it",
            fix: "tandem pull "
                + facts.modelName)
    }

    static func cores(_ facts: MachineFacts) -> Finding {
        if let quota = facts.coreQuota, quota < Double(facts.cores) {
            return Finding(
                "cores", .note,
                "\(facts.cores) cores are visible, and a control group lets this process use "
                    + "\((quota * 10).rounded() / 10)",
                fix: "give engines fewer threads with --threads, or raise the limit")
        }
        guard facts.cores >= 2 else {
            return Finding("cores", .note, "one core: gateway and engines take turns", fix: "give it two or more")
        }
        return Finding("cores", .ok, "\(facts.cores) cores")
    }

    static func memory(_ facts: MachineFacts) -> Finding {
        guard let bytes = facts.memoryAvailable else { return Finding("memory", .note, "not known") }
        guard bytes >= 1 << 30 else {
            return Finding(
                "memory", .problem,
                "\(mebibytes(bytes)) MiB are available, and the default model with two engines takes "
                    + "about 1 GiB",
                fix: "free memory, or lower --engines, --max-model-len and --kv-cache-memory")
        }
        return Finding("memory", .ok, "\(mebibytes(bytes)) MiB available")
    }

    static func mebibytes(_ bytes: UInt64) -> UInt64 { bytes >> 20 }
}
