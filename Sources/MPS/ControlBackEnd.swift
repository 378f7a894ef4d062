// Tandem — Apache-2.0

/// One way to speak to a control daemon. It may be asked by one caller at a time only: ``ControlBroker`` sees to that.
protocol ControlBackEnd: Sendable {
    /// Asks once.
    func ask(_ commands: [ControlCommand], within limit: Duration) -> ControlOutcome

    /// Asks the daemon to end, and its servers once their clients are gone. The reply comes before the end, and a wedged
    /// daemon gives none, so that only the end of the process tells whether it worked.
    func quit(within limit: Duration)
}
