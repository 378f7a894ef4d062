// Tandem — Apache-2.0

import EngineLink
import Glibc
import Testing

@testable import Supervision

@Suite struct MemoryWatchTests {
    private static let mebibyte: UInt64 = 1 << 20

    private static func watch(_ plans: [UInt64?] = [800, 800]) -> MemoryWatch {
        MemoryWatch(plans: plans.map { $0.map { $0 * mebibyte } })
    }

    private func samples(_ mebibytes: [UInt64], pids: [Int32] = [1, 2, 3]) -> [MemorySample] {
        mebibytes.enumerated().map { MemorySample(engine: $0, pid: pids[$0], bytes: $1 * Self.mebibyte) }
    }

    @Test func theMarginIsAPartOfThePlanAndNeverSmall() {
        #expect(Self.watch([800]).limit(of: 0) == 900 * Self.mebibyte)
        #expect(Self.watch([80]).limit(of: 0) == 144 * Self.mebibyte)
        #expect(Self.watch([nil]).limit(of: 0) == nil)
        #expect(Self.watch().limit(of: 7) == nil)
        #expect(MemoryWatch(plans: [.max]).limit(of: 0) == .max)
    }

    @Test func onlyWhatLastsIsReportedAndOnlyOnce() {
        var watch = Self.watch()
        #expect(watch.read(samples([900, 10]), at: .seconds(0)) == [])
        #expect(watch.read(samples([901, 10]), at: .seconds(3)) == [])
        #expect(watch.read(samples([950, 10]), at: .seconds(32)) == [])
        #expect(watch.due(at: .seconds(32)) == [])
        #expect(watch.read(samples([950, 10]), at: .seconds(33)) == [0])
        #expect(watch.isAbovePlan(0) && !watch.isAbovePlan(1))
        #expect(watch.due(at: .seconds(33)) == [0])
        #expect(watch.read(samples([960, 10]), at: .seconds(63)) == [])
        #expect(watch.engines[0].highWater == 960 * Self.mebibyte)
        // Once below it, everything begins anew.
        #expect(watch.read(samples([900, 10]), at: .seconds(66)) == [])
        #expect(watch.due(at: .seconds(66)) == [] && !watch.isAbovePlan(0))
        #expect(watch.read(samples([950, 10]), at: .seconds(69)) == [])
        #expect(watch.read(samples([950, 10]), at: .seconds(99)) == [0])
        #expect(watch.engines[0].highWater == 960 * Self.mebibyte)
    }

    @Test func anotherProcessStartsFromNothing() {
        var watch = Self.watch()
        _ = watch.read(samples([950]), at: .seconds(0))
        #expect(watch.read(samples([950], pids: [9]), at: .seconds(60)) == [])
        #expect(watch.read(samples([20], pids: [10]), at: .seconds(61)) == [])
        #expect(watch.engines[0].highWater == 20 * Self.mebibyte)
    }

