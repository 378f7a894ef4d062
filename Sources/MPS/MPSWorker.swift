// Tandem — Apache-2.0

internal import Glibc

/// Effects of an ``MPSController``: processes, logs and queries.
struct MPSWorker: ~Copyable {
    private let configuration: MPSController.Configuration
    private let request: @Sendable (MPSController.Request) -> Void
    private let broker: ControlBroker
    private let killer: MPSKiller
    private var machine: MPSMachine
    private var daemon: DaemonProcess?
    /// The daemon, where it is no child of ours.
    private var foreign: ProcessIdentity?
    private var controlLog: LogTail
    private var serverLog: LogTail
    private var servers: [Int32] = []
    private var clients: [Int32] = []
    /// Servers that the log called ready; null where there is no log of ours to look at.
    private var readyServers: Set<Int32>?
    /// How often each engine was looked for in vain.
    private var searches: [AttachProof.Engine: Int] = [:]
    private let began = ContinuousClock.now

    /// A client is listed before CUDA tells the engine so; some patience costs little, though, and a busy daemon may
    /// not answer at once.
    private static let searchesForClient = 10

    /// Logs are looked at so often.
    private static let logPause = Duration.milliseconds(100)

    init(_ configuration: MPSController.Configuration, request: @escaping @Sendable (MPSController.Request) -> Void) {
        self.configuration = configuration
        self.request = request
        broker = ControlBroker(
            pipeDirectory: configuration.directories.pipe, program: configuration.programs.control,
            environment: configuration.environment, protocolVersion: configuration.version,
            limit: configuration.queryLimit)
        killer = MPSKiller(pipeDirectory: configuration.directories.pipe)
        machine = MPSMachine(ownership: configuration.ownership, limits: configuration.limits)
        // What is not ours is not cut.
        let limit = configuration.ownership.mayEndIt ? configuration.logLimit : Int.max
        controlLog = LogTail(path: configuration.directories.controlLog, limit: limit, fromEnd: true)
        serverLog = LogTail(path: configuration.directories.serverLog, limit: limit, fromEnd: true)
    }

    var status: MPSController.Status {
        MPSController.Status(
            phase: machine.phase, rung: machine.rung, counts: machine.counts, isAdmitting: machine.isAdmitting,
            daemon: daemon?.child.pid, servers: servers, clients: clients)
    }

    /// Readable when the daemon ended; -1 if it is no child.
    var daemonHandle: Int32 { daemon?.child.pidfd ?? -1 }

    /// How long nothing is due.
    var pause: Duration {
        let due = machine.deadline.map { max(.zero, $0 - now) } ?? Self.logPause
        return min(due, Self.logPause)
    }

    private var now: Duration { ContinuousClock.now - began }

    /// Looks at daemon, logs and clock.
    mutating func turn(engines: [Int: ProcessIdentity]) {
        if let status = daemon?.child.reap() {
            daemon = nil
            readLogs(engines: engines)
            if machine.phase != .draining { request(.log("the MPS control daemon ended with \(status)")) }
            handle(.daemonEnded, engines: engines)
        }
        if let process = foreign, !ProcessTable().lives(process) {
            foreign = nil
            handle(.daemonEnded, engines: engines)
        }
        readLogs(engines: engines)
        handle(.timePassed, engines: engines)
    }

    /// Takes an event and does what follows from it.
    mutating func handle(_ event: MPSEvent, engines: [Int: ProcessIdentity]) {
        var events = [event]
        while !events.isEmpty {
            let before = machine.phase
            let actions = machine.handle(events.removeFirst(), now: now)
            for action in actions { events += perform(action, engines: engines) }
            if machine.phase == .failed && before != .failed { request(.failed) }
        }
    }

    /// Looks for engines among the daemon's clients; returns what is known of them by now.
    mutating func prove(
        _ proofs: [Int: AttachProof.Engine], engines: [Int: ProcessIdentity]
    ) -> [Int: AttachProof.Verdict] {
        searches = searches.filter { proofs.values.contains($0.key) }
        // While something is being recovered the daemon may not answer, and the engines will go.
        guard !proofs.isEmpty, machine.rung == nil else { return [:] }
        let event = query()
        handle(event, engines: engines)
        var verdicts: [Int: AttachProof.Verdict] = [:]
        if case .answered = event {
            verdicts = AttachProof.judge(proofs, clients: clients.map { ControlClient(pid: $0, server: 0) })
        } else {
            verdicts = proofs.mapValues { _ in .unknown("the MPS daemon does not say who its clients are") }
        }
        for (engine, verdict) in verdicts where verdict != .attached {
            guard let proof = proofs[engine] else { continue }
            searches[proof, default: 0] += 1
            if searches[proof, default: 0] < Self.searchesForClient { verdicts[engine] = nil }
        }
        return verdicts
    }

