// Tandem — Apache-2.0

/// Recovery, rung by rung.
extension MPSMachine {
    mutating func climb(to next: RecoveryRung, _ now: Duration, _ actions: inout [MPSAction]) {
        rung = next
        note(next)
        switch next {
        case .terminateClient:
            wait(for: limits.terminateClient, now, repeating: false)
            if let suspect { actions.append(.terminateClient(engine: suspect)) }
        case .killEngine:
            wait(for: limits.killEngine, now)
            if let suspect, engines.contains(suspect) {
                actions.append(.killEngine(suspect))
            } else {
                suspectEnded(now, &actions)
            }
        case .killGroup:
            hold(&actions)
            suspect = nil
            faultAnswers = 0
            wait(for: limits.killGroup, now)
            for engine in engines.sorted() { actions.append(.killEngine(engine)) }
            if engines.isEmpty { groupEnded(now, &actions) }
        case .quit:
            guard ownership.mayEndIt else { return leaveToOwner(now, &actions) }
            guard daemonLives else { return climb(to: .killServer, now, &actions) }
            wait(for: limits.quit, now, repeating: false)
            actions.append(.quit)
        case .killServer:
            wait(for: limits.killServer, now)
            actions += [.log("SIGKILL to the MPS server"), .killServer]
        case .killDaemon:
            wait(for: limits.killDaemon, now, repeating: false)
            actions += [.log("SIGKILL to the MPS control daemon"), .killDaemon]
        case .cleanDirectory, .restart:
            afterDaemon(now, &actions)
        }
    }

    mutating func leaveToOwner(_ now: Duration, _ actions: inout [MPSAction]) {
        rung = .killGroup
        tellOwner("end it with 'quit', or kill its server, and start it again", &actions)
        actions += engines.isEmpty ? [.query] : engines.sorted().map { .killEngine($0) }
        wait(for: limits.probe, now)
    }

    mutating func tellOwner(_ remedy: String, _ actions: inout [MPSAction]) {
        guard !ownerWasTold else { return }
        ownerWasTold = true
        actions.append(.log("the MPS daemon is not ours and does not work: \(remedy)"))
    }

    mutating func timePassed(_ now: Duration, _ actions: inout [MPSAction]) {
        guard let deadline, now >= deadline else { return }
        if isAdmitting, rung == nil, now - admittedAt >= limits.healthyAfter { restarts = 0 }
        guard let limit, now >= limit else {
            // Not the end: ask again.
            self.deadline = min(limit ?? now + limits.probe, now + (limit == nil ? limits.probe : limits.retry))
            if asksWhileWaiting { actions.append(.query) }
            return
        }
        if phase == .dead && (rung == .restart || rung == nil) || phase == .failed {
            return begin(again: now, &actions)
        }
        switch rung {
        case nil, .restart:
            if phase == .initializing {
                wedged("the MPS server has not become ready in \(limits.initialize)", now, &actions)
            } else {
                notReached(now, &actions)
            }
        case .terminateClient: climb(to: .killEngine, now, &actions)
        case .killEngine:
            phase = .fault
            climb(to: .killGroup, now, &actions)
        case .killGroup where phase == .dead: afterDaemon(now, &actions)
        case .killGroup: climb(to: .quit, now, &actions)
        case .quit: climb(to: .killServer, now, &actions)
        case .killServer where !daemonLives: afterDaemonOrEnd(now, &actions)
        case .killServer: climb(to: .killDaemon, now, &actions)
        case .killDaemon:
            actions.append(.log("the MPS control daemon cannot be killed"))
            daemonLives = false
            afterDaemonOrEnd(now, &actions)
        case .cleanDirectory: afterDaemonOrEnd(now, &actions)
        }
    }

    mutating func afterDaemonOrEnd(_ now: Duration, _ actions: inout [MPSAction]) {
        if isStopping { finishOwn(&actions) } else { afterDaemon(now, &actions) }
    }

    mutating func begin(again now: Duration, _ actions: inout [MPSAction]) {
        if phase == .failed { restarts = limits.restartsUntilFailed - 1 }
        if ownership == .own { note(.restart) }
        start(now, &actions)
    }

    /// The daemon was started, or looked for, and does not answer.
    mutating func notReached(_ now: Duration, _ actions: inout [MPSAction]) {
        guard phase == .starting else { return rest(phase, now) }
        guard ownership != .external, daemonLives else {
            phase = .dead
            rung = nil
            if ownership == .adopted { return restartLater(now, &actions) }
            tellOwner("start it", &actions)
            return wait(for: limits.probe, now)
        }
        actions.append(.log("the MPS control daemon does not answer after its start"))
        phase = .wedged
        climb(to: .killServer, now, &actions)
    }

    /// Whether an answer would be of use before the time is up.
    var asksWhileWaiting: Bool {
        guard !isStopping else { return false }
        switch rung {
        case nil, .restart:
            return phase != .dead && phase != .failed && (phase != .starting || daemonLives || ownership != .own)
        case .killEngine: return suspect.map { !engines.contains($0) } ?? false
        case .killGroup: return engines.isEmpty && phase != .dead
        case .killServer: return daemonLives
        default: return false
        }
    }

    mutating func hold(_ actions: inout [MPSAction]) {
        guard isAdmitting else { return }
        isAdmitting = false
        actions.append(.hold)
    }

    mutating func wait(for duration: Duration, _ now: Duration, repeating: Bool = true) {
        limit = now + duration
        deadline = now + (repeating ? min(duration, limits.retry) : duration)
    }

    mutating func note(_ rung: RecoveryRung) {
        counts[rung, default: 0] += 1
    }
}
