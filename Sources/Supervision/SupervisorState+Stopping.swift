// Tandem — Apache-2.0

/// The way to the end.
extension SupervisorState {
    mutating func stop(_ signal: Int32, at now: Duration, _ actions: inout [SupervisorAction]) {
        guard phase == .serving else {
            guard phase != .killing else { return }
            guard phase != .endingSharing else {
                // Nobody is left to be killed: who waits no longer goes without a clean end.
                let title = sharing?.title ?? ""
                actions.append(
                    .log(.warning, "\(title) is not waited for; what is left of it is ended at the next start"))
                exitCode = 128 &+ signal
                sharingHasEnded = true
                return
            }
            actions.append(.log(.info, "killing what still runs"))
            exitCode = 128 &+ signal
            killAll(at: now, &actions)
            return
        }
        phase = .drainingGateway
        phaseDeadline = now + shutdownTimeout + Self.killGrace
        // Engines that wait for their start are still needed: requests may wait for them.
        if !gateway.isAlive { gateway.condition = .idle }
        actions.append(.closeListener)
        if gateway.isAlive {
            let limit = Self.text(shutdownTimeout)
            actions.append(.log(.info, "finishing open requests (at most \(limit)); a second signal ends them at once"))
            actions.append(.terminate(.gateway))
        }
    }

    mutating func killAll(at now: Duration, _ actions: inout [SupervisorAction]) {
        phase = .killing
        phaseDeadline = now + Self.graceOfKilled
        actions.append(.closeListener)
        for child in children {
            if self[child].isAlive {
                actions.append(.kill(child))
            } else {
                self[child].condition = .idle
            }
        }
    }

    mutating func finishIfDone(at now: Duration, _ actions: inout [SupervisorAction]) {
        if phase == .drainingGateway && !gateway.isAlive {
            phase = .drainingEngines
            phaseDeadline = now + (external.engines.isEmpty ? Self.killGrace : Self.killGraceOfExternal)
            for index in engines.indices {
                if engines[index].isAlive {
                    actions.append(.terminate(.engine(index)))
                } else {
                    engines[index].condition = .idle
                }
            }
        }
        guard phase != .serving, phase != .drainingGateway, children.allSatisfy({ !self[$0].isAlive }) else { return }
        if !sharingHasEnded {
            guard phase != .endingSharing else { return }
            phase = .endingSharing
            phaseDeadline = now + Self.sharingGrace
            actions.append(.sharing(.stop))
        } else {
            hasExited = true
            actions.append(.exit(code: exitCode))
        }
    }

    /// Whether requests may still need engines: while there is a gateway.
    var needsEngines: Bool { phase == .serving || phase == .drainingGateway }

    /// Kills what did not end in its time, and goes without what even that does not end.
    mutating func endLate(at now: Duration, _ actions: inout [SupervisorAction]) {
        let late = (phase == .drainingGateway ? [.gateway] : children).filter { self[$0].isAlive }
        let kills = phase != .killing && late.contains { !self[$0].wasKilledLate }
        for child in late {
            let name = child == .gateway ? "the gateway" : title(child)
            if kills {
                self[child].wasKilledLate = true
                actions.append(.log(.warning, "\(name) did not finish in time and is killed"))
                actions.append(.kill(child))
            } else {
                actions.append(
                    .log(
                        .error,
                        "\(name) (process \(self[child].pid)) does not end though it was killed, as if the kernel or a "
                            + "driver held it; it is left behind"))
                self[child].condition = .idle
                exitCode = max(exitCode, 1)
            }
        }
        if kills { phaseDeadline = now + Self.graceOfKilled }
    }

    /// How long a killed process may take for its end: the kernel gives its memory back first, a driver its GPU's.
    static let graceOfKilled = Duration.seconds(30)

    /// How long what keeps the common device working has for its own end.
    static let sharingGrace = Duration.seconds(20)
}
