// Tandem — Apache-2.0

import EngineLink
import Testing

@testable import Supervision

/// Processes that host several engines each.
@Suite struct SharedProcessTests {
    private static let placement = EnginePlacement([(engines: 4, perProcess: 2)])

    @Test func theRosterHasEveryEngineAndTheStartsAreOfProcesses() {
        var harness = AdministrationHarness(placement: Self.placement, isServing: false)
        #expect(harness.state.children == [.gateway, .engine(0), .engine(1)])
        let roster = harness.state.currentRoster
        #expect(roster.engines.map(\.index) == [0, 1, 2, 3])
        #expect(roster.engines.map(\.address) == ["a0", "a1", "a2", "a3"])
        #expect(roster.engines.map(\.pid) == [102, 102, 103, 103])
        #expect(roster.engines.allSatisfy { $0.state == .starting })
        _ = harness.becomeReady(.engine(1))
        #expect(harness.state.currentRoster.engines.map(\.state) == [.starting, .starting, .ready, .ready])
    }

    @Test func aDeathTakesAllEnginesOfTheProcessAndStartsThemAgain() {
        var harness = AdministrationHarness(placement: Self.placement)
        harness.now = .seconds(100)
        let actions = harness.send(.ended(.engine(0), .killed(signal: 9)))
        #expect(harness.state.currentRoster.engines.map(\.state) == [.restarting, .restarting, .ready, .ready])
        #expect(
            actions.contains {
                if case .log(.warning, let text) = $0 {
                    text.hasPrefix("the process of engines 0 and 1 ")
                } else {
                    false
                }
            })
        guard let deadline = harness.state.nextDeadline else {
            Issue.record("nothing waits")
            return
        }
        harness.now = deadline
        #expect(harness.send(.timePassed).contains(.start(.engine(0))))
        _ = harness.becomeReady(.engine(0))
        let roster = harness.state.currentRoster.engines
        #expect(roster.map(\.state) == [.ready, .ready, .ready, .ready])
        #expect(roster.map(\.restarts) == [1, 1, 0, 0])
        #expect(roster[0].pid == roster[1].pid && roster[0].pid != roster[2].pid)
    }

    @Test func whatIsAskedOfAnEngineHappensToItsProcess() {
        var harness = AdministrationHarness(placement: Self.placement)
        let (reply, _) = harness.ask(.drain(engine: 3, isForced: false))
        #expect(reply == .accepted("the process of engines 2 and 3 finishes what it has and gets nothing new"))
        #expect(harness.state.currentRoster.engines.map(\.state) == [.ready, .ready, .draining, .draining])
        // The other process is the only one that serves now.
        #expect(harness.refusal(of: .restart(engine: 0, isForced: false))?.contains("is the only one") == true)
        #expect(harness.refusal(of: .restart(engine: 4, isForced: false))?.contains("they are 0 to 3") == true)
        _ = harness.order(.resume(engine: 2))
        #expect(harness.state.currentRoster.engines.allSatisfy { $0.state == .ready })
    }

    @Test func oneProcessIsNotRestartedWithoutForce() {
        var harness = AdministrationHarness(placement: EnginePlacement([(engines: 3, perProcess: 3)]))
        #expect(harness.refusal(of: .restartAll(isForced: false))?.contains("only one engine process") == true)
    }

    @Test func aRollingRestartGoesFromProcessToProcess() {
        var harness = AdministrationHarness(placement: Self.placement)
        let actions = harness.order(.restartAll(isForced: false))
        #expect(actions.contains(.terminate(.engine(0))))
        let status = harness.status
        #expect(status.rollingRestart?.current == 0)
        #expect(status.rollingRestart?.pending == [1, 2, 3])
        _ = harness.send(.ended(.engine(0), .exited(code: 0)))
        let next = harness.becomeReady(.engine(0))
        #expect(next.contains(.terminate(.engine(1))))
        #expect(harness.status.rollingRestart?.restarted == [0, 1])
    }

    @Test func theStatusSaysWhichProcessAndCountsMemoryOnce() {
        var harness = AdministrationHarness(
            placement: Self.placement, memory: MemoryWatch(plans: [1 << 30, 1 << 30]))
        let pid = harness.state.currentRoster.engines[2].pid
        _ = harness.send(.memoryRead([MemorySample(engine: 1, pid: pid, bytes: 5 << 20)]))
        let engines = harness.status.engines
        #expect(engines.map(\.index) == [0, 1, 2, 3])
        #expect(engines.map(\.processIndex) == [0, 0, 1, 1])
        #expect(engines.map(\.process.pid)[2...] == [pid, pid])
        #expect(engines.map(\.memory.now) == [nil, nil, 5 << 20, nil])
        #expect(engines.map(\.memory.plan) == [1 << 30, nil, 1 << 30, nil])
    }
}
