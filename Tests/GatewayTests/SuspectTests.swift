// Tandem — Apache-2.0

import NIOCore
import NIOEmbedded
import Requests
import Routing
import Telemetry
import Testing

@testable import Gateway

/// What a dispatcher does with sequences that end engines.
@Suite struct SuspectTests {
    /// Keeps what it was given.
    private final class Engine: Upstream {
        let engine: EngineID
        let resumeCapability = ResumeCapability.tokens
        var started: [RequestID] = []
        var ended: Set<RequestID> = []

        init(_ engine: UInt64) { self.engine = EngineID(engine) }

        func start(_ request: EngineRequest) { started.append(request.id) }
        func cancel(_ id: RequestID) { ended.insert(id) }
        func pause(_ id: RequestID) {}
        func resume(_ id: RequestID) {}
        var running: [RequestID] { started.filter { !ended.contains($0) } }
    }

    private final class Owner: SequenceOwner {
        var tokens: [TokenID] = []
        var errors: [APIError] = []
        var isPaused = false
        var isDone = false

        func work(choice: Int, id: RequestID) -> EngineRequest {
            EngineRequest(id: id, tokens: [1, 2] + tokens, resumeOffset: tokens.count, maximumNewTokens: 1000)
        }
        func maySubmitAgain(choice: Int) -> Bool { tokens.isEmpty }
        func receive(choice: Int, output: SequenceOutput) {
            tokens += output.tokens
            if output.finish != nil { isDone = true }
        }
        func fail(choice: Int, error: APIError) { errors.append(error) }
    }

    /// A gateway, and engines that are replaced ten seconds after they end.
    private final class Bench {
        let loop = EmbeddedEventLoop()
        let metrics: GatewayMetrics
        let dispatcher: SequenceDispatcher
        var engines: [Engine] = []
        var next: UInt64 = 1
        var deaths = 0

        init(engines count: Int, trialTurn: TrialTurn = TrialTurn()) {
            metrics = GatewayMetrics(modelName: "m", trialTurn: trialTurn)
            dispatcher = SequenceDispatcher(
                eventLoop: loop, limits: DispatchLimits(hold: .seconds(3600)), metrics: metrics)
            for _ in 0..<count { appear() }
        }

        func appear() {
            engines.append(Engine(next))
            next += 1
            dispatcher.engineAppeared(engines[engines.count - 1])
        }

        func start(_ owner: Owner) -> RequestID { dispatcher.start(owner: owner, choice: 0) }

        /// Ends engines at once.
        func kill(_ doomed: [Engine], failing: Bool = false) {
            guard !doomed.isEmpty else { return }
            deaths += 1
            engines.removeAll { engine in doomed.contains { $0 === engine } }
            for engine in doomed {
                if failing {
                    // A device that fails says so before the process ends.
                    let failure = RequestFailure(kind: .draining, message: "device")
                    dispatcher.receive(
                        engine.running.map { SequenceOutput(id: $0, finish: .failed, failure: failure) },
                        from: engine.engine)
                }
                dispatcher.engineLost(engine.engine, reason: "killed")
            }
            loop.advanceTime(by: .seconds(10))
            for _ in doomed { appear() }
        }

        /// Every engine computes a step: those that have `poison` end, or all if one does.
        func step(poison: Set<RequestID>, shared: Bool = false, failing: Bool = false, finish: Set<RequestID> = []) {
            let doomed = engines.filter { !poison.isDisjoint(with: $0.running) }
            kill(doomed.isEmpty || !shared ? doomed : engines, failing: failing)
            for engine in engines where poison.isDisjoint(with: engine.running) {
                let outputs = engine.running.map {
                    SequenceOutput(id: $0, tokens: [7], finish: finish.contains($0) ? .length : nil)
                }
                engine.ended.formUnion(finish)
                dispatcher.receive(outputs, from: engine.engine)
            }
            loop.advanceTime(by: .milliseconds(10))
        }
    }

