// Tandem — Apache-2.0

internal import EngineLink

/// Engines of which only the gateway knows whether they compute.
struct ExternalRules: Sendable, Equatable {
    /// Their indices.
    var engines: Set<Int> = []
    /// How long one may take from its start until it computes.
    var startTimeout = Duration.seconds(600)
}

/// External engines start one after the other, each when the one before computes: engines that start together measure
/// and take a device's memory at the same time, and one of them may come to nothing.
extension SupervisorState {
    /// How long external engines get to end after SIGTERM: they may have workers to end.
    static let killGraceOfExternal = Duration.seconds(10)

    func isExternal(_ child: Child) -> Bool {
        guard case .engine(let index) = child else { return false }
        return external.engines.contains(index)
    }

    /// It is there and has not computed yet.
    private func isOnItsWay(_ index: Int) -> Bool {
        isExternal(.engine(index)) && engines[index].isAlive && engines[index].readyAt == nil
    }

    mutating func placed(_ index: Int, at address: String, _ program: String) {
        guard engines.indices.contains(index) else { return }
        addresses[placement.engines[index].lowerBound] = address
        engines[index].detail = program
    }

    /// Whether an engine that is due has to wait for another one to compute.
    func waitsForAnother(_ index: Int) -> Bool {
        isExternal(.engine(index)) && engines.indices.contains(where: isOnItsWay)
    }

    /// When it is too late for an engine that starts; null if it is none, or has all the time there is.
    func startDeadline(of child: Child) -> Duration? {
        guard case .engine = child, self[child].condition == .starting, needsEngines else { return nil }
        if isExternal(child) { return self[child].startedAt + external.startTimeout }
        return hangLimits.start > .zero ? self[child].startedAt + hangLimits.start : nil
    }

    mutating func killLate(at now: Duration, _ actions: inout [SupervisorAction]) {
        for child in children {
            guard let deadline = startDeadline(of: child), deadline <= now else { continue }
            guard isExternal(child) else {
                let hang = "it did not serve within \(Self.text(hangLimits.start)) of its start"
                killStuck(child, for: hang, saying: "\(title(child)): \(hang)", at: now, &actions)
                continue
            }
            let doubt = self[child].doubt.isEmpty ? "" : " (\(self[child].doubt))"
            let hang = "it answered no request within \(Self.text(external.startTimeout)) of its start\(doubt)"
            killStuck(child, for: hang, saying: "\(title(child)): \(hang)", at: now, &actions)
        }
    }

    /// Takes what the gateway says of an engine.
    mutating func reported(
        _ report: ExternalEngineReport, at now: Duration, _ actions: inout [SupervisorAction]
    ) {
        guard let index = placement.process(of: Int(report.engineIndex)) else { return }
        let child = Child.engine(index)
        guard needsEngines, engines.indices.contains(index), isExternal(child), engines[index].pid == report.pid
        else { return }
        if report.finding != .idle { engines[index].doubt = report.finding == .doubt ? report.detail : "" }
        switch (engines[index].condition, report.finding) {
        case (.starting, .computes):
            saysReady(child, engines[index].detail, at: now, &actions)
        case (.ready, .computes):
            if engines[index].isWorking { actions.append(.log(.info, "\(title(child)) computes again")) }
            engines[index].isWorking = false
        case (.ready, .doubt) where !engines[index].isWorking:
            // Time without progress counts from here, as with an engine of Tandem that has work.
            engines[index].isWorking = true
            engines[index].progressAt = now
            actions.append(.log(.warning, "\(title(child)) is in doubt: \(report.detail)"))
        case (.ready, .idle):
            engines[index].isIdle = true
            if case .end(let ending) = administration.orders[index], ending.stage == .finishing {
                actions.append(.terminate(child))
            }
        default:
            break
        }
    }

    /// Whether an engine that is to end may be asked to now: one of Tandem's own finishes what it has after that, others
    /// mostly do not.
    func mayEndNow(_ index: Int) -> Bool { !isExternal(.engine(index)) || engines[index].isIdle }
}
