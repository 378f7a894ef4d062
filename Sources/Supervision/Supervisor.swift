// Tandem — Apache-2.0

internal import CTandemSystem
internal import EngineLink
internal import Glibc

/// Runs a gateway and its engines until a signal asks to stop: starts them, watches them, starts them again when they
/// die, and leaves no process, socket or directory behind.
///
/// It holds the listening socket and the memory files of the weights, which outlive any child, and carries no traffic.
public enum Supervisor {
    /// Runs on the calling thread, which must live as long as the process: the kernel kills the children when it ends.
    /// SIGINT, SIGTERM and SIGHUP are blocked in it from now on and ask to stop; SIGPIPE is ignored.
    ///
    /// - Returns: the exit code of the program.
    /// - Throws: ``SupervisionError`` if the work cannot begin; nothing was started then.
    public static func run(_ configuration: SupervisorConfiguration) throws(SupervisionError) -> Int32 {
        signal(SIGPIPE, SIG_IGN)
        let loop = try SupervisorLoop(configuration)
        return try loop.run()
    }
}

/// The effects of a ``SupervisorState``: one thread that waits in `poll`.
private final class SupervisorLoop {
    private struct Running {
        var process: ChildProcess
        var channel: StatusChannel
        /// How many of its engines said that they serve.
        var serving = 0
    }

    private static let statusDescriptor: Int32 = 3
    private static let sharedDescriptor: Int32 = 4
    private static let firstEngineDescriptor: Int32 = 5
    private static let memoryReadPause = Duration.milliseconds(200)

    private let configuration: SupervisorConfiguration
    private let cores: CorePlan
    private let directory: RunDirectory
    private let signals: Int32
    /// A memory file a model.
    private let weights: [Int32]
    private let placement: EnginePlacement
    /// Of each of Tandem's own engines; others get theirs when they start.
    private let addresses: [String]
    /// Of external engines that run.
    private var ports: [Int: UInt16] = [:]
    /// What external engines call their models.
    private var reportedNames: [Int: String] = [:]
    private var listener: ListeningSocket
    private var admin: AdminSocket
    private var nextMemoryRead = Duration.zero
    /// It was removed, and could not be made again.
    private var directoryIsMissing = false
    private var lastMemoryRead = Duration.zero
    /// Of single engines; empty if they have none.
    private var engineListeners: [ListeningSocket]
    private var state: SupervisorState
    private let sharing: (any CommonDevice)?
    /// By model, of those that have one.
    private let weightOwners: [Int: WeightOwner]
    private let serviceManager: ServiceManager
    private var running: [Child: Running] = [:]
    private var events: [SupervisorEvent] = [.begin]
    private var exitCode: Int32?

