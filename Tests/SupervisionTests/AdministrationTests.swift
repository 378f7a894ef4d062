// Tandem — Apache-2.0

import EngineLink
import Testing

@testable import Supervision

@Suite struct DrainTests {
    @Test func aDrainedEngineStaysUpAndGetsNothing() {
        var harness = AdministrationHarness()
        let actions = harness.order(.drain(engine: 0, isForced: false))
        #expect(actions.steps.isEmpty)
        #expect(actions.sentRosters.last?.engines.map(\.state) == [.draining, .ready])
        #expect(harness.state.nextDeadline == nil)
        // Again changes nothing.
        #expect(harness.order(.drain(engine: 0, isForced: false)).sentRosters.isEmpty)
        let resumed = harness.order(.resume(engine: 0))
        #expect(resumed.steps.isEmpty)
        #expect(resumed.sentRosters.last?.engines.map(\.state) == [.ready, .ready])
        #expect(harness.order(.resume(engine: 0)).sentRosters.isEmpty)
    }

    @Test func heartbeatsTellWhenItHasNothingLeft() {
        var harness = AdministrationHarness()
        _ = harness.send(.heartbeat(.engine(0), progress: 1, isWorking: false))
        _ = harness.order(.drain(engine: 0, isForced: false))
        // What was said before is no news.
        #expect(harness.states == [.draining, .ready])
        harness.now = .milliseconds(600)
        _ = harness.send(.heartbeat(.engine(0), progress: 2, isWorking: true))
        #expect(harness.states == [.draining, .ready])
        _ = harness.send(.heartbeat(.engine(0), progress: 3, isWorking: false))
        #expect(harness.states == [.drained, .ready])
        #expect(harness.rosterStates == [.draining, .ready])
    }

    @Test func theLastServingEngineIsDrainedByForceOnly() {
        var harness = AdministrationHarness()
        _ = harness.order(.drain(engine: 1, isForced: false))
        let refusal = harness.refusal(of: .drain(engine: 0, isForced: false))
        #expect(refusal?.contains("engine 0 is the only one that serves the model") == true)
        #expect(refusal?.contains("--force") == true)
        #expect(
            harness.order(.drain(engine: 0, isForced: true)).sentRosters.last?.engines.map(\.state) == [
                .draining, .draining,
            ])
        // Another model's engines do not count.
        var models = AdministrationHarness(models: [1, 2])
        #expect(models.refusal(of: .drain(engine: 0, isForced: false))?.contains("engine 0 (m0) is the only") == true)
        _ = models.order(.drain(engine: 1, isForced: false))
        // Nor do engines that do not serve.
        var dead = AdministrationHarness()
        _ = dead.send(.ended(.engine(1), .killed(signal: 9)))
        #expect(dead.refusal(of: .drain(engine: 0, isForced: false)) != nil)
        // One that does not serve itself is nobody's last.
        _ = dead.order(.drain(engine: 1, isForced: false))
    }

    @Test func anEngineThatDiesWhileItIsDrainedComesBackDrained() {
        var harness = AdministrationHarness()
        _ = harness.order(.drain(engine: 0, isForced: false))
        let died = harness.send(.ended(.engine(0), .killed(signal: 11)))
        #expect(died.logLines == ["engine 0 was killed by SIGSEGV; starting it again in 0.1 s"])
        #expect(harness.sendDeadline().steps == [.start(.engine(0))])
        let ready = harness.send(.ready(.engine(0), detail: ""))
        #expect(ready.sentRosters.last?.engines.map(\.state) == [.draining, .ready])
        #expect(harness.status.engines[0].process.deathsInARow == 1)
    }

    @Test func whatCannotBeIsRefused() {
        var harness = AdministrationHarness()
        for command: AdminCommand in [
            .drain(engine: 2, isForced: true), .resume(engine: 2), .restart(engine: .max, isForced: true),
        ] {
            #expect(harness.refusal(of: command)?.hasSuffix("they are 0 to 1") == true)
        }
        #expect(harness.refusal(of: .status) != nil)
        _ = harness.send(.stopRequested(signal: 15))
        for command: AdminCommand in [
            .drain(engine: 0, isForced: true), .resume(engine: 0), .restart(engine: 0, isForced: true),
            .restartAll(isForced: true),
        ] {
            #expect(harness.refusal(of: command) == "the server is stopping")
        }
        #expect(harness.status.isStopping)
        var starting = AdministrationHarness(isServing: false)
        #expect(starting.refusal(of: .restart(engine: 0, isForced: false)) == "the server is still starting")
        var only = AdministrationHarness(models: [1])
        #expect(only.refusal(of: .resume(engine: 1)) == "there is no engine 1: the only one is 0")
    }
}

