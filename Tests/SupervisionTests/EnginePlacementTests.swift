// Tandem — Apache-2.0

import Testing

@testable import Supervision

@Suite struct EnginePlacementTests {
    @Test func enginesCountThroughAndSoDoProcesses() {
        let placement = EnginePlacement([
            (engines: 4, perProcess: 2), (engines: 3, perProcess: 1), (engines: 3, perProcess: 3),
        ])
        #expect(placement.engines == [0..<2, 2..<4, 4..<5, 5..<6, 6..<7, 7..<10])
        #expect(placement.models == [0, 0, 1, 1, 1, 2])
        #expect(placement.engineCount == 10)
        #expect((0..<10).map { placement.process(of: $0) } == [0, 0, 1, 1, 2, 3, 4, 5, 5, 5])
        #expect(placement.process(of: 10) == nil)
        #expect(placement.process(of: -1) == nil)
        #expect(placement.isShared)
        let groups = placement.groups(names: ["a", "b", "c"])
        #expect(groups.map(\.name) == ["a", "b", "c"])
        #expect(groups.map(\.engines) == [0..<2, 2..<5, 5..<6])
    }

    @Test func aProcessEachIsAsBefore() {
        let placement = EnginePlacement(engines: 3)
        #expect(placement.engines == [0..<1, 1..<2, 2..<3])
        #expect(!placement.isShared)
        #expect(placement.title(2) == "engine 2")
    }

    @Test func theLastProcessTakesTheRest() {
        #expect(EnginePlacement([(engines: 5, perProcess: 2)]).engines == [0..<2, 2..<4, 4..<5])
        #expect(EnginePlacement([(engines: 2, perProcess: 8)]).engines == [0..<2])
        #expect(EnginePlacement([(engines: 2, perProcess: 0)]).engines == [0..<1, 1..<2])
        #expect(EnginePlacement([(engines: 0, perProcess: 1)]).engines == [0..<1])
    }

    @Test func titlesSayWhichEngines() {
        let placement = EnginePlacement([(engines: 2, perProcess: 2), (engines: 4, perProcess: 4)])
        #expect(placement.title(0) == "the process of engines 0 and 1")
        #expect(placement.title(1) == "the process of engines 2 to 5")
        #expect(placement.title(2) == "process 2")
    }

    @Test func aProcessGetsTheCoresOfItsEngines() {
        let plan = CorePlan(usable: [0, 1, 2, 3, 4, 5], engines: 3, threads: nil)
        #expect(plan.cores(of: 0..<2) == [0, 1, 2, 3])
        #expect(plan.arguments(of: 1..<3) == ["--cores", "2,3", "--cores", "4,5"])
        // Too few cores: engines take turns, and a process has each once.
        let narrow = CorePlan(usable: [6, 7], engines: 4, threads: nil)
        #expect(narrow.cores(of: 0..<4) == [6, 7])
        #expect(CorePlan(usable: [], engines: 2, threads: nil).arguments(of: 0..<2) == [])
    }
}