    @Test(arguments: [false, true]) func aRequestAloneIsRefusedAfterSixEngines(failing: Bool) {
        let bench = Bench(engines: 2)
        let owner = Owner()
        let id = bench.start(owner)
        for _ in 0..<10 { bench.step(poison: [id], failing: failing) }
        #expect(bench.deaths == 6)
        #expect(owner.errors.map(\.status) == [500] && owner.errors.first?.code == "engine_lost_repeatedly")
        #expect(bench.metrics.suspected.value == 1 && bench.metrics.suspectsRefused.value == 1)
        #expect(bench.dispatcher.unfinished == 0 && bench.dispatcher.outstanding == 0)
    }

    /// It has sent tokens, so that giving it up is a refused migration.
    @Test func whatEndsEnginesLaterIsFoundToo() {
        let bench = Bench(engines: 2)
        let owner = Owner()
        let id = bench.start(owner)
        for _ in 0..<5 { bench.step(poison: []) }
        for _ in 0..<10 { bench.step(poison: [id]) }
        #expect(bench.deaths == 6 && owner.tokens.count == 5 && owner.errors.map(\.status) == [500])
        #expect(bench.metrics.migrations.refused == 1)
    }

    @Test(arguments: [(1, false), (2, false), (3, true)]) func othersGoOn(engines: Int, shared: Bool) {
        let bench = Bench(engines: engines)
        let others = (0..<20).map { _ in Owner() }
        var ids = others[..<8].map(bench.start)
        for _ in 0..<3 { bench.step(poison: []) }
        let owner = Owner()
        let id = bench.start(owner)
        ids += others[8..<14].map(bench.start)
        for round in 0..<40 {
            // New ones keep coming.
            if round < 6 { ids.append(bench.start(others[14 + round])) }
            bench.step(poison: [id], shared: shared)
        }
        #expect(owner.errors.map(\.status) == [500])
        #expect(bench.deaths <= 7, "\(bench.deaths)")
        #expect(others.allSatisfy { $0.errors.isEmpty && $0.tokens.count > 3 })
        bench.step(poison: [], finish: Set(ids))
        #expect(others.allSatisfy { $0.isDone })
        #expect(bench.dispatcher.unfinished == 0 && bench.dispatcher.heldSequences == 0)
        #expect(bench.dispatcher.outstanding == 0 && bench.dispatcher.suspicion.isEmpty)
        #expect(bench.metrics.trialTurn.take(), "nobody has the turn any more")
    }

    @Test func enginesThatDieAnywayConvictNobody() {
        let bench = Bench(engines: 3)
        let owner = Owner()
        let id = bench.start(owner)
        for _ in 0..<7 {
            for has in [true, false] {
                if let engine = bench.engines.first(where: { $0.running.contains(id) == has }) { bench.kill([engine]) }
            }
        }
        #expect(owner.errors.isEmpty)
        bench.step(poison: [], finish: [id])
        #expect(owner.isDone && bench.metrics.suspectsCleared.value == 1 && bench.metrics.suspectsRefused.value == 0)
    }

    /// The turn is another event loop's, and then comes.
    @Test func oneEventLoopAtATimeTries() {
        let turn = TrialTurn()
        let bench = Bench(engines: 2, trialTurn: turn)
        #expect(turn.take())
        let owner = Owner()
        let id = bench.start(owner)
        for _ in 0..<13 { bench.step(poison: [id]) }
        #expect(bench.deaths == 3 && bench.dispatcher.heldSequences == 1)
        turn.giveBack()
        bench.loop.advanceTime(by: .milliseconds(20))
        #expect(bench.dispatcher.heldSequences == 0 && !turn.take())
        bench.dispatcher.cancel(id)
        #expect(turn.take() && bench.dispatcher.unfinished == 0)
    }

    @Test func aClientThatDoesNotReadHoldsNobodyUp() {
        let bench = Bench(engines: 1)
        let owners = [Owner(), Owner()]
        let ids = owners.map(bench.start)
        for _ in 0..<3 { bench.kill(bench.engines) }
        bench.loop.advanceTime(by: .seconds(1))
        #expect(bench.engines[0].started == [ids[0]])
        bench.dispatcher.pause(ids[0])
        bench.loop.advanceTime(by: .seconds(1))
        #expect(bench.engines[0].started == ids)
    }
}
