// Tandem — Apache-2.0

import NIOCore
import NIOEmbedded
import Requests
import Routing
import Telemetry
import Testing

@testable import Gateway

/// Records what it is asked and answers nothing by itself.
private final class FakeUpstream: Upstream {
    let engine: EngineID
    let routingKey: UInt64
    let resumeCapability: ResumeCapability
    var started: [EngineRequest] = []
    var cancelled: [RequestID] = []
    var paused: [RequestID] = []
    var resumed: [RequestID] = []

    init(_ engine: UInt64, _ capability: ResumeCapability = .tokens, key: UInt64? = nil) {
        routingKey = key ?? engine
        self.engine = EngineID(engine)
        resumeCapability = capability
    }

    func start(_ request: EngineRequest) { started.append(request) }
    func cancel(_ id: RequestID) { cancelled.append(id) }
    func pause(_ id: RequestID) { paused.append(id) }
    func resume(_ id: RequestID) { resumed.append(id) }
}

/// Keeps emitted tokens, as a request's owner does.
private final class FakeOwner: SequenceOwner {
    var emitted: [TokenID] = []
    var outputs: [SequenceOutput] = []
    var errors: [APIError] = []
    var isPaused = false
    var onlyEngine: UInt64?
    /// What else the request does when one of its sequences fails.
    var afterFailure: () -> Void = {}

    func work(choice: Int, id: RequestID) -> EngineRequest {
        EngineRequest(id: id, tokens: [1, 2, 3] + emitted, resumeOffset: emitted.count, maximumNewTokens: 10)
    }

    func maySubmitAgain(choice: Int) -> Bool { emitted.isEmpty }

    func receive(choice: Int, output: SequenceOutput) {
        outputs.append(output)
        emitted += output.tokens
    }

    func fail(choice: Int, error: APIError) {
        errors.append(error)
        afterFailure()
    }
}

@Suite struct DispatcherTests {
    private let loop = EmbeddedEventLoop()

    private func dispatcher(_ limits: DispatchLimits = DispatchLimits()) -> SequenceDispatcher {
        SequenceDispatcher(eventLoop: loop, limits: limits, metrics: GatewayMetrics(modelName: "m"))
    }

    @Test func loadIsSpread() {
        let dispatcher = dispatcher()
        let engines = [FakeUpstream(1), FakeUpstream(2)]
        for engine in engines { dispatcher.engineAppeared(engine) }
        for _ in 0..<10 { _ = dispatcher.start(owner: FakeOwner(), choice: 0) }
        #expect(engines.map(\.started.count) == [5, 5])
        #expect(dispatcher.unfinished == 10)
    }

    @Test func aLostEngineMovesItsSequencesWithTheirTokens() throws {
        let dispatcher = dispatcher()
        let first = FakeUpstream(1)
        dispatcher.engineAppeared(first)
        let owner = FakeOwner()
        let id = dispatcher.start(owner: owner, choice: 0)
        dispatcher.receive([SequenceOutput(id: id, tokens: [7, 8])], from: first.engine)
        let second = FakeUpstream(2)
        dispatcher.engineAppeared(second)
        dispatcher.engineLost(first.engine, reason: "killed")
        let moved = try #require(second.started.first)
        #expect(moved.id == id && moved.tokens == [1, 2, 3, 7, 8] && moved.resumeOffset == 2)
        // The old engine's late words are nobody's.
        dispatcher.receive([SequenceOutput(id: id, tokens: [99])], from: first.engine)
        dispatcher.receive([SequenceOutput(id: id, tokens: [9], finish: .length)], from: second.engine)
        #expect(owner.emitted == [7, 8, 9])
        #expect(owner.errors.isEmpty)
        #expect(dispatcher.unfinished == 0 && dispatcher.outstanding == 0)
    }

