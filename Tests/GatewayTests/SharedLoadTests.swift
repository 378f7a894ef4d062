// Tandem — Apache-2.0

import NIOEmbedded
import Requests
import Routing
import Synchronization
import Testing

@testable import Gateway

private final class FakeUpstream: Upstream {
    let engine: EngineID
    let routingKey: UInt64
    let resumeCapability = ResumeCapability.tokens
    var started: [EngineRequest] = []

    init(_ engine: UInt64, key: UInt64) {
        self.engine = EngineID(engine)
        routingKey = key
    }

    func start(_ request: EngineRequest) { started.append(request) }
    func cancel(_ id: RequestID) {}
    func pause(_ id: RequestID) {}
    func resume(_ id: RequestID) {}
}

private final class FakeOwner: SequenceOwner {
    var key: UInt64?
    let isPaused = false
    let new: Int

    init(new: Int = 10) { self.new = new }

    func work(choice: Int, id: RequestID) -> EngineRequest {
        EngineRequest(id: id, tokens: [1, 2, 3], maximumNewTokens: new)
    }
    func maySubmitAgain(choice: Int) -> Bool { true }
    func placed(choice: Int, on engine: UInt64) { key = engine }
    func receive(choice: Int, output: SequenceOutput) {}
    func fail(choice: Int, error: APIError) {}
}

/// Two event loops of one gateway, each with its own ids of the same two engines.
@Suite struct SharedLoadTests {
    private let metrics = GatewayMetrics(modelName: "m")
    private let loops: [SequenceDispatcher]
    private let upstreams: [[FakeUpstream]]

    init() {
        let metrics = metrics
        loops = (0..<2).map { _ in
            SequenceDispatcher(
                eventLoop: EmbeddedEventLoop(), limits: DispatchLimits(sequences: 8), metrics: metrics)
        }
        upstreams = [
            [FakeUpstream(1, key: 0), FakeUpstream(2, key: 1)],
            [FakeUpstream(7, key: 1), FakeUpstream(8, key: 0)],
        ]
        for (loop, ends) in zip(loops, upstreams) { for end in ends { loop.engineAppeared(end) } }
    }

    /// Starts a sequence.
    private func start(on loop: Int, new: Int = 10) -> (id: RequestID, key: UInt64?) {
        let owner = FakeOwner(new: new)
        let id = loops[loop].start(owner: owner, choice: 0)
        return (id, owner.key)
    }

    @Test func loopsSeeEachOthersLoad() {
        // Without that every second one would be a toss-up.
        for _ in 0..<4 {
            let keys = [start(on: 0).key, start(on: 1).key]
            #expect(Set(keys) == [0, 1])
        }
        #expect(metrics.load.engine(0).requests.load(ordering: .relaxed) == 4)
        #expect(metrics.load.engine(1).tokens.load(ordering: .relaxed) == 4 * 13)
    }

    @Test func progressAndEndsAreSeenToo() {
        let long = start(on: 0, new: 1000)
        let end = upstreams[0].first { $0.routingKey == long.key }
        for _ in 0..<3 { #expect(start(on: 1, new: 1).key != long.key) }
        loops[0].receive([SequenceOutput(id: long.id, tokens: [1], finish: .stop)], from: end?.engine ?? EngineID(0))
        #expect(start(on: 1, new: 1).key == long.key)
    }

    @Test func theLimitHoldsForAllLoopsTogether() {
        var ids: [(loop: Int, id: RequestID)] = []
        for index in 0..<8 {
            #expect(loops[index % 2].hasRoom(for: 1))
            ids.append((index % 2, start(on: index % 2).id))
        }
        #expect(!loops[0].hasRoom(for: 1) && !loops[1].hasRoom(for: 1))
        #expect(loops[1].unfinishedOfAll == 8 && loops[1].unfinished == 4)
        loops[0].cancel(ids[0].id)
        #expect(loops[1].hasRoom(for: 1) && !loops[1].hasRoom(for: 2))
        loops[1].reserve(1)
        #expect(!loops[0].hasRoom(for: 1))
        loops[1].release(1)
        for (loop, id) in ids { loops[loop].cancel(id) }
        #expect(loops[0].unfinishedOfAll == 0)
        for key in UInt64(0)...1 {
            #expect(metrics.load.engine(key).tokens.load(ordering: .relaxed) == 0)
            #expect(metrics.load.engine(key).requests.load(ordering: .relaxed) == 0)
        }
    }

    /// An external engine that failed a probe is the same one afterwards, with all it still has.
    @Test func anEngineThatServesAgainIsCountedOnce() throws {
        let first = start(on: 0)
        let end = try #require(upstreams[0].first { $0.routingKey == first.key })
        loops[0].engineDraining(end.engine)
        loops[0].engineAppeared(end)
        _ = start(on: 0)
        loops[0].receive([SequenceOutput(id: first.id, tokens: [1], finish: .stop)], from: end.engine)
        let load = metrics.load.engine(try #require(first.key))
        #expect(load.requests.load(ordering: .relaxed) == 0)
        #expect(load.tokens.load(ordering: .relaxed) == 0)
    }

    @Test func aLostEngineTakesItsLoadAlong() {
        let first = start(on: 0)
        for end in upstreams[0] where end.routingKey == first.key { loops[0].engineLost(end.engine, reason: "killed") }
        let other = 1 - (first.key ?? 0)
        #expect(metrics.load.engine(1 - other).tokens.load(ordering: .relaxed) == 0)
        #expect(metrics.load.engine(other).requests.load(ordering: .relaxed) == 1)
    }
}