    init(_ configuration: SupervisorConfiguration) throws(SupervisionError) {
        serviceManager = ServiceManager(environment: configuration.environment)
        var configuration = configuration
        configuration.environment[ServiceManager.variable] = nil
        self.configuration = configuration
        let placement = EnginePlacement(configuration.models.map { ($0.engines, $0.enginesPerProcess) })
        self.placement = placement
        // First, so that the most likely failure costs nothing.
        var listener = try ListeningSocket(host: configuration.host, port: configuration.port)
        var engineListeners: [ListeningSocket] = []
        func closeListeners() {
            listener.close()
            for index in engineListeners.indices { engineListeners[index].close() }
        }
        do {
            engineListeners = try ListeningSocket.ofEngines(configuration)
            directory = try RunDirectory(
                base: configuration.runDirectoryBase ?? RunDirectory.base(environment: configuration.environment)
            ) { path in
                let line = Leftovers.end(of: path, title: "a server that was killed")
                if let line { configuration.output(.line(.warning, line)) }
            }
        } catch {
            closeListeners()
            throw error
        }
        let weights: [Int32]
        do {
            admin = try AdminSocket(path: "\(directory.path)/\(AdminSocket.name)")
        } catch {
            closeListeners()
            throw error
        }
        do {
            sharing = try Self.commonDevice(configuration, placement, directory: directory.path)
            weights = try Self.memoryFiles(configuration.models.count)
        } catch {
            admin.close()
            closeListeners()
            throw error
        }
        // A program started under nohup ignores hang-ups.
        let wanted = [SIGINT, SIGTERM] + (tandem_signal_is_ignored(SIGHUP) ? [] : [SIGHUP])
        let signals = tandem_signal_descriptor(wanted, Int32(wanted.count))
        guard signals >= 0 else {
            closeListeners()
            for file in weights { close(file) }
            throw .system(operation: "watch", subject: "signals", errno: -signals)
        }
        self.listener = listener
        self.engineListeners = engineListeners
        self.weights = weights
        weightOwners = WeightOwner.owners(configuration, directory: directory.path)
        self.signals = signals
        cores = CorePlan(
            usable: configuration.sharing == nil
                ? CorePlan.usableCores()
                : DeviceCores(device: configuration.sharing?.busID).ordered(CorePlan.usableCores()),
            shares: configuration.models.map { CorePlan.Share(engines: $0.engines, threads: $0.threads) })
        let path = directory.path
        let groups = placement.groups(names: configuration.models.map(\.name))
        let addresses = zip(placement.models, placement.engines).flatMap { model, engines in
            engines.map { index in
                configuration.models[model].external == nil
                    ? "link+unix:\(path)/engine-\(index).sock" : Self.address(port: 0)
            }
        }
        self.addresses = addresses
        let external = groups.indices.filter { configuration.models[$0].external != nil }
        state = SupervisorState(
            addresses: addresses, placement: placement, groups: groups, shutdownTimeout: configuration.shutdownTimeout,
            hangLimits: configuration.hangLimits,
            external: ExternalRules(
                engines: Set(external.flatMap { groups[$0].engines }),
                startTimeout: configuration.externalStartTimeout),
            sharing: Self.rules(configuration),
            memory: MemoryWatch(
                plans: zip(placement.models, placement.engines).map { model, engines in
                    configuration.models[model].plannedBytes.map { MemoryPlan.product($0, engines.count) }
                },
                settings: configuration.memoryWatch))
        if configuration.adoptsOrphans { _ = tandem_adopt_orphans() }
    }

    deinit {
        closeListeners()
        admin.close()
        for file in weights { close(file) }
        close(signals)
    }

    private func closeListeners() {
        listener.close()
        for index in engineListeners.indices { engineListeners[index].close() }
    }

    private static func commonDevice(
        _ configuration: SupervisorConfiguration, _ placement: EnginePlacement, directory: String
    ) throws(SupervisionError) -> (any CommonDevice)? {
        if let sharing = configuration.sharing { return try DeviceSharing(sharing) }
        guard let simulated = configuration.simulatedDevice else { return nil }
        var launch = ChildLaunch(
            executable: configuration.executable, arguments: [configuration.processName],
            environment: configuration.environment, descriptors: [])
        launch.environment[ProcessMark.runDirectory] = directory
        let start = configuration.startedAt
        return SimulatedDevice(simulated, directory: directory, placement: placement, launch: launch) {
            ContinuousClock.now - start
        }
    }

    private static func rules(_ configuration: SupervisorConfiguration) -> SharingRules? {
        if configuration.sharing != nil { return SharingRules() }
        return configuration.simulatedDevice.map { SharingRules(title: "the simulated \($0.name)") }
    }

    private static func memoryFiles(_ count: Int) throws(SupervisionError) -> [Int32] {
        var files: [Int32] = []
        for _ in 0..<count {
            let file = tandem_memfd_create("tandem-weights")
            guard file >= 0 else {
                for file in files { close(file) }
                throw .system(operation: "create", subject: "the memory file of the weights", errno: -file)
            }
            files.append(file)
        }
        return files
    }

    private var now: Duration { ContinuousClock.now - configuration.startedAt }

    func run() throws(SupervisionError) -> Int32 {
        try sharing?.start()
        for owner in weightOwners.values { owner.start() }
        while true {
            while !events.isEmpty {
                let event = events.removeFirst()
                for action in state.handle(event, at: now) { perform(action) }
            }
            if let exitCode {
                endWeightOwners()
                let line = Leftovers.end(of: directory.path, title: "the server")
                if let line { say(.warning, line) }
                return exitCode
            }
            wait()
        }
    }

    private func endWeightOwners() {
        for owner in weightOwners.values { owner.end() }
    }

    // MARK: - Effects

