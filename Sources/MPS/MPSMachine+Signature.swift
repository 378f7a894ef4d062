// Tandem — Apache-2.0

extension MPSMachine {
    /// All that decides what a machine does, but for times: of those it counts only whether there are any.
    struct Signature: Hashable {
        var ownership: DaemonOwnership
        var phase: MPSPhase
        var rung: RecoveryRung?
        var engines: Set<Int>
        var flags: [Bool]
        var numbers: [Int]
    }

    /// Equal for machines that behave alike.
    var signature: Signature {
        Signature(
            ownership: ownership, phase: phase, rung: rung, engines: engines,
            flags: [
                isAdmitting, deadline != nil, limit != nil, daemonLives, suspectWasTerminated, isStopping, ownerWasTold,
                faultIsForgiven,
            ],
            numbers: [restarts, unanswered, suspect ?? -1, min(faultAnswers, 2)])
    }
}
