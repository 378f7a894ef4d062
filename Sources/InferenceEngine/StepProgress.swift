// Tandem — Apache-2.0

internal import Synchronization

/// How far a step thread got, for others to see whether it still gets anywhere: a device that hangs shows as a count
/// that stands still while there is work.
///
/// Counted by the step thread and, within a step, by its executor; may be read on any thread.
public final class StepProgress: Sendable {
    private let steps = Atomic<UInt64>(0)
    private let working = Atomic<Bool>(false)

    public init() {}

    /// Something was done. Many times a step is fine: it costs an addition.
    public func advance() {
        steps.wrappingAdd(1, ordering: .relaxed)
    }

    /// Whether the thread has something in hand, or sleeps until it gets something.
    func setWorking(_ isWorking: Bool) {
        working.store(isWorking, ordering: .relaxed)
        advance()
    }

    /// Grows whenever something was done, by no particular amount.
    public var count: UInt64 { steps.load(ordering: .relaxed) }

    /// Whether ``count`` has to grow.
    public var isWorking: Bool { working.load(ordering: .relaxed) }
}