    private mutating func readLogs(engines: [Int: ProcessIdentity]) {
        for line in controlLog.lines() + serverLog.lines() {
            guard let event = ControlLogLine(line)?.event else { continue }
            switch event {
            case .serverStarting: handle(.serverStarting, engines: engines)
            case .serverReady(let pid):
                readyServers?.insert(pid)
                handle(.serverReady, engines: engines)
            case .serverEnded(let pid, _):
                readyServers?.remove(pid)
                handle(.serverEnded, engines: engines)
            case .clientFault(let pid):
                let engine = engines.first { $0.value.pid == pid }.map { "engine \($0.key)" } ?? "a client"
                request(.log("\(engine), process \(pid), caused a fatal GPU error"))
            case .serverFault: handle(.serverFault, engines: engines)
            case .daemonStarted, .binaryVersion, .client, .daemonEnded: break
            }
        }
    }

    private mutating func perform(_ action: MPSAction, engines: [Int: ProcessIdentity]) -> [MPSEvent] {
        switch action {
        case .startDaemon: return [startDaemon()]
        case .query: return [query()]
        case .terminateClient(let engine): return [terminate(engine, engines[engine])]
        case .killEngine(let engine): request(.killEngine(engine))
        case .hold: request(.hold)
        case .admit: request(.admit)
        case .log(let text): request(.log(text))
        case .quit: _ = broker.quit()
        case .killServer:
            guard machine.ownership.mayEndIt else { return [] }
            return killer.kill(.server, within: .seconds(2)) ? [.serversGone] : []
        case .killDaemon:
            guard machine.ownership.mayEndIt else { return [] }
            if let daemon {
                daemon.child.send(SIGKILL)
            } else if killer.kill(.control, within: .seconds(2)) {
                return [.daemonEnded]
            }
        case .cleanDirectory:
            if machine.ownership.mayEndIt && daemon == nil { configuration.directories.cleanPipes() }
        }
        return []
    }

    private mutating func startDaemon() -> MPSEvent {
        servers = []
        clients = []
        readyServers = []
        // Of a supervisor that was killed: the directory is ours alone, and so is what runs in it.
        guard killer.kill(.control, within: .seconds(2)), killer.kill(.server, within: .seconds(2)) else {
            return .daemonNotStarted(reason: "an earlier daemon in \(configuration.directories.pipe) cannot be killed")
        }
        do {
            daemon = try DaemonProcess(
                programs: configuration.programs, directories: configuration.directories,
                environment: configuration.environment, device: configuration.device, version: configuration.version)
            return .daemonStarted
        } catch {
            return .daemonNotStarted(reason: "\(error)")
        }
    }

    private mutating func query() -> MPSEvent {
        let isNew = configuration.version == .version3
        var outcome = broker.ask(isNew ? [.serverList, .clients] : [.serverList])
        guard case .answer(let first) = outcome else { return .notAnswered(outcome) }
        if isNew {
            guard let list = ControlAnswers.serversVersion3(first[0]),
                let listed = ControlAnswers.clientsVersion3(first[1])
            else { return .notAnswered(.truncated) }
            return note(servers: list.map(\.pid), clients: listed.map(\.pid), statuses: list.map(\.status))
        }
        guard let list = ControlAnswers.processIDs(first[0]) else { return .notAnswered(.truncated) }
        guard !list.isEmpty else { return note(servers: [], clients: [], statuses: []) }
        outcome = broker.ask(list.map { .clientList(server: $0) } + list.map { .serverStatus(server: $0) })
        guard case .answer(let answers) = outcome else { return .notAnswered(outcome) }
        var listed: [Int32] = []
        for answer in answers.prefix(list.count) {
            // A server that ended between the two sessions: an error text, not an empty list.
            guard let pids = ControlAnswers.processIDs(answer) else { return .notAnswered(.truncated) }
            listed += pids
        }
        let statuses = zip(list, answers.dropFirst(list.count)).map { server, answer in
            ControlAnswers.serverStatus(answer)
                ?? (readyServers.map { $0.contains(server) } ?? true ? ServerStatus.active : .initializing)
        }
        return note(servers: list, clients: listed, statuses: statuses)
    }

    private mutating func note(servers: [Int32], clients: [Int32], statuses: [ServerStatus]) -> MPSEvent {
        self.servers = servers
        self.clients = clients
        if daemon == nil && foreign == nil {
            let found = ProcessTable().processes(inPipeDirectory: configuration.directories.pipe)
            foreign = found.first { $0.role == .control }?.identity
        }
        let server: MPSSnapshot.Server =
            if statuses.isEmpty {
                .none
            } else if statuses.contains(.fault) {
                .fault
            } else if statuses.contains(.initializing) {
                .initializing
            } else {
                .active
            }
        return .answered(MPSSnapshot(server: server, clients: clients.count))
    }

    /// Only a process that is the engine still, and that the daemon lists.
    private func terminate(_ engine: Int, _ process: ProcessIdentity?) -> MPSEvent {
        guard let process, ProcessTable().lives(process) else {
            return .terminated(engine: engine, succeeded: false)
        }
        for server in servers {
            let outcome = broker.ask([.terminateClient(server: server, client: process.pid)])
            if case .answer(let answers) = outcome, ControlAnswers.terminated(answers[0]) {
                return .terminated(engine: engine, succeeded: true)
            }
        }
        return .terminated(engine: engine, succeeded: false)
    }
}
