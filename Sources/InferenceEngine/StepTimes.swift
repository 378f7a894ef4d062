// Tandem — Apache-2.0

/// What the step thread does at a moment.
public enum StepPhase: Int, Sendable, CaseIterable {
    /// Taking commands and planning the next step.
    case schedule
    /// Handing a plan to the executor.
    case prepare
    /// Applying a step's result: sampled tokens to their sequences, ends, prefix blocks.
    case sample
    /// Handing outputs and statistics over.
    case report
    /// Burning time for a study, see ``HostStalls``.
    case stall
    /// Asleep until the device has finished a step.
    case wait
    /// Asleep because there is nothing to do.
    case idle

    /// Whether the thread works in this phase.
    public var isHostWork: Bool { self != .wait && self != .idle }
}

/// Where a step loop's time went since its start, in nanoseconds.
///
/// Two views of the same time: the phases of the step thread add up to it, and so do ``device``, ``gap`` and idle. With
/// asynchronous scheduling host work overlaps ``device``; what does not overlap is ``gap``.
public struct StepTimes: Sendable, Equatable {
    public var schedule: UInt64 = 0
    public var prepare: UInt64 = 0
    public var sample: UInt64 = 0
    public var report: UInt64 = 0
    public var stall: UInt64 = 0
    public var wait: UInt64 = 0
    public var idle: UInt64 = 0
    /// At least one step was in flight: submitted, and its result not taken yet.
    public var device: UInt64 = 0

    public init() {}

    /// Work of the step thread.
    public var host: UInt64 { schedule &+ prepare &+ sample &+ report &+ stall }
    /// There was work but no step in flight: the device waited for the host.
    public var gap: UInt64 {
        let busy = host &+ wait
        return busy > device ? busy - device : 0
    }

    public subscript(phase: StepPhase) -> UInt64 {
        get {
            switch phase {
            case .schedule: schedule
            case .prepare: prepare
            case .sample: sample
            case .report: report
            case .stall: stall
            case .wait: wait
            case .idle: idle
            }
        }
        set {
            switch phase {
            case .schedule: schedule = newValue
            case .prepare: prepare = newValue
            case .sample: sample = newValue
            case .report: report = newValue
            case .stall: stall = newValue
            case .wait: wait = newValue
            case .idle: idle = newValue
            }
        }
    }
}

/// Adds up ``StepTimes``: one look at the clock whenever the thread turns to something else.
struct StepTimer {
    private(set) var times = StepTimes()
    private let now: @Sendable () -> UInt64
    private var phase = StepPhase.idle
    private var since: UInt64
    /// When the device last began to be busy, or when its time was last added up; `nil` while it is free.
    private var deviceSince: UInt64?

    init(now: @escaping @Sendable () -> UInt64) {
        self.now = now
        since = now()
    }

    /// Ends the present phase and begins another one, or the same one again.
    ///
    /// - Returns: the time of the change.
    @discardableResult
    mutating func enter(_ next: StepPhase) -> UInt64 {
        let time = now()
        times[phase] &+= time &- since
        if let busy = deviceSince {
            times.device &+= time &- busy
            deviceSince = time
        }
        since = time
        phase = next
        return time
    }

    /// Adds everything up to this moment.
    @discardableResult
    mutating func update() -> UInt64 { enter(phase) }

    /// Says whether a step is in flight from the last change of phase on.
    mutating func setDevice(busy: Bool) {
        deviceSince = busy ? since : nil
    }

    /// Works for so long, as a stall.
    mutating func stall(nanoseconds: UInt64) {
        guard nanoseconds > 0 else { return }
        let before = phase
        let start = enter(.stall)
        while now() &- start < nanoseconds {}
        enter(before)
    }
}
