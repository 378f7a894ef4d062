// Tandem — Apache-2.0

import EngineLink
import Testing

@testable import Supervision

/// Drives a state machine and collects what it asks for.
private struct Harness {
    var state: SupervisorState
    var now = Duration.zero
    var nextPid: Int32 = 100

    /// - Parameter models: how many engines each has.
    init(models: [Int] = [2], hangLimits: HangLimits = HangLimits(silence: .zero, step: .zero)) {
        let groups = EngineGroup.groups(models.enumerated().map { ("m\($0)", $1) })
        state = SupervisorState(
            addresses: (0..<models.reduce(0, +)).map { "a\($0)" }, groups: groups, shutdownTimeout: .seconds(30),
            hangLimits: hangLimits)
    }

    mutating func send(_ event: SupervisorEvent) -> [SupervisorAction] {
        var actions = state.handle(event, at: now)
        // A start succeeds at once.
        for case .start(let child) in actions {
            nextPid += 1
            actions += state.handle(.started(child, pid: nextPid), at: now)
        }
        return actions
    }

    /// Jumps to the next deadline.
    mutating func sendDeadline() -> [SupervisorAction] {
        guard let deadline = state.nextDeadline else { return [] }
        now = max(now, deadline)
        return send(.timePassed)
    }

    /// All three processes serve.
    static func serving(hangLimits: HangLimits = HangLimits(silence: .zero, step: .zero)) -> Harness {
        var harness = Harness(hangLimits: hangLimits)
        _ = harness.send(.begin)
        _ = harness.send(.ready(.gateway, detail: ""))
        _ = harness.send(.ready(.engine(0), detail: "cpu"))
        _ = harness.send(.ready(.engine(1), detail: "cpu"))
        return harness
    }
}

extension [SupervisorAction] {
    fileprivate var rosters: [Roster] { compactMap { if case .sendRoster(let roster) = $0 { roster } else { nil } } }
    fileprivate var logs: [String] { compactMap { if case .log(_, let text) = $0 { text } else { nil } } }
    fileprivate var severities: [SupervisorOutput.Severity] {
        compactMap { if case .log(let severity, _) = $0 { severity } else { nil } }
    }
    /// Without rosters and log lines.
    fileprivate var effects: [SupervisorAction] {
        filter {
            switch $0 {
            case .sendRoster, .log: false
            default: true
            }
        }
    }
}

@Suite struct SupervisorStateTests {
    @Test func everythingStartsAtOnceAndTheGatewayLearnsWhatIs() {
        var harness = Harness()
        let actions = harness.send(.begin)
        #expect(actions.effects == [.start(.gateway), .start(.engine(0)), .start(.engine(1))])
        #expect(actions.rosters.last?.engines.map(\.state) == [.starting, .starting])
        #expect(actions.rosters.last?.engines.map(\.pid) == [102, 103])
        #expect(harness.state.nextDeadline == nil)
    }

    @Test func statusTellsWhoHasWeightsOfItsOwn() {
        for (details, expected) in [
            (
                ["cuda:0 (bf16, shared weights)", "cuda:0 (bf16)"],
                "file descriptor; copies of their own: 1 of 2 engines"
            ),
            (["cuda:0 (bf16, shared weights)", "cuda:0 (bf16, shared weights)"], "file descriptor"),
        ] {
            var harness = Harness()
            _ = harness.send(.begin)
            for (index, detail) in details.enumerated() { _ = harness.send(.ready(.engine(index), detail: detail)) }
            let facts = SupervisorFacts(
                version: "1", pid: 1, host: "h", port: 1, runDirectory: "/", cores: [],
                weights: [SharedWeightsStatus(model: "m0", phase: "shared", detail: "file descriptor", pid: 7)])
            #expect(harness.state.status(facts, at: .zero).weights.map(\.detail) == [expected])
        }
    }

    // MARK: - Hanging

    @Test func anEngineThatNeverServesIsStartedAgain() {
        var harness = Harness.serving(hangLimits: HangLimits(silence: .zero, step: .zero, start: .seconds(600)))
        #expect(harness.state.nextDeadline == nil)
        _ = harness.send(.ended(.engine(1), .killed(signal: 9)))
        #expect(harness.sendDeadline().effects == [.start(.engine(1))])
        let started = harness.now
        let actions = harness.sendDeadline()
        #expect(harness.now == started + .seconds(600))
        #expect(actions.effects == [.kill(.engine(1))])
        #expect(actions.logs == ["engine 1: it did not serve within 600 s of its start; killing it"])
        _ = harness.send(.ended(.engine(1), .killed(signal: 9)))
        #expect(harness.sendDeadline().effects == [.start(.engine(1))])
    }

