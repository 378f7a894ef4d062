// Tandem — Apache-2.0

public import Grammar
public import LanguageModel
public import Requests

/// Decides what every step computes: a pure value, driven by requests and results, without clock or I/O.
///
/// A sequence has known and computed tokens and nothing else; a step spends one token budget on sequences that run,
/// those that generate first, then on those that wait. Prompts are computed in chunks of what the budget leaves; half
/// of that is for prompts short enough to be done with in one step. When blocks run out the last sequence in order of
/// priority and arrival loses its blocks and slot, keeps its tokens and is computed again later, from the prefix cache
/// as far as nobody needed the memory; so the first in order always goes on.
///
/// The files: `Scheduler` (requests, queues), `+Schedule` (what the next step computes), `+Scoring` (prompts from which
/// nothing is generated), `+Sharing` (prefixes that are being computed), `+Drafts` (guessed tokens), `+Plan` (writing it
/// down), `+Masks` (which tokens grammars permit), `+Results` (what came of it). The order of calls is:
///
///     while scheduler.schedule(into: &plan) { executor.submit(plan) … }
///     if scheduler.fillMasks(&masks, …) { executor.sample(ticket, masks) }    // else after the next result
///     executor.result(of: ticket, into: &result)
///     scheduler.finish(result, into: &outputs)
///
/// With ``SchedulerConfiguration/asynchronous`` a second step is planned before the first one's result is there. The
/// executor must run steps in the order of submission: blocks and slots are given on while steps that use them are
/// in flight.
public struct Scheduler: Sendable {
    public let configuration: SchedulerConfiguration
    /// Longest sequence that can run: the context length, or the KV capacity if that is less.
    public let maximumSequenceLength: Int
    /// Limits steps that generate; `nil` if no target is set. See ``firstStepTook(nanoseconds:)``.
    public internal(set) var tokenBudget: TokenBudget?

    /// All sequences, by handle; those named in `freeHandles` are finished.
    var sequences: [ScheduledSequence] = []
    var freeHandles: [Int] = []
    var handles: [RequestID: Int] = [:]
    /// Sequences with a slot, in order.
    var running: [Int] = []
    /// Sequences without a slot that may run, first one last; and those among them that generate nothing.
    var waiting: [Int] = []
    var scoring: [Int] = []
    /// Scored prompts whose results are missing and that hold nothing any more.
    var handedOverCount = 0
    /// The last step in which a scored prompt had the place of a sequence that generates.
    var favouredStep: UInt64?
    /// Blocks that running sequences are about to compute, by hash.
    var claims: [BlockHash: Int] = [:]
    var seenPrefixes = SeenPrefixes()
    var freeSlots: [SlotIndex]
    /// Slots that the executor still has to forget.
    var removedSlots: [SlotIndex] = []
    var cache: KVCache
    var inFlight: [StepRecord] = []
    var spareRows: [[StepRecord.Row]] = []
    var decisions: [Decision] = []
    var ready: [SequenceOutput] = []
    var arrivals: UInt64 = 0
    var lastStep: UInt64 = 0
    /// What the caller's clock showed last, in nanoseconds.
    var time: UInt64?
    var totals = SchedulerCounters()

    /// - Parameters:
    ///   - configuration: limits, the same that the executor was prepared for.
    ///   - groups: the model's KV groups.
    ///   - prepared: what the executor allocated for all of them.
    /// - Throws: ``ExecutorError`` of kind ``ExecutorError/Kind/unsupported`` if the numbers permit no sequence at all.
    public init(
        configuration: SchedulerConfiguration,
        groups: [KeyValueGroup],
        prepared: PreparedExecutor
    ) throws(ExecutorError) {
        guard !groups.isEmpty else {
            throw ExecutorError(kind: .unsupported, message: "the model has no KV groups, that is, no layers")
        }
        guard configuration.slots > 0, configuration.tokensPerStep > 0, configuration.blockSize > 0 else {
            throw ExecutorError(
                kind: .unsupported,
                message: "slots (\(configuration.slots)), tokens per step (\(configuration.tokensPerStep)) and block "
                    + "size (\(configuration.blockSize)) must be at least 1"
            )
        }
        cache = KVCache(
            groups: groups, blockSize: configuration.blockSize, tokensPerStep: configuration.tokensPerStep,
            blockCount: prepared.blockCount)
        maximumSequenceLength = cache.capacityInTokens(upTo: configuration.contextLength)
        guard maximumSequenceLength > 0 else {
            throw ExecutorError(
                kind: .unsupported,
                message: "no sequence fits: context length \(configuration.contextLength), and \(prepared.blockCount) "
                    + "KV blocks for \(groups.count) KV groups; give the KV cache more memory"
            )
        }
        tokenBudget = configuration.targetStepNanoseconds.map { target in
            let least = min(configuration.blockSize, configuration.tokensPerStep)
            return TokenBudget(targetNanoseconds: target, range: least...configuration.tokensPerStep)
        }
        self.configuration = configuration
        freeSlots = (0..<configuration.slots).reversed().map { SlotIndex($0) }
    }