    private func perform(_ action: SupervisorAction) {
        switch action {
        case .start(let child):
            start(child)
        case .terminate(let child):
            running[child]?.process.send(SIGTERM)
        case .kill(let child):
            running[child]?.process.killGroup()
        case .closeListener:
            serviceManager.stopping()
            closeListeners()
        case .sharing(let notice):
            // An MPS server ends with its last client.
            if notice == .stop { endWeightOwners() }
            sharing?.tell(notice)
        case .sendRoster(let roster):
            guard running[.gateway] != nil else { return }
            if running[.gateway]?.channel.send(.roster(roster)) == false {
                say(.warning, "the gateway does not read its messages and is killed")
                running[.gateway]?.process.killGroup()
            }
        case .announce(let devices):
            let announcement = Announcement(
                models: zip(configuration.models.indices, devices).map { index, device in
                    let model = configuration.models[index]
                    return Announcement.Model(
                        name: reportedNames[index] ?? model.name, engines: model.engines, device: device)
                },
                host: configuration.host, port: listener.port, requiresKey: configuration.requiresKey,
                keyIsInEnvironment: configuration.keyIsInEnvironment,
                isSecure: configuration.certificate != nil, certificate: configuration.certificate,
                timeToReady: now)
            configuration.output(.announcement(announcement.text))
            serviceManager.ready(announcement.summary)
        case .log(let severity, let text):
            say(severity, text)
        case .answer(let reply, let connection):
            admin.answer(reply, to: connection)
        case .exit(let code):
            exitCode = code
        }
    }

    private func say(_ severity: SupervisorOutput.Severity, _ text: String) {
        configuration.output(.line(severity, text))
    }

    private func start(_ child: Child) {
        keepDirectory()
        do throws(LaunchError) {
            if case .engine(let index) = child, let external = configuration.models[placement.models[index]].external {
                try start(external, index)
                return
            }
            var channel = try StatusChannel()
            defer { channel.closeChildEnd() }
            let process: ChildProcess
            do throws(LaunchError) {
                process = try ChildProcess(launch(child, status: channel.descriptorForChild))
            } catch {
                channel.close()
                throw error
            }
            channel.closeChildEnd()
            running[child] = Running(process: process, channel: channel)
            events.append(.started(child, pid: process.pid))
        } catch {
            events.append(.ended(child, .notStarted(reason: error.reason)))
        }
    }

    private static func address(port: UInt16) -> String { "http://127.0.0.1:\(port)" }

    private func start(_ external: ExternalEngine, _ index: Int) throws(LaunchError) {
        // One engine each.
        let engine = placement.engines[index].lowerBound
        let port = try FreePort.port(base: configuration.externalPortBase, engine: engine, taken: Set(ports.values))
        let child = Child.engine(index)
        let process = try external.start(
            ExternalEngine.Start(
                index: engine, port: port, threads: cores.threads[engine],
                running: ports.keys.count { $0 != index && placement.models[$0] == placement.models[index] }),
            title: state.title(child), cores: cores.cores[engine]
        ) { environment in
            let marked = environment.merging(marks(engine: index)) { $1 }
            return sharing?.environment(ofEngine: index, over: marked) ?? marked
        }
        ports[index] = port
        running[child] = Running(process: process, channel: .none)
        events.append(.placed(engine: index, address: Self.address(port: port), program: external.name))
        events.append(.started(child, pid: process.pid))
    }

    private func marks(engine index: Int?) -> [String: String] {
        var marks = [ProcessMark.runDirectory: directory.path]
        if let index { marks[ProcessMark.engineIndex] = "\(index)" }
        return marks
    }

