// Tandem — Apache-2.0

import EngineLink
import InferenceEngine
import NIOCore
import Requests

/// What an engine knows of its connections and requests; lives on one event loop.
final class EngineCore {
    private let loop: StepLoop
    private let server: EngineLinkServer
    private let rules: RequestRules
    private let eventLoop: any EventLoop
    private let drainTimeout: TimeAmount
    private let end: EventLoopPromise<EngineExit>
    private let log: @Sendable (String) -> Void

    private let grammars: GrammarCompiler
    private var table = RequestTable()
    /// What arrived for sequences whose grammars are being compiled.
    private var held: [RequestID: [StepCommand]] = [:]
    /// The last ones, without blocks.
    private var statistics: EngineStatistics
    /// What was counted before anybody could ask for anything.
    private let probed: SchedulerCounters
    /// All prefix blocks, for gateways that come later; as many as the engine has at most.
    private var cachedBlocks: Set<BlockHash> = []
    /// Commands of this turn of the event loop: what arrives together is planned together.
    private var commands: [StepCommand] = []
    private var isDraining = false
    private var hasEnded = false
    /// Whom the process tells of its engines; see ``EngineProcess``.
    var onHeartbeat: (@Sendable (Heartbeat) -> Void)?
    private var heartbeats: RepeatedTask?

    init(
        loop: StepLoop,
        server: EngineLinkServer,
        rules: RequestRules,
        grammars: GrammarCompiler,
        statistics: EngineStatistics,
        probed: SchedulerCounters = SchedulerCounters(),
        eventLoop: any EventLoop,
        drainTimeout: TimeAmount,
        end: EventLoopPromise<EngineExit>,
        log: @escaping @Sendable (String) -> Void
    ) {
        self.loop = loop
        self.server = server
        self.rules = rules
        self.grammars = grammars
        self.statistics = statistics
        self.probed = probed
        self.eventLoop = eventLoop
        self.drainTimeout = drainTimeout
        self.end = end
        self.log = log
    }

    // MARK: Signs of life

    /// Tells gateways and the process from now on, at a fixed period, that this event loop runs and how far the step
    /// thread is.
    func startHeartbeats() {
        let core = NIOLoopBound(self, eventLoop: eventLoop)
        let period = TimeAmount.milliseconds(Heartbeat.periodMilliseconds)
        heartbeats = eventLoop.scheduleRepeatedTask(initialDelay: period, delay: period) { _ in core.value.beat() }
    }

    private func beat() {
        let heartbeat = Heartbeat(progress: loop.progress.count, isWorking: loop.progress.isWorking)
        server.broadcast(.heartbeat(heartbeat))
        onHeartbeat?(heartbeat)
    }

    // MARK: From gateways

    func opened(_ connection: LinkConnectionID) {
        var snapshot = statistics
        snapshot.storedBlocks = Array(cachedBlocks)
        server.send(.statistics(snapshot), to: connection)
    }

    func received(_ message: LinkMessage, from connection: LinkConnectionID) {
        switch message {
        case .submit(let request): submit(request, from: connection)
        case .cancel(let id): forward(id, of: connection) { .cancel($0) }
        case .pause(let id): forward(id, of: connection) { .pause($0) }
        case .resume(let id, let credits): forward(id, of: connection) { .resume($0, credits: credits) }
        default: break
        }
    }

    func closed(_ connection: LinkConnectionID, _ reason: LinkError?) {
        if let reason { log("a gateway's link ended: \(reason.message)") }
        for sequence in table.remove(connection) { send(.cancel(sequence), for: sequence) }
    }

    private func submit(_ request: EngineRequest, from connection: LinkConnectionID) {
        guard table.sequence(of: request.id, of: connection) == nil else {
            // An answer would end the sequence that has this id.
            server.disconnect(
                connection,
                LinkError(code: .malformed, message: "engine link: request id \(request.id) is in use")
            )
            return
        }
        if let failure = refusal(of: request) {
            let output = SequenceOutput(id: request.id, finish: .failed, failure: failure)
            server.send(.stepOutput(StepOutput(step: statistics.steps, outputs: [output])), to: connection)
            return
        }
        guard let sequence = table.add(request.id, of: connection) else { return }
        var request = request
        request.id = sequence
        guard let grammar = request.grammar else { return send(.submit(request)) }
        held[sequence] = []
        grammars.compile(grammar) { [weak self] in self?.compiled($0, for: request) }
    }

    /// Lets a sequence go whose grammar is compiled, with the commands that came meanwhile.
    private func compiled(_ outcome: GrammarCompiler.Outcome, for request: EngineRequest) {
        let commands = held.removeValue(forKey: request.id) ?? []
        switch outcome {
        case .success(let grammar):
            send(.submit(request, grammar))
            for command in commands { send(command) }
        case .failure(let failure):
            let output = SequenceOutput(id: request.id, finish: .failed, failure: failure)
            deliver(StepReport(step: statistics.steps, outputs: [output]))
        }
    }

    private func refusal(of request: EngineRequest) -> RequestFailure? {
        guard !isDraining else {
            return RequestFailure(kind: .draining, message: "the engine is about to end and takes no new requests")
        }
        return rules.refusal(of: request)
    }