    @Test func withoutAPlanItOnlyLooks() {
        var watch = Self.watch([nil])
        for second in 0..<100 { #expect(watch.read(samples([1 << 20]), at: .seconds(second)) == []) }
        #expect(watch.engines[0].highWater == 1 << 40)
        #expect(watch.read([MemorySample(engine: 7, pid: 1, bytes: 1)], at: .seconds(100)) == [])
    }

    @Test func restartsAreFarApartAndTheWorstIsFirst() {
        var watch = Self.watch([800, 800, 800])
        for second in stride(from: 0, through: 30, by: 3) {
            _ = watch.read(samples([950, 990, 10]), at: .seconds(second))
        }
        #expect(watch.due(at: .seconds(30)) == [1, 0])
        watch.restarted(1, at: .seconds(30))
        #expect(watch.due(at: .seconds(149)) == [])
        #expect(watch.due(at: .seconds(150)) == [0])
        watch.restarted(0, at: .seconds(150))
        // Both are above it again at once: the plan is wrong, and restarts do not help.
        for second in stride(from: 151, through: 190, by: 3) {
            _ = watch.read(samples([950, 990, 10], pids: [11, 12, 3]), at: .seconds(second))
        }
        #expect(watch.isAbovePlan(0) && watch.isAbovePlan(1))
        #expect(watch.due(at: .seconds(929)) == [])
        #expect(watch.due(at: .seconds(930)) == [1])
    }

    private func growing(models: [Int] = [2], plans: [UInt64?] = [800, 800]) -> AdministrationHarness {
        AdministrationHarness(models: models, memory: Self.watch(plans))
    }

    /// What is asked for while engines hold this for so long.
    private func hold(
        _ mebibytes: [UInt64], from: Int, through: Int, _ harness: inout AdministrationHarness
    ) -> [SupervisorAction] {
        stride(from: from, through: through, by: 3).flatMap { second in
            harness.now = .seconds(second)
            let pids = harness.state.engines.map(\.pid)
            return harness.send(.memoryRead(samples(mebibytes, pids: pids)))
        }
    }

    @Test func anEngineAboveItsPlanIsWarnedOfAndRestarted() {
        var harness = growing()
        #expect(hold([950, 100], from: 0, through: 27, &harness).isEmpty)
        let actions = hold([950, 100], from: 30, through: 30, &harness)
        #expect(actions.steps == [.terminate(.engine(0))])
        #expect(actions.logLines.first?.hasPrefix("engine 0 holds 950 MiB of memory, 800 MiB were planned") == true)
        let memory = harness.status.engines[0].memory
        #expect(memory.isAbovePlan && memory.now == 950 << 20 && memory.plan == 800 << 20)
        _ = harness.restart(0)
        #expect(harness.state.currentRoster.engines[0].reason == "was restarted for its memory")
        #expect(harness.status.engines[0].memory == MemoryStatus(plan: 800 << 20))
        #expect(hold([100, 100], from: 33, through: 60, &harness).isEmpty)
        #expect(harness.status.engines[0].memory.isAbovePlan == false)
    }

    @Test func theLastServingEngineIsLeftAloneUntilAnotherServes() {
        var harness = growing()
        _ = harness.order(.drain(engine: 1, isForced: false))
        let actions = hold([950, 100], from: 0, through: 90, &harness)
        #expect(actions.steps.isEmpty)
        #expect(actions.logLines.count == 1)
        _ = harness.order(.resume(engine: 1))
        #expect(hold([950, 100], from: 93, through: 93, &harness).steps == [.terminate(.engine(0))])
    }

    @Test func neverTwoAtOnceAndNotDuringOtherRestarts() {
        var harness = growing()
        let actions = hold([990, 950], from: 0, through: 90, &harness)
        #expect(actions.steps == [.terminate(.engine(0))])
        _ = harness.restart(0)
        #expect(hold([100, 950], from: 93, through: 147, &harness).steps.isEmpty)
        #expect(hold([100, 950], from: 150, through: 153, &harness).steps == [.terminate(.engine(1))])
        var rolling = growing()
        _ = rolling.order(.restartAll(isForced: false))
        #expect(hold([100, 950], from: 0, through: 60, &rolling).steps.filter { $0 == .terminate(.engine(1)) } == [])
    }

    @Test func whatWasReadOfADeadProcessIsForgotten() {
        var harness = growing()
        harness.now = .seconds(1)
        _ = harness.send(.memoryRead([MemorySample(engine: 0, pid: 99, bytes: 5)]))
        #expect(harness.status.engines[0].memory == MemoryStatus(plan: 800 << 20))
    }
}

@Suite struct ProcessMemoryTests {
    @Test func anonymousPagesCountAndSharedOnesDoNot() {
        let status = """
            Name:\ttandem
            VmHWM:\t  900000 kB
            VmRSS:\t  800000 kB
            RssAnon:\t    1000 kB
            RssFile:\t   20000 kB
            RssShmem:\t  779000 kB
            VmSwap:\t      24 kB

            """
        #expect(ProcessMemory.ownBytes(status: status) == 1024 * 1024)
        #expect(ProcessMemory.ownBytes(status: "RssAnon: 7 kB\n") == 7168)
        #expect(ProcessMemory.ownBytes(status: "RssAnon: x kB\n") == nil)
        #expect(ProcessMemory.ownBytes(status: "VmRSS: 5 kB\n") == nil)
        #expect(ProcessMemory.ownBytes(status: "RssAnon: 18446744073709551615 kB\n") == .max)
    }

    @Test func thisProcessHasMemoryAndNoneHasNone() {
        #expect(ProcessMemory.ownBytes(of: getpid()) ?? 0 > 0)
        #expect(ProcessMemory.ownBytes(of: 0) == nil)
        #expect(ProcessMemory.ownBytes(of: 99_999_999) == nil)
    }
}
