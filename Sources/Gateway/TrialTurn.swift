// Tandem — Apache-2.0

import Synchronization

/// Lets one event loop at a time try sequences that may kill engines: what two try at once proves nothing.
///
/// All models of a gateway share it, since their engines may share a device that one of them brings down.
final class TrialTurn: Sendable {
    private let isTaken = Atomic<Bool>(false)

    /// - Returns: whether the caller has it now.
    func take() -> Bool {
        isTaken.compareExchange(expected: false, desired: true, ordering: .relaxed).exchanged
    }

    func giveBack() { isTaken.store(false, ordering: .relaxed) }
}
