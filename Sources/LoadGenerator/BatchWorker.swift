// Tandem — Apache-2.0

public import EngineLink
import Glibc
import NIOCore
public import Requests

/// Batches of token ids, straight to engines: without HTTP, text, end tokens and cached prefixes.
public struct BatchPlan: Sendable {
    /// Engines; each takes an equal part of every batch.
    public var links: [LinkAddress]
    /// Of the tokenizer; engines with another one refuse.
    public var fingerprint: Digest128
    /// Tokens that prompts are made of.
    public var vocabulary: [TokenID]
    /// Sequences of a batch, over all engines.
    public var size: Int
    /// How many batches; each begins when the one before is complete.
    public var batches: Int
    public var inputTokens: LengthDistribution
    public var outputTokens: LengthDistribution
    public var seed: UInt64

    public init(
        links: [LinkAddress], fingerprint: Digest128, vocabulary: [TokenID], size: Int, batches: Int,
        inputTokens: LengthDistribution, outputTokens: LengthDistribution, seed: UInt64
    ) {
        self.links = links
        self.fingerprint = fingerprint
        self.vocabulary = vocabulary
        self.size = size
        self.batches = batches
        self.inputTokens = inputTokens
        self.outputTokens = outputTokens
        self.seed = seed
    }

    /// A sequence of the run, by its number.
    func request(_ index: Int) -> EngineRequest {
        var random = RandomSource(seed: seed, stream: UInt64(index) &* 2 &+ 1)
        let length = inputTokens.length(&random)
        let tokens = (0..<length).map { _ in vocabulary[Int.random(in: 0..<vocabulary.count, using: &random)] }
        // No two share blocks of the cache, and none with any run before.
        return EngineRequest(
            id: RequestID(index), tokens: tokens,
            sampling: SamplingParameters(temperature: 0), maximumNewTokens: outputTokens.length(&random),
            cacheSalt: "bench \(seed) \(index)")
    }
}

/// How long a batch took. Times are nanoseconds from the beginning of the run.
public struct BatchTiming: Sendable, Equatable {
    public var submitted: UInt64
    /// When the last of its sequences had its first token.
    public var prefilled: UInt64
    /// When the first of its sequences had its last one: before ``prefilled`` if engines did not begin together.
    public var firstEnded: UInt64
    public var ended: UInt64
    /// All that its sequences generated, and what came while all of them decoded: after ``prefilled``, up to
    /// ``firstEnded``.
    public var tokens: Int
    public var tokensTogether: Int

    public init(
        submitted: UInt64, prefilled: UInt64, firstEnded: UInt64, ended: UInt64, tokens: Int, tokensTogether: Int
    ) {
        (self.submitted, self.prefilled, self.firstEnded) = (submitted, prefilled, firstEnded)
        (self.ended, self.tokens, self.tokensTogether) = (ended, tokens, tokensTogether)
    }

    /// Tokens per second while all sequences decoded; nil if none came then.
    public var decodeRate: Double? {
        guard firstEnded > prefilled, tokensTogether > 0 else { return nil }
        return Double(tokensTogether) * 1e9 / Double(firstEnded - prefilled)
    }
}

/// Sends batches and notes what comes. Lives on its event loop.
final class BatchWorker {
    private static let tick = TimeAmount.milliseconds(10)

    private let plan: BatchPlan
    private let eventLoop: any EventLoop
    private let run: LoadRun
    private let promise: EventLoopPromise<LoadOutcome>
    private let start = NIODeadline.now()
    private let cpuAtStart = LoadRun.cpuNanoseconds()

    private var links: [EngineLinkClient] = []
    private var opened = 0
    private var progress = LoadProgress()
    private var outcome = LoadOutcome()
    /// Of the batch in hand, by the sequence's number, and on which link each is.
    private var pending: [Int: RequestRecord] = [:]
    private var link: [Int: Int] = [:]
    private var batch = 0
    private var timing = BatchTiming(
        submitted: 0, prefilled: 0, firstEnded: .max, ended: 0, tokens: 0, tokensTogether: 0)
    private var waitingForFirst = 0
    private var isOver = false

    init(_ plan: BatchPlan, eventLoop: any EventLoop, run: LoadRun, promise: EventLoopPromise<LoadOutcome>) {
        self.plan = plan
        self.eventLoop = eventLoop
        self.run = run
        self.promise = promise
    }

    private var now: UInt64 { UInt64(max(0, (NIODeadline.now() - start).nanoseconds)) }

    func begin() {
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        let hello = ClientHello(tokenizerFingerprint: plan.fingerprint, pid: getpid())
        for (number, address) in plan.links.enumerated() {
            links.append(
                EngineLinkClient.connect(to: address, hello: hello, on: eventLoop) { event in
                    bound.value.heard(event, on: number)
                })
        }
        armTick()
    }

