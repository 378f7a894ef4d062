// Tandem — Apache-2.0

import Requests
import TestSupport
import Testing

@testable import Routing

/// Counts draws.
struct CountingGenerator: RandomNumberGenerator {
    var draws = 0

    mutating func next() -> UInt64 {
        draws += 1
        return 0
    }
}

@Suite struct InFlightLedgerTests {
    @Test func countsPromptAndNewTokens() {
        var ledger = InFlightLedger()
        ledger.add(1, cost: TokenCost(prompt: 100, new: 16))
        #expect(ledger.count == 1 && ledger.outstandingTokens == 116)
        ledger.progress(1, promptTokens: 60)
        #expect(ledger.outstandingTokens == 56)
        ledger.progress(1, newTokens: 1)
        #expect(ledger.cost(of: 1) == TokenCost(prompt: 0, new: 15))
        ledger.remove(1)
        #expect(ledger.count == 0 && ledger.outstandingTokens == 0)
    }

    @Test func ignoresWhatItDoesNotKnowAndWhatCannotBe() {
        var ledger = InFlightLedger()
        ledger.progress(7, promptTokens: 5, newTokens: 5)
        ledger.remove(7)
        ledger.add(1, cost: TokenCost(prompt: -5, new: 4))
        ledger.progress(1, promptTokens: -9, newTokens: -9)
        #expect(ledger.outstandingTokens == 4)
        ledger.progress(1, promptTokens: .max, newTokens: .max)
        #expect(ledger.outstandingTokens == 0 && ledger.count == 1)
        ledger.add(2, cost: TokenCost(prompt: .max, new: .max))
        ledger.add(3, cost: TokenCost(prompt: .max, new: .max))
        ledger.remove(2)
        ledger.remove(3)
        #expect(ledger.outstandingTokens == 0)
    }

    @Test func reenteringReplacesTheCost() {
        var ledger = InFlightLedger()
        ledger.add(1, cost: TokenCost(prompt: 10, new: 10))
        ledger.add(1, cost: TokenCost(prompt: 1, new: 2))
        #expect(ledger.count == 1 && ledger.outstandingTokens == 3)
    }

    @Test(arguments: UInt64(1)...20) func agreesWithASimpleModelAndReturnsToZero(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var ledger = InFlightLedger()
        var model: [RequestID: TokenCost] = [:]
        for _ in 0..<2000 {
            let id = RequestID.random(in: 0..<40, using: &generator)
            switch Int.random(in: 0..<4, using: &generator) {
            case 0:
                let cost = TokenCost(
                    prompt: .random(in: -3...500, using: &generator), new: .random(in: -3...500, using: &generator))
                ledger.add(id, cost: cost)
                model[id] = cost
            case 1, 2:
                let prompt = Int.random(in: -3...200, using: &generator)
                let new = Int.random(in: -3...3, using: &generator)
                ledger.progress(id, promptTokens: prompt, newTokens: new)
                if let cost = model[id] {
                    model[id] = TokenCost(
                        prompt: new > 0 ? 0 : cost.prompt - max(0, prompt), new: cost.new - max(0, new))
                }
            default:
                ledger.remove(id)
                model[id] = nil
            }
            #expect(ledger.outstandingTokens == model.values.reduce(0) { $0 + $1.total })
            #expect(ledger.count == model.count)
            #expect(ledger.outstandingTokens >= 0)
        }
        for id in ledger.ids { ledger.remove(id) }
        #expect(ledger.outstandingTokens == 0 && ledger.count == 0)
    }
}

@Suite struct ChoiceTests {
    /// A router whose engines have so many requests of so many tokens.
    private func router(_ loads: [(requests: Int, tokens: Int)]) -> Router {
        var router = Router()
        var id: RequestID = 1
        for (index, load) in loads.enumerated() {
            let engine = EngineID(UInt64(index))
            router.engineAppeared(engine)
            router.setServing(engine, true)
            for request in 0..<load.requests {
                let tokens = request == 0 ? load.tokens : 0
                router.started(id, on: engine, cost: TokenCost(prompt: tokens, new: 0))
                id += 1
            }
        }
        return router
    }