    private func launch(_ child: Child, status: Int32) -> ChildLaunch {
        var launch = ChildLaunch(
            executable: configuration.executable, arguments: [configuration.processName],
            environment: configuration.environment, descriptors: [(status, Self.statusDescriptor)])
        switch child {
        case .gateway:
            launch.environment.merge(marks(engine: nil)) { $1 }
            launch.arguments += ["gateway"] + configuration.gatewayArguments
            launch.arguments += ["--listen-fd", "\(Self.sharedDescriptor)"]
            launch.descriptors.append((listener.descriptor, Self.sharedDescriptor))
            for (index, listener) in engineListeners.enumerated() {
                let descriptor = Self.firstEngineDescriptor + Int32(index)
                launch.arguments += ["--engine-listen-fd", "\(descriptor)"]
                launch.descriptors.append((listener.descriptor, descriptor))
            }
            launch.environment.merge(configuration.gatewayEnvironment) { $1 }
        case .engine(let index):
            let engines = placement.engines[index]
            // A socket file of the last run would refuse the next one.
            for engine in engines { unlink("\(directory.path)/engine-\(engine).sock") }
            let model = placement.models[index]
            launch.environment.merge(marks(engine: index)) { $1 }
            launch.arguments += ["engine", "--index", "\(engines.lowerBound)"]
            launch.arguments += configuration.models[model].engineArguments
            launch.arguments += addresses[engines].flatMap { ["--link", $0] }
            launch.arguments += ["--threads", "\(cores.threads[engines.lowerBound])"]
            if engines.count > 1 { launch.arguments += cores.arguments(of: engines) }
            launch.arguments += ["--weights-fd", "\(Self.sharedDescriptor)"]
            launch.descriptors.append((weights[model], Self.sharedDescriptor))
            launch.cores = cores.cores(of: engines)
            launch.arguments += weightOwners[model]?.engineArguments ?? []
            if let sharing {
                launch.environment = sharing.environment(ofEngine: index, over: launch.environment)
                launch.arguments += sharing.arguments(ofEngine: index)
            }
        }
        launch.arguments += ["--status-fd", "\(Self.statusDescriptor)"]
        // Looking the crashed process over takes the run-time some two seconds, in which its requests could go on
        // elsewhere already; without memory it does not end at all. Whoever wants backtraces sets the variable.
        if launch.environment["SWIFT_BACKTRACE"] == nil { launch.environment["SWIFT_BACKTRACE"] = "enable=no" }
        return launch
    }

    // MARK: - Waiting