    // MARK: - Requests

    /// Takes a request on. A resumed sequence that has nothing left to do is finished at once.
    ///
    /// - Parameter grammar: the request's grammar, compiled for the model's vocabulary.
    /// - Throws: why the request is refused; then nothing is reported of it later.
    public mutating func add(_ request: EngineRequest, grammar: TokenGrammar? = nil) throws(RequestFailure) {
        try check(request)
        let matcher = try matcher(of: request, grammar)
        let room = maximumSequenceLength - request.promptCount
        var sequence = ScheduledSequence(
            request,
            lengthLimit: request.promptCount + min(request.maximumNewTokens, room),
            arrival: arrivals,
            tables: cache.emptyTables()
        )
        arrivals += 1
        sequence.matcher = matcher
        let mayBeWhole = request.resumeOffset > 0 || matcher?.isExhausted == true
        if mayBeWhole, let reason = sequence.finishReason {
            ready.append(SequenceOutput(id: request.id, finish: reason, cachedPromptTokens: 0))
            return
        }
        let handle: Int
        if let free = freeHandles.popLast() {
            handle = free
            sequences[free] = sequence
        } else {
            handle = sequences.count
            sequences.append(sequence)
        }
        handles[request.id] = handle
        notePrefixes(of: handle)
        enqueue(handle)
    }

    private func check(_ request: EngineRequest) throws(RequestFailure) {
        func invalid(_ message: String) -> RequestFailure { RequestFailure(kind: .invalid, message: message) }
        guard handles[request.id] == nil else { throw invalid("request id \(request.id) is in use") }
        guard !request.tokens.isEmpty else { throw invalid("the request has no tokens; at least 1 is needed") }
        guard request.resumeOffset >= 0, request.resumeOffset < request.tokens.count else {
            throw invalid("resume offset \(request.resumeOffset) of \(request.tokens.count) tokens leaves no prompt")
        }
        guard request.maximumNewTokens >= 0 else {
            throw invalid("maximum of new tokens is \(request.maximumNewTokens); it must be at least 0")
        }
        for count in [request.logProbabilities, request.promptLogProbabilities] {
            guard let count, !(0...20).contains(count) else { continue }
            throw invalid("\(count) log-probabilities a token are asked for; 0 to 20 are possible")
        }
        guard !request.isPrefillOnly || request.grammar == nil else {
            throw invalid("a grammar is given, but nothing is to be generated")
        }
        guard request.isPrefillOnly || (request.pooling == nil && request.labelTokens.isEmpty) else {
            throw invalid("a prompt that is pooled or scored by labels has a maximum of 0 new tokens")
        }
        if let size = configuration.vocabularySize {
            let biased = request.logitBias.lazy.map(\.token)
            for tokens in [request.tokens, request.labelTokens, Array(biased)] {
                guard let bad = tokens.first(where: { $0 < 0 || Int($0) >= size }) else { continue }
                throw invalid("token id \(bad) is outside the vocabulary of \(size) tokens")
            }
        }
        let generated = request.resumeOffset
        let needed = request.tokens.count + (request.maximumNewTokens > generated ? 1 : 0)
        guard needed <= maximumSequenceLength else {
            let limit =
                configuration.contextLength <= maximumSequenceLength
                ? "the context length is \(configuration.contextLength) tokens"
                : "the KV cache holds \(maximumSequenceLength) tokens"
            throw RequestFailure(
                kind: .doesNotFit,
                message: "the request needs at least \(needed) tokens (\(request.tokens.count) given), but \(limit)"
            )
        }
        guard waitingCount < configuration.maximumWaiting else {
            throw RequestFailure(
                kind: .overloaded,
                message: "\(waitingCount) requests wait, the most is \(configuration.maximumWaiting)"
            )
        }
    }

    /// Ends a sequence now: its blocks are free at once, and what a step in flight computes of it is discarded. An
    /// unknown or finished id is ignored.
    public mutating func cancel(_ id: RequestID) {
        guard let handle = handles[id] else { return }
        ready.append(retire(handle, finish: .cancelled))
    }

    /// Stops scheduling a sequence until it is resumed. It keeps its KV blocks unless others cannot run without them.
    public mutating func pause(_ id: RequestID) {
        guard let handle = handles[id] else { return }
        sequences[handle].credits = 0
        leaveQueue(handle)
    }