@Suite struct RestartTests {
    @Test func itFinishesEndsAndStartsAtOnceWithoutBeingADeath() {
        var harness = AdministrationHarness()
        let asked = harness.order(.restart(engine: 0, isForced: false))
        #expect(asked.steps == [.terminate(.engine(0))])
        // Gateways hear of it first.
        let roster = asked.firstIndex { if case .sendRoster = $0 { true } else { false } }
        let terminate = asked.firstIndex(of: .terminate(.engine(0)))
        #expect(roster != nil && terminate != nil && roster ?? 9 < terminate ?? 0)
        #expect(harness.rosterStates == [.draining, .ready])
        #expect(harness.states == [.ending, .ready])
        #expect(harness.state.nextDeadline == .seconds(30))
        harness.now = .seconds(3)
        let ended = harness.send(.ended(.engine(0), .exited(code: 0)))
        #expect(ended.steps == [.start(.engine(0))])
        let entry = harness.state.currentRoster.engines[0]
        #expect(entry.state == .starting && entry.restarts == 1 && entry.reason == "was restarted on request")
        #expect(harness.status.engines[0].process.deathsInARow == 0)
        _ = harness.send(.ready(.engine(0), detail: "cpu"))
        #expect(harness.rosterStates == [.ready, .ready])
        #expect(harness.state.nextDeadline == nil)
        // A hundred of them are no crash loop.
        for _ in 0..<100 {
            _ = harness.order(.restart(engine: 0, isForced: false))
            #expect(harness.restart(0).steps == [.start(.engine(0))])
        }
        let died = harness.send(.ended(.engine(0), .killed(signal: 9)))
        #expect(died.logLines.last?.hasSuffix("starting it again in 0.1 s") == true)
    }

    @Test func whatDoesNotFinishInTimeMoves() {
        var harness = AdministrationHarness()
        _ = harness.order(.restart(engine: 1, isForced: false))
        let late = harness.sendDeadline()
        #expect(harness.now == .seconds(30))
        #expect(late.steps == [.terminate(.engine(1))])
        #expect(late.logLines == ["engine 1 has not finished what it has: the rest moves to another engine"])
        #expect(harness.state.nextDeadline == .seconds(35))
        #expect(harness.send(.ended(.engine(1), .exited(code: 12))).steps == [.start(.engine(1))])
        #expect(harness.state.currentRoster.engines[1].reason == "was restarted on request")
    }

