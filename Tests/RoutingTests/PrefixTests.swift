// Tandem — Apache-2.0

import Requests
import TestSupport
import Testing

@testable import Routing

/// Block `index` of a chain that begins with `chain`.
private func block(_ chain: Int, _ index: Int) -> BlockHash {
    BlockHash(Digest128(high: UInt64(chain), low: UInt64(chain) << 32 | UInt64(index)))
}

private func chain(_ chain: Int, _ count: Int) -> [BlockHash] { (0..<count).map { block(chain, $0) } }

private struct Flag: Vacatable, Sendable, Equatable {
    var rawValue: Int
    static let vacant = Flag(rawValue: 0)
    var isVacant: Bool { rawValue == 0 }
}

@Suite struct BlockHashTableTests {
    @Test(arguments: UInt64(1)...10) func agreesWithADictionary(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var table = BlockHashTable<Flag>(maximumBytes: 1 << 20)
        var model: [BlockHash: Int] = [:]
        for _ in 0..<5000 {
            // Few low halves, so that places collide.
            let hash = BlockHash(
                Digest128(
                    high: .random(in: 0..<40, using: &generator), low: .random(in: 0..<8, using: &generator)))
            let value = Int.random(in: 0..<3, using: &generator)
            #expect(table.update(hash) { $0.rawValue = value })
            model[hash] = value == 0 ? nil : value
            #expect(table.count == model.count)
            if Int.random(in: 0..<500, using: &generator) == 0 {
                table.updateAll { $0.rawValue = $0.rawValue == 1 ? 0 : $0.rawValue }
                model = model.filter { $0.value != 1 }
            }
            let other = BlockHash(
                Digest128(
                    high: .random(in: 0..<40, using: &generator), low: .random(in: 0..<8, using: &generator)))
            #expect(table[other].rawValue == model[other] ?? 0)
        }
        for (hash, value) in model { #expect(table[hash].rawValue == value) }
    }

    @Test func takesNoMoreThanItMay() {
        var table = BlockHashTable<Flag>(maximumBytes: 100_000)
        var taken = 0
        for index in 0..<100_000 where table.update(block(1, index), { $0.rawValue = 1 }) { taken += 1 }
        #expect(table.byteCount <= 100_000 && taken == table.count && taken > 1000)
        // There is room again where something goes, and what is there may change.
        #expect(!table.update(block(2, 0)) { $0.rawValue = 1 })
        #expect(table.update(block(1, 0)) { $0.rawValue = 2 })
        #expect(table.update(block(1, 0)) { $0 = .vacant })
        #expect(table.update(block(2, 0)) { $0.rawValue = 1 })
    }
}

@Suite struct RecentBlocksTests {
    @Test(arguments: UInt64(1)...10) func keepsWhatWasUsedLast(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let capacity = Int.random(in: 1...20, using: &generator)
        var recent = RecentBlocks(capacity: capacity)
        var model: [BlockHash] = []
        for _ in 0..<2000 {
            let hash = block(1, .random(in: 0..<40, using: &generator))
            model.removeAll { $0 == hash }
            model.append(hash)
            let evicted = model.count > capacity ? model.removeFirst() : nil
            #expect(recent.use(hash) == evicted)
            #expect(recent.count == model.count)
            let other = block(1, .random(in: 0..<40, using: &generator))
            #expect(recent.contains(other) == model.contains(other))
        }
    }
}

@Suite struct PrefixIndexTests {
    private func lengths(_ index: PrefixIndex, _ prefix: [BlockHash]) -> [Int] {
        var lengths = Array(repeating: -1, count: index.slots)
        index.match(prefix, into: &lengths)
        return lengths
    }

