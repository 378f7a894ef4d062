// Tandem — Apache-2.0

import NIOCore
import Requests
import Routing
import Telemetry

/// What a dispatcher does about sequences that may kill engines; who they are, ``Suspicion`` decides.
extension Dispatcher {
    /// An engine was lost with these sequences, or gave them up.
    ///
    /// - Returns: those that are not to be tried again.
    func suspects(_ lost: [RequestID], of engine: EngineID) -> Set<RequestID> {
        let known = lost.filter(suspicion.isSuspect)
        let areProven = running.allSatisfy { $0.value.isProven || suspicion.onTrial.contains($0.key) }
        var convicted: [RequestID] = []
        leftTrial { convicted = $0.engineLost(engine, with: lost, othersAreProven: areProven, at: now) }
        metrics.suspected.add(UInt64(lost.count { suspicion.isSuspect($0) && !known.contains($0) }))
        return Set(convicted)
    }

    func cleared(_ id: RequestID) {
        if suspicion.isSuspect(id) { metrics.suspectsCleared.add() }
        leftTrial { $0.cleared(id) }
    }

    /// A sequence is not tried again.
    func refuse(_ id: RequestID, _ sequence: Running) {
        interrupted[id] = nil
        metrics.suspectsRefused.add()
        if sequence.owner.hasSent(choice: sequence.choice) { metrics.migrationRefused(reason: GatewayMetrics.suspect) }
        var error = APIError.server(
            "every engine that computed this request was lost, several of them with nothing else that can have been "
                + "the cause; it is not tried again")
        error.code = "engine_lost_repeatedly"
        sequence.owner.fail(choice: sequence.choice, error: error)
    }

    /// Whether a sequence may be given to an engine, as far as suspects are concerned.
    func mayBegin(_ id: RequestID) -> Bool {
        guard suspicion.isAlarmed else { return true }
        guard suspicion.mayBegin(id) else { return false }
        guard !hasTrialTurn else { return true }
        hasTrialTurn = metrics.trialTurn.take()
        if !hasTrialTurn { tryLater() }
        return hasTrialTurn
    }

    /// Changes what is on trial; if that leaves room, those that wait for it get their turn.
    func leftTrial(_ change: (inout Suspicion) -> Void) {
        guard !suspicion.isEmpty || hasTrialTurn else { return change(&suspicion) }
        change(&suspicion)
        if hasTrialTurn, suspicion.onTrial.isEmpty {
            hasTrialTurn = false
            metrics.trialTurn.giveBack()
        }
        // Not at once: whoever calls is in the middle of something.
        if held.contains(where: { $0.value.deadline == nil }) { tryLater(after: .zero) }
    }

    /// How long another event loop has for a trial before it is asked again.
    private static var turnPeriod: TimeAmount { .milliseconds(20) }

    private func tryLater(after delay: TimeAmount = turnPeriod) {
        guard !triesLater else { return }
        triesLater = true
        eventLoop.assumeIsolated().scheduleTask(in: delay) { [weak self] in
            guard let self else { return }
            self.triesLater = false
            self.releaseHeld()
            self.shareUnfinished()
        }
    }
}