    @Test func whatIsForOneEngineGoesToNoOther() throws {
        let dispatcher = dispatcher()
        let (first, second) = (FakeUpstream(1, key: 0), FakeUpstream(2, key: 1))
        for engine in [first, second] { dispatcher.engineAppeared(engine) }
        let owner = FakeOwner()
        owner.onlyEngine = 0
        let ids = (0..<9).map { dispatcher.start(owner: owner, choice: $0) }
        #expect(first.started.count == 9 && second.started.isEmpty)
        let busy = RequestFailure(kind: .overloaded, message: "busy")
        dispatcher.receive([SequenceOutput(id: ids[8], finish: .failed, failure: busy)], from: first.engine)
        #expect(owner.errors.map(\.status) == [429])
        dispatcher.receive([SequenceOutput(id: ids[0], tokens: [7])], from: first.engine)
        dispatcher.engineLost(first.engine, reason: "killed")
        #expect(dispatcher.heldSequences == 8)
        // It gives way to others that may have any.
        let other = FakeOwner()
        _ = dispatcher.start(owner: other, choice: 0)
        #expect(second.started.count == 1)
        let third = FakeUpstream(3, key: 2)
        dispatcher.engineAppeared(third)
        #expect(dispatcher.heldSequences == 8 && third.started.isEmpty)
        let successor = FakeUpstream(4, key: 0)
        dispatcher.engineAppeared(successor)
        #expect(successor.started.map(\.id) == Array(ids[..<8]) && dispatcher.heldSequences == 0)
        #expect(successor.started[0].tokens == [1, 2, 3, 7])
        let draining = RequestFailure(kind: .draining, message: "ends")
        dispatcher.receive([SequenceOutput(id: ids[0], finish: .failed, failure: draining)], from: successor.engine)
        #expect(dispatcher.heldSequences == 1 && second.started.count == 1)
        loop.advanceTime(by: .seconds(30))
        #expect(owner.errors.map(\.status) == [429, 503])
    }

