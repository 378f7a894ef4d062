// Tandem — Apache-2.0

import Requests
import TestSupport
import Testing

@testable import Routing

@Suite struct CircuitBreakerTests {
    private func failed(_ breaker: inout CircuitBreaker, times: Int = 1, isLast: Bool = false, at now: Duration = .zero)
    {
        for _ in 0..<times { breaker.reported(.failed, isLast: isLast, at: now, jitter: 0.5) }
    }

    @Test func opensAfterFailuresInARowOnly() {
        var breaker = CircuitBreaker()
        failed(&breaker, times: 4)
        breaker.reported(.answered, isLast: false, at: .zero, jitter: 0)
        failed(&breaker, times: 4)
        breaker.reported(.busy, isLast: false, at: .zero, jitter: 0)
        #expect(breaker.state == .closed && breaker.admits)
        failed(&breaker)
        #expect(breaker.state == .open(until: .seconds(1)) && !breaker.admits)
    }

    @Test func letsOneTrialThroughAndWaitsLongerEachTime() {
        var breaker = CircuitBreaker()
        failed(&breaker, times: 5)
        var now = Duration.zero
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            #expect(breaker.state == .open(until: now + .seconds(pause)))
            now += .seconds(pause) - .milliseconds(1)
            breaker.advance(to: now)
            #expect(!breaker.admits)
            now += .milliseconds(1)
            breaker.advance(to: now)
            #expect(breaker.admits)
            breaker.started(7)
            #expect(!breaker.admits && breaker.state == .halfOpen(trial: 7))
            breaker.ended(7)
            failed(&breaker, at: now)
        }
        breaker.advance(to: now + .seconds(60))
        breaker.started(8)
        breaker.ended(8)
        breaker.reported(.answered, isLast: false, at: now + .seconds(60), jitter: 0)
        #expect(breaker == CircuitBreaker())
    }

    @Test func aTrialThatNobodyWantsAnyMoreMakesRoomForAnother() {
        var breaker = CircuitBreaker()
        failed(&breaker, times: 5)
        breaker.advance(to: .seconds(2))
        breaker.started(7)
        breaker.ended(6)
        #expect(!breaker.admits)
        breaker.ended(7)
        #expect(breaker.admits)
    }

    @Test func tokensOfTheTrialRestoreTrustOnProbation() {
        var breaker = CircuitBreaker()
        failed(&breaker, times: 5)
        breaker.advance(to: .seconds(2))
        breaker.started(7)
        breaker.progressed(6)
        #expect(breaker.state == .halfOpen(trial: 7))
        breaker.progressed(7)
        #expect(breaker.state == .closed)
        failed(&breaker, at: .seconds(3))
        #expect(breaker.state == .open(until: .seconds(5)))
    }

    @Test func jitterSpreadsPausesWithinBounds() {
        let limits = BreakerLimits()
        for openings in 0..<100 {
            let shortest = limits.pause(after: openings, jitter: -1)
            let longest = limits.pause(after: openings, jitter: 2)
            #expect(shortest >= .milliseconds(750) && longest <= .seconds(75))
            #expect(longest > shortest)
        }
    }

    @Test func neverOpensForTheLastEngine() {
        var breaker = CircuitBreaker()
        failed(&breaker, times: 50, isLast: true)
        #expect(breaker.state == .closed)
        failed(&breaker)
        #expect(breaker.state != .closed)
    }

    /// Random requests on random engines with random fates.
    @Test(arguments: UInt64(1)...20) func keepsItsPromisesWhateverHappens(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var router = Router()
        let engines = (1...3).map { EngineID(UInt64($0)) }
        for engine in engines {
            router.engineAppeared(engine)
            router.setServing(engine, true)
        }
        var now = Duration.zero
        var running: [(id: RequestID, engine: EngineID)] = []
        for id in RequestID(1)...2000 {
            now += .milliseconds(Int.random(in: 0...300, using: &generator))
            if Int.random(in: 0..<20, using: &generator) == 0, let engine = engines.randomElement(using: &generator) {
                router.setServing(engine, Bool.random(using: &generator))
            }
            let before = router.views
            let serving = before.filter { $0.state == .serving }
            let choice = router.choose(at: now, using: &generator)
            #expect((choice == nil) == serving.isEmpty)
            if let choice {
                guard let view = serving.first(where: { $0.id == choice }) else {
                    Issue.record("an engine that does not serve was chosen")
                    continue
                }
                // An open one only if none is closed or due.
                if case .open(let until) = view.breaker, until > now {
                    #expect(
                        serving.allSatisfy {
                            switch $0.breaker {
                            case .closed, .halfOpen(nil): false
                            case .open(let until): until > now
                            case .halfOpen: true
                            }
                        })
                }
                router.started(id, on: choice, cost: TokenCost(prompt: 10, new: 10))
                running.append((id, choice))
            }
            while running.count > 4 {
                let (id, engine) = running.remove(at: Int.random(in: 0..<running.count, using: &generator))
                let closed = router.views.filter { $0.state == .serving && $0.breaker == .closed }.map(\.id)
                let wasClosed = router.views.first { $0.id == engine }?.breaker == .closed
                let fate = Int.random(in: 0..<8, using: &generator)
                if fate == 1 { router.progressed(id, on: engine, newTokens: 1) }
                router.finished(id, on: engine)
                switch fate {
                case 0: router.reported(.busy, by: engine, at: now, jitter: 0)
                case 1: router.reported(.answered, by: engine, at: now, jitter: 0)
                case 2: break
                default: router.reported(.failed, by: engine, at: now, jitter: 1)
                }
                let isClosed = router.views.first { $0.id == engine }?.breaker == .closed
                // Only a failure opens, and never the last one that is trusted.
                if wasClosed, fate < 3 { #expect(isClosed) }
                if closed == [engine] { #expect(isClosed) }
            }
        }
        for (id, engine) in running { router.finished(id, on: engine) }
        #expect(router.views.allSatisfy { $0.outstandingTokens == 0 && $0.outstandingRequests == 0 })
    }
}