    @Test func aSilentEngineIsKilledAndStartedAgain() {
        var harness = Harness.serving(hangLimits: HangLimits())
        #expect(harness.state.nextDeadline == .seconds(10))
        harness.now = .seconds(4)
        for child in [Child.gateway, .engine(0)] {
            #expect(harness.send(.heartbeat(child, progress: 1, isWorking: false)).isEmpty)
        }
        let actions = harness.sendDeadline()
        #expect(harness.now == .seconds(10))
        #expect(actions.effects == [.kill(.engine(1))])
        #expect(actions.logs == ["engine 1 hangs: it gave no sign of life for 10 s; killing it"])
        // No requests for it while the kernel is at it, and no second kill.
        #expect(actions.rosters.last?.engines.map(\.state) == [.ready, .restarting])
        #expect(harness.state.nextDeadline == .seconds(14))
        let ended = harness.send(.ended(.engine(1), .killed(signal: 9)))
        #expect(
            ended.logs == ["engine 1 was killed: it gave no sign of life for 10 s; starting it again in 0.1 s"])
        #expect(ended.rosters.last?.engines[1].reason == "was killed: it gave no sign of life for 10 s")
        #expect(harness.sendDeadline().effects == [.start(.engine(1))])
    }

    @Test func aSilentGatewayIsKilledAndStartedAgainAtOnce() {
        var harness = Harness.serving(hangLimits: HangLimits())
        harness.now = .seconds(9)
        for index in 0...1 { _ = harness.send(.heartbeat(.engine(index), progress: 1, isWorking: false)) }
        #expect(harness.sendDeadline().effects == [.kill(.gateway)])
        #expect(harness.send(.ended(.gateway, .killed(signal: 9))).effects == [.start(.gateway)])
    }

    @Test func anEngineWhoseWorkStandsStillIsKilled() {
        var harness = Harness.serving(hangLimits: HangLimits())
        func beat(_ harness: inout Harness, second: Int, _ progress: UInt64, _ isWorking: Bool) -> [SupervisorAction] {
            harness.now = .seconds(second)
            return harness.send(.heartbeat(.gateway, progress: progress, isWorking: false))
                + harness.send(.heartbeat(.engine(1), progress: 0, isWorking: false))
                + harness.send(.heartbeat(.engine(0), progress: progress, isWorking: isWorking))
                + harness.send(.timePassed)
        }
        // It may idle for as long as it likes.
        let idle = (1...300).flatMap { beat(&harness, second: $0, 7, false) }
        let working = (301...305).flatMap { beat(&harness, second: $0, UInt64($0), true) }
        let stuck = (306...424).flatMap { beat(&harness, second: $0, 305, true) }
        #expect((idle + working + stuck).isEmpty)
        let actions = beat(&harness, second: 425, 305, true)
        #expect(actions.effects == [.kill(.engine(0))])
        #expect(actions.logs == ["engine 0 hangs: its work got nowhere for 120 s; killing it"])
    }

    @Test func nobodyIsBlamedWhileTheSupervisorDidNotRun() {
        var harness = Harness.serving(hangLimits: HangLimits())
        harness.now = .seconds(3600)
        #expect(harness.send(.timePassed).isEmpty)
        #expect(harness.state.nextDeadline == .seconds(3610))
        for child in [Child.gateway, .engine(0), .engine(1)] {
            _ = harness.send(.heartbeat(child, progress: 0, isWorking: false))
        }
        harness.now = .seconds(3610)
        #expect(harness.send(.timePassed).effects.count == 3)
    }

    @Test func watchingCanBeTurnedOff() {
        var harness = Harness()
        _ = harness.send(.begin)
        for child in [Child.gateway, .engine(0), .engine(1)] { _ = harness.send(.ready(child, detail: "")) }
        _ = harness.send(.heartbeat(.engine(0), progress: 1, isWorking: true))
        #expect(harness.state.nextDeadline == nil)
    }

    @Test func childrenThatStartAreNotWatchedNorAGatewayThatFinishes() {
        var harness = Harness(hangLimits: HangLimits())
        _ = harness.send(.begin)
        #expect(harness.state.nextDeadline == nil, "packing weights takes what it takes")
        for child in [Child.gateway, .engine(0), .engine(1)] { _ = harness.send(.ready(child, detail: "")) }
        _ = harness.send(.stopRequested(signal: 15))
        #expect(harness.state.nextDeadline == .seconds(10))
        harness.now = .seconds(9)
        for engine in 0..<2 {
            _ = harness.send(.heartbeat(.engine(engine), progress: 0, isWorking: false))
        }
        #expect(harness.state.nextDeadline == .seconds(19))
        harness.now = .seconds(18)
        #expect(harness.send(.timePassed).isEmpty)
    }

    @Test func announcesOnceWithTheFirstEngine() {
        var harness = Harness()
        _ = harness.send(.begin)
        #expect(harness.send(.ready(.engine(1), detail: "cpu x")).effects.isEmpty)
        #expect(harness.send(.ready(.gateway, detail: "")).effects == [.announce(devices: ["cpu x"])])
        #expect(harness.send(.ready(.engine(0), detail: "cpu y")).effects.isEmpty)
        #expect(harness.state.currentRoster.engines.map(\.state) == [.ready, .ready])
    }

    @Test func enginesOfAllModelsCountThrough() {
        #expect(
            EngineGroup.groups([("a", 2), ("b", 1)]) == [
                EngineGroup(name: "a", engines: 0..<2), EngineGroup(name: "b", engines: 2..<3),
            ])
        var harness = Harness(models: [2, 1])
        let actions = harness.send(.begin)
        #expect(
            actions.effects == [.start(.gateway), .start(.engine(0)), .start(.engine(1)), .start(.engine(2))])
        #expect(actions.rosters.last?.engines.map(\.index) == [0, 1, 2])
    }

    @Test func announcesWhenEveryModelServes() {
        var harness = Harness(models: [2, 1])
        _ = harness.send(.begin)
        _ = harness.send(.ready(.gateway, detail: ""))
        #expect(harness.send(.ready(.engine(1), detail: "x")).effects.isEmpty)
        #expect(harness.send(.ready(.engine(0), detail: "y")).effects.isEmpty)
        #expect(harness.send(.ready(.engine(2), detail: "z")).effects == [.announce(devices: ["y", "z"])])
    }

    @Test func aModelThatDoesNotStartDoesNotTakeTheOthersDown() {
        var harness = Harness(models: [1, 1])
        _ = harness.send(.begin)
        _ = harness.send(.ready(.gateway, detail: ""))
        _ = harness.send(.ready(.engine(0), detail: "x"))
        for _ in 0..<2 {
            #expect(harness.send(.ended(.engine(1), .killed(signal: 11))).effects.isEmpty)
            #expect(harness.sendDeadline().effects == [.start(.engine(1))])
        }
        let third = harness.send(.ended(.engine(1), .killed(signal: 11)))
        #expect(third.effects == [.announce(devices: ["x", nil])])
        #expect(third.logs.first?.hasPrefix("engine 1 (m1) was killed by SIGSEGV") == true)
        // Its attempts go on, and the other model never noticed.
        #expect(harness.sendDeadline().effects == [.start(.engine(1))])
        #expect(harness.state.currentRoster.engines.map(\.state) == [.ready, .starting])
        #expect(
            harness.send(.ready(.engine(1), detail: "y")).logs.first?.hasPrefix("engine 1 (m1) is ready again") == true)
        #expect(harness.state.currentRoster.engines.map(\.state) == [.ready, .ready])
    }

    @Test func aStartFailsWhenNoModelStarts() {
        var harness = Harness(models: [1, 1])
        _ = harness.send(.begin)
        let first = harness.send(.ended(.engine(0), .exited(code: ChildExit.permanentFailureCode)))
        #expect(first.effects.isEmpty)
        let second = harness.send(.ended(.engine(1), .exited(code: ChildExit.permanentFailureCode)))
        #expect(second.effects == [.closeListener, .kill(.gateway)])
        #expect(second.logs.last == "cannot start: engine 1 (m1) said why above")
    }

    @Test func crashLoopsAreEachModelsOwn() {
        var harness = Harness(models: [1, 1])
        _ = harness.send(.begin)
        for child in [Child.gateway, .engine(0), .engine(1)] { _ = harness.send(.ready(child, detail: "")) }
        for _ in 0..<10 {
            _ = harness.send(.ended(.engine(1), .exited(code: 1)))
            _ = harness.sendDeadline()
        }
        _ = harness.send(.ended(.engine(1), .exited(code: 1)))
        #expect(harness.state.currentRoster.engines.map(\.state) == [.ready, .failed])
        // The other's next death is its first.
        let death = harness.send(.ended(.engine(0), .exited(code: 1)))
        #expect(death.logs.last?.hasSuffix("starting it again in 0.1 s") == true)
    }

    @Test func rosterGrowsWithEveryChangeAndOnlyThen() {
        var harness = Harness.serving()
        let generation = harness.state.currentRoster.generation
        #expect(harness.send(.timePassed).rosters.isEmpty)
        let died = harness.send(.ended(.engine(1), .killed(signal: 9)))
        #expect(died.rosters.map(\.generation) == [generation + 1])
        let entry = died.rosters.last?.engines[1]
        #expect(entry?.state == .restarting)
        #expect(entry?.pid == 0)
        #expect(entry?.restarts == 1)
        #expect(entry?.reason.contains("SIGKILL") == true)
        #expect(entry?.address == "a1")
    }

    @Test func deadEngineStartsAgainAfterItsPause() {
        var harness = Harness.serving()
        harness.now = .seconds(5)
        let died = harness.send(.ended(.engine(0), .exited(code: 3)))
        #expect(died.effects.isEmpty)
        #expect(died.logs == ["engine 0 exited with code 3; starting it again in 0.1 s"])
        #expect(died.severities == [.warning])
        #expect(harness.state.nextDeadline == .milliseconds(5100))
        #expect(harness.sendDeadline().effects == [.start(.engine(0))])
        harness.now += .milliseconds(400)
        #expect(harness.send(.ready(.engine(0), detail: "")).logs == ["engine 0 is ready again after 0.4 s"])
        #expect(harness.state.currentRoster.engines[0].state == .ready)
    }

    @Test func linesBelowTheLevelAreNotPrinted() {
        #expect(SupervisorOutput.announcement("a").isPrinted(from: .error))
        let severities: [SupervisorOutput.Severity] = [.info, .warning, .error]
        #expect(severities.map { SupervisorOutput.line($0, "l").isPrinted(from: .warning) } == [false, true, true])
    }

    @Test func deadGatewayStartsAgainAtOnceAndLearnsTheRoster() {
        var harness = Harness.serving()
        harness.now = .seconds(100)
        let actions = harness.send(.ended(.gateway, .killed(signal: 9)))
        #expect(actions.effects == [.start(.gateway)])
        #expect(actions.rosters.last == harness.state.currentRoster)
        // A second ready is no second announcement.
        #expect(harness.send(.ready(.gateway, detail: "")).effects.isEmpty)
    }

    @Test func crashLoopFailsLoudlyAndIsStillRetried() {
        var harness = Harness.serving()
        var logs: [String] = []
        for _ in 0..<10 {
            logs += harness.send(.ended(.engine(1), .exited(code: 1))).logs
            #expect(harness.sendDeadline().effects == [.start(.engine(1))])
        }
        #expect(logs.last?.contains("10 times in a row and counts as failed") == true)
        let failed = harness.send(.ended(.engine(1), .exited(code: 1)))
        #expect(failed.rosters.last?.engines[1].state == .failed)
        let before = harness.now
        #expect(harness.sendDeadline().effects == [.start(.engine(1))])
        #expect(harness.now - before == .seconds(30))
        #expect(harness.send(.ready(.engine(1), detail: "")).rosters.last?.engines[1].state == .ready)
    }

    @Test func aModelWithoutLivingEnginesIsNotKeptWaiting() {
        var harness = Harness.serving()
        for _ in 0..<12 {
            for index in 0..<2 { _ = harness.send(.ended(.engine(index), .killed(signal: 9))) }
            let before = harness.now
            let first = harness.sendDeadline().effects
            #expect(first.count >= 1)
            #expect(harness.now - before <= .seconds(5))
            // The other one waits for its own time, now that one lives.
            while harness.state.currentRoster.engines.contains(where: { $0.state != .starting }) {
                _ = harness.sendDeadline()
            }
        }
        #expect(harness.now > .seconds(30))
    }

    @Test func havingServedForLongMakesDeathsForgotten() {
        var harness = Harness.serving()
        for _ in 0..<20 {
            harness.now += .seconds(5)
            let died = harness.now
            _ = harness.send(.ended(.engine(1), .killed(signal: 9)))
            #expect(harness.sendDeadline().effects == [.start(.engine(1))])
            #expect(harness.now - died == .milliseconds(100))
            // The time that a start takes is not time served.
            harness.now += .seconds(20)
            _ = harness.send(.ready(.engine(1), detail: "cpu"))
        }
    }

    @Test func startThatCannotSucceedEndsTheProgram() {
        var harness = Harness()
        _ = harness.send(.begin)
        let code = ChildExit.permanentFailureCode
        let actions = harness.send(.ended(.engine(0), .exited(code: code)))
        #expect(actions.effects == [.closeListener, .kill(.gateway), .kill(.engine(1))])
        #expect(harness.send(.ended(.gateway, .killed(signal: 9))).effects.isEmpty)
        #expect(harness.send(.ended(.engine(1), .killed(signal: 9))).effects == [.exit(code: 78)])
    }

    @Test func enginesThatAllDieBeforeTheFirstAnswerEndTheProgram() {
        var harness = Harness()
        _ = harness.send(.begin)
        for _ in 0..<2 {
            for index in 0..<2 {
                #expect(harness.send(.ended(.engine(index), .killed(signal: 11))).effects.isEmpty)
            }
            while harness.state.nextDeadline != nil { _ = harness.sendDeadline() }
        }
        #expect(harness.send(.ended(.engine(0), .killed(signal: 11))).effects.isEmpty)
        let last = harness.send(.ended(.engine(1), .killed(signal: 11)))
        #expect(last.effects == [.closeListener, .kill(.gateway)])
        #expect(last.logs.last?.hasPrefix("cannot start: engine 1 was killed by SIGSEGV") == true)
        #expect(last.severities.last == .error)
        #expect(harness.send(.ended(.gateway, .killed(signal: 9))).effects == [.exit(code: 1)])
    }

    @Test func afterTheFirstAnswerNothingEndsTheProgram() {
        var harness = Harness.serving()
        for _ in 0..<30 {
            for child in [Child.engine(0), .engine(1), .gateway] {
                let effects = harness.send(.ended(child, .exited(code: ChildExit.permanentFailureCode))).effects
                #expect(!effects.contains { if case .exit = $0 { true } else { false } })
            }
            while harness.state.nextDeadline != nil { _ = harness.sendDeadline() }
        }
    }

    @Test func stopDrainsTheGatewayThenTheEngines() {
        var harness = Harness.serving()
        let stop = harness.send(.stopRequested(signal: 15))
        #expect(stop.effects == [.closeListener, .terminate(.gateway)])
        #expect(harness.state.nextDeadline == .seconds(35))
        let next = harness.send(.ended(.gateway, .exited(code: 0)))
        #expect(next.effects == [.terminate(.engine(0)), .terminate(.engine(1))])
        #expect(harness.send(.ended(.engine(1), .exited(code: 0))).effects.isEmpty)
        #expect(harness.send(.ended(.engine(0), .killed(signal: 15))).effects == [.exit(code: 0)])
        #expect(harness.send(.timePassed).isEmpty)
    }

    @Test func lateProcessesAreKilled() {
        var harness = Harness.serving()
        _ = harness.send(.stopRequested(signal: 2))
        #expect(harness.sendDeadline().effects == [.kill(.gateway)])
        _ = harness.send(.ended(.gateway, .killed(signal: 9)))
        #expect(harness.sendDeadline().effects == [.kill(.engine(0)), .kill(.engine(1))])
        _ = harness.send(.ended(.engine(0), .killed(signal: 9)))
        #expect(harness.send(.ended(.engine(1), .killed(signal: 9))).effects == [.exit(code: 0)])
    }

    @Test func secondSignalKillsAtOnceAndAThirdChangesNothing() {
        var harness = Harness.serving()
        _ = harness.send(.stopRequested(signal: 2))
        let second = harness.send(.stopRequested(signal: 2))
        #expect(
            second.effects == [.closeListener, .kill(.gateway), .kill(.engine(0)), .kill(.engine(1))])
        #expect(harness.send(.stopRequested(signal: 2)).isEmpty)
        for child in [Child.gateway, .engine(0)] { _ = harness.send(.ended(child, .killed(signal: 9))) }
        #expect(harness.send(.ended(.engine(1), .killed(signal: 9))).effects == [.exit(code: 130)])
    }

    @Test func stopWhileNothingRunsEndsAtOnce() {
        var harness = Harness.serving()
        _ = harness.send(.ended(.engine(0), .killed(signal: 9)))
        _ = harness.send(.ended(.engine(1), .killed(signal: 9)))
        _ = harness.send(.stopRequested(signal: 15))
        #expect(harness.send(.ended(.gateway, .exited(code: 0))).effects == [.exit(code: 0)])
    }

    /// The gateway's requests are to end well.
    @Test func anEngineThatDiesWhileTheGatewayFinishesIsStartedAgain() {
        var harness = Harness.serving()
        _ = harness.send(.ended(.engine(1), .killed(signal: 9)))
        _ = harness.send(.stopRequested(signal: 15))
        #expect(harness.sendDeadline().effects == [.start(.engine(1))])
        _ = harness.send(.ended(.engine(0), .killed(signal: 9)))
        #expect(harness.sendDeadline().effects == [.start(.engine(0))])
        let ready = harness.send(.ready(.engine(0), detail: "cpu"))
        #expect(ready.rosters.last?.engines.map(\.state) == [.ready, .starting])
        _ = harness.send(.ended(.engine(1), .killed(signal: 9)))
        // None is started for nobody.
        #expect(harness.send(.ended(.gateway, .exited(code: 0))).effects == [.terminate(.engine(0))])
        #expect(harness.send(.ended(.engine(0), .exited(code: 0))).effects == [.exit(code: 0)])
    }

    @Test func anEngineThatHangsWhileTheGatewayFinishesIsKilled() {
        var harness = Harness.serving(hangLimits: HangLimits(silence: .seconds(5), step: .zero))
        _ = harness.send(.stopRequested(signal: 15))
        harness.now = .seconds(3)
        _ = harness.send(.heartbeat(.engine(1), progress: 0, isWorking: false))
        #expect(harness.sendDeadline().effects == [.kill(.engine(0))])
        #expect(harness.now == .seconds(5))
    }

    @Test func whatCannotBeKilledIsLeftBehind() {
        var harness = Harness.serving()
        _ = harness.send(.stopRequested(signal: 15))
        #expect(harness.sendDeadline().effects == [.kill(.gateway)])
        let left = harness.sendDeadline()
        #expect(left.effects == [.terminate(.engine(0)), .terminate(.engine(1))])
        #expect(left.logs.count == 1 && left.severities == [.error])
        _ = harness.send(.ended(.engine(0), .exited(code: 0)))
        #expect(harness.sendDeadline().effects == [.kill(.engine(1))])
        #expect(harness.sendDeadline().effects == [.exit(code: 1)])
    }

    @Test func killingHasAnEnd() {
        var harness = Harness.serving()
        _ = harness.send(.stopRequested(signal: 2))
        _ = harness.send(.stopRequested(signal: 2))
        for child in [Child.gateway, .engine(0)] { _ = harness.send(.ended(child, .killed(signal: 9))) }
        let end = harness.sendDeadline()
        #expect(end.effects == [.exit(code: 130)])
        #expect(end.logs.first?.contains("engine 1 (process 103) does not end though it was killed") == true)
    }

    @Test func aRunDirectoryThatIsMadeAgainGetsNewSockets() {
        var harness = Harness.serving()
        let actions = harness.send(.directoryRestored(enginesCanRestart: true))
        #expect(actions.effects == [.terminate(.engine(0))])
        _ = harness.send(.ended(.engine(0), .exited(code: 0)))
        #expect(harness.send(.ready(.engine(0), detail: "cpu")).effects == [.terminate(.engine(1))])
        var other = Harness.serving()
        let without = other.send(.directoryRestored(enginesCanRestart: false))
        #expect(without.effects.isEmpty)
        #expect(without.logs.first?.contains("restart the server when it suits") == true)
    }
}