    @Test func migrationsAreCountedApartFromRetries() {
        let metrics = GatewayMetrics(modelName: "m")
        let dispatcher = SequenceDispatcher(eventLoop: loop, metrics: metrics)
        let engines = [FakeUpstream(1), FakeUpstream(2), FakeUpstream(3, .none)]
        dispatcher.engineAppeared(engines[0])
        let owners = [FakeOwner(), FakeOwner()]
        let ids = owners.map { dispatcher.start(owner: $0, choice: 0) }
        dispatcher.receive([SequenceOutput(id: ids[0], tokens: [7])], from: engines[0].engine)
        #expect(
            dispatcher.engineLost(engines[0].engine, reason: "killed") == MovedSequences(continued: 1, retried: 1))
        #expect(metrics.migrations.continued == 1 && metrics.retries.value == 1)
        // It has not gone on yet: the pause lasts until its next token.
        loop.advanceTime(by: .milliseconds(300))
        dispatcher.engineAppeared(engines[1])
        #expect(metrics.migrationPause.snapshot().sum == 0)
        dispatcher.receive(ids.map { SequenceOutput(id: $0, tokens: [8]) }, from: engines[1].engine)
        #expect(metrics.migrationPause.snapshot().counts.reduce(0, +) == 1)
        #expect(abs(metrics.migrationPause.snapshot().sum - 0.3) < 1e-9)
        // An engine that gives one up.
        dispatcher.engineAppeared(engines[2])
        let failure = RequestFailure(kind: .engine, message: "broken")
        dispatcher.receive([SequenceOutput(id: ids[0], finish: .failed, failure: failure)], from: engines[1].engine)
        #expect(metrics.migrations.continued == 2)
        #expect(dispatcher.engineLost(engines[2].engine, reason: "killed") == MovedSequences(refused: 1))
        #expect(metrics.retries.value == 1)
    }

    /// A step may fail for want of memory, and nobody else is there.
    @Test func theOnlyEngineTriesAgain() {
        let dispatcher = dispatcher()
        let engine = FakeUpstream(1)
        dispatcher.engineAppeared(engine)
        let owner = FakeOwner()
        let id = dispatcher.start(owner: owner, choice: 0)
        let failed = SequenceOutput(
            id: id, finish: .failed, failure: RequestFailure(kind: .engine, message: "no memory"))
        dispatcher.receive([SequenceOutput(id: id, tokens: [7])], from: engine.engine)
        for _ in 0..<3 { dispatcher.receive([failed], from: engine.engine) }
        #expect(engine.started.map(\.tokens) == [[1, 2, 3]] + Array(repeating: [1, 2, 3, 7], count: 3))
        #expect(owner.errors.isEmpty)
        // It is not tried for ever.
        dispatcher.receive([failed], from: engine.engine)
        #expect(engine.started.count == 4 && owner.errors.map(\.status) == [500])
        #expect(dispatcher.unfinished == 0 && dispatcher.outstanding == 0)
    }

    @Test func aPausedSequenceMovesPaused() {
        let dispatcher = dispatcher()
        let first = FakeUpstream(1)
        dispatcher.engineAppeared(first)
        let owner = FakeOwner()
        let id = dispatcher.start(owner: owner, choice: 0)
        #expect(first.paused.isEmpty)
        owner.isPaused = true
        dispatcher.pause(id)
        dispatcher.engineLost(first.engine, reason: "killed")
        // Nobody serves: the pause must outlast the wait.
        dispatcher.pause(id)
        let second = FakeUpstream(2)
        dispatcher.engineAppeared(second)
        #expect(second.started.map(\.id) == [id] && second.paused == [id])
        owner.isPaused = false
        dispatcher.resume(id)
        #expect(second.resumed == [id])
        let third = FakeUpstream(3)
        dispatcher.engineAppeared(third)
        dispatcher.engineLost(second.engine, reason: "killed")
        #expect(third.started.map(\.id) == [id] && third.paused.isEmpty)
    }

    @Test func allCanBeEnded() {
        let dispatcher = dispatcher()
        let engine = FakeUpstream(1)
        dispatcher.engineAppeared(engine)
        let owners = [FakeOwner(), FakeOwner()]
        let running = dispatcher.start(owner: owners[0], choice: 0)
        dispatcher.engineDraining(engine.engine)
        _ = dispatcher.start(owner: owners[1], choice: 0)
        dispatcher.failAll(.unavailable("it is over"))
        #expect(owners.map { $0.errors.map(\.status) } == [[503], [503]])
        #expect(engine.cancelled == [running])
        #expect(dispatcher.unfinished == 0 && dispatcher.outstanding == 0)
    }

    @Test func sequencesOfARequestThatFailedDoNotStartAgain() {
        let dispatcher = dispatcher(DispatchLimits(attempts: 1))
        let owner = FakeOwner()
        // Held first, then running: both lists are walked while their owner cancels what is in them.
        let ids = (0..<3).map { dispatcher.start(owner: owner, choice: $0) }
        owner.afterFailure = { ids.forEach(dispatcher.cancel) }
        let first = FakeUpstream(1)
        dispatcher.engineAppeared(first)
        #expect(first.started.count == 3)
        dispatcher.engineLost(first.engine, reason: "killed")
        #expect(owner.errors.count == 1)
        #expect(dispatcher.unfinished == 0 && dispatcher.outstanding == 0)
    }

    @Test func whatCannotGoOnFails() {
        let dispatcher = dispatcher()
        let engine = FakeUpstream(1, .none)
        dispatcher.engineAppeared(engine)
        let started = FakeOwner()
        let fresh = FakeOwner()
        let id = dispatcher.start(owner: started, choice: 0)
        _ = dispatcher.start(owner: fresh, choice: 0)
        dispatcher.receive([SequenceOutput(id: id, tokens: [7])], from: engine.engine)
        let other = FakeUpstream(2, .none)
        dispatcher.engineAppeared(other)
        dispatcher.engineLost(engine.engine, reason: "killed")
        #expect(started.errors.map(\.status) == [500])
        #expect(fresh.errors.isEmpty && other.started.count == 1)
    }

    @Test func sequencesWaitForAnEngineAndNotForever() {
        let dispatcher = dispatcher(DispatchLimits(hold: .seconds(30)))
        let lucky = FakeOwner()
        let unlucky = FakeOwner()
        _ = dispatcher.start(owner: lucky, choice: 0)
        #expect(dispatcher.unfinished == 1)
        let engine = FakeUpstream(1)
        dispatcher.engineAppeared(engine)
        #expect(engine.started.count == 1)
        dispatcher.engineDraining(engine.engine)
        _ = dispatcher.start(owner: unlucky, choice: 0)
        loop.advanceTime(by: .seconds(29))
        #expect(unlucky.errors.isEmpty)
        loop.advanceTime(by: .seconds(2))
        #expect(unlucky.errors.map(\.status) == [503])
        #expect(lucky.errors.isEmpty)
    }

    @Test func refusalsAreRetriedElsewhereOnce() {
        let dispatcher = dispatcher()
        let engines = [FakeUpstream(1), FakeUpstream(2)]
        for engine in engines { dispatcher.engineAppeared(engine) }
        let owner = FakeOwner()
        let id = dispatcher.start(owner: owner, choice: 0)
        let full = SequenceOutput(
            id: id, finish: .failed, failure: RequestFailure(kind: .overloaded, message: "queue full"))
        for _ in 0..<2 {
            guard let engine = engines.first(where: { $0.started.count == 1 && $0.cancelled.isEmpty }) else { continue }
            engine.cancelled.append(0)
            dispatcher.receive([full], from: engine.engine)
        }
        #expect(engines.map(\.started.count) == [1, 1])
        #expect(owner.errors.map(\.status) == [429])
        #expect(dispatcher.unfinished == 0)
    }

    /// A sequence that has sent a token, and whose engine was lost.
    private func streamThatMoved() -> (SequenceDispatcher, FakeOwner, FakeUpstream, RequestID) {
        let dispatcher = dispatcher()
        let (first, second) = (FakeUpstream(1), FakeUpstream(2))
        dispatcher.engineAppeared(first)
        let owner = FakeOwner()
        let id = dispatcher.start(owner: owner, choice: 0)
        dispatcher.receive([SequenceOutput(id: id, tokens: [7])], from: first.engine)
        dispatcher.engineAppeared(second)
        dispatcher.engineLost(first.engine, reason: "killed")
        return (dispatcher, owner, second, id)
    }

    private static func busy(_ id: RequestID) -> SequenceOutput {
        SequenceOutput(id: id, finish: .failed, failure: RequestFailure(kind: .overloaded, message: "queue full"))
    }

    /// Its client has had tokens and a status: it cannot be told to come again later.
    @Test func aStreamWaitsForEnginesThatAreBusy() throws {
        let (dispatcher, owner, second, id) = streamThatMoved()
        let busy = Self.busy(id)
        // Longer than attempts would last.
        for turn in 1...20 {
            #expect(second.started.count == turn)
            dispatcher.receive([busy], from: second.engine)
            #expect(dispatcher.heldSequences == 1 && owner.errors.isEmpty)
            loop.advanceTime(by: .milliseconds(250))
        }
        dispatcher.receive([SequenceOutput(id: id, tokens: [8], finish: .length)], from: second.engine)
        #expect(owner.emitted == [7, 8] && owner.errors.isEmpty)
        #expect(dispatcher.unfinished == 0)
    }

    @Test func aStreamWaitsForBusyEnginesNoLongerThanForNone() throws {
        let (dispatcher, owner, second, id) = streamThatMoved()
        let busy = Self.busy(id)
        for _ in 0..<119 {
            dispatcher.receive([busy], from: second.engine)
            loop.advanceTime(by: .milliseconds(250))
            #expect(owner.errors.isEmpty)
        }
        // After 30 s it is asked for the last time.
        for _ in 0..<2 {
            dispatcher.receive([busy], from: second.engine)
            loop.advanceTime(by: .milliseconds(250))
        }
        #expect(owner.errors.map(\.status) == [503])
        #expect(dispatcher.unfinished == 0)
    }

    @Test func requestsThatDoNotFitAreTheClientsFault() {
        let dispatcher = dispatcher()
        let engine = FakeUpstream(1)
        dispatcher.engineAppeared(engine)
        let owner = FakeOwner()
        let id = dispatcher.start(owner: owner, choice: 0)
        dispatcher.receive(
            [SequenceOutput(id: id, finish: .failed, failure: RequestFailure(kind: .doesNotFit, message: "9 > 8"))],
            from: engine.engine)
        #expect(owner.errors.map(\.status) == [400])
        #expect(owner.errors.first?.code == "context_length_exceeded")
    }

    @Test func cancelPauseAndResumeReachTheEngine() {
        let dispatcher = dispatcher()
        let engine = FakeUpstream(1)
        dispatcher.engineAppeared(engine)
        let owner = FakeOwner()
        let id = dispatcher.start(owner: owner, choice: 0)
        dispatcher.pause(id)
        dispatcher.resume(id)
        dispatcher.cancel(id)
        dispatcher.cancel(id)
        #expect(engine.paused == [id] && engine.resumed == [id] && engine.cancelled == [id])
        dispatcher.receive([SequenceOutput(id: id, tokens: [1])], from: engine.engine)
        #expect(owner.outputs.isEmpty)
        #expect(dispatcher.unfinished == 0 && dispatcher.outstanding == 0)
    }
}