    @Test func whatDoesNotEndIsKilled() {
        var harness = AdministrationHarness()
        _ = harness.order(.restart(engine: 1, isForced: false))
        _ = harness.sendDeadline()
        let killed = harness.sendDeadline()
        #expect(killed.steps == [.kill(.engine(1))])
        #expect(harness.rosterStates == [.ready, .restarting])
        #expect(harness.states == [.ready, .killed])
        #expect(harness.state.nextDeadline == nil)
        #expect(harness.refusal(of: .restart(engine: 1, isForced: false)) == "engine 1 is being restarted already")
        #expect(harness.send(.ended(.engine(1), .killed(signal: 9))).steps == [.start(.engine(1))])
        #expect(
            harness.state.currentRoster.engines[1].reason
                == "was restarted on request, and killed: it did not end in time")
        #expect(harness.status.engines[1].process.deathsInARow == 0)
    }

    @Test func aCrashOnTheWayIsToldAndIsNoDeath() {
        var harness = AdministrationHarness()
        _ = harness.order(.restart(engine: 0, isForced: false))
        #expect(harness.send(.ended(.engine(0), .killed(signal: 11))).steps == [.start(.engine(0))])
        #expect(
            harness.state.currentRoster.engines[0].reason
                == "was restarted on request, and was killed by SIGSEGV")
        #expect(harness.status.engines[0].process.deathsInARow == 0)
    }

    @Test func aStartThatFailsAfterwardsIsADeath() {
        var harness = AdministrationHarness()
        _ = harness.order(.restart(engine: 0, isForced: false))
        _ = harness.send(.ended(.engine(0), .exited(code: 0)))
        let died = harness.send(.ended(.engine(0), .exited(code: 10)))
        #expect(died.steps.isEmpty)
        #expect(harness.states == [.waiting, .ready])
        #expect(harness.status.engines[0].process.deathsInARow == 1)
        #expect(harness.status.engines[0].process.nextAttempt == 100)
    }

    @Test func theLastServingEngineIsRestartedByForceAndGetsLittleTime() {
        var harness = AdministrationHarness(models: [1])
        #expect(harness.refusal(of: .restart(engine: 0, isForced: false))?.contains("--force") == true)
        _ = harness.order(.restart(engine: 0, isForced: true))
        #expect(harness.state.nextDeadline == Administration.lastEngineDrain)
    }

    @Test func aDrainedEngineIsRestartedAndServesAgain() {
        var harness = AdministrationHarness()
        _ = harness.order(.drain(engine: 0, isForced: false))
        _ = harness.order(.restart(engine: 0, isForced: false))
        #expect(harness.refusal(of: .resume(engine: 0)) != nil)
        #expect(harness.refusal(of: .drain(engine: 0, isForced: false)) == "engine 0 is being restarted")
        _ = harness.restart(0)
        #expect(harness.rosterStates == [.ready, .ready])
    }

    @Test func anEngineThatWaitsIsStartedNow() {
        var harness = AdministrationHarness()
        for _ in 0..<10 {
            _ = harness.send(.ended(.engine(1), .exited(code: 1)))
            _ = harness.sendDeadline()
        }
        _ = harness.send(.ended(.engine(1), .exited(code: 1)))
        #expect(harness.states == [.ready, .failed])
        let process = harness.status.engines[1].process
        #expect(process.deathsInARow == 11 && process.nextAttempt == 30_000)
        #expect(harness.order(.restart(engine: 1, isForced: false)).steps == [.start(.engine(1))])
        #expect(harness.refusal(of: .restart(engine: 1, isForced: false)) == "engine 1 is starting already")
        _ = harness.send(.ready(.engine(1), detail: ""))
        #expect(harness.rosterStates == [.ready, .ready])
    }

    /// Nor are its last requests left without the engine that restarts.
    @Test func aStopIsNotHeldUp() {
        var harness = AdministrationHarness()
        _ = harness.order(.restart(engine: 0, isForced: false))
        #expect(harness.send(.stopRequested(signal: 15)).steps == [.closeListener, .terminate(.gateway)])
        #expect(harness.state.nextDeadline == .seconds(35))
        #expect(harness.send(.ended(.engine(0), .exited(code: 0))).steps == [.start(.engine(0))])
        #expect(
            harness.send(.ended(.gateway, .exited(code: 0))).steps == [.terminate(.engine(0)), .terminate(.engine(1))])
        #expect(harness.send(.ended(.engine(0), .exited(code: 0))).steps.isEmpty)
        #expect(harness.send(.ended(.engine(1), .exited(code: 0))).steps == [.exit(code: 0)])
    }
}

