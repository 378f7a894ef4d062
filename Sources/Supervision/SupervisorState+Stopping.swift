// Tandem — Apache-2.0

/// The way to the end.
extension SupervisorState {
    mutating func stop(_ signal: Int32, at now: Duration, _ actions: inout [SupervisorAction]) {
        guard phase == .serving else {
            guard phase != .killing else { return }
            actions.append(.log(.info, "killing what still runs"))
            exitCode = 128 &+ signal
            killAll(&actions)
            return
        }
        phase = .drainingGateway
        phaseDeadline = now + shutdownTimeout + Self.killGrace
        for child in children where !self[child].isAlive { self[child].condition = .idle }
        actions.append(.closeListener)
        if gateway.isAlive {
            let limit = Self.text(shutdownTimeout)
            actions.append(.log(.info, "finishing open requests (at most \(limit)); a second signal ends them at once"))
            actions.append(.terminate(.gateway))
        }
    }

    mutating func killAll(_ actions: inout [SupervisorAction]) {
        phase = .killing
        phaseDeadline = nil
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
            for index in engines.indices where engines[index].isAlive { actions.append(.terminate(.engine(index))) }
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

    /// How long what keeps the common device working has for its own end.
    static let sharingGrace = Duration.seconds(20)
}
