// Tandem — Apache-2.0

internal import EngineLink
internal import Glibc
internal import VirtualDevice

/// A GPU that is simulated for all engines by one process.
public struct SimulatedDeviceConfiguration: Sendable {
    /// The name by which it is asked for: `h100`.
    public var name: String
    /// Whether engines share it by MPS, or by time slices.
    public var usesMPS: Bool

    public init(name: String, usesMPS: Bool) {
        self.name = name
        self.usesMPS = usesMPS
    }
}

/// The effects of a ``SimulatedDeviceMachine``: a child process and a socket pair to it.
final class SimulatedDevice: CommonDevice {
    private static let statusDescriptor: Int32 = 3

    private let configuration: SimulatedDeviceConfiguration
    private let directory: String
    private let placement: EnginePlacement
    /// Of processes whose work is to be dropped, the engines that still have some.
    private var drops: [Int: Set<UInt32>] = [:]
    /// Program, environment and first word of the command line.
    private let launch: ChildLaunch
    private let now: () -> Duration
    private var machine: SimulatedDeviceMachine
    private var process: ChildProcess?
    private var channel: Int32 = -1
    private var reports: [(event: SharingEvent?, line: String?)] = []

    /// - Parameters:
    ///   - directory: the run directory, in which its sockets are made.
    ///   - placement: which process each of its clients is in.
    ///   - launch: how to start a child of ours; arguments and descriptors are added.
    ///   - now: the supervisor's clock.
    init(
        _ configuration: SimulatedDeviceConfiguration, directory: String, placement: EnginePlacement,
        launch: ChildLaunch, now: @escaping () -> Duration
    ) {
        self.configuration = configuration
        self.directory = directory
        self.placement = placement
        self.launch = launch
        self.now = now
        machine = SimulatedDeviceMachine(title: "simulated \(configuration.name)")
    }

    deinit {
        process?.killGroup()
        closeChannel()
    }

    // MARK: CommonDevice

    var descriptors: [Int32] { [channel, process?.pidfd ?? -1].filter { $0 >= 0 } }

    /// At once if something waits to be taken.
    var nextDeadline: Duration? { reports.isEmpty ? machine.nextDeadline : .zero }

    func start() throws(SupervisionError) { handle(.begin) }

    func environment(ofEngine engine: Int, over surroundings: [String: String]) -> [String: String] { surroundings }

    func arguments(ofEngine engine: Int) -> [String] {
        ["--simulated-device", "\(directory)/\(DeviceControl.clientSocketName)"]
    }

    func says(_ engine: Int, attached: Bool?) {}

    func tell(_ notice: SharingNotice) { handle(.told(notice)) }

    func events() -> [(event: SharingEvent?, line: String?)] {
        look()
        defer { reports = [] }
        return reports
    }

    func describe(in facts: inout SupervisorFacts) {
        let report = machine.report
        facts.simulatedDevice = SimulatedDeviceStatus(
            name: configuration.name, sharing: configuration.usesMPS ? "MPS" : "time slices",
            phase: machine.phaseName, pid: machine.pid, restarts: machine.restarts, clients: report?.clients ?? 0,
            memoryBytes: report?.memoryBytes ?? 0, usedBytes: report?.usedBytes ?? 0, steps: report?.steps ?? 0,
            lagMillionths: report?.lagMillionths ?? 0, isLate: report?.isLate ?? false)
    }

    // MARK: Effects

    /// Takes what has happened since the last look.
    private func look() {
        if channel >= 0 {
            let (notices, isOpen) = DeviceChannel.notices(from: channel)
            for notice in notices.compactMap(ofProcess) { handle(.said(notice)) }
            if !isOpen { closeChannel() }
        }
        if let exit = process?.reapIfEnded() {
            process = nil
            closeChannel()
            handle(.ended(reason: exit.description))
        }
        if let deadline = machine.nextDeadline, deadline <= now() { handle(.timePassed) }
    }

    private func closeChannel() {
        if channel >= 0 { close(channel) }
        channel = -1
    }

    private func handle(_ event: SimulatedDeviceMachine.Event) {
        for action in machine.handle(event, at: now()) {
            switch action {
            case .start: startProcess()
            case .kill: process?.killGroup()
            case .order(let order):
                // One that takes no orders is found out by the time it takes.
                send(order)
            case .report(let event): reports.append((event, nil))
            case .log(let text): reports.append((nil, text))
            }
        }
    }

    /// What is said of an engine, as said of its process: once it holds for all engines of it.
    private func ofProcess(_ notice: DeviceNotice) -> DeviceNotice? {
        guard case .dropped(let engine) = notice, let process = placement.process(of: Int(engine)) else {
            return notice
        }
        drops[process]?.remove(engine)
        guard drops[process]?.isEmpty == true else { return nil }
        drops[process] = nil
        return .dropped(engine: UInt32(process))
    }

    /// The device's clients are engines, and the machine knows processes.
    private func send(_ order: DeviceOrder) {
        guard channel >= 0 else { return }
        switch order {
        case .drop(let process):
            let engines = placement.engines.indices.contains(Int(process)) ? placement.engines[Int(process)] : 0..<0
            drops[Int(process)] = Set(engines.map { UInt32($0) })
            for engine in engines { _ = DeviceChannel.send(.drop(engine: UInt32(engine)), to: channel) }
        }
    }

    private func startProcess() {
        guard let (own, device) = DeviceChannel.pair() else {
            return handle(.notStarted(reason: "no socket pair: \(String(cString: strerror(errno)))"))
        }
        defer { close(device) }
        var launch = launch
        launch.arguments += [
            "virtual-device", "--gpu", configuration.name, configuration.usesMPS ? "--mps" : "--no-mps",
            "--socket", "\(directory)/\(DeviceControl.clientSocketName)",
            "--control-socket", "\(directory)/\(DeviceControl.socketName)",
            "--status-fd", "\(Self.statusDescriptor)",
        ]
        launch.descriptors = [(device, Self.statusDescriptor)]
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

extension SimulatedDeviceMachine {
    /// For people.
    var phaseName: String {
        switch phase {
        case .idle, .starting: "starting"
        case .active: report?.isFaulted == true ? "had a fatal fault" : "active"
        case .down: "waits until its engines are gone"
        case .stopping: "stopping"
        case .ended: "ended"
        }
    }
}