@Suite struct RollingRestartTests {
    @Test func oneEngineAfterTheOther() {
        var harness = AdministrationHarness(models: [3])
        #expect(harness.order(.restartAll(isForced: false)).steps == [.terminate(.engine(0))])
        for index in 0..<3 {
            #expect(harness.states.count { $0 == .ending } == 1 && harness.states[index] == .ending)
            #expect(harness.status.rollingRestart?.current == UInt32(index))
            #expect(harness.status.rollingRestart?.restarted == (0..<index).map { UInt32($0) })
            #expect(harness.send(.ended(.engine(index), .exited(code: 0))).steps == [.start(.engine(index))])
            // The next one's turn comes when this one is ready.
            #expect(harness.send(.timePassed).steps.isEmpty)
            #expect(harness.status.rollingRestart?.detail == "is starting")
            let ready = harness.send(.ready(.engine(index), detail: "cpu"))
            #expect(ready.steps == (index < 2 ? [.terminate(.engine(index + 1))] : []))
        }
        #expect(harness.status.rollingRestart == RollingRestartStatus(state: .done, restarted: [0, 1, 2]))
        #expect(harness.rosterStates == [.ready, .ready, .ready])
        #expect(harness.status.engines.map(\.process.restarts) == [1, 1, 1])
        #expect(harness.status.engines.map(\.process.deathsInARow) == [0, 0, 0])
        #expect(harness.state.nextDeadline == nil)
        // And again, from the beginning.
        #expect(harness.order(.restartAll(isForced: false)).steps == [.terminate(.engine(0))])
        #expect(harness.status.rollingRestart?.restarted == [])
    }

    @Test func nothingElseIsBegunMeanwhile() {
        var harness = AdministrationHarness()
        _ = harness.order(.restartAll(isForced: false))
        for command: AdminCommand in [
            .restartAll(isForced: true), .restart(engine: 1, isForced: true), .drain(engine: 1, isForced: true),
        ] {
            let refusal = harness.refusal(of: command)
            #expect(refusal == "a rolling restart runs: 0 of 2 engines are done, engine 0 is at it")
        }
        _ = harness.restart(0)
        _ = harness.restart(1)
        #expect(harness.status.rollingRestart?.state == .done)
        _ = harness.order(.drain(engine: 1, isForced: false))
    }

    @Test func anEngineThatDoesNotComeBackStopsIt() {
        var harness = AdministrationHarness(models: [3])
        _ = harness.order(.restartAll(isForced: false))
        _ = harness.send(.ended(.engine(0), .exited(code: 0)))
        let died = harness.send(.ended(.engine(0), .exited(code: 10)))
        #expect(died.steps.isEmpty)
        let verdict = "the rolling restart stopped: engine 0 did not come back: it exited with code 10"
        #expect(died.logLines.last == verdict + "; left alone: 1, 2")
        let status = harness.status.rollingRestart
        #expect(status?.state == .stopped && status?.current == 0 && status?.pending == [1, 2])
        #expect(status?.detail == "engine 0 did not come back: it exited with code 10")
        #expect(harness.rosterStates == [.restarting, .ready, .ready])
        // The engine is mended as any other, and all can be restarted again.
        #expect(harness.sendDeadline().steps == [.start(.engine(0))])
        #expect(harness.send(.ready(.engine(0), detail: "")).steps.isEmpty)
        _ = harness.order(.restartAll(isForced: false))
    }

    @Test func anEngineThatStartsForTooLongStopsIt() {
        var harness = AdministrationHarness()
        _ = harness.order(.restartAll(isForced: false))
        _ = harness.send(.ended(.engine(0), .exited(code: 0)))
        #expect(harness.state.nextDeadline == Administration.returnLimit)
        let late = harness.sendDeadline()
        #expect(late.logLines.last?.contains("engine 0 did not come back within 300 s; left alone: 1") == true)
        #expect(harness.state.nextDeadline == nil)
    }

    @Test func itWaitsUntilAnotherServes() {
        var harness = AdministrationHarness()
        _ = harness.send(.ended(.engine(1), .killed(signal: 9)))
        #expect(harness.order(.restartAll(isForced: false)).steps.isEmpty)
        #expect(harness.status.rollingRestart?.detail == "waits until another engine serves")
        #expect(harness.sendDeadline().steps == [.start(.engine(1))])
        #expect(harness.send(.ready(.engine(1), detail: "")).steps == [.terminate(.engine(0))])
        // The other dies while this one starts: it is waited for, too.
        _ = harness.send(.ended(.engine(0), .exited(code: 0)))
        _ = harness.send(.ended(.engine(1), .killed(signal: 9)))
        _ = harness.send(.ready(.engine(0), detail: ""))
        // It is its turn, and it does not run: a start is all that it needs.
        #expect(harness.states == [.ready, .starting])
        _ = harness.send(.ready(.engine(1), detail: ""))
        #expect(harness.status.rollingRestart?.state == .done)
    }

