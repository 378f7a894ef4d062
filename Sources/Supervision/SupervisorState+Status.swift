// Tandem — Apache-2.0

internal import EngineLink

/// What a status has that a state does not know.
struct SupervisorFacts {
    var version: String
    var pid: Int32
    var host: String
    var port: UInt16
    var isSecure = false
    var runDirectory: String
    /// CPU numbers of each engine.
    var cores: [[Int32]]
    /// Of a GPU that engines share.
    var sharing: SharingStatus?
    var simulatedDevice: SimulatedDeviceStatus?
    /// Of weights that engines share on a GPU.
    var weights: [SharedWeightsStatus] = []
}

extension SupervisorState {
    /// All that is known, for administrators. `now` counts from the start of the program.
    func status(_ facts: SupervisorFacts, at now: Duration) -> SupervisorStatus {
        SupervisorStatus(
            version: facts.version, pid: facts.pid, uptime: Self.milliseconds(now), host: facts.host,
            port: facts.port, isSecure: facts.isSecure, runDirectory: facts.runDirectory, isStopping: phase != .serving,
            gateway: status(of: .gateway, at: now),
            engines: engines.indices.flatMap { index in
                placement.engines[index].map { status(of: $0, in: index, facts, at: now) }
            },
            rollingRestart: rollingStatus, sharing: facts.sharing,
            simulatedDevice: facts.simulatedDevice, weights: facts.weights.map(withUse))
    }

    /// What holds weights for all cannot know which engines have taken copies of their own instead.
    private func withUse(_ weights: SharedWeightsStatus) -> SharedWeightsStatus {
        guard weights.phase == "shared", let group = groups.first(where: { $0.name == weights.model }) else {
            return weights
        }
        let ready = group.engines.filter { engines[$0].condition == .ready }
        let others = ready.filter { !engines[$0].detail.contains("shared weights") }
        func count(_ processes: [Int]) -> Int { processes.reduce(0) { $0 + placement.engines[$1].count } }
        guard !others.isEmpty else { return weights }
        var weights = weights
        weights.detail += "; copies of their own: \(count(others)) of \(count(ready)) engines"
        return weights
    }

    private func status(of engine: Int, in index: Int, _ facts: SupervisorFacts, at now: Duration) -> EngineStatus {
        // Memory is the process's, and is not to be counted twice.
        let isFirst = engine == placement.engines[index].lowerBound
        return EngineStatus(
            index: UInt32(engine), model: group(of: .engine(index)).map { groups[$0].name } ?? "",
            processIndex: UInt32(index), process: status(of: .engine(index), at: now),
            cores: facts.cores.indices.contains(engine) ? facts.cores[engine] : [], device: engines[index].detail,
            memory: isFirst ? memoryStatus(of: index) : MemoryStatus())
    }

    private func status(of child: Child, at now: Duration) -> ChildStatus {
        let record = self[child]
        var next: UInt64?
        if case .waiting(let until) = record.condition { next = Self.milliseconds(max(.zero, until - now)) }
        return ChildStatus(
            state: state(of: child), pid: record.pid,
            uptime: record.pid == 0 ? nil : Self.milliseconds(now - record.startedAt), restarts: record.restarts,
            deathsInARow: UInt32(clamping: record.policy.deathsInARow), lastExit: record.lastExit, nextAttempt: next)
    }

    private func state(of child: Child) -> ChildStatus.State {
        let record = self[child]
        switch record.condition {
        case .idle: return .down
        case .killed: return .killed
        case .waiting: return record.isFailed ? .failed : .waiting
        case .ready: break
        default: return .starting
        }
        guard case .engine(let index) = child, let order = administration.orders[index] else {
            return phase == .serving ? .ready : .ending
        }
        switch order {
        case .end: return .ending
        case .drain(let since):
            let isQuiet = !record.isWorking && record.heardAt >= since + Administration.settling
            // Of an external engine the gateway knows, not its signs of life.
            let isIdle = isExternal(child) ? record.isIdle : isQuiet
            return isIdle ? .drained : .draining
        }
    }

    private func memoryStatus(of index: Int) -> MemoryStatus {
        guard memory.engines.indices.contains(index) else { return MemoryStatus() }
        let engine = memory.engines[index]
        // What was read of the process before is not this one's.
        let isRead = engine.pid != 0 && engine.pid == engines[index].pid
        return MemoryStatus(
            now: isRead ? engine.now : nil, highWater: isRead ? engine.highWater : nil, plan: engine.plan,
            isAbovePlan: isRead && memory.isAbovePlan(index))
    }

    private var rollingStatus: RollingRestartStatus? {
        guard let rolling = administration.rollingRestart else { return nil }
        func engines(_ processes: [Int]) -> [UInt32] {
            processes.flatMap { placement.engines[$0].map { UInt32($0) } }
        }
        // Of a process the first engine stands for all, so that numbers add up.
        let current = rolling.current.map { engines([$0.engine]) } ?? []
        var status = RollingRestartStatus(
            state: .running, restarted: engines(rolling.restarted), current: current.first,
            pending: current.dropFirst() + engines(rolling.pending))
        switch rolling.state {
        case .done: status.state = .done
        case .stopped(let why):
            status.state = .stopped
            status.detail = why
        case .running:
            status.detail =
                switch rolling.current?.stage {
                case .waiting: "waits until another engine serves"
                case .ending: "finishes what it has"
                case .returning: "is starting"
                case nil: ""
                }
        }
        return status
    }

    private static func milliseconds(_ duration: Duration) -> UInt64 {
        let (seconds, attoseconds) = duration.components
        return UInt64(clamping: seconds) * 1000 + UInt64(clamping: attoseconds / 1_000_000_000_000_000)
    }
}