    /// Lets a sequence sample `credits` more tokens before it pauses; `UInt32.max` is no limit, 0 pauses it.
    public mutating func resume(_ id: RequestID, credits: UInt32) {
        guard credits > 0 else { return pause(id) }
        guard let handle = handles[id] else { return }
        let wasPaused = sequences[handle].isPaused
        sequences[handle].credits = credits
        if wasPaused, sequences[handle].slot == nil, !sequences[handle].isHandedOver { enqueue(handle) }
    }

    /// Ends all sequences as failed, for instance because the device is gone.
    public mutating func failAll(_ failure: RequestFailure) {
        for handle in handles.values.sorted() {
            ready.append(retire(handle, finish: .failed, failure: failure))
        }
        inFlight.removeAll()
    }

    /// Moves outputs that came about outside steps to the end of `outputs`.
    public mutating func drainReady(into outputs: inout [SequenceOutput]) {
        outputs.append(contentsOf: ready)
        ready.removeAll(keepingCapacity: true)
    }

    // MARK: - State

    /// Sequences that are not finished.
    public var unfinishedCount: Int { handles.count }
    /// Planned steps whose results were not taken.
    public var stepsInFlight: Int { inFlight.count }

    public var counters: SchedulerCounters {
        var counters = totals
        counters.runningSequences = running.count + handedOverCount
        counters.waitingSequences = waitingCount
        counters.usedBlocks = cache.pool.usedCount
        counters.totalBlocks = cache.pool.blockCount
        return counters
    }

    /// Sequences that hold nothing and are not about to end.
    private var waitingCount: Int { handles.count - running.count - handedOverCount }

    /// Prefix blocks that became available and that went away since the last call.
    public mutating func takePrefixChanges() -> (stored: [BlockHash], evicted: [BlockHash]) { cache.takeChanges() }

    // MARK: - Queues and ends

    private func precedes(_ left: Int, _ right: Int) -> Bool {
        sequences[left].precedes(sequences[right])
    }

    /// Inserts into ``waiting`` or ``scoring``, whose best sequence is the last.
    mutating func enqueue(_ handle: Int) {
        func place(in queue: [Int]) -> Int {
            var low = 0
            var high = queue.count
            while low < high {
                let middle = (low + high) / 2
                if precedes(handle, queue[middle]) { low = middle + 1 } else { high = middle }
            }
            return low
        }
        if sequences[handle].isPrefillOnly {
            scoring.insert(handle, at: place(in: scoring))
        } else {
            waiting.insert(handle, at: place(in: waiting))
        }
    }

    private mutating func leaveQueue(_ handle: Int) {
        if sequences[handle].isPrefillOnly {
            scoring.removeAll { $0 == handle }
        } else {
            waiting.removeAll { $0 == handle }
        }
    }

    /// Inserts into ``running``, whose best sequence is the first.
    mutating func run(_ handle: Int) {
        var place = running.count
        while place > 0, precedes(handle, running[place - 1]) { place -= 1 }
        running.insert(handle, at: place)
    }

    mutating func releaseSlot(_ handle: Int) {
        guard let slot = sequences[handle].slot else { return }
        dropClaims(of: handle)
        if sequences[handle].slotAnnounced { removedSlots.append(slot) }
        freeSlots.append(slot)
        sequences[handle].slot = nil
        sequences[handle].slotAnnounced = false
    }

    /// How long ago something of a sequence was first given to a step.
    func prefillMicroseconds(of handle: Int) -> UInt32? {
        guard let time, let since = sequences[handle].firstScheduled, time >= since else { return nil }
        return UInt32(clamping: (time - since) / 1000)
    }

    /// Forgets a sequence and makes its last output.
    mutating func retire(
        _ handle: Int, finish: FinishReason, failure: RequestFailure? = nil
    ) -> SequenceOutput {
        if sequences[handle].slot != nil {
            releaseSlot(handle)
            running.removeAll { $0 == handle }
        } else if sequences[handle].isHandedOver {
            handedOverCount -= 1
        } else {
            leaveQueue(handle)
        }
        cache.release(&sequences[handle].tables)
        let output = SequenceOutput(
            id: sequences[handle].id,
            finish: finish,
            failure: failure,
            cachedPromptTokens: sequences[handle].hasReported ? nil : sequences[handle].cachedPromptTokens ?? 0,
            prefillMicroseconds: sequences[handle].hasReported ? nil : prefillMicroseconds(of: handle)
        )
        handles[output.id] = nil
        sequences[handle].forget()
        freeHandles.append(handle)
        return output
    }
}