    @Test func itGivesUpIfNobodyElseEverServes() {
        var harness = AdministrationHarness()
        _ = harness.order(.drain(engine: 1, isForced: false))
        #expect(harness.order(.restartAll(isForced: false)).steps.isEmpty)
        let late = harness.sendDeadline()
        #expect(late.steps.isEmpty)
        let verdict = "the rolling restart stopped: engine 0 was not restarted: no other engine serves the model"
        #expect(late.logLines == [verdict + "; left alone: 1"])
        #expect(harness.rosterStates == [.ready, .draining])
    }

    @Test func modelsWithOneEngineNeedForce() {
        var one = AdministrationHarness(models: [1])
        #expect(one.refusal(of: .restartAll(isForced: false))?.hasPrefix("there is only one engine") == true)
        var several = AdministrationHarness(models: [2, 1])
        #expect(several.refusal(of: .restartAll(isForced: false))?.hasPrefix("m1 has only one engine") == true)
        #expect(several.order(.restartAll(isForced: true)).steps == [.terminate(.engine(0))])
        _ = several.restart(0)
        _ = several.restart(1)
        #expect(several.states == [.ready, .ready, .ending])
        _ = several.restart(2)
        #expect(several.status.rollingRestart?.state == .done)
    }

    @Test func anEngineThatIsBeingRestartedAnywayIsWaitedFor() {
        var harness = AdministrationHarness()
        _ = harness.order(.restart(engine: 0, isForced: false))
        #expect(harness.order(.restartAll(isForced: false)).steps.isEmpty)
        let back = harness.restart(0)
        #expect(back.steps == [.start(.engine(0)), .terminate(.engine(0))])
        _ = harness.restart(0)
        #expect(harness.states == [.ready, .ending])
    }

    @Test(arguments: 0..<3) func aStopAbandonsIt(steps: Int) {
        var harness = AdministrationHarness()
        _ = harness.order(.restartAll(isForced: false))
        if steps > 0 { _ = harness.send(.ended(.engine(0), .exited(code: 0))) }
        if steps > 1 { _ = harness.send(.ready(.engine(0), detail: "")) }
        let stop = harness.send(.stopRequested(signal: 15))
        #expect(stop.steps == [.closeListener, .terminate(.gateway)])
        #expect(harness.status.rollingRestart?.state == .stopped)
        #expect(harness.status.rollingRestart?.detail == "the server was asked to stop")
        let rest = harness.send(.ended(.gateway, .exited(code: 0)))
        #expect(rest.steps == [.terminate(.engine(0)), .terminate(.engine(1))])
        _ = harness.send(.ended(.engine(0), .exited(code: 0)))
        #expect(harness.send(.ended(.engine(1), .exited(code: 0))).steps == [.exit(code: 0)])
    }

    @Test func enginesThatShareADeviceProveItBeforeTheNextOneGoes() {
        var harness = AdministrationHarness(sharing: SharingRules())
        #expect(harness.states == [.ready, .ready])
        #expect(harness.order(.restartAll(isForced: false)).steps == [.terminate(.engine(0))])
        #expect(harness.send(.ended(.engine(0), .exited(code: 0))).steps == [.start(.engine(0))])
        #expect(harness.send(.ready(.engine(0), detail: "")).steps.isEmpty)
        #expect(harness.send(.sharing(.proved(engine: 0, failure: nil))).steps == [.terminate(.engine(1))])
        _ = harness.restart(1)
        #expect(harness.status.rollingRestart?.state == .done)
    }