    @Test(arguments: UInt64(1)...20) func choosesALeastLoadedServingEngineThatIsNotExcluded(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<200 {
            let loads = (0..<Int.random(in: 0...6, using: &generator)).map { _ in
                let requests = Int.random(in: 0...2, using: &generator)
                return (requests: requests, tokens: Int.random(in: 0...3, using: &generator))
            }
            var router = router(loads)
            for index in loads.indices where Bool.random(using: &generator) {
                router.setServing(EngineID(UInt64(index)), false)
            }
            let engines = router.views
            let excluded = Set(engines.map(\.id).filter { _ in Int.random(in: 0..<4, using: &generator) == 0 })
            let candidates = engines.filter { $0.state == .serving && !excluded.contains($0.id) }
            let choice = router.choose(
                for: TokenCost(prompt: 0, new: 10), excluding: excluded, using: &generator)
            guard let chosen = candidates.first(where: { $0.id == choice }) else {
                #expect(choice == nil && candidates.isEmpty)
                continue
            }
            #expect(
                candidates.allSatisfy {
                    (chosen.outstandingTokens, chosen.outstandingRequests)
                        <= ($0.outstandingTokens, $0.outstandingRequests)
                })
        }
    }

    @Test func tiesAreBrokenUniformly() {
        var router = router([(1, 5), (1, 5), (1, 5), (1, 6), (2, 5)])
        var generator = SeededGenerator(seed: 1)
        var counts: [EngineID: Int] = [:]
        for _ in 0..<30_000 { counts[router.choose(using: &generator) ?? EngineID(.max), default: 0] += 1 }
        // Six standard deviations of a binomial distribution with p = 1/3 are 490.
        for id in 0..<3 { #expect((9_510...10_490).contains(counts[EngineID(UInt64(id))] ?? 0)) }
        #expect(counts.count == 3)
    }

    @Test func drawsNothingWithoutATie() {
        var router = router([(1, 5), (1, 4)])
        var generator = CountingGenerator()
        #expect(router.choose(using: &generator) == EngineID(1))
        #expect(generator.draws == 0)
    }

    @Test func whatOthersHaveInFlightCounts() {
        var router = router([(1, 50), (1, 60)])
        var generator = SeededGenerator(seed: 1)
        router.setForeignLoad(20, requests: 3, on: EngineID(0))
        #expect(router.choose(using: &generator) == EngineID(1))
        #expect(router.views.map(\.foreignTokens) == [20, 0] && router.views.map(\.foreignRequests) == [3, 0])
        #expect(router.views.map(\.outstandingTokens) == [50, 60])
        router.setForeignLoad(-5, requests: -5, on: EngineID(0))
        #expect(router.choose(using: &generator) == EngineID(0))
        #expect(router.views.map(\.foreignTokens) == [0, 0])
    }
}

@Suite struct RouterTests {
    private let first = EngineID(1)
    private let second = EngineID(2)

    private func routerOfTwo() -> Router {
        var router = Router()
        for id in [second, first] {
            router.engineAppeared(id)
            router.setServing(id, true)
        }
        return router
    }

    @Test func spreadsByTokensNotByRequests() {
        var router = routerOfTwo()
        var generator = SeededGenerator(seed: 3)
        router.started(1, on: first, cost: TokenCost(prompt: 1000, new: 100))
        for id in RequestID(2)..<6 {
            let choice = router.choose(using: &generator)
            #expect(choice == second)
            router.started(id, on: second, cost: TokenCost(prompt: 100, new: 100))
        }
        #expect(router.views.map(\.outstandingRequests) == [1, 4])
        router.progressed(1, on: first, newTokens: 1)
        #expect(router.choose(using: &generator) == first)
    }

    @Test func anEngineServesOnlyWhenItSaysSo() {
        var router = Router()
        var generator = SeededGenerator(seed: 3)
        router.engineAppeared(first)
        #expect(router.choose(using: &generator) == nil && !router.hasServingEngine)
        router.setServing(first, true)
        router.setServing(second, true)
        #expect(router.choose(using: &generator) == first && router.views.count == 1)
        #expect(router.choose(excluding: [first], using: &generator) == nil)
        router.setServing(first, false)
        #expect(router.choose(using: &generator) == nil)
    }

    @Test func anEngineThatIsGoneGivesItsSequencesBack() {
        var router = routerOfTwo()
        router.started(5, on: first, cost: TokenCost(prompt: 1, new: 1))
        router.started(3, on: first, cost: TokenCost(prompt: 1, new: 1))
        router.started(4, on: second, cost: TokenCost(prompt: 1, new: 1))
        router.engineAppeared(first)
        #expect(router.outstandingRequests == 3)
        #expect(router.engineGone(first) == [3, 5])
        #expect(router.engineGone(first) == [])
        router.finished(3, on: first)
        router.finished(4, on: second)
        #expect(router.outstandingRequests == 0)
        #expect(router.views == [EngineView(id: second, state: .serving)])
    }

    @Test(arguments: UInt64(1)...10) func everyFateReturnsTheLedgerToZero(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var router = routerOfTwo()
        var inFlight: [RequestID: EngineID] = [:]
        for id in RequestID(0)..<1000 {
            if let engine = router.choose(using: &generator) {
                router.started(id, on: engine, cost: TokenCost(prompt: Int(id % 97), new: 16))
                inFlight[id] = engine
            }
            for (other, engine) in inFlight.sorted(by: { $0.key < $1.key }) {
                switch Int.random(in: 0..<8, using: &generator) {
                case 0:
                    router.finished(other, on: engine)
                    inFlight[other] = nil
                case 1: router.progressed(other, on: engine, newTokens: 1)
                default: break
                }
            }
            if Int.random(in: 0..<50, using: &generator) == 0 {
                let lost = router.engineGone(first)
                #expect(lost == inFlight.filter { $0.value == first }.keys.sorted())
                for other in lost { inFlight[other] = nil }
                router.engineAppeared(first)
                router.setServing(first, true)
            }
            #expect(router.outstandingRequests == inFlight.count)
        }
        for (id, engine) in inFlight { router.finished(id, on: engine) }
        #expect(router.views.allSatisfy { $0.outstandingTokens == 0 && $0.outstandingRequests == 0 })
    }
}
