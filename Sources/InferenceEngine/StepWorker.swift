// Tandem — Apache-2.0

import Grammar
import LanguageModel
import Requests

/// The body of the step thread: commands in, steps through the executor, reports out. Used by one thread only.
final class StepWorker {
    private enum State {
        case serving
        case draining
        /// The device is gone; its error.
        case dead(ExecutorError)
        case stopped
    }

    private let executor: any StepExecutor
    private let options: StepLoopOptions
    private let progress: StepProgress
    private let handlers: StepLoopHandlers

    let description: StepLoopDescription
    private var scheduler: Scheduler
    private var state = State.serving
    private var drained: [@Sendable () -> Void] = []
    private var tickets: [StepTicket] = []
    /// The step submitted last, while it waits for masks that depend on an earlier step's result.
    private var unsampled: StepTicket?
    private var masks = TokenMasks(slots: [], words: [], wordsPerSlot: 0)
    private let vocabularySize: Int
    private var plan = StepPlan()
    private var result = StepResult()
    private var outputs: [SequenceOutput] = []

    private var statistics = StepStatistics()
    private var reportedStatistics = StepStatistics()
    private var lastStatistics: UInt64?
    private var timer: StepTimer
    /// When the device began with the oldest step in flight.
    private var stepSince: UInt64 = 0

    init(
        executor: any StepExecutor,
        configuration: SchedulerConfiguration,
        keyValueBytes: Int,
        groups: [KeyValueGroup],
        options: StepLoopOptions,
        progress: StepProgress = StepProgress(),
        now: @escaping @Sendable () -> UInt64,
        handlers: StepLoopHandlers
    ) throws(ExecutorError) {
        self.executor = executor
        self.options = options
        self.progress = progress
        executor.report(to: progress)
        self.handlers = handlers
        timer = StepTimer(now: now)
        vocabularySize = configuration.vocabularySize ?? 0
        var configuration = configuration
        if executor.capabilities.maximumStepsInFlight < 2 { configuration.asynchronous = false }
        let limits = ExecutorLimits(
            slots: configuration.slots,
            tokensPerStep: configuration.tokensPerStep,
            contextLength: configuration.contextLength,
            blockSize: configuration.blockSize,
            keyValueBytes: keyValueBytes
        )
        let prepared = try executor.prepare(limits: limits, groups: groups)
        scheduler = try Scheduler(configuration: configuration, groups: groups, prepared: prepared)
        description = StepLoopDescription(
            capabilities: executor.capabilities,
            blockCount: prepared.blockCount,
            maximumSequenceLength: scheduler.maximumSequenceLength,
            asynchronous: configuration.asynchronous
        )
    }

    /// Runs until ``StepCommand/stop``.
    func run(_ inbox: CommandInbox<StepCommand>) {
        var commands: [StepCommand] = []
        var isIdle = true
        while true {
            if isIdle {
                timer.enter(.idle)
                progress.setWorking(false)
            }
            inbox.receive(into: &commands, wait: isIdle)
            progress.setWorking(true)
            timer.enter(.schedule)
            for command in commands { apply(command) }
            if case .stopped = state { break }
            reportReady()
            isIdle = !runStep()
            if scheduler.unfinishedCount == 0 { completeDrain() }
            if isIdle { reportStatistics(force: true) }
        }
        end()
    }

    // MARK: - Commands

    private func apply(_ command: StepCommand) {
        switch command {
        case .submit(let request, let grammar):
            if case .dead(let error) = state, error.concernsAll { break }
            if let failure = refusal(of: request, grammar) {
                outputs.append(SequenceOutput(id: request.id, finish: .failed, failure: failure))
            }
        case .cancel(let id): scheduler.cancel(id)
        case .pause(let id): scheduler.pause(id)
        case .resume(let id, let credits): scheduler.resume(id, credits: credits)
        case .drain(let completion):
            if case .serving = state { state = .draining }
            drained.append(completion)
        case .stop: state = .stopped
        }
    }

    /// Adds a request, or says why not.
    private func refusal(of request: EngineRequest, _ grammar: TokenGrammar?) -> RequestFailure? {
        switch state {
        case .serving: break
        case .draining, .stopped:
            return RequestFailure(kind: .draining, message: "the engine is about to end and takes no new requests")
        case .dead(let error):
            return RequestFailure(kind: .draining, message: "the engine ends, its device failed: \(error.message)")
        }
        guard request.pooling == nil || executor.capabilities.pooling else {
            return RequestFailure(kind: .invalid, message: "this engine's device makes no pooled vectors")
        }
        guard request.grammar == nil || executor.capabilities.masks else {
            return RequestFailure(kind: .invalid, message: "this engine's device cannot follow grammars")
        }
        do throws(RequestFailure) {
            try scheduler.add(request, grammar: grammar)
            timer.stall(nanoseconds: options.stalls.admission(promptTokens: request.tokens.count))
            return nil
        } catch {
            return error
        }
    }

    private func completeDrain() {
        guard !drained.isEmpty else { return }
        let completions = drained
        drained = []
        for completion in completions { completion() }
    }

    private func end() {
        if let ticket = unsampled { try? executor.sample(ticket, masks: nil) }
        while let ticket = tickets.first {
            tickets.removeFirst()
            // Their outputs are not wanted any more; the device must be done with them before it is shut down.
            guard (try? executor.result(of: ticket, into: &result)) != nil else { break }
        }
        scheduler.failAll(RequestFailure(kind: .draining, message: "the engine ended"))
        reportReady()
        reportStatistics(force: true)
        completeDrain()
        executor.shutdown()
    }