    private func wait() {
        let children = Array(running.keys)
        var entries = [pollfd(fd: signals, events: Int16(POLLIN), revents: 0)]
        for child in children {
            guard let entry = running[child] else { continue }
            let output = entry.channel.hasUnsentBytes ? Int16(POLLOUT) : 0
            entries.append(pollfd(fd: entry.process.pidfd, events: Int16(POLLIN), revents: 0))
            // A closed channel is -1, which poll skips.
            entries.append(pollfd(fd: entry.channel.descriptor, events: Int16(POLLIN) | output, revents: 0))
        }
        for descriptor in (sharing?.descriptors ?? []) + weightOwners.values.flatMap(\.descriptors) {
            entries.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0))
        }
        let firstOfAdmin = entries.count
        entries += admin.pollEntries(at: now)
        let count = poll(&entries, nfds_t(entries.count), timeoutMilliseconds())
        if count < 0 && errno != EINTR {
            // Only a defect of this program or a kernel without memory leads here; ending is the safe way out.
            say(.error, "cannot wait for events: \(String(cString: strerror(errno)))")
            exitCode = 1
            return
        }
        if entries[0].revents != 0 {
            while case let signal = tandem_signal_read(signals), signal > 0 {
                events.append(.stopRequested(signal: signal))
            }
        }
        for (index, child) in children.enumerated() {
            // Messages first: a child that reported and died did report.
            if entries[2 + 2 * index].revents != 0 { exchange(with: child) }
            if entries[1 + 2 * index].revents != 0 { reap(child) }
        }
        for (severity, line) in weightOwners.values.flatMap({ $0.look() }) { say(severity, line) }
        for (event, line) in sharing?.events() ?? [] {
            if let line { say(.warning, line) }
            if let event {
                for owner in weightOwners.values { owner.hear(event) }
                events.append(.sharing(event))
            }
        }
        administer(Array(entries[firstOfAdmin...]))
        readMemory()
        reapAdopted()
        if let deadline = state.nextDeadline, deadline <= now { events.append(.timePassed) }
    }

    /// What children of ours left behind has become our child, and may have ended.
    private func reapAdopted() {
        guard configuration.adoptsOrphans else { return }
        while tandem_reap_adopted() > 0 {}
    }

    private func timeoutMilliseconds() -> Int32 {
        let deadlines =
            [state.nextDeadline, admin.nextDeadline, nextMemoryRead, sharing?.nextDeadline]
            + weightOwners.values.map(\.nextDeadline)
        guard let deadline = deadlines.compactMap({ $0 }).min() else { return -1 }
        let left = deadline - now
        guard left > .zero else { return 0 }
        let (seconds, attoseconds) = left.components
        // Rounded up: waking a moment too early would spin.
        return Int32(clamping: seconds * 1000 + attoseconds / 1_000_000_000_000_000 + 1)
    }

    private func exchange(with child: Child) {
        running[child]?.channel.flush()
        do throws(LinkError) {
            for message in try running[child]?.channel.receive() ?? [] { take(message, from: child) }
        } catch {
            say(.warning, "\(state.title(child)) sent what is not a message (\(error)) and is killed")
            running[child]?.process.killGroup()
            running[child]?.channel.close()
        }
    }

    private func take(_ message: LinkMessage, from child: Child) {
        switch (message, child) {
        case (.gatewayReady, .gateway): events.append(.ready(child, detail: ""))
        case (.engineHello(let hello), .engine(let index)):
            sharing?.says(index, attached: hello.isAttached)
            running[child]?.serving += 1
            guard running[child]?.serving == placement.engines[index].count else { return }
            events.append(.ready(child, detail: hello.device))
        case (.heartbeat(let heartbeat), _):
            events.append(.heartbeat(child, progress: heartbeat.progress, isWorking: heartbeat.isWorking))
        case (.engineReport(let report), .gateway):
            if report.finding == .computes, !report.detail.isEmpty,
                let process = placement.process(of: Int(report.engineIndex))
            {
                reportedNames[placement.models[process]] = report.detail
            }
            events.append(.reported(report))
        case (.error(let error), _): say(.warning, "\(state.title(child)): \(error.message)")
        default: break
        }
    }

    private func reap(_ child: Child) {
        let pid = running[child]?.process.pid
        guard let exit = running[child]?.process.reap() else { return }
        running[child]?.channel.close()
        running[child] = nil
        if case .engine(let index) = child, ports.removeValue(forKey: index) != nil {
            // Its workers hold what the next one needs.
            let line = Leftovers.end(of: directory.path, engine: index, group: pid, title: state.title(child))
            if let line { say(.warning, line) }
        }
        events.append(.ended(child, exit))
    }

    // MARK: - Administration

    private func administer(_ entries: [pollfd]) {
        for (command, connection) in admin.exchange(entries, at: now) {
            if case .status = command {
                refreshMemory()
                admin.answer(.status(state.status(facts, at: now)), to: connection)
            } else {
                events.append(.administer(command, connection: connection))
            }
        }
    }

    private var facts: SupervisorFacts {
        var facts = SupervisorFacts(
            version: configuration.version, pid: getpid(), host: configuration.host, port: listener.port,
            isSecure: configuration.certificate != nil, runDirectory: directory.path, cores: cores.cores)
        sharing?.describe(in: &facts)
        facts.weights = configuration.models.indices.compactMap { index in
            weightOwners[index]?.status ?? configuration.models[index].copiesOfWeights
        }
        return facts
    }

    /// Sees to it that the directory of the sockets is there.
    private func keepDirectory() {
        do throws(SupervisionError) {
            let path = "\(directory.path)/\(AdminSocket.name)"
            let loss = try directory.restore()
            let isReachable = access(path, F_OK) == 0
            if !isReachable {
                admin.close()
                admin = try AdminSocket(path: path)
            }
            directoryIsMissing = false
            // Only one of its files: others are there, sockets of engines among them.
            guard loss == .all || (loss == .lock && !isReachable) else { return }
            // What holds weights, or simulates a GPU, would have to make its own socket again first.
            let isAlone = weightOwners.isEmpty && configuration.simulatedDevice == nil
            events.append(.directoryRestored(enginesCanRestart: isAlone))
        } catch {
            if !directoryIsMissing { say(.error, "the directory of the server's sockets is gone: \(error)") }
            directoryIsMissing = true
        }
    }

    private func readMemory() {
        guard nextMemoryRead <= now else { return }
        keepDirectory()
        nextMemoryRead = now + configuration.memoryWatch.period
        lastMemoryRead = now
        let samples = running.compactMap { child, entry -> MemorySample? in
            guard case .engine(let index) = child, let bytes = ProcessMemory.ownBytes(of: entry.process.pid) else {
                return nil
            }
            return MemorySample(engine: index, pid: entry.process.pid, bytes: bytes)
        }
        guard !samples.isEmpty else { return }
        for action in state.handle(.memoryRead(samples), at: now) { perform(action) }
    }

    /// For somebody who looks; not for everybody who asks without a pause.
    private func refreshMemory() {
        guard now - lastMemoryRead >= Self.memoryReadPause else { return }
        nextMemoryRead = .zero
        readMemory()
    }
}
