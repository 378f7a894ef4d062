// Tandem — Apache-2.0

public import Requests

/// What happened since the last report: the outputs of one step, or of commands between steps.
public struct StepReport: Sendable, Equatable {
    /// The last step whose result was taken.
    public var step: UInt64
    public var outputs: [SequenceOutput]
    /// Present a few times a second while they change, and when the engine falls idle.
    public var statistics: StepStatistics?

    public init(step: UInt64, outputs: [SequenceOutput] = [], statistics: StepStatistics? = nil) {
        self.step = step
        self.outputs = outputs
        self.statistics = statistics
    }
}

/// The state of a step loop.
public struct StepStatistics: Sendable, Equatable {
    public var counters: SchedulerCounters
    /// Where the time since start went.
    public var times: StepTimes
    /// Time by component as the executor counts it, since start.
    public var profile: StepProfile
    /// Prefix blocks that became available and that went away since the last statistics.
    public var storedBlocks: [BlockHash]
    public var evictedBlocks: [BlockHash]

    public init(
        counters: SchedulerCounters = SchedulerCounters(),
        times: StepTimes = StepTimes(),
        profile: StepProfile = StepProfile(),
        storedBlocks: [BlockHash] = [],
        evictedBlocks: [BlockHash] = []
    ) {
        self.counters = counters
        self.times = times
        self.profile = profile
        self.storedBlocks = storedBlocks
        self.evictedBlocks = evictedBlocks
    }
}