    // MARK: - Steps

    /// Submits one step if there is one, and takes one result if it is due.
    ///
    /// - Returns: `false` if there was nothing to do.
    private func runStep() -> Bool {
        if case .dead = state { return false }
        let time = timer.enter(.schedule)
        let submitted = scheduler.schedule(into: &plan, at: time)
        if submitted {
            timer.stall(nanoseconds: options.stalls.step(sequences: plan.rows.count))
            timer.enter(.prepare)
            submit()
        }
        // With nothing new to submit, or as much in flight as permitted, it is time to wait for the device.
        let depth = scheduler.configuration.asynchronous ? 2 : 1
        let takes = !tickets.isEmpty && (!submitted || tickets.count == depth)
        if takes { takeResult() }
        reportReady()
        return submitted || takes
    }

    private func submit() {
        do throws(ExecutorError) {
            let ticket = try retrying { () throws(ExecutorError) in try executor.submit(plan) }
            if tickets.isEmpty {
                stepSince = timer.update()
                timer.setDevice(busy: true)
            }
            tickets.append(ticket)
            unsampled = ticket
        } catch {
            switch error.kind {
            case .fatal: die(error)
            case .outOfMemory, .retry, .unsupported: scheduler.lastStepWasRefused(failure(error))
            }
            return
        }
        sample()
    }

    /// Lets the step submitted last sample, as soon as its masks can be known.
    private func sample() {
        guard let ticket = unsampled, scheduler.fillMasks(&masks, vocabularySize: vocabularySize) else { return }
        unsampled = nil
        do throws(ExecutorError) {
            try retrying { () throws(ExecutorError) in
                try executor.sample(ticket, masks: masks.slots.isEmpty ? nil : masks)
            }
        } catch {
            // A step that was submitted and cannot be sampled can be neither redeemed nor taken back.
            die(error)
        }
    }

    private func takeResult() {
        let ticket = tickets[0]
        timer.enter(.wait)
        let error = resultError(of: ticket)
        let time = resultArrived()
        do throws(ExecutorError) {
            if let error { throw error }
            try scheduler.finish(result, into: &outputs, at: time)
        } catch {
            switch error.kind {
            // A result that does not come after all retries leaves its step in the executor for good.
            case .fatal, .retry: return die(error)
            case .outOfMemory, .unsupported: scheduler.firstStepFailed(failure(error))
            }
        }
        sample()
    }

    /// Waits for a step's result.
    private func resultError(of ticket: StepTicket) -> ExecutorError? {
        do throws(ExecutorError) {
            try retrying { () throws(ExecutorError) in try executor.result(of: ticket, into: &result) }
            return nil
        } catch {
            return error
        }
    }

    private func resultArrived() -> UInt64 {
        let time = timer.enter(.sample)
        tickets.removeFirst()
        scheduler.firstStepTook(nanoseconds: time &- stepSince)
        stepSince = time
        if tickets.isEmpty { timer.setDevice(busy: false) }
        return time
    }

    /// Repeats a call that asks for it, so often as ``StepLoopOptions/maximumRetries`` says.
    private func retrying<Value>(_ body: () throws(ExecutorError) -> Value) throws(ExecutorError) -> Value {
        var left = options.maximumRetries
        while true {
            do throws(ExecutorError) {
                return try body()
            } catch {
                guard error.kind == .retry, left > 0 else { throw error }
                left -= 1
            }
        }
    }

    private func failure(_ error: ExecutorError) -> RequestFailure {
        RequestFailure(kind: .engine, message: error.message)
    }

    private func die(_ error: ExecutorError) {
        state = .dead(error)
        tickets.removeAll()
        unsampled = nil
        timer.update()
        timer.setDevice(busy: false)
        // No fault of theirs: they may go on elsewhere, or here when the engine is back. If all engines have the error, to
        // be sent on would be in vain: what is silent until the process has ended is held, and sent once.
        if !error.concernsAll {
            scheduler.failAll(RequestFailure(kind: .draining, message: error.message))
            reportReady()
        }
        handlers.fatal(error)
    }

    // MARK: - Reports

    private func reportReady() {
        timer.enter(.report)
        scheduler.drainReady(into: &outputs)
        let statistics = dueStatistics(force: false)
        guard !outputs.isEmpty || statistics != nil else { return }
        report(statistics)
    }

    private func reportStatistics(force: Bool) {
        if let statistics = dueStatistics(force: force) { report(statistics) }
    }

    private func report(_ statistics: StepStatistics?) {
        handlers.report(StepReport(step: scheduler.counters.steps, outputs: outputs, statistics: statistics))
        // Used again if the receiver kept nothing, else replaced by one of the same capacity: at most one allocation.
        outputs.removeAll(keepingCapacity: true)
    }

    /// Statistics if something changed and enough time passed since the last ones.
    private func dueStatistics(force: Bool) -> StepStatistics? {
        let counters = scheduler.counters
        guard counters != reportedStatistics.counters else { return nil }
        let time = timer.update()
        if !force, let last = lastStatistics, time &- last < options.statisticsIntervalNanoseconds { return nil }
        lastStatistics = time
        statistics.times = timer.times
        let profile = executor.profile()
        statistics.profile.steps &+= profile.steps
        statistics.profile.attention &+= profile.attention
        statistics.profile.mlp &+= profile.mlp
        statistics.profile.rest &+= profile.rest
        statistics.counters = counters
        (statistics.storedBlocks, statistics.evictedBlocks) = scheduler.takePrefixChanges()
        reportedStatistics = statistics
        return statistics
    }
}
