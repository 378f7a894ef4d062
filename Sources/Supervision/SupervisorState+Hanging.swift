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

    /// External engines say nothing to their supervisor.
    private func watchesSilence(of child: Child) -> Bool { hangLimits.silence > .zero && !isExternal(child) }

    /// Kills children that hang: a frozen process answers to nothing less.
    mutating func killHanging(at now: Duration, _ actions: inout [SupervisorAction]) {
        guard phase == .serving else { return }
        for child in children {
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
            self[child].hang = hang
            self[child].condition = .killed
            actions.append(.log(.warning, "\(title(child)) hangs: \(hang); killing it"))
            actions.append(.kill(child))
        }
    }
}
