// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Requests
import Testing
import VirtualDevice

@testable import SimulatedExecutor

/// A device that answers at once.
final class AnsweringLink: SimulatedDeviceLink {
    var answers: [DeviceMessage] = []
    var sent: [ClientMessage] = []
    /// What is answered in place of a step that is done, by step.
    var failures: [UInt64: DeviceFailure] = [:]
    /// Answers an allocation.
    var allocation: DeviceMessage = .granted(freeBytes: 1)
    var isGone = false

    func send(_ message: ClientMessage) throws(DeviceProtocolError) {
        if isGone { throw DeviceProtocolError(message: "gone") }
        sent.append(message)
        switch message {
        case .hello:
            answers.append(.welcome(DeviceWelcome(name: "h100", memoryBytes: 80 << 30, usesMPS: true)))
        case .allocate: answers.append(allocation)
        case .submit(let step, _):
            if let failure = failures[step] {
                answers.append(.failed(failure))
            } else {
                answers.append(.done(StepDone(step: step, attention: 3, mlp: 4, rest: 5)))
            }
        }
    }

    func receive() throws(DeviceProtocolError) -> DeviceMessage {
        guard !isGone, !answers.isEmpty else { throw DeviceProtocolError(message: "gone") }
        return answers.removeFirst()
    }
}

let testVocabulary = 97
let testWidth = 8

/// A small model with layers of these windows, a group each.
func testModel(_ windows: [Int?]) -> DecoderDescription {
    DecoderDescription(
        architecture: "test", name: "test", vocabularySize: testVocabulary, hiddenSize: testWidth,
        intermediateSize: 16, queryHeads: 2, keyValueHeads: 1, headDimension: 4, contextLength: 4096,
        normEpsilon: 1e-6, tiedHead: true,
        ropes: [RotaryDescription(base: 10000, dimensions: 4, fileLayout: .halfSplit)],
        layers: windows.map { LayerDescription(window: $0, attentionScale: 1) })
}

/// What comes out of a request that runs alone, computed without blocks, steps or batches.
struct Reference {
    let windows: [Int?]
    let blockSize: Int
    let model = HashModel(vocabularySize: testVocabulary)

    func digest(_ history: some Collection<TokenID>) -> UInt64 {
        var chain: [UInt64] = []
        for token in history { chain.append(HashModel.extend(chain.last ?? HashModel.empty, by: token)) }
        let last = chain.count - 1
        return windows.reduce(HashModel.empty) { digest, window in
            let visible = (window.map { max(0, last + 1 - $0) } ?? 0)..<last
            let ends = visible.filter { ($0 + 1) % blockSize == 0 }
            return (ends.map { chain[$0] } + [chain[last]]).reduce(digest) { HashModel.join($0, $1) }
        }
    }

    func tokens(of request: EngineRequest, limit: Int) -> [TokenID] {
        var history = request.tokens
        while history.count - request.promptCount < request.maximumNewTokens, history.count < limit {
            var adjustments: LogitAdjustments?
            if request.minimumNewTokens > 0 || !request.logitBias.isEmpty {
                adjustments = LogitAdjustments(
                    promptCount: request.promptCount, minimumNewTokens: request.minimumNewTokens,
                    stopTokens: request.stopTokens, biases: request.logitBias)
            }
            let token = model.next(
                digest(history), sampling: request.sampling, adjustments: adjustments, position: history.count)
            history.append(token)
            if request.stopTokens.contains(token) { break }
        }
        return Array(history[request.tokens.count...])
    }
}

/// A scheduler and a simulated executor, driven as the step loop does it.
struct ExecutorFixture {
    var scheduler: Scheduler
    let executor: SimulatedExecutor
    let link: AnsweringLink
    let reference: Reference
    private var plan = StepPlan()
    private var result = StepResult()
    private var tickets: [StepTicket] = []
    private var unsampled: StepTicket?
    var outputs: [RequestID: [SequenceOutput]] = [:]

    init(_ configuration: SchedulerConfiguration, windows: [Int?] = [nil], blocks: Int = 64) throws {
        let model = testModel(windows)
        let link = AnsweringLink()
        self.link = link
        executor = try Self.executor(model, link)
        let layers = model.kvGroups.first?.layers.count ?? 1
        let limits = ExecutorLimits(
            slots: configuration.slots, tokensPerStep: configuration.tokensPerStep,
            contextLength: configuration.contextLength, blockSize: configuration.blockSize,
            keyValueBytes: blocks * configuration.blockSize * 2 * 4 * 2 * layers)
        let prepared = try executor.prepare(limits: limits, groups: model.kvGroups)
        #expect(prepared.blockCount == blocks)
        scheduler = try Scheduler(configuration: configuration, groups: model.kvGroups, prepared: prepared)
        reference = Reference(windows: model.kvGroups.map(\.window), blockSize: configuration.blockSize)
    }

    static func executor(_ model: DecoderDescription, _ link: AnsweringLink) throws -> SimulatedExecutor {
        try SimulatedExecutor(
            timed: model,
            options: SimulatedExecutor.Options(
                engine: 3, pid: 7, vocabularySize: testVocabulary, vectorSize: testWidth), link: link)
    }

    mutating func collect(_ more: [SequenceOutput]) {
        for output in more { outputs[output.id, default: []].append(output) }
    }

    mutating func round() throws -> Bool {
        let submitted = scheduler.schedule(into: &plan)
        if submitted {
            let ticket = try executor.submit(plan)
            tickets.append(ticket)
            unsampled = ticket
            try sample()
        }
        let depth = scheduler.configuration.asynchronous ? 2 : 1
        let takes = !tickets.isEmpty && (!submitted || tickets.count == depth)
        if takes {
            let ticket = tickets.removeFirst()
            try executor.result(of: ticket, into: &result)
            var more: [SequenceOutput] = []
            try scheduler.finish(result, into: &more)
            collect(more)
            try sample()
        }
        var ready: [SequenceOutput] = []
        scheduler.drainReady(into: &ready)
        collect(ready)
        return submitted || takes
    }

    private mutating func sample() throws {
        var masks = TokenMasks(slots: [], words: [], wordsPerSlot: 0)
        guard let ticket = unsampled, scheduler.fillMasks(&masks, vocabularySize: testVocabulary) else { return }
        unsampled = nil
        try executor.sample(ticket, masks: masks.slots.isEmpty ? nil : masks)
    }

    mutating func runToEnd() throws {
        var left = 100_000
        while try round() {
            left -= 1
            try #require(left > 0, "the scheduler does not come to an end")
        }
    }

    func tokens(_ id: RequestID) -> [TokenID] { (outputs[id] ?? []).flatMap { Array($0.tokens) } }
}

/// Random numbers from a seed.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return StableHash.mix(state)
    }
}

func prompt(_ count: Int, seed: UInt64) -> [TokenID] {
    var random = SplitMix(state: seed)
    return (0..<count).map { _ in TokenID.random(in: 0..<TokenID(testVocabulary), using: &random) }
}
