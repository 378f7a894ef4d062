// Tandem — Apache-2.0

/// Where an engine's time since its start went, in nanoseconds.
///
/// ``device``, ``gap`` and ``idle`` add up to the time that passed. The host's phases overlap ``device`` where steps are
/// planned one ahead.
public struct EngineTimes: Sendable, Equatable {
    /// Host: taking requests and planning steps.
    public var schedule: UInt64
    /// Host: handing plans to the device.
    public var prepare: UInt64
    /// Host: applying results.
    public var sample: UInt64
    /// Host: handing outputs over.
    public var report: UInt64
    /// Host: work added for a study.
    public var stall: UInt64
    /// At least one step was in flight.
    public var device: UInt64
    /// There was work, but no step in flight.
    public var gap: UInt64
    /// There was nothing to do.
    public var idle: UInt64
    /// Inside steps, by component, as the device counts it.
    public var attention: UInt64
    public var mlp: UInt64
    public var rest: UInt64

    public init(
        schedule: UInt64 = 0,
        prepare: UInt64 = 0,
        sample: UInt64 = 0,
        report: UInt64 = 0,
        stall: UInt64 = 0,
        device: UInt64 = 0,
        gap: UInt64 = 0,
        idle: UInt64 = 0,
        attention: UInt64 = 0,
        mlp: UInt64 = 0,
        rest: UInt64 = 0
    ) {
        self.schedule = schedule
        self.prepare = prepare
        self.sample = sample
        self.report = report
        self.stall = stall
        self.device = device
        self.gap = gap
        self.idle = idle
        self.attention = attention
        self.mlp = mlp
        self.rest = rest
    }
}
