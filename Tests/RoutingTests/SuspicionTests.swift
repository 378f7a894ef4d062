// Tandem — Apache-2.0

import Requests
import TestSupport
import Testing

@testable import Routing

@Suite struct SuspicionTests {
    private func lose(
        _ suspicion: inout Suspicion, _ ids: [RequestID], proven: Bool = true, at seconds: Int = 0
    ) -> [RequestID] {
        suspicion.engineLost(
            EngineID(UInt64(1000 + seconds)), with: ids, othersAreProven: proven, at: .seconds(seconds))
    }

    @Test func aSequenceIsTriedAloneAndConvicted() {
        var suspicion = Suspicion()
        for second in [0, 10] { #expect(lose(&suspicion, [1, 2], at: second).isEmpty) }
        #expect(!suspicion.isAlarmed && suspicion.mayBegin(1) && !suspicion.isEmpty)
        #expect(lose(&suspicion, [1, 2], at: 20).isEmpty)
        #expect(suspicion.isAlarmed && suspicion.isSuspect(1) && suspicion.isSuspect(2) && suspicion.losses(of: 1) == 3)
        for second in [30, 40, 50] {
            #expect(suspicion.mayBegin(1))
            suspicion.began(1)
            // Suspects and whatever is new wait.
            #expect(!suspicion.mayBegin(2) && !suspicion.mayBegin(3))
            #expect(lose(&suspicion, [1], at: second) == (second == 50 ? [1] : []))
        }
        #expect(!suspicion.isSuspect(1) && suspicion.isSuspect(2) && suspicion.mayBegin(2))
        suspicion.began(2)
        suspicion.cleared(2)
        #expect(suspicion.isEmpty && !suspicion.isAlarmed && suspicion.mayBegin(3))
    }

    /// An engine whose device fails says so, may be asked again before it ends, and ends.
    @Test func whatOneEngineSaysTwiceIsOneLoss() {
        var suspicion = Suspicion()
        for engine in UInt64(0)..<6 {
            for _ in 0..<5 {
                suspicion.began(1)
                let lost = suspicion.engineLost(
                    EngineID(engine), with: [1], othersAreProven: true, at: .seconds(Int64(engine)))
                #expect(lost == (engine == 5 ? [1] : []))
                if engine == 5 { break }
            }
            if engine < 5 { #expect(suspicion.losses(of: 1) == engine + 1) }
        }
        #expect(suspicion.isEmpty)
    }

    @Test func tokensAndEndsClear() {
        var suspicion = Suspicion()
        for round in 0..<100 {
            #expect(lose(&suspicion, [1], at: 10 * round).isEmpty)
            suspicion.cleared(1)
        }
        #expect(suspicion.isEmpty)
        for second in 0..<3 { _ = lose(&suspicion, [1, 2], at: 2000 + second) }
        suspicion.began(1)
        suspicion.forget(1)
        #expect(suspicion.mayBegin(2) && suspicion.isAlarmed)
        suspicion.began(2)
        suspicion.suspend(2)
        #expect(suspicion.onTrial.isEmpty && suspicion.isSuspect(2))
        suspicion.forget(2)
        #expect(suspicion.isEmpty && !suspicion.isAlarmed)
    }

    @Test func moreBeginAtOnceWhenThoseBeforeDidNoHarm() {
        var suspicion = Suspicion()
        let all = Array(RequestID(0)..<100)
        for second in 0..<3 { _ = lose(&suspicion, all, at: second) }
        var next = 0
        var rounds = 0
        while next < all.count {
            let first = next
            while next < all.count, suspicion.mayBegin(all[next]) {
                suspicion.began(all[next])
                next += 1
            }
            for id in all[first..<next] { suspicion.cleared(id) }
            rounds += 1
        }
        #expect(rounds == 7)
        #expect(suspicion.isEmpty)
    }

    /// What began before the alarm may be the cause too.
    @Test func noChargeBesideOthersThatGotNothingYet() {
        var suspicion = Suspicion()
        for second in 0..<20 {
            suspicion.began(1)
            #expect(lose(&suspicion, [1], proven: false, at: 10 * second).isEmpty)
        }
        for second in 30..<33 {
            suspicion.began(1)
            #expect(lose(&suspicion, [1], at: 10 * second) == (second == 32 ? [1] : []))
        }
    }

    @Test func whereEnginesDieAnywayASequenceIsInnocent() {
        var suspicion = Suspicion()
        for round in 0..<50 {
            suspicion.began(1)
            #expect(lose(&suspicion, [1], at: 20 * round).isEmpty)
            #expect(lose(&suspicion, [], at: 20 * round + 10).isEmpty)
        }
        // All engines that end at once do so for one reason.
        var group = Suspicion()
        for round in 0..<6 {
            group.began(1)
            #expect(lose(&group, [], at: 20 * round).isEmpty)
            #expect(lose(&group, [1], at: 20 * round + 1) == (round == 5 ? [1] : []))
            if round < 5 { #expect(lose(&group, [], at: 20 * round + 2).isEmpty) }
        }
    }

    /// Engines and sequences as a gateway has them, without times but rounds of ten seconds.
    private struct World {
        var suspicion = Suspicion()
        var random: SeededGenerator
        let engines: Int
        /// Whether one engine that ends takes all others with it.
        let shared: Bool
        var poison: Set<RequestID> = []
        var waiting: [RequestID] = []
        /// Where sequences run, and whether they have got a token there.
        var running: [RequestID: (engine: Int, proven: Bool)] = [:]
        var refused: [RequestID] = []
        var lossesBy: [RequestID: Int] = [:]
        var finished = 0
        var round = 0
        var next: RequestID = 1

        init(seed: UInt64, engines: Int, shared: Bool) {
            random = SeededGenerator(seed: seed)
            self.engines = engines
            self.shared = shared
        }

        mutating func arrive(poison isPoison: Bool) {
            if isPoison { poison.insert(next) }
            waiting.append(next)
            next += 1
        }

        /// - Parameter kills: engines that end for reasons of their own.
        mutating func step(kills: Set<Int> = []) {
            round += 1
            waiting.sort { (suspicion.losses(of: $1), $0) < (suspicion.losses(of: $0), $1) }
            for id in waiting where suspicion.mayBegin(id) {
                suspicion.began(id)
                running[id] = (Int(random.next() % UInt64(engines)), false)
            }
            waiting.removeAll { running[$0] != nil }
            var lost = kills
            for id in poison {
                guard let place = running[id] else { continue }
                lost.insert(place.engine)
                lossesBy[id, default: 0] += 1
            }
            if shared, !lost.isEmpty { lost = Set(0..<engines) }
            for (id, place) in running.sorted(by: { $0.key < $1.key }) where !lost.contains(place.engine) {
                suspicion.cleared(id)
                running[id]?.proven = true
                if random.next() % 4 == 0 {
                    running[id] = nil
                    finished += 1
                }
            }
            for engine in lost.sorted() {
                let ids = running.filter { $0.value.engine == engine }.map(\.key).sorted()
                let proven = running.allSatisfy { $0.value.proven || suspicion.onTrial.contains($0.key) }
                let convicted = suspicion.engineLost(
                    EngineID(UInt64(round * engines + engine)), with: ids, othersAreProven: proven,
                    at: .seconds(10 * round + (shared ? 0 : 2 * engine)))
                refused += convicted
                for id in ids { running[id] = nil }
                waiting += ids.filter { !convicted.contains($0) }
            }
        }
    }

    @Test(arguments: [(1, false), (2, false), (4, false), (2, true), (4, true)])
    func poisonIsFoundAndNobodyElse(engines: Int, shared: Bool) {
        for seed in 0..<20 {
            var world = World(seed: UInt64(seed), engines: engines, shared: shared)
            for round in 0..<200 {
                for _ in 0..<Int(world.random.next() % 4) { world.arrive(poison: false) }
                if round % 50 == 20 { world.arrive(poison: true) }
                world.step()
            }
            for _ in 0..<100 { world.step() }
            #expect(Set(world.refused) == world.poison && world.poison.count == 4, "seed \(seed)")
            #expect(world.lossesBy.values.allSatisfy { $0 <= 7 }, "seed \(seed): \(world.lossesBy)")
            #expect(world.waiting.isEmpty && world.running.isEmpty && world.suspicion.isEmpty, "seed \(seed)")
            #expect(world.finished + world.refused.count == Int(world.next) - 1)
        }
    }

    /// Engines that are killed at random: one of ten for each time that a sequence needs to get to its first token.
    @Test(arguments: [1, 2, 3, 4]) func randomDeathsConvictNobody(engines: Int) {
        for seed in 0..<20 {
            var world = World(seed: UInt64(1000 + seed), engines: engines, shared: false)
            for _ in 0..<300 {
                for _ in 0..<Int(world.random.next() % 4) { world.arrive(poison: false) }
                world.step(kills: Set((0..<engines).filter { _ in world.random.next() % 10 == 0 }))
            }
            for _ in 0..<100 { world.step() }
            #expect(world.refused.isEmpty, "seed \(seed)")
            #expect(world.waiting.isEmpty && world.running.isEmpty && world.suspicion.isEmpty)
        }
    }
}