    /// Commands for sequences that ended meanwhile are for nobody.
    private func forward(_ id: RequestID, of connection: LinkConnectionID, _ command: (RequestID) -> StepCommand) {
        guard let sequence = table.sequence(of: id, of: connection) else { return }
        send(command(sequence), for: sequence)
    }

    private func send(_ command: StepCommand, for sequence: RequestID) {
        if held[sequence] != nil { held[sequence]?.append(command) } else { send(command) }
    }

    private func send(_ command: StepCommand) {
        commands.append(command)
        guard commands.count == 1 else { return }
        let core = NIOLoopBound(self, eventLoop: eventLoop)
        eventLoop.execute { core.value.flushCommands() }
    }

    private func flushCommands() {
        loop.send(commands)
        commands.removeAll(keepingCapacity: true)
    }

    // MARK: From the step thread

    func deliver(_ report: StepReport) {
        var connections: [LinkConnectionID] = []
        var outputs: [[SequenceOutput]] = []
        for var output in report.outputs {
            guard let route = table.route(output.id, isLast: output.finish != nil) else { continue }
            output.id = route.request
            // A handful of gateways at most, and outputs of one tend to follow each other.
            if let index = connections.lastIndex(of: route.connection) {
                outputs[index].append(output)
            } else {
                connections.append(route.connection)
                outputs.append([output])
                outputs[outputs.count - 1].reserveCapacity(report.outputs.count)
            }
        }
        server.send(
            zip(connections, outputs).map { connection, outputs in
                (connection, .stepOutput(StepOutput(step: report.step, outputs: outputs)))
            }
        )
        if let statistics = report.statistics { publish(statistics) }
    }

    private func publish(_ new: StepStatistics) {
        let counters = new.counters
        statistics = EngineStatistics(
            steps: counters.steps,
            runningSequences: UInt32(clamping: counters.runningSequences),
            waitingSequences: UInt32(clamping: counters.waitingSequences),
            usedBlocks: UInt32(clamping: counters.usedBlocks),
            totalBlocks: UInt32(clamping: counters.totalBlocks),
            promptTokens: counters.promptTokens &- probed.promptTokens,
            generatedTokens: counters.generatedTokens &- probed.generatedTokens,
            cachedPromptTokens: counters.cachedPromptTokens,
            preemptions: counters.preemptions,
            draftedTokens: counters.draftedTokens &- probed.draftedTokens,
            acceptedTokens: counters.acceptedTokens &- probed.acceptedTokens,
            stepSizes: counters.stepSizes,
            times: EngineTimes(new.times, profile: new.profile)
        )
        cachedBlocks.subtract(new.evictedBlocks)
        cachedBlocks.formUnion(new.storedBlocks)
        var frame = statistics
        frame.storedBlocks = new.storedBlocks
        frame.evictedBlocks = new.evictedBlocks
        server.broadcast(.statistics(frame))
    }

    func deviceFailed(_ error: ExecutorError) {
        deviceFaulted("the device failed: \(error.message)", concernsAll: error.concernsAll)
    }

    func deviceFaulted(_ message: String, concernsAll: Bool) {
        log(message)
        finish(concernsAll ? .deviceFault : .deviceFailed)
    }

    // MARK: The end

    func supervisor(_ event: StatusChannel.Event) {
        switch event {
        case .drain: drain()
        case .closed(let reason):
            log("the supervisor is gone\(reason.map { ": \($0)" } ?? "")")
            finish(.supervisorGone)
        }
    }

    func terminate() {
        if isDraining {
            log("told to end again: not waiting for \(table.isEmpty ? "anything" : "what still runs")")
            finish(.abandoned)
        } else {
            drain()
        }
    }

    private func drain() {
        guard !isDraining else { return }
        isDraining = true
        let core = NIOLoopBound(self, eventLoop: eventLoop)
        // After the commands that came before, so that none of them is refused.
        flushCommands()
        let eventLoop = eventLoop
        loop.drain {
            // Behind the last report, which took the same way.
            eventLoop.execute { core.value.finish(.drained) }
        }
        let timeout = drainTimeout
        eventLoop.scheduleTask(in: timeout) {
            guard !core.value.hasEnded else { return }
            core.value.log("draining takes longer than \(timeout)")
            core.value.finish(.abandoned)
        }
    }

    /// Frees what outlives a turn of the event loop.
    func stop() {
        grammars.shutdown()
        heartbeats?.cancel()
    }

    private func finish(_ exit: EngineExit) {
        guard !hasEnded else { return }
        hasEnded = true
        stop()
        end.succeed(exit)
    }
}

extension EngineTimes {
    fileprivate init(_ times: StepTimes, profile: StepProfile) {
        self.init(
            schedule: times.schedule,
            prepare: times.prepare,
            sample: times.sample,
            report: times.report,
            stall: times.stall,
            device: times.device,
            gap: times.gap,
            idle: times.idle,
            attention: profile.attention,
            mlp: profile.mlp,
            rest: profile.rest
        )
    }
}