    @Test(arguments: UInt64(1)...10) func knowsWhatEnginesTell(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var index = PrefixIndex()
        // More than 64, so that two pages are used.
        let count = seed % 2 == 0 ? 70 : 3
        var model: [Set<BlockHash>] = Array(repeating: [], count: count)
        for slot in 0..<count { #expect(index.addEngine(.told) == slot) }
        for _ in 0..<300 {
            let slot = Int.random(in: 0..<count, using: &generator)
            func some() -> [BlockHash] {
                (0..<Int.random(in: 0...6, using: &generator)).map { _ in
                    block(.random(in: 0..<2, using: &generator), .random(in: 0..<5, using: &generator))
                }
            }
            let (evicted, stored) = (some(), some())
            index.reported(stored: stored, evicted: evicted, by: slot)
            model[slot].subtract(evicted)
            model[slot].formUnion(stored)
            if Int.random(in: 0..<20, using: &generator) == 0 {
                index.removeEngine(slot)
                #expect(index.addEngine(.told) == slot)
                model[slot] = []
            }
            let prefix = chain(.random(in: 0..<2, using: &generator), 5)
            #expect(lengths(index, prefix) == model.map { blocks in prefix.prefix { blocks.contains($0) }.count })
        }
    }

    @Test func aBurstStaysTogetherBeforeItsEngineSaysAnything() {
        var index = PrefixIndex()
        for _ in 0..<2 { _ = index.addEngine(.told) }
        index.sent(1, prefix: chain(1, 4), to: 1)
        index.sent(2, prefix: chain(1, 6), to: 1)
        #expect(lengths(index, chain(1, 8)) == [0, 6])
        // The engine is slow: it reports this and that, and has not begun.
        for _ in 0..<10 { index.reported(stored: [], evicted: [], by: 1) }
        #expect(lengths(index, chain(1, 8)) == [0, 6])
        #expect(index.sequences(on: 1, beginningWith: block(1, 3)) == 2)
        #expect(index.sequences(on: 1, beginningWith: block(1, 4)) == 1)
        #expect(index.sequences(on: 0, beginningWith: block(1, 4)) == 0)
        // One is given up; what the other will store is still expected.
        index.ended(2, on: 1)
        for _ in 0..<2 { index.reported(stored: [], evicted: [], by: 1) }
        #expect(lengths(index, chain(1, 8)) == [0, 4])
        // The other ends, and is stored but for its last block.
        index.ended(1, on: 1)
        index.reported(stored: chain(1, 3), evicted: [], by: 1)
        #expect(lengths(index, chain(1, 8)) == [0, 4])
        index.reported(stored: [], evicted: [], by: 1)
        #expect(lengths(index, chain(1, 8)) == [0, 3])
        index.reported(stored: [], evicted: [block(1, 1)], by: 1)
        #expect(lengths(index, chain(1, 8)) == [0, 1])
        index.reported(stored: [], evicted: [block(1, 0), block(1, 2)], by: 1)
        #expect(index.count == 0)
    }

    @Test func ofSilentEnginesTheLastIsTakenForHeld() {
        var limits = PrefixLimits()
        limits.guessedBlocks = 10
        var index = PrefixIndex(limits: limits)
        for _ in 0..<2 { _ = index.addEngine(.guessed) }
        index.sent(1, prefix: chain(1, 6), to: 0)
        index.sent(2, prefix: chain(2, 6), to: 0)
        // Of the older one the end went.
        #expect(lengths(index, chain(1, 6)) == [4, 0] && lengths(index, chain(2, 6)) == [6, 0])
        index.sent(3, prefix: chain(1, 4), to: 0)
        index.sent(4, prefix: chain(3, 4), to: 0)
        #expect(lengths(index, chain(1, 6)) == [4, 0] && lengths(index, chain(2, 6)) == [2, 0])
        #expect(index.count == 10)
        index.removeEngine(0)
        #expect(index.count == 0 && lengths(index, chain(3, 4)) == [0, 0])
    }

    @Test(arguments: UInt64(1)...4) func neverTakesMoreThanItMay(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var limits = PrefixLimits()
        limits.bytes = 64 << 10
        limits.guessedBlocks = 500
        limits.expectedBlocks = 300
        var index = PrefixIndex(limits: limits)
        for slot in 0..<4 { _ = index.addEngine(slot % 2 == 0 ? .told : .guessed) }
        for id in RequestID(0)..<3000 {
            let prefix = chain(.random(in: 0..<1_000_000, using: &generator), .random(in: 1...80, using: &generator))
            let slot = Int.random(in: 0..<4, using: &generator)
            index.sent(id, prefix: prefix, to: slot)
            if Bool.random(using: &generator) { index.ended(id, on: slot) }
            if slot % 2 == 0, Bool.random(using: &generator) { index.reported(stored: prefix, evicted: [], by: slot) }
            #expect(index.byteCount <= 64 << 10)
        }
        for slot in 0..<4 { index.removeEngine(slot) }
        #expect(index.count == 0)
    }
}

@Suite struct PrefixRoutingTests {
    private let engines = [EngineID(1), EngineID(2), EngineID(3)]