    private func heard(_ event: EngineLinkClient.Event, on number: Int) {
        guard !isOver else { return }
        switch event {
        case .opened:
            opened += 1
            if opened == plan.links.count { submit() }
        case .message(.stepOutput(let step)):
            let moment = now
            for output in step.outputs { received(output, at: moment) }
            run.report(progress)
            if pending.isEmpty { endBatch() }
        case .message: break
        case .closed(let error): lost(number, error)
        }
    }

    // MARK: - Batches

    private func submit() {
        let first = batch * plan.size
        let requests = (first..<first + plan.size).map { plan.request($0) }
        let moment = now
        timing = BatchTiming(
            submitted: moment, prefilled: moment, firstEnded: .max, ended: moment, tokens: 0, tokensTogether: 0)
        waitingForFirst = plan.size
        for (index, request) in zip(first..., requests) {
            var record = RequestRecord(index: index, scheduled: moment, sent: moment)
            (record.promptTokens, record.expectedPromptTokens) = (request.tokens.count, request.tokens.count)
            record.maximumTokens = request.maximumNewTokens
            pending[index] = record
            link[index] = index % links.count
            links[index % links.count].send(.submit(request))
        }
        progress.sent += plan.size
        run.report(progress)
    }

    private func received(_ output: SequenceOutput, at moment: UInt64) {
        let index = Int(clamping: output.id)
        guard var record = pending[index] else { return }
        if !output.tokens.isEmpty {
            if let last = record.lastText { record.gaps.append(moment - last) } else { record.firstText = moment }
            if record.lastText == nil {
                reachedFirst(at: moment)
            } else if waitingForFirst == 0, moment <= timing.firstEnded {
                // With the others of the step that is some sequence's last.
                timing.tokensTogether += output.tokens.count
            }
            record.lastText = moment
            record.chunks += 1
            record.completionTokens = (record.completionTokens ?? 0) + output.tokens.count
            timing.tokens += output.tokens.count
            progress.chunks += output.tokens.count
        }
        guard let finish = output.finish else { return pending[index] = record }
        if record.lastText == nil { reachedFirst(at: moment) }
        timing.firstEnded = min(timing.firstEnded, moment)
        if let cached = output.cachedPromptTokens, cached > 0 { outcome.cachedPromptTokens += cached }
        record.outcome =
            finish == .failed
            ? .failed(reason: "refused or given up by the engine", detail: output.failure?.message ?? "") : .complete
        end(record, at: moment)
    }

    private func reachedFirst(at moment: UInt64) {
        waitingForFirst -= 1
        if waitingForFirst == 0 { timing.prefilled = moment }
    }

    private func end(_ record: RequestRecord, at moment: UInt64) {
        var record = record
        record.ended = moment
        pending[record.index] = nil
        link[record.index] = nil
        outcome.records.append(record)
        if record.outcome == .complete { progress.complete += 1 } else { progress.failed += 1 }
    }

    private func endBatch() {
        guard !isOver, opened == plan.links.count else { return }
        timing.ended = now
        timing.firstEnded = min(timing.firstEnded, timing.ended)
        outcome.batches.append(timing)
        batch += 1
        if batch < plan.batches { submit() } else { finish() }
    }

    // MARK: - The end

    /// What an engine does not do any more, nobody does: a batch without it would be another one.
    private func lost(_ number: Int, _ error: LinkError) {
        let moment = now
        let detail = "\(plan.links[number]): \(error.message)"
        if opened < plan.links.count, pending.isEmpty { outcome.fault = detail }
        for record in pending.values {
            var record = record
            if link[record.index] == number { record.outcome = .failed(reason: "link lost", detail: detail) }
            if record.outcome == .unfinished {
                record.ended = moment; outcome.records.append(record)
            } else {
                end(record, at: moment)
            }
        }
        outcome.isStopped = true
        run.report(progress)
        finish()
    }

    private func armTick() {
        let due = NIODeadline.now() + Self.tick
        eventLoop.assumeIsolated().scheduleTask(deadline: due) { [self] in
            guard !isOver else { return }
            outcome.tickLags.append(UInt64(max(0, (NIODeadline.now() - due).nanoseconds)))
            guard run.isStopped else { return armTick() }
            outcome.isStopped = true
            let moment = now
            for record in pending.values {
                var record = record
                record.ended = moment
                outcome.records.append(record)
            }
            finish()
        }
    }

    private func finish() {
        guard !isOver else { return }
        isOver = true
        for link in links { link.close() }
        outcome.nanoseconds = now
        outcome.cpuNanoseconds = LoadRun.cpuNanoseconds() - cpuAtStart
        outcome.records.sort { $0.index < $1.index }
        promise.succeed(outcome)
    }
}
