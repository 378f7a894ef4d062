// Tandem — Apache-2.0

import EngineLink
import Requests
import Testing

@testable import Supervision

@Suite struct WeightOwnerMachineTests {
    private static let weights = SharedWeights(
        sharing: "descriptor", model: Digest128(high: 1, low: 2), layout: 3, byteCount: 4, mappedBytes: 5,
        device: "GPU-1")

    private static func isStart(_ action: WeightOwnerMachine.Action) -> Bool {
        if case .start = action { true } else { false }
    }

    private static func lines(_ actions: [WeightOwnerMachine.Action]) -> [String] {
        actions.compactMap { if case .log(_, let text) = $0 { text } else { nil } }
    }

    @Test func anOwnerThatDiesIsStartedAgainAndThatIsSaid() throws {
        var machine = WeightOwnerMachine(title: "qwen")
        #expect(machine.handle(.begin, at: .zero).contains(where: Self.isStart))
        #expect(machine.handle(.started(pid: 50), at: .zero) == [])
        #expect(machine.handle(.said(.ready(Self.weights)), at: .seconds(1)) == [])
        #expect(machine.phase == .holding(Self.weights) && machine.pid == 50 && machine.nextDeadline == nil)
        let died = machine.handle(.ended(reason: "was killed by signal 9"), at: .seconds(100))
        #expect(!died.contains(where: Self.isStart))
        let line = try #require(Self.lines(died).first)
        #expect(line.contains("qwen") && line.contains("was killed by signal 9"))
        #expect(machine.pid == 0 && machine.restarts == 1)
        let deadline = try #require(machine.nextDeadline)
        #expect(deadline > .seconds(100) && deadline < .seconds(102))
        // Not a moment earlier.
        #expect(machine.handle(.timePassed, at: deadline - .milliseconds(1)) == [])
        #expect(machine.handle(.timePassed, at: deadline).contains(where: Self.isStart))
        #expect(machine.nextDeadline == nil)
    }

    @Test func oneThatNeverServesIsTriedEverMoreRarely() throws {
        var machine = WeightOwnerMachine(title: "qwen")
        _ = machine.handle(.begin, at: .zero)
        var now = Duration.zero
        var waits: [Duration] = []
        for _ in 0..<12 {
            _ = machine.handle(.notStarted(reason: "no memory"), at: now)
            let deadline = try #require(machine.nextDeadline)
            waits.append(deadline - now)
            now = deadline
            #expect(machine.handle(.timePassed, at: now).contains(where: Self.isStart))
        }
        #expect(waits == waits.sorted() && waits.last == RestartPolicy.Settings.engine.failedDelay)
    }

    @Test func aRefusalIsSaidOnce() throws {
        var machine = WeightOwnerMachine(title: "qwen")
        _ = machine.handle(.begin, at: .zero)
        _ = machine.handle(.started(pid: 50), at: .zero)
        let lines = Self.lines(machine.handle(.said(.refused(reason: "the GPU is full")), at: .zero))
        #expect(lines.count == 1 && lines[0].contains("the GPU is full"))
        #expect(machine.phase == .refusing(reason: "the GPU is full") && machine.nextDeadline == nil)
        #expect(machine.handle(.timePassed, at: .seconds(1000)) == [])
    }

    @Test func aClientOfMPSWaitsAndGoesWithTheOthers() {
        var machine = WeightOwnerMachine(title: "qwen", isClient: true)
        #expect(machine.handle(.begin, at: .zero) == [])
        #expect(machine.handle(.admit, at: .zero) == [.start])
        _ = machine.handle(.started(pid: 50), at: .zero)
        _ = machine.handle(.said(.ready(Self.weights)), at: .zero)
        #expect(machine.handle(.admit, at: .zero) == [])
        #expect(machine.handle(.hold, at: .seconds(9)) == [.kill])
        // What it still said is nothing any more, and its end no death.
        #expect(machine.handle(.said(.ready(Self.weights)), at: .seconds(9)) == [])
        #expect(machine.handle(.ended(reason: "was killed"), at: .seconds(9)) == [])
        #expect(machine.restarts == 0 && machine.nextDeadline == nil)
        #expect(machine.handle(.timePassed, at: .seconds(99)) == [])
        #expect(machine.handle(.admit, at: .seconds(99)) == [.start])
    }

    @Test func aClientThatStillEndsIsStartedWhenItHas() {
        var machine = WeightOwnerMachine(title: "qwen", isClient: true)
        _ = machine.handle(.begin, at: .zero)
        _ = machine.handle(.admit, at: .zero)
        _ = machine.handle(.started(pid: 50), at: .zero)
        #expect(machine.handle(.hold, at: .zero) == [.kill])
        #expect(machine.handle(.admit, at: .zero) == [])
        #expect(machine.nextDeadline == nil)
        _ = machine.handle(.ended(reason: "was killed"), at: .seconds(1))
        #expect(machine.handle(.timePassed, at: .seconds(60)) == [.start])
    }
}