    private func router() -> Router {
        var router = Router()
        for engine in engines {
            router.engineAppeared(engine)
            router.setServing(engine, true)
        }
        return router
    }

    @Test func aPrefixWinsUntilItsEngineIsBusierThanThatIsWorth() {
        var router = router()
        var generator = SeededGenerator(seed: 1)
        router.prefixesChanged(stored: chain(1, 10), evicted: [], on: engines[1])
        let hints = RoutingHints(prefix: chain(1, 12), blockSize: 16)
        let cost = TokenCost(prompt: 200, new: 10)
        #expect(
            router.decide(for: cost, hints: hints, using: &generator)
                == RoutingDecision(engine: engines[1], reason: .prefix, cachedTokens: 160))
        router.started(1, on: engines[1], cost: TokenCost(prompt: 157, new: 0))
        #expect(router.choose(for: cost, hints: hints, using: &generator) == engines[1])
        router.started(2, on: engines[1], cost: TokenCost(prompt: 2, new: 0))
        let other = router.decide(for: cost, hints: hints, using: &generator)
        #expect(other?.engine != engines[1] && other?.reason == .load && other?.cachedTokens == 0)
    }

    @Test func whatIsCachedCostsNothing() {
        var router = router()
        let hints = RoutingHints(prefix: chain(1, 4), blockSize: 16)
        router.started(
            1, on: engines[0], cost: TokenCost(prompt: 100, new: 10), hints: hints, cachedTokens: 64)
        #expect(router.views[0].outstandingTokens == 46)
        router.finished(1, on: engines[0])
        #expect(router.views[0].outstandingTokens == 0)
    }

    @Test func theLastTokenOfAPromptIsAlwaysComputed() {
        var router = router()
        var generator = SeededGenerator(seed: 1)
        router.prefixesChanged(stored: chain(1, 10), evicted: [], on: engines[0])
        let decision = router.decide(
            for: TokenCost(prompt: 160, new: 1), hints: RoutingHints(prefix: chain(1, 10), blockSize: 16),
            using: &generator)
        #expect(decision?.cachedTokens == 159)
        let absurd = router.decide(
            for: TokenCost(prompt: 160, new: 1), hints: RoutingHints(prefix: chain(1, 10), blockSize: .max),
            using: &generator)
        #expect(absurd?.cachedTokens == 159)
    }

