// Tandem — Apache-2.0

extension SupervisorState {
    mutating func heard(_ child: Child, _ progress: UInt64, _ isWorking: Bool, at now: Duration) {
        self[child].heardAt = now
        // Idle time is not time without progress.
        if !self[child].isWorking || progress != self[child].progress { self[child].progressAt = now }
        self[child].progress = progress
        self[child].isWorking = isWorking
    }

    /// When a child that serves counts as hanging unless something is heard of it; null for one that is not watched.
    func hangDeadline(of child: Child) -> Duration? {
        guard self[child].condition == .ready else { return nil }
        let silence = watchesSilence(of: child) ? self[child].heardAt + hangLimits.silence : nil
        let watchesStep = hangLimits.step > .zero && self[child].isWorking
        let step = watchesStep ? self[child].progressAt + hangLimits.step : nil
        return [silence, step].compactMap { $0 }.min()
    }

    /// Who is watched: a gateway that finishes its requests has its own time for that.
    var watchedForHanging: [Child] {
        phase == .serving ? children : needsEngines ? engines.indices.map { .engine($0) } : []
    }

    /// External engines say nothing to their supervisor.
    private func watchesSilence(of child: Child) -> Bool { hangLimits.silence > .zero && !isExternal(child) }

    /// Kills children that hang: a frozen process answers to nothing less.
    mutating func killHanging(at now: Duration, _ actions: inout [SupervisorAction]) {
        for child in watchedForHanging {
            guard let deadline = hangDeadline(of: child), deadline <= now else { continue }
            guard now - deadline <= HangLimits.lateness else {
                self[child].heardAt = now
                self[child].progressAt = now
                continue
            }
            let isSilent = watchesSilence(of: child) && self[child].heardAt + hangLimits.silence <= now
            let hang =
                isSilent
                ? "it gave no sign of life for \(Self.text(hangLimits.silence))"
                : "its work got nowhere for \(Self.text(hangLimits.step))"
            killStuck(child, for: hang, saying: "\(title(child)) hangs: \(hang)", at: now, &actions)
        }
    }

    /// Kills a child that gets nowhere.
    mutating func killStuck(
        _ child: Child, for reason: String, saying text: String, at now: Duration,
        _ actions: inout [SupervisorAction]
    ) {
        self[child].hang = reason
        self[child].condition = .killed
        if case .engine(let index) = child {
            actions.append(.log(.warning, text + (sharing == nil ? "; killing it" : "")))
            kill(index, at: now, &actions)
        } else {
            actions.append(.log(.warning, "\(text); killing it"))
            actions.append(.kill(child))
        }
    }

    /// Kills an engine that does not end, as the device allows it.
    mutating func kill(_ index: Int, at now: Duration, _ actions: inout [SupervisorAction]) {
        guard sharing != nil else { return actions.append(.kill(.engine(index))) }
        // Killed with work in flight it could take the others along: its work is dropped first.
        engines[index].killAt = now + Self.killGraceOfStuck
        actions.append(.sharing(.stuck(engine: index)))
    }

    /// How long what keeps the common device working has for an engine that hangs.
    static let killGraceOfStuck = Duration.seconds(15)

    /// Kills engines whose time with ``SharingNotice/stuck(engine:)`` is over: something else may have been more urgent.
    mutating func killOverdue(at now: Duration, _ actions: inout [SupervisorAction]) {
        for index in engines.indices {
            guard let killAt = engines[index].killAt, killAt <= now else { continue }
            engines[index].killAt = nil
            actions.append(.kill(.engine(index)))
        }
    }
}
