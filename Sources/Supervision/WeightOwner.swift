// Tandem — Apache-2.0

internal import CTandemSystem
internal import EngineLink
internal import Glibc
internal import MPS
internal import Processes

/// The effects of a ``WeightOwnerMachine``: a child process, a socket pair to it, and the descriptor of the memory, which
/// keeps the weights on the GPU while no process has them.
final class WeightOwner {
    private static let statusDescriptor: Int32 = 3
    private static let exportedDescriptor: Int32 = 4

    private let directory: String
    private let model: Int
    /// Program, environment and first word of the command line.
    private let launch: ChildLaunch
    private let arguments: [String]
    private let now: () -> Duration
    private let isClient: Bool
    private var machine: WeightOwnerMachine
    private var process: ChildProcess?
    private var channel: Int32 = -1
    /// What the last owner said, and the descriptor that came with it.
    private var exported: (text: String, descriptor: Int32)?
    private var lines: [(SupervisorOutput.Severity, String)] = []

    /// - Parameters:
    ///   - model: its place in the configuration; names the socket.
    ///   - arguments: after `weights`; sockets are added.
    ///   - isClient: whether its environment makes it a client of MPS.
    init(
        _ title: String, model: Int, arguments: [String], isClient: Bool, directory: String, launch: ChildLaunch,
        now: @escaping () -> Duration
    ) {
        self.directory = directory
        self.model = model
        self.arguments = arguments
        self.launch = launch
        self.now = now
        self.isClient = isClient
        machine = WeightOwnerMachine(title: title, isClient: isClient)
    }

    deinit {
        process?.killGroup()
        closeChannel()
        if let exported { close(exported.descriptor) }
    }

    /// Readable when ``look()`` should be called.
    var descriptors: [Int32] { [channel, process?.pidfd ?? -1].filter { $0 >= 0 } }
    var nextDeadline: Duration? { machine.nextDeadline }
    /// Its process, which is not the supervisor's to reap.
    var pid: Int32? { process?.pid }

    func start() { handle(.begin) }

    /// Takes note of whether clients of MPS may run.
    func hear(_ event: SharingEvent) {
        guard isClient else { return }
        switch event {
        case .hold: handle(.hold)
        case .admit: handle(.admit)
        default: break
        }
    }

    /// Ends its process and waits for that; it is not started again.
    func end() {
        guard let process else { return }
        process.killGroup()
        var entry = pollfd(fd: process.pidfd, events: Int16(POLLIN), revents: 0)
        // What the kernel cannot end in that time, it ends later.
        while poll(&entry, 1, 10_000) < 0, errno == EINTR {}
        _ = process.reapIfEnded()
        self.process = nil
        closeChannel()
    }

    /// What an engine is told on its command line.
    var engineArguments: [String] { ["--gpu-weights-socket", path] }

    /// Takes what has happened since the last look.
    ///
    /// - Returns: lines for people.
    func look() -> [(SupervisorOutput.Severity, String)] {
        hear()
        if let exit = process?.reapIfEnded() {
            process = nil
            closeChannel()
            handle(.ended(reason: exit.description))
        }
        if let deadline = machine.nextDeadline, deadline <= now() { handle(.timePassed) }
        defer { lines = [] }
        return lines
    }

    /// For administrators.
    var status: SharedWeightsStatus {
        var status = SharedWeightsStatus(model: machine.title, pid: machine.pid, restarts: machine.restarts)
        switch machine.phase {
        case .idle, .loading: status.phase = "loading"
        case .holding(let weights):
            status.phase = "shared"
            status.byteCount = UInt64(clamping: weights.byteCount)
            status.detail = weights.sharing == "descriptor" ? "file descriptor" : "CUDA IPC"
        case .refusing(let reason):
            status.phase = "private"
            status.detail = reason
        case .down: status.phase = "starting again"
        case .held: status.phase = "waits for MPS"
        }
        return status
    }

    private var path: String { "\(directory)/weights-\(model).sock" }

    private func hear() {
        while channel >= 0 {
            let (received, carried) = UnixSocket.receiveWithDescriptor(channel, limit: WeightsMessage.longest)
            guard case .bytes(let bytes) = received else {
                if case .end = received { closeChannel() }
                return
            }
            guard let message = try? WeightsMessage(text: bytes) else {
                if carried >= 0 { close(carried) }
                process?.killGroup()
                return closeChannel()
            }
            if carried >= 0 {
                if let exported { close(exported.descriptor) }
                exported = (String(decoding: bytes, as: UTF8.self), carried)
            } else if let exported {
                // It did not take that memory over, which is not to stay beside what it holds now, or engines load.
                close(exported.descriptor)
                self.exported = nil
            }
            handle(.said(message))
        }
    }

    private func closeChannel() {
        if channel >= 0 { close(channel) }
        channel = -1
    }

    private func handle(_ event: WeightOwnerMachine.Event) {
        for action in machine.handle(event, at: now()) {
            switch action {
            case .start: startProcess()
            case .kill: process?.killGroup()
            case .log(let severity, let text): lines.append((severity, text))
            }
        }
    }

    private func startProcess() {
        let own: Int32
        let other: Int32
        do {
            (own, other) = try UnixSocket.pair()
        } catch {
            return handle(.notStarted(reason: "no socket pair: \(error.text)"))
        }
        defer { close(other) }
        var launch = launch
        launch.arguments += ["weights"] + arguments
        launch.arguments += ["--socket", path, "--status-fd", "\(Self.statusDescriptor)"]
        launch.descriptors = [(other, Self.statusDescriptor)]
        if let exported {
            launch.arguments += ["--exported-fd", "\(Self.exportedDescriptor)", "--exported", exported.text]
            launch.descriptors.append((exported.descriptor, Self.exportedDescriptor))
        }
        do throws(LaunchError) {
            let process = try ChildProcess(launch)
            closeChannel()
            self.process = process
            channel = own
            handle(.started(pid: process.pid))
        } catch {
            close(own)
            handle(.notStarted(reason: error.reason))
        }
    }
}

extension SupervisedModel {
    /// For administrators, where no process holds the weights for all engines; null where they are in no GPU.
    var copiesOfWeights: SharedWeightsStatus? {
        guard computesOnGPU else { return nil }
        return SharedWeightsStatus(
            model: name, phase: "private",
            detail: enginesPerProcess > 1 ? "a copy for each engine process" : "a copy for each engine")
    }
}

extension WeightOwner {
    /// Those of a supervisor's models that have one, by the model's place in the configuration.
    static func owners(
        _ configuration: SupervisorConfiguration, directory: String
    ) -> [Int: WeightOwner] {
        var owners: [Int: WeightOwner] = [:]
        for (index, model) in configuration.models.enumerated() {
            guard let arguments = model.weightsArguments else { continue }
            var launch = ChildLaunch(
                executable: configuration.executable, arguments: [configuration.processName],
                environment: configuration.environment, descriptors: [])
            launch.environment[ProcessMark.runDirectory] = directory
            let client = model.weightsAreClientOfMPS ? configuration.sharing?.client : nil
            // Not a client of MPS: a fault of the engines must not take the weights along. To name a daemon that is not
            // there is how a CUDA program is kept from one that is.
            launch.environment =
                client?.variables(over: launch.environment)
                ?? launch.environment.merging(["CUDA_MPS_PIPE_DIRECTORY": "\(directory)/no-mps"]) { $1 }
            let start = configuration.startedAt
            owners[index] = WeightOwner(
                model.name, model: index, arguments: arguments, isClient: client != nil, directory: directory,
                launch: launch
            ) { ContinuousClock.now - start }
        }
        return owners
    }
}