    /// All engines of a device go and come back together, whatever else is going on.
    @Test(arguments: 0..<3) func aFaultOfTheSharedDeviceIsWaitedFor(steps: Int) {
        var harness = AdministrationHarness(sharing: SharingRules())
        _ = harness.order(.restartAll(isForced: false))
        if steps > 0 { _ = harness.send(.ended(.engine(0), .exited(code: 0))) }
        if steps > 1 { _ = harness.becomeReady(.engine(0)) }
        _ = harness.send(.sharing(.hold))
        for index in 0..<2 { _ = harness.send(.sharing(.kill(engine: index))) }
        for index in 0..<2 { #expect(harness.send(.ended(.engine(index), .killed(signal: 9))).steps.isEmpty) }
        #expect(harness.status.rollingRestart?.state == .running)
        #expect(harness.states == [.starting, .starting])
        #expect(harness.send(.sharing(.admit)).steps == [.start(.engine(0))])
        _ = harness.becomeReady(.engine(0))
        _ = harness.becomeReady(.engine(1))
        // Whose turn it was goes on from there.
        for _ in 0..<2 {
            for index in 0..<2 where harness.states[index] == .ending { _ = harness.restart(index) }
        }
        #expect(harness.rosterStates == [.ready, .ready])
        #expect(harness.status.rollingRestart?.state == .done)
        #expect(harness.status.engines.map(\.process.deathsInARow) == [0, 0])
    }

    @Test func anEngineOfASharedDeviceIsKilledAsTheDeviceAllows() {
        var harness = AdministrationHarness(sharing: SharingRules())
        _ = harness.order(.restart(engine: 0, isForced: false))
        _ = harness.sendDeadline()
        let stuck = harness.sendDeadline()
        #expect(stuck.contains(.sharing(.stuck(engine: 0))) && stuck.steps.isEmpty)
        #expect(harness.sendDeadline().steps == [.kill(.engine(0))])
        #expect(harness.send(.ended(.engine(0), .killed(signal: 9))).steps == [.start(.engine(0))])
        #expect(harness.status.engines[0].process.deathsInARow == 0)
    }

    /// Whatever happens in whatever order: no two engines of a rolling restart are away at once by its doing, every
    /// question is answered once, and in the end all serve.
    @Test(arguments: 0..<200) func chanceChangesNothing(seed: UInt64) {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1
        func random(_ count: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(count))
        }
        var harness = AdministrationHarness(models: [3, 2])
        for _ in 0..<200 {
            harness.now += .milliseconds(random(2000))
            let engine = random(5)
            let condition = harness.state.engines[engine].condition
            switch random(10) {
            case 0: #expect(harness.ask(.drain(engine: UInt32(engine), isForced: false)).reply != nil)
            case 1, 2: #expect(harness.ask(.resume(engine: UInt32(engine))).reply != nil)
            case 3: #expect(harness.ask(.restart(engine: UInt32(engine), isForced: false)).reply != nil)
            case 4: #expect(harness.ask(.restartAll(isForced: false)).reply != nil)
            case 5 where condition != .idle && harness.state.engines[engine].isAlive && random(4) == 0:
                _ = harness.send(.ended(.engine(engine), .killed(signal: 9)))
            case 6 where harness.states[engine] == .ending || harness.states[engine] == .killed:
                _ = harness.send(.ended(.engine(engine), .exited(code: 0)))
            case 7, 8: _ = harness.send(.ready(.engine(engine), detail: ""))
            default: _ = harness.send(.timePassed)
            }
            #expect(harness.states.count { $0 == .ending } <= 5)
            let roster = harness.state.currentRoster
            for (entry, state) in zip(roster.engines, harness.states) {
                #expect((entry.state == .ready) == (state == .ready))
            }
        }
        for _ in 0..<40 {
            for engine in 0..<5 {
                _ = harness.ask(.resume(engine: UInt32(engine)))
                if harness.states[engine] == .ending || harness.states[engine] == .killed {
                    _ = harness.send(.ended(.engine(engine), .exited(code: 0)))
                }
                _ = harness.send(.ready(.engine(engine), detail: ""))
            }
            _ = harness.sendDeadline()
        }
        #expect(harness.rosterStates == [.ready, .ready, .ready, .ready, .ready])
        #expect(harness.status.rollingRestart?.state != .running)
    }
}