    @Test(arguments: UInt64(1)...10) func coldPromptsGoToTheLeastLoaded(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var router = router()
        for id in RequestID(1)...300 {
            let hints = RoutingHints(
                prefix: chain(Int(id % 3 == 0 ? 0 : id), .random(in: 1...20, using: &generator)), blockSize: 16)
            let cost = TokenCost(prompt: hints.prefix.count * 16 + 5, new: .random(in: 1...300, using: &generator))
            // What a prompt costs where none of it is cached.
            func cold(_ view: EngineView) -> Double {
                let share = 1 + RoutingPolicy().interference * Double(view.outstandingRequests)
                return Double(view.outstandingTokens) + share * Double(cost.prompt)
            }
            let views = router.views
            let least = views.map(cold).min() ?? 0
            guard let decision = router.decide(for: cost, hints: hints, using: &generator) else {
                Issue.record("three engines serve")
                return
            }
            guard let chosen = views.first(where: { $0.id == decision.engine }) else { return }
            if decision.cachedTokens == 0 { #expect(cold(chosen) == least) }
            // Never busier than others by more than what it saves.
            let share = 1 + RoutingPolicy().interference * Double(chosen.outstandingRequests)
            #expect(cold(chosen) - least <= share * Double(decision.cachedTokens) + 0.001)
            router.started(
                id, on: decision.engine, cost: cost, hints: hints, cachedTokens: decision.cachedTokens)
            if Bool.random(using: &generator) { router.finished(id, on: decision.engine) }
        }
    }

    @Test func aPopularPrefixSpreadsToIdleEngines() {
        var router = router()
        var generator = SeededGenerator(seed: 1)
        router.prefixesChanged(stored: chain(1, 10), evicted: [], on: engines[0])
        let hints = RoutingHints(prefix: chain(1, 10), blockSize: 16)
        let cost = TokenCost(prompt: 170, new: 0)
        var id: RequestID = 0
        func send() -> EngineID? {
            guard let decision = router.decide(for: cost, hints: hints, using: &generator) else { return nil }
            id += 1
            router.started(
                id, on: decision.engine, cost: cost, hints: hints, cachedTokens: decision.cachedTokens)
            return decision.engine
        }
        // Four of them cost the first engine as little as one costs an idle one; but they are popular.
        #expect(send() == engines[0] && send() == engines[0])
        var spread: Set<EngineID> = []
        for _ in 0..<3 { if let engine = send() { spread.insert(engine) } }
        #expect(spread.count > 1)
    }

    @Test func sessionsStayAndSurviveTheLossOfOthers() {
        var router = router()
        var generator = SeededGenerator(seed: 1)
        let cost = TokenCost(prompt: 100, new: 10)
        func engine(_ session: UInt64) -> EngineID? {
            router.choose(for: cost, hints: RoutingHints(session: session), using: &generator)
        }
        let before = (0..<300).map { engine($0) }
        #expect(before == (0..<300).map { engine($0) })
        for id in engines { #expect((60...140).contains(before.count { $0 == id })) }
        router.engineGone(engines[1])
        for (session, old) in before.enumerated() where old != engines[1] { #expect(engine(UInt64(session)) == old) }
        // It comes back under another id, and so do its sessions.
        router.engineAppeared(EngineID(9), key: engines[1].rawValue)
        router.setServing(EngineID(9), true)
        for (session, old) in before.enumerated() where old == engines[1] {
            #expect(engine(UInt64(session)) == EngineID(9))
        }
        let decision = router.decide(for: cost, hints: RoutingHints(session: 5), using: &generator)
        #expect(decision?.reason == .session)
    }

    @Test func aSessionIsWorthOnlySoMuch() {
        var router = router()
        var generator = SeededGenerator(seed: 1)
        let hints = RoutingHints(session: 7)
        let cost = TokenCost(prompt: 100, new: 10)
        guard let own = router.choose(for: cost, hints: hints, using: &generator) else { return }
        let worth = RoutingPolicy().sessionTokens
        router.started(1, on: own, cost: TokenCost(prompt: worth - 6, new: 0))
        #expect(router.choose(for: cost, hints: hints, using: &generator) == own)
        router.started(2, on: own, cost: TokenCost(prompt: 7, new: 0))
        #expect(router.choose(for: cost, hints: hints, using: &generator) != own)
    }

    @Test func theOnlyEngineIsNoDecision() {
        var router = router()
        var generator = CountingGenerator()
        let decision = router.decide(
            for: TokenCost(prompt: 5, new: 5), excluding: [engines[0], engines[2]], using: &generator)
        #expect(decision == RoutingDecision(engine: engines[1], reason: .only, cachedTokens: 0))
        #expect(generator.draws == 0)
    }
}

@Suite struct LengthEstimateTests {
    @Test func learnsWhatSequencesReallyGenerate() {
        var estimate = LengthEstimate()
        #expect(estimate.tokens(limit: 0) == 0 && estimate.tokens(limit: 5) == 5 && estimate.tokens(limit: -3) == 0)
        for _ in 0..<200 { estimate.learn(limit: 8000, count: 40) }
        #expect((40...42).contains(estimate.tokens(limit: 8000)))
        // Those with other limits are others.
        #expect(estimate.tokens(limit: 256) == 128)
        for _ in 0..<1000 { estimate.learn(limit: .max, count: .max) }
        #expect(estimate.tokens(limit: .max) > 1 << 29)
    }

    @Test func aSequenceThatOutlivesExpectationsStillCosts() {
        var ledger = InFlightLedger()
        ledger.add(1, cost: TokenCost(prompt: 0, new: 1000), expected: 100)
        #expect(ledger.outstandingTokens == 100)
        ledger.progress(1, newTokens: 70)
        #expect(ledger.outstandingTokens == 50)
        ledger.progress(1, newTokens: 900)
        #expect(ledger.outstandingTokens == 30)
        #expect(ledger.remove(1) ?? (0, 0) == (1000, 970))
        #expect(ledger.outstandingTokens == 0)
    }
}
