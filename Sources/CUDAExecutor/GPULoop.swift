// Tandem — Apache-2.0

public import InferenceEngine
public import LanguageModel
import Requests

/// Steps of one size, one after the other, without a scheduler: what the article's cells measure, and what several
/// processes run side by side to find out whether sharing a GPU pays.
public final class GPULoop {
    public struct Settings: Sendable {
        /// Sequences of a step.
        public var batch = 256
        /// Tokens that each sequence sees, the new one included; of a prompt, its length.
        public var context = 512
        /// Whether steps compute prompts of ``context`` tokens, from their first on, in the place of one token each.
        public var isPrefill = false
        /// Whether a step is put in before the result of the one before is taken.
        public var isAsynchronous = true
        /// Host work between steps, in nanoseconds, during which the loop does nothing else.
        public var pauseNanoseconds: UInt64 = 0

        public init() {}
    }

    /// What one window showed.
    public struct Window: Sendable, Equatable {
        public var steps = 0
        public var seconds = 0.0
        /// Seconds in which the device had a step of this loop, by its own clock.
        public var deviceSeconds = 0.0
        /// Seconds in which the host prepared steps and took results, waiting left out.
        public var hostSeconds = 0.0
        public var profile = StepProfile()

        public var stepsPerSecond: Double { seconds > 0 ? Double(steps) / seconds : 0 }
        /// Share of the time in which the device had nothing of this loop to do.
        public var idleShare: Double { seconds > 0 ? max(0, 1 - deviceSeconds / seconds) : 0 }
    }

    public let executor: CUDAExecutor
    public let settings: Settings
    private let now: () -> UInt64
    private var plan = StepPlan()
    private var result = StepResult()
    private var step: UInt64 = 0
    private var pending: [StepTicket] = []
    private let groups: Int

    /// Tokens of a step.
    public var tokensPerStep: Int { settings.isPrefill ? settings.batch * settings.context : settings.batch }

    /// Prepares an executor and fills the cache with numbers, so that memory and arithmetic have real work.
    ///
    /// - Parameters:
    ///   - model: of the executor.
    ///   - now: a monotonic clock in nanoseconds.
    public init(
        _ executor: CUDAExecutor, model: DecoderDescription, settings: Settings, now: @escaping () -> UInt64
    ) throws(ExecutorError) {
        self.executor = executor
        self.settings = settings
        self.now = now
        let kvGroups = model.kvGroups
        groups = kvGroups.count
        guard settings.batch > 0, settings.context > 1, settings.context <= model.contextLength else {
            throw ExecutorError(
                kind: .unsupported,
                message: "\(settings.batch) sequences of \(settings.context) tokens; \(model.name) takes 2 to "
                    + "\(model.contextLength)")
        }
        let entries = (settings.context + 15) / 16
        let shape = try DeviceShape(model)
        let blockBytes = 16 * shape.keyValueBytesPerToken(layers: kvGroups.first?.layers.count ?? 0)
        let tokens = settings.isPrefill ? settings.batch * settings.context : settings.batch
        let limits = ExecutorLimits(
            slots: settings.batch, tokensPerStep: tokens, contextLength: settings.context,
            keyValueBytes: (settings.batch * entries * groups + 1) * blockBytes)
        let prepared = try executor.prepare(limits: limits, groups: kvGroups)
        try executor.fillCache(seed: 11)
        guard prepared.blockCount >= settings.batch * entries * groups else {
            throw ExecutorError(kind: .outOfMemory, message: "the cache does not hold the batch")
        }
        addSequences(entries: entries)
    }

    /// All sequences take their slots and blocks with the first step.
    private func addSequences(entries: Int) {
        for slot in 0..<settings.batch {
            plan.addedSlots.append(
                SlotAddition(slot: SlotIndex(slot), sampling: SamplingParameters(seed: UInt64(slot))))
            for group in 0..<groups {
                plan.blockTableUpdates.append(
                    BlockTableUpdate(
                        slot: SlotIndex(slot), group: Int32(group), firstEntry: 0, offset: Int32(plan.blockIDs.count),
                        count: Int32(entries)))
                // Blocks of a sequence lie apart, as they come to in a server.
                for entry in 0..<entries {
                    plan.blockIDs.append(KVBlockID((entry * settings.batch + slot) * groups + group))
                }
            }
        }
    }

    func submit() throws(ExecutorError) {
        step += 1
        plan.step = step
        plan.rows.removeAll(keepingCapacity: true)
        plan.tokens.removeAll(keepingCapacity: true)
        for slot in 0..<settings.batch {
            let count = settings.isPrefill ? settings.context : 1
            let isFirst = step == 1
            plan.rows.append(
                StepRow(
                    slot: SlotIndex(slot), tokenOffset: Int32(plan.tokens.count), tokenCount: Int32(count),
                    startPosition: Int32(settings.isPrefill ? 0 : settings.context - 1),
                    firstToken: settings.isPrefill || isFirst ? .given : .sampled(step: step - 1),
                    output: RowOutput(sample: true)))
            for index in 0..<count { plan.tokens.append(TokenID((slot * 31 + index * 7) % 97)) }
        }
        let ticket = try executor.submit(plan)
        try executor.sample(ticket, masks: nil)
        pending.append(ticket)
        plan.addedSlots.removeAll(keepingCapacity: true)
        plan.blockTableUpdates.removeAll(keepingCapacity: true)
        plan.blockIDs.removeAll(keepingCapacity: true)
    }

    func take() throws(ExecutorError) {
        try executor.result(of: pending.removeFirst(), into: &result)
    }

    /// Whether as many steps are in flight as may be.
    var hasFullPipeline: Bool { pending.count >= (settings.isAsynchronous ? 2 : 1) }

    var hasStepInFlight: Bool { !pending.isEmpty }

    /// Host work that does nothing: the clock is read until it has passed.
    func pause(_ nanoseconds: UInt64) {
        guard nanoseconds > 0 else { return }
        let until = now() &+ nanoseconds
        while now() < until {}
    }

    /// Runs some steps that do not count: they choose algorithms and capture graphs.
    public func warmUp(steps: Int = 8) throws(ExecutorError) {
        for _ in 0..<max(1, steps) {
            try submit()
            if !settings.isAsynchronous || pending.count == 2 { try take() }
        }
        while !pending.isEmpty { try take() }
        _ = executor.profile()
    }

    /// Runs steps for some time.
    public func run(seconds: Double) throws(ExecutorError) -> Window {
        var window = Window()
        let start = now()
        let end = start &+ UInt64(seconds * 1e9)
        var waited: UInt64 = 0
        while now() < end || window.steps == 0 {
            try submit()
            if !settings.isAsynchronous || pending.count == 2 {
                let before = now()
                try take()
                waited &+= now() &- before
                window.steps += 1
            }
            pause(settings.pauseNanoseconds)
        }
        while !pending.isEmpty {
            let before = now()
            try take()
            waited &+= now() &- before
            window.steps += 1
        }
        let elapsed = now() &- start
        window.seconds = Double(elapsed) / 1e9
        window.hostSeconds = Double(elapsed &- waited) / 1e9
        window.profile = executor.profile()
        let profile = window.profile
        window.deviceSeconds = Double(profile.attention &+ profile.mlp &+ profile.rest) / 1e9
        return window
    }
}
