// Tandem — Apache-2.0

internal import CTandemSystem
internal import CUDADriver
internal import Glibc
internal import MPS

extension MachineFacts {
    /// Looks at this machine. Changes nothing, and waits a few seconds, for a
    /// driver that does not answer half a minute.
    ///
    /// - Parameters:
    ///   - host, port: where a server would listen.
    ///   - runDirectory: where its sockets would be.
    ///   - modelName, modelPath: the model it would serve, and where that is; null if it has to be fetched.
    public static func gather(
        environment: [String: String], host: String, port: UInt16, modelName: String, modelPath: String?,
        runDirectory: String = "/tmp"
    ) -> MachineFacts {
        var facts = MachineFacts()
        let searchPath = environment["PATH"] ?? "/usr/bin:/bin"
        facts.environment = environment
        facts.user = geteuid()
        facts.driver = driverVersion()
        facts.deviceError = deviceError()
        facts.gpus = gpus(environment: environment)
        let programs = try? MPSPrograms(searchPath: searchPath)
        facts.mpsControl = programs?.control
        facts.mpsServer = programs?.server
        facts.daemon = daemon(programs, environment)
        facts.mpsProcesses = ProcessTable().mpsProcesses().map { process in
            ServiceProcess(process: process, directoryExists: process.pipeDirectory.map { access($0, F_OK) == 0 })
        }
        facts.sharedMemoryBytes = sharedMemory()
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            // A gateway raises its own to that.
            facts.openFileLimit = UInt64(limit.rlim_max)
        }
        facts.runDirectory = runDirectory
        if let directory = environment["XDG_RUNTIME_DIR"], !directory.isEmpty, directory != runDirectory {
            facts.refusedRunDirectory = directory
        }
        facts.runDirectoryIsWritable = access(facts.runDirectory, W_OK | X_OK) == 0
        facts.port = port
        facts.portError = portError(host: host, port: port)
        facts.modelName = modelName
        facts.modelPath = modelPath
        facts.missingTools = ["curl", "python3"].filter { find($0, searchPath) == nil }
        var cpus = [Int32](repeating: 0, count: 8192)
        facts.cores = max(1, Int(tandem_affinity_get(0, &cpus, Int32(cpus.count))))
        facts.coreQuota = coreQuota(text("/sys/fs/cgroup/cpu.max") ?? "")
        facts.memoryAvailable = memoryAvailable(text("/proc/meminfo") ?? "")
        facts.pidNamespace = ProcessTable().namespace("pid", of: "self")
        facts.ipcNamespace = ProcessTable().namespace("ipc", of: "self")
        facts.kernelIsWSL = (text("/proc/version") ?? "").contains("microsoft")
        facts.cuda = cuda(facts)
        return facts
    }

    /// What the driver says, if there is a sign of one.
    private static func cuda(_ facts: MachineFacts) -> CUDAAnswer {
        let isNamed = !(facts.environment["TANDEM_CUDA_DRIVER"] ?? "").isEmpty
        guard facts.driver != nil || facts.deviceError != nil || facts.kernelIsWSL || isNamed else { return .notAsked }
        return CUDAFacts.gather(environment: facts.environment, limit: .seconds(30)).map { .facts($0) } ?? .silence
    }

    /// The machine's GPUs; null if `nvidia-smi` cannot be asked.
    public static func gpus(environment: [String: String]) -> [GPU]? {
        find("nvidia-smi", (environment["PATH"] ?? "/usr/bin:/bin") + ":/usr/local/nvidia/bin").flatMap {
            gpus($0, environment)
        }
    }

    /// The GPUs that `nvidia-smi` printed; null if a line is not understood.
    static func gpus(listing lines: [String]) -> [GPU]? {
        var gpus: [GPU] = []
        for line in lines {
            let cells = line.split(separator: ",", omittingEmptySubsequences: false).map { cell in
                String(cell.drop(while: \.isWhitespace))
            }
            guard cells.count == 7, let index = Int(cells[0]) else { return nil }
            gpus.append(
                GPU(
                    index: index, uuid: cells[1], name: cells[2], computeMode: cells[3],
                    memoryMebibytes: cells[4].split(separator: " ").first.flatMap { Int($0) },
                    usesMIG: cells[5] == "Enabled", busID: cells[6]))
        }
        return gpus
    }

    /// The quota of `cpu.max`, such as `200000 100000`, in cores.
    static func coreQuota(_ text: String) -> Double? {
        let numbers = text.split(whereSeparator: \.isWhitespace).map { Double($0) }
        guard numbers.count == 2, let quota = numbers[0], let period = numbers[1], period > 0 else { return nil }
        return quota / period
    }

    /// `MemAvailable` of `/proc/meminfo` in bytes.
    static func memoryAvailable(_ text: String) -> UInt64? {
        for line in text.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
            return line.split(separator: " ").dropFirst().first.flatMap { UInt64($0) }.map { $0 << 10 }
        }
        return nil
    }

    /// The number in `/proc/driver/nvidia/version`: the first word of digits with a dot.
    static func driverVersion(_ text: String) -> String? {
        guard let line = text.split(separator: "\n").first else { return nil }
        return line.split(separator: " ").first { $0.contains(".") && $0.allSatisfy { $0.isNumber || $0 == "." } }
            .map(String.init)
    }

    private static func driverVersion() -> String? {
        text("/proc/driver/nvidia/version").flatMap { driverVersion($0) }
            ?? text("/sys/module/nvidia/version").map { String($0.prefix { !$0.isWhitespace }) }
    }

    private static func deviceError() -> Int32? {
        guard access("/dev/nvidiactl", F_OK) == 0 else { return nil }
        let descriptor = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { return errno }
        close(descriptor)
        return 0
    }

    private static func gpus(_ tool: String, _ environment: [String: String]) -> [GPU]? {
        let fields = "index,uuid,name,compute_mode,memory.total,mig.mode.current,pci.bus_id"
        let run = ToolRun(
            program: tool, arguments: ["--query-gpu=\(fields)", "--format=csv,noheader"], environment: environment,
            input: [], limit: .seconds(10))
        guard run.result == .ended(ProcessExit(code: 0, signal: 0)) else { return nil }
        return gpus(listing: run.output)
    }

    /// The daemon that CUDA programs of this environment would find.
    private static func daemon(_ programs: MPSPrograms?, _ environment: [String: String]) -> Daemon? {
        let directory = environment["CUDA_MPS_PIPE_DIRECTORY"] ?? "/tmp/nvidia-mps"
        var status = stat()
        guard stat(directory + "/control", &status) == 0, let programs else { return nil }
        let broker = ControlBroker(
            pipeDirectory: directory, program: programs.control, environment: environment, limit: .seconds(3))
        var daemon = Daemon(pipeDirectory: directory, owner: status.st_uid, outcome: broker.ask([.serverList]))
        guard case .answer(let lists) = daemon.outcome, let servers = ControlAnswers.processIDs(lists[0]) else {
            return daemon
        }
        guard !servers.isEmpty else {
            daemon.clients = 0
            return daemon
        }
        let outcome = broker.ask(
            servers.map { .clientList(server: $0) } + servers.map { .serverStatus(server: $0) })
        guard case .answer(let answers) = outcome else { return daemon }
        let clients = answers.prefix(servers.count).map { ControlAnswers.processIDs($0)?.count }
        daemon.clients = clients.reduce(0) { sum, count in sum.flatMap { sum in count.map { sum + $0 } } }
        daemon.isInFault = answers.dropFirst(servers.count).contains { ControlAnswers.serverStatus($0) == .fault }
        return daemon
    }

    private static func sharedMemory() -> UInt64? {
        var status = statvfs()
        guard statvfs("/dev/shm", &status) == 0 else { return nil }
        return UInt64(status.f_blocks) &* UInt64(status.f_frsize)
    }

    private static func portError(host: String, port: UInt16) -> Int32 {
        var hints = addrinfo()
        hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var addresses: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, "\(port)", &hints, &addresses) == 0, let address = addresses else {
            return EADDRNOTAVAIL
        }
        defer { freeaddrinfo(addresses) }
        let descriptor = socket(address.pointee.ai_family, address.pointee.ai_socktype, address.pointee.ai_protocol)
        guard descriptor >= 0 else { return errno }
        defer { close(descriptor) }
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        return bind(descriptor, address.pointee.ai_addr, address.pointee.ai_addrlen) == 0 ? 0 : errno
    }

    private static func find(_ name: String, _ searchPath: String) -> String? {
        searchPath.split(separator: ":").map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
    }

    private static func text(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 65536)
        let count = read(descriptor, &buffer, buffer.count)
        return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
    }
}
