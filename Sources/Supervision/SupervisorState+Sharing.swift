// Tandem — Apache-2.0

/// Engines that share a device: they start one after the other, serve once they proved to be on it, and go together
/// when it has a fault.
extension SupervisorState {
    mutating func handle(_ event: SharingEvent, at now: Duration, _ actions: inout [SupervisorAction]) {
        switch event {
        case .hold:
            isAdmitting = false
            guard !wasAnnounced, phase == .serving else { return }
            vainAdmissions += 1
            guard vainAdmissions >= Self.admissionsUntilStartFails else { return }
            giveUp(
                "cannot start: engines had to go \(vainAdmissions) times before one served, see above; tandem "
                    + "doctor looks for the cause", at: now, &actions)
        case .admit: isAdmitting = true
        case .kill(let index):
            guard engines.indices.contains(index), engines[index].isAlive else { return }
            // One that hangs was reported as stuck; the others are killed for what one of them, or MPS, did.
            if engines[index].hang == nil {
                engines[index].hang = "all engines of the GPU start again"
                engines[index].isBlameless = true
            }
            engines[index].condition = .killed
            actions.append(.kill(.engine(index)))
        case .proved(let index, let failure):
            guard engines.indices.contains(index), engines[index].condition == .proving else { return }
            guard let failure else { return becameReady(.engine(index), at: now, &actions) }
            engines[index].hang = "it does not share the GPU: \(failure)"
            engines[index].condition = .killed
            actions.append(.kill(.engine(index)))
        case .failed:
            guard !wasAnnounced, phase == .serving else { return }
            let title = sharing?.title ?? ""
            giveUp(
                "cannot start: \(title) does not work, see above; tandem doctor looks for the cause", at: now, &actions)
        case .ended: sharingHasEnded = true
        }
    }

    /// Times that engines had to go before anything was served, after which a start counts as failed.
    static let admissionsUntilStartFails = 3

    private mutating func giveUp(_ reason: String, at now: Duration, _ actions: inout [SupervisorAction]) {
        actions.append(.log(.error, reason))
        exitCode = 1
        killAll(at: now, &actions)
    }

    /// Starts what may start now.
    mutating func startDueEngines(at now: Duration, _ actions: inout [SupervisorAction]) {
        guard needsEngines, isAdmitting, startNotBefore <= now else { return }
        startNotBefore = .zero
        for index in engines.indices where engines[index].condition == .due {
            // One that ends frees memory, which would mislead one that measures what there is.
            let another = engines.contains { [.starting, .proving, .killed].contains($0.condition) }
            if another && sharing?.isSequential == true { return }
            if waitsForAnother(index) { continue }
            startNow(.engine(index), at: now, &actions)
        }
    }

    func tellStarted(_ child: Child, _ pid: Int32, _ actions: inout [SupervisorAction]) {
        guard sharing != nil, case .engine(let index) = child else { return }
        actions.append(.sharing(.started(engine: index, pid: pid)))
    }

    /// Before the end is dealt with: a fault concerns all engines.
    mutating func tellEnded(
        _ child: Child, _ exit: ChildExit, at now: Duration, _ actions: inout [SupervisorAction]
    ) {
        guard sharing != nil, case .engine(let index) = child else { return }
        if exit.isDeviceFault && needsEngines {
            actions.append(.sharing(.fault(engine: index)))
            // The first of a fault decides how soon all are started again.
            if isAdmitting {
                let served = engines.filter(\.isAlive).compactMap(\.readyAt).max().map { now - $0 } ?? .zero
                let decision = faultPolicy.died(after: served)
                startNotBefore = now + decision.delay
                if decision.isFailed {
                    actions.append(
                        .log(
                            .error,
                            "the GPU had a fatal fault \(faultPolicy.deathsInARow) times in a row; the next attempt is in "
                                + "\(Self.text(decision.delay))"))
                }
            }
            // Until it is said again: a start would meet the same fault.
            isAdmitting = false
            engines[index].isBlameless = true
        }
        actions.append(.sharing(.ended(engine: index)))
        guard !wasAnnounced, phase == .serving, faultPolicy.deathsInARow >= Self.deathsUntilStartFails else { return }
        giveUp(
            "cannot start: the GPU had a fatal fault \(faultPolicy.deathsInARow) times before anything was served",
            at: now, &actions)
    }
}
