// Tandem — Apache-2.0

/// What an engine's memory was read to be.
struct MemorySample: Equatable {
    var engine: Int
    var pid: Int32
    /// Bytes that the process has to itself; see ``ProcessMemory``.
    var bytes: UInt64
}

/// Compares what engines hold with what was planned for them, and says which are to be restarted for it.
///
/// An engine takes what it needs when it first needs it, so that the plan is a ceiling. Above it lies a margin for what
/// no plan foresees; who stays above that for long has a leak, and a new process has none.
struct MemoryWatch: Equatable {
    /// The numbers of a watch.
    struct Settings: Equatable {
        /// How often it is read.
        var period = Duration.seconds(3)
        /// How long an engine may stay above its limit.
        var sustained = Duration.seconds(30)
        /// Least time between two restarts for this reason, whichever engines they are of.
        var pause = Duration.seconds(120)
        /// Least time between two of one engine: if it is above the plan again so soon, the plan is wrong.
        var pauseOfOne = Duration.seconds(900)
        /// Bytes above the plan that are nobody's concern: a part of the plan, and never less than the other.
        var marginDivisor: UInt64 = 8
        var leastMargin: UInt64 = 64 << 20
    }

    /// What is known of one engine.
    struct Engine: Equatable {
        var plan: UInt64?
        var pid: Int32 = 0
        var now: UInt64?
        var highWater: UInt64?
        /// Since when it is above the limit.
        var aboveSince: Duration?
        /// Whether it was warned of.
        var isReported = false
        var restartedAt: Duration?
    }

    var settings: Settings
    private(set) var engines: [Engine]

    /// - Parameter plans: bytes that each engine may take for itself; nil for those that nothing was planned for.
    init(plans: [UInt64?] = [], settings: Settings = Settings()) {
        self.settings = settings
        engines = plans.map { Engine(plan: $0) }
    }

    /// What an engine may hold before anybody minds; nil without a plan.
    func limit(of index: Int) -> UInt64? {
        guard engines.indices.contains(index), let plan = engines[index].plan else { return nil }
        return MemoryPlan.sum(plan, max(settings.leastMargin, plan / max(1, settings.marginDivisor)))
    }

    /// Takes note of what was read.
    ///
    /// - Returns: engines that have been above their limit for too long, and were not spoken of before.
    mutating func read(_ samples: [MemorySample], at now: Duration) -> [Int] {
        var reported: [Int] = []
        for sample in samples where engines.indices.contains(sample.engine) {
            let index = sample.engine
            if engines[index].pid != sample.pid {
                // Another process starts from nothing.
                let before = engines[index]
                engines[index] = Engine(plan: before.plan, pid: sample.pid, restartedAt: before.restartedAt)
            }
            engines[index].now = sample.bytes
            engines[index].highWater = max(engines[index].highWater ?? 0, sample.bytes)
            guard let limit = limit(of: index), sample.bytes > limit else {
                engines[index].aboveSince = nil
                engines[index].isReported = false
                continue
            }
            let since = engines[index].aboveSince ?? now
            engines[index].aboveSince = since
            guard now - since >= settings.sustained, !engines[index].isReported else { continue }
            engines[index].isReported = true
            reported.append(index)
        }
        return reported
    }

    /// Whether an engine has been above its limit for too long.
    func isAbovePlan(_ index: Int) -> Bool { engines.indices.contains(index) && engines[index].isReported }

    /// Engines that are to be restarted now, the worst first. Whether one may be is for others to say.
    func due(at now: Duration) -> [Int] {
        if let last = engines.compactMap(\.restartedAt).max(), now - last < settings.pause { return [] }
        return engines.indices.filter { index in
            engines[index].isReported
                && engines[index].restartedAt.map { now - $0 >= settings.pauseOfOne } ?? true
        }.sorted { excess(of: $0) > excess(of: $1) }
    }

    private func excess(of index: Int) -> UInt64 {
        let (held, limit) = (engines[index].now ?? 0, limit(of: index) ?? 0)
        return held > limit ? held - limit : 0
    }

    mutating func restarted(_ index: Int, at now: Duration) {
        engines[index].restartedAt = now
    }
}

extension SupervisorState {
    /// Warns once of an engine that holds clearly more than planned, and restarts it, one at a time, and only where
    /// another serves.
    mutating func memoryRead(
        _ samples: [MemorySample], at now: Duration, _ actions: inout [SupervisorAction]
    ) {
        // What was read of a process that ended meanwhile says nothing of the next.
        let samples = samples.filter { engines.indices.contains($0.engine) && engines[$0.engine].pid == $0.pid }
        for index in memory.read(samples, at: now) {
            let held = ByteCountText.text(memory.engines[index].now ?? 0)
            let plan = ByteCountText.text(memory.engines[index].plan ?? 0)
            actions.append(
                .log(
                    .warning,
                    "\(title(.engine(index))) holds \(held) of memory, \(plan) were planned; it is restarted when "
                        + "another engine of its model serves"))
        }
        guard phase == .serving, wasAnnounced, administration.rollingRestart?.state != .running,
            !administration.orders.contains(where: { if case .end = $0 { true } else { false } }),
            let index = memory.due(at: now).first(where: { isServing($0) && othersServe(than: $0) })
        else { return }
        memory.restarted(index, at: now)
        end(index, .memory, at: now, &actions)
    }
}
