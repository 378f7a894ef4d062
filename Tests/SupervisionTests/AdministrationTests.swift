// Tandem — Apache-2.0

import EngineLink
import Glibc
import Testing

@testable import Supervision

/// Drives a state machine and collects what it asks for.
private struct Harness {
    var state: SupervisorState
    var now = Duration.zero
    var nextPid: Int32 = 100
    private var nextConnection = 0

    /// All processes serve.
    ///
    /// - Parameter models: how many engines each has.
    init(
        models: [Int] = [2], memory: MemoryWatch = MemoryWatch(), isServing: Bool = true,
        sharing: SharingRules? = nil
    ) {
        let groups = EngineGroup.groups(models.enumerated().map { ("m\($0)", $1) })
        state = SupervisorState(
            addresses: (0..<models.reduce(0, +)).map { "a\($0)" }, groups: groups, shutdownTimeout: .seconds(30),
            hangLimits: HangLimits(silence: .zero, step: .zero), sharing: sharing, memory: memory)
        _ = send(.begin)
        if sharing != nil { _ = send(.sharing(.admit)) }
        guard isServing else { return }
        for child in state.children { _ = becomeReady(child) }
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

    /// It says that it serves, and proves it where that is asked.
    mutating func becomeReady(_ child: Child) -> [SupervisorAction] {
        let actions = send(.ready(child, detail: "cpu"))
        guard case .engine(let index) = child, state.sharing != nil else { return actions }
        return actions + send(.sharing(.proved(engine: index, failure: nil)))
    }

    /// The answer to a command, and what else is done; it is answered once, and to the one who asked.
    mutating func ask(_ command: AdminCommand) -> (reply: AdminReply?, actions: [SupervisorAction]) {
        nextConnection += 1
        let actions = send(.administer(command, connection: nextConnection))
        let replies = actions.compactMap {
            if case .answer(let reply, nextConnection) = $0 { reply } else { nil }
        }
        return (replies.count == 1 ? replies[0] : nil, actions)
    }

    /// A command that is to be accepted.
    mutating func order(_ command: AdminCommand) -> [SupervisorAction] {
        let (reply, actions) = ask(command)
        if case .accepted = reply { return actions }
        Issue.record("\(command) was not accepted: \(String(describing: reply))")
        return actions
    }

    mutating func refusal(of command: AdminCommand) -> String? {
        let (reply, actions) = ask(command)
        #expect(actions.effects.isEmpty && actions.rosters.isEmpty)
        guard case .refused(let text) = reply else { return nil }
        return text
    }

    /// The engine ends as it was told, and serves again.
    mutating func restart(_ index: Int) -> [SupervisorAction] {
        send(.ended(.engine(index), .exited(code: 0))) + becomeReady(.engine(index))
    }

    mutating func sendDeadline() -> [SupervisorAction] {
        guard let deadline = state.nextDeadline else { return [] }
        now = max(now, deadline)
        return send(.timePassed)
    }

    var status: SupervisorStatus {
        state.status(
            SupervisorFacts(version: "1", pid: 7, host: "h", port: 8, runDirectory: "/r", cores: [[0], [1]]), at: now)
    }

    var rosterStates: [RosterEntry.State] { state.currentRoster.engines.map(\.state) }
    var states: [ChildStatus.State] { status.engines.map(\.process.state) }
}

extension [SupervisorAction] {
    fileprivate var rosters: [Roster] { compactMap { if case .sendRoster(let roster) = $0 { roster } else { nil } } }
    fileprivate var logs: [String] { compactMap { if case .log(_, let text) = $0 { text } else { nil } } }
    /// Without rosters, log lines and answers.
    fileprivate var effects: [SupervisorAction] {
        filter {
            switch $0 {
            case .sendRoster, .log, .answer, .sharing: false
            default: true
            }
        }
    }
}

@Suite struct DrainTests {
    @Test func aDrainedEngineStaysUpAndGetsNothing() {
        var harness = Harness()
        let actions = harness.order(.drain(engine: 0, isForced: false))
        #expect(actions.effects.isEmpty)
        #expect(actions.rosters.last?.engines.map(\.state) == [.draining, .ready])
        #expect(harness.state.nextDeadline == nil)
        // Again changes nothing.
        #expect(harness.order(.drain(engine: 0, isForced: false)).rosters.isEmpty)
        let resumed = harness.order(.resume(engine: 0))
        #expect(resumed.effects.isEmpty)
        #expect(resumed.rosters.last?.engines.map(\.state) == [.ready, .ready])
        #expect(harness.order(.resume(engine: 0)).rosters.isEmpty)
    }

    @Test func heartbeatsTellWhenItHasNothingLeft() {
        var harness = Harness()
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
        var harness = Harness()
        _ = harness.order(.drain(engine: 1, isForced: false))
        let refusal = harness.refusal(of: .drain(engine: 0, isForced: false))
        #expect(refusal?.contains("engine 0 is the only one that serves the model") == true)
        #expect(refusal?.contains("--force") == true)
        #expect(
            harness.order(.drain(engine: 0, isForced: true)).rosters.last?.engines.map(\.state) == [
                .draining, .draining,
            ])
        // Another model's engines do not count.
        var models = Harness(models: [1, 2])
        #expect(models.refusal(of: .drain(engine: 0, isForced: false))?.contains("engine 0 (m0) is the only") == true)
        _ = models.order(.drain(engine: 1, isForced: false))
        // Nor do engines that do not serve.
        var dead = Harness()
        _ = dead.send(.ended(.engine(1), .killed(signal: 9)))
        #expect(dead.refusal(of: .drain(engine: 0, isForced: false)) != nil)
        // One that does not serve itself is nobody's last.
        _ = dead.order(.drain(engine: 1, isForced: false))
    }

    @Test func anEngineThatDiesWhileItIsDrainedComesBackDrained() {
        var harness = Harness()
        _ = harness.order(.drain(engine: 0, isForced: false))
        let died = harness.send(.ended(.engine(0), .killed(signal: 11)))
        #expect(died.logs == ["engine 0 was killed by SIGSEGV; starting it again in 0.1 s"])
        #expect(harness.sendDeadline().effects == [.start(.engine(0))])
        let ready = harness.send(.ready(.engine(0), detail: ""))
        #expect(ready.rosters.last?.engines.map(\.state) == [.draining, .ready])
        #expect(harness.status.engines[0].process.deathsInARow == 1)
    }

    @Test func whatCannotBeIsRefused() {
        var harness = Harness()
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
        var starting = Harness(isServing: false)
        #expect(starting.refusal(of: .restart(engine: 0, isForced: false)) == "the server is still starting")
        var only = Harness(models: [1])
        #expect(only.refusal(of: .resume(engine: 1)) == "there is no engine 1: the only one is 0")
    }
}

@Suite struct RestartTests {
    @Test func itFinishesEndsAndStartsAtOnceWithoutBeingADeath() {
        var harness = Harness()
        let asked = harness.order(.restart(engine: 0, isForced: false))
        #expect(asked.effects == [.terminate(.engine(0))])
        // Gateways hear of it first.
        let roster = asked.firstIndex { if case .sendRoster = $0 { true } else { false } }
        let terminate = asked.firstIndex(of: .terminate(.engine(0)))
        #expect(roster != nil && terminate != nil && roster ?? 9 < terminate ?? 0)
        #expect(harness.rosterStates == [.draining, .ready])
        #expect(harness.states == [.ending, .ready])
        #expect(harness.state.nextDeadline == .seconds(30))
        harness.now = .seconds(3)
        let ended = harness.send(.ended(.engine(0), .exited(code: 0)))
        #expect(ended.effects == [.start(.engine(0))])
        let entry = harness.state.currentRoster.engines[0]
        #expect(entry.state == .starting && entry.restarts == 1 && entry.reason == "was restarted on request")
        #expect(harness.status.engines[0].process.deathsInARow == 0)
        _ = harness.send(.ready(.engine(0), detail: "cpu"))
        #expect(harness.rosterStates == [.ready, .ready])
        #expect(harness.state.nextDeadline == nil)
        // A hundred of them are no crash loop.
        for _ in 0..<100 {
            _ = harness.order(.restart(engine: 0, isForced: false))
            #expect(harness.restart(0).effects == [.start(.engine(0))])
        }
        let died = harness.send(.ended(.engine(0), .killed(signal: 9)))
        #expect(died.logs.last?.hasSuffix("starting it again in 0.1 s") == true)
    }

    @Test func whatDoesNotFinishInTimeMoves() {
        var harness = Harness()
        _ = harness.order(.restart(engine: 1, isForced: false))
        let late = harness.sendDeadline()
        #expect(harness.now == .seconds(30))
        #expect(late.effects == [.terminate(.engine(1))])
        #expect(late.logs == ["engine 1 has not finished what it has: the rest moves to another engine"])
        #expect(harness.state.nextDeadline == .seconds(35))
        #expect(harness.send(.ended(.engine(1), .exited(code: 12))).effects == [.start(.engine(1))])
        #expect(harness.state.currentRoster.engines[1].reason == "was restarted on request")
    }

    @Test func whatDoesNotEndIsKilled() {
        var harness = Harness()
        _ = harness.order(.restart(engine: 1, isForced: false))
        _ = harness.sendDeadline()
        let killed = harness.sendDeadline()
        #expect(killed.effects == [.kill(.engine(1))])
        #expect(harness.rosterStates == [.ready, .restarting])
        #expect(harness.states == [.ready, .killed])
        #expect(harness.state.nextDeadline == nil)
        #expect(harness.refusal(of: .restart(engine: 1, isForced: false)) == "engine 1 is being restarted already")
        #expect(harness.send(.ended(.engine(1), .killed(signal: 9))).effects == [.start(.engine(1))])
        #expect(
            harness.state.currentRoster.engines[1].reason
                == "was restarted on request, and killed: it did not end in time")
        #expect(harness.status.engines[1].process.deathsInARow == 0)
    }

    @Test func aCrashOnTheWayIsToldAndIsNoDeath() {
        var harness = Harness()
        _ = harness.order(.restart(engine: 0, isForced: false))
        #expect(harness.send(.ended(.engine(0), .killed(signal: 11))).effects == [.start(.engine(0))])
        #expect(
            harness.state.currentRoster.engines[0].reason
                == "was restarted on request, and was killed by SIGSEGV")
        #expect(harness.status.engines[0].process.deathsInARow == 0)
    }

    @Test func aStartThatFailsAfterwardsIsADeath() {
        var harness = Harness()
        _ = harness.order(.restart(engine: 0, isForced: false))
        _ = harness.send(.ended(.engine(0), .exited(code: 0)))
        let died = harness.send(.ended(.engine(0), .exited(code: 10)))
        #expect(died.effects.isEmpty)
        #expect(harness.states == [.waiting, .ready])
        #expect(harness.status.engines[0].process.deathsInARow == 1)
        #expect(harness.status.engines[0].process.nextAttempt == 100)
    }

    @Test func theLastServingEngineIsRestartedByForceAndGetsLittleTime() {
        var harness = Harness(models: [1])
        #expect(harness.refusal(of: .restart(engine: 0, isForced: false))?.contains("--force") == true)
        _ = harness.order(.restart(engine: 0, isForced: true))
        #expect(harness.state.nextDeadline == Administration.lastEngineDrain)
    }

    @Test func aDrainedEngineIsRestartedAndServesAgain() {
        var harness = Harness()
        _ = harness.order(.drain(engine: 0, isForced: false))
        _ = harness.order(.restart(engine: 0, isForced: false))
        #expect(harness.refusal(of: .resume(engine: 0)) != nil)
        #expect(harness.refusal(of: .drain(engine: 0, isForced: false)) == "engine 0 is being restarted")
        _ = harness.restart(0)
        #expect(harness.rosterStates == [.ready, .ready])
    }

    @Test func anEngineThatWaitsIsStartedNow() {
        var harness = Harness()
        for _ in 0..<10 {
            _ = harness.send(.ended(.engine(1), .exited(code: 1)))
            _ = harness.sendDeadline()
        }
        _ = harness.send(.ended(.engine(1), .exited(code: 1)))
        #expect(harness.states == [.ready, .failed])
        let process = harness.status.engines[1].process
        #expect(process.deathsInARow == 11 && process.nextAttempt == 30_000)
        #expect(harness.order(.restart(engine: 1, isForced: false)).effects == [.start(.engine(1))])
        #expect(harness.refusal(of: .restart(engine: 1, isForced: false)) == "engine 1 is starting already")
        _ = harness.send(.ready(.engine(1), detail: ""))
        #expect(harness.rosterStates == [.ready, .ready])
    }

    @Test func aStopIsNotHeldUp() {
        var harness = Harness()
        _ = harness.order(.restart(engine: 0, isForced: false))
        #expect(harness.send(.stopRequested(signal: 15)).effects == [.closeListener, .terminate(.gateway)])
        #expect(harness.state.nextDeadline == .seconds(35))
        #expect(harness.send(.ended(.engine(0), .exited(code: 0))).effects.isEmpty)
        #expect(harness.send(.ended(.gateway, .exited(code: 0))).effects == [.terminate(.engine(1))])
        #expect(harness.send(.ended(.engine(1), .exited(code: 0))).effects == [.exit(code: 0)])
    }
}

@Suite struct RollingRestartTests {
    @Test func oneEngineAfterTheOther() {
        var harness = Harness(models: [3])
        #expect(harness.order(.restartAll(isForced: false)).effects == [.terminate(.engine(0))])
        for index in 0..<3 {
            #expect(harness.states.count { $0 == .ending } == 1 && harness.states[index] == .ending)
            #expect(harness.status.rollingRestart?.current == UInt32(index))
            #expect(harness.status.rollingRestart?.restarted == (0..<index).map { UInt32($0) })
            #expect(harness.send(.ended(.engine(index), .exited(code: 0))).effects == [.start(.engine(index))])
            // The next one's turn comes when this one is ready.
            #expect(harness.send(.timePassed).effects.isEmpty)
            #expect(harness.status.rollingRestart?.detail == "is starting")
            let ready = harness.send(.ready(.engine(index), detail: "cpu"))
            #expect(ready.effects == (index < 2 ? [.terminate(.engine(index + 1))] : []))
        }
        #expect(harness.status.rollingRestart == RollingRestartStatus(state: .done, restarted: [0, 1, 2]))
        #expect(harness.rosterStates == [.ready, .ready, .ready])
        #expect(harness.status.engines.map(\.process.restarts) == [1, 1, 1])
        #expect(harness.status.engines.map(\.process.deathsInARow) == [0, 0, 0])
        #expect(harness.state.nextDeadline == nil)
        // And again, from the beginning.
        #expect(harness.order(.restartAll(isForced: false)).effects == [.terminate(.engine(0))])
        #expect(harness.status.rollingRestart?.restarted == [])
    }

    @Test func nothingElseIsBegunMeanwhile() {
        var harness = Harness()
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
        var harness = Harness(models: [3])
        _ = harness.order(.restartAll(isForced: false))
        _ = harness.send(.ended(.engine(0), .exited(code: 0)))
        let died = harness.send(.ended(.engine(0), .exited(code: 10)))
        #expect(died.effects.isEmpty)
        let verdict = "the rolling restart stopped: engine 0 did not come back: it exited with code 10"
        #expect(died.logs.last == verdict + "; left alone: 1, 2")
        let status = harness.status.rollingRestart
        #expect(status?.state == .stopped && status?.current == 0 && status?.pending == [1, 2])
        #expect(status?.detail == "engine 0 did not come back: it exited with code 10")
        #expect(harness.rosterStates == [.restarting, .ready, .ready])
        // The engine is mended as any other, and all can be restarted again.
        #expect(harness.sendDeadline().effects == [.start(.engine(0))])
        #expect(harness.send(.ready(.engine(0), detail: "")).effects.isEmpty)
        _ = harness.order(.restartAll(isForced: false))
    }

    @Test func anEngineThatStartsForTooLongStopsIt() {
        var harness = Harness()
        _ = harness.order(.restartAll(isForced: false))
        _ = harness.send(.ended(.engine(0), .exited(code: 0)))
        #expect(harness.state.nextDeadline == Administration.returnLimit)
        let late = harness.sendDeadline()
        #expect(late.logs.last?.contains("engine 0 did not come back within 300 s; left alone: 1") == true)
        #expect(harness.state.nextDeadline == nil)
    }

    @Test func itWaitsUntilAnotherServes() {
        var harness = Harness()
        _ = harness.send(.ended(.engine(1), .killed(signal: 9)))
        #expect(harness.order(.restartAll(isForced: false)).effects.isEmpty)
        #expect(harness.status.rollingRestart?.detail == "waits until another engine serves")
        #expect(harness.sendDeadline().effects == [.start(.engine(1))])
        #expect(harness.send(.ready(.engine(1), detail: "")).effects == [.terminate(.engine(0))])
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
        var harness = Harness()
        _ = harness.order(.drain(engine: 1, isForced: false))
        #expect(harness.order(.restartAll(isForced: false)).effects.isEmpty)
        let late = harness.sendDeadline()
        #expect(late.effects.isEmpty)
        let verdict = "the rolling restart stopped: engine 0 was not restarted: no other engine serves the model"
        #expect(late.logs == [verdict + "; left alone: 1"])
        #expect(harness.rosterStates == [.ready, .draining])
    }

    @Test func modelsWithOneEngineNeedForce() {
        var one = Harness(models: [1])
        #expect(one.refusal(of: .restartAll(isForced: false))?.hasPrefix("there is only one engine") == true)
        var several = Harness(models: [2, 1])
        #expect(several.refusal(of: .restartAll(isForced: false))?.hasPrefix("m1 has only one engine") == true)
        #expect(several.order(.restartAll(isForced: true)).effects == [.terminate(.engine(0))])
        _ = several.restart(0)
        _ = several.restart(1)
        #expect(several.states == [.ready, .ready, .ending])
        _ = several.restart(2)
        #expect(several.status.rollingRestart?.state == .done)
    }

    @Test func anEngineThatIsBeingRestartedAnywayIsWaitedFor() {
        var harness = Harness()
        _ = harness.order(.restart(engine: 0, isForced: false))
        #expect(harness.order(.restartAll(isForced: false)).effects.isEmpty)
        let back = harness.restart(0)
        #expect(back.effects == [.start(.engine(0)), .terminate(.engine(0))])
        _ = harness.restart(0)
        #expect(harness.states == [.ready, .ending])
    }

    @Test(arguments: 0..<3) func aStopAbandonsIt(steps: Int) {
        var harness = Harness()
        _ = harness.order(.restartAll(isForced: false))
        if steps > 0 { _ = harness.send(.ended(.engine(0), .exited(code: 0))) }
        if steps > 1 { _ = harness.send(.ready(.engine(0), detail: "")) }
        let stop = harness.send(.stopRequested(signal: 15))
        #expect(stop.effects == [.closeListener, .terminate(.gateway)])
        #expect(harness.status.rollingRestart?.state == .stopped)
        #expect(harness.status.rollingRestart?.detail == "the server was asked to stop")
        let rest = harness.send(.ended(.gateway, .exited(code: 0)))
        #expect(rest.effects == [.terminate(.engine(0)), .terminate(.engine(1))])
        _ = harness.send(.ended(.engine(0), .exited(code: 0)))
        #expect(harness.send(.ended(.engine(1), .exited(code: 0))).effects == [.exit(code: 0)])
    }

    @Test func enginesThatShareADeviceProveItBeforeTheNextOneGoes() {
        var harness = Harness(sharing: SharingRules())
        #expect(harness.states == [.ready, .ready])
        #expect(harness.order(.restartAll(isForced: false)).effects == [.terminate(.engine(0))])
        #expect(harness.send(.ended(.engine(0), .exited(code: 0))).effects == [.start(.engine(0))])
        #expect(harness.send(.ready(.engine(0), detail: "")).effects.isEmpty)
        #expect(harness.send(.sharing(.proved(engine: 0, failure: nil))).effects == [.terminate(.engine(1))])
        _ = harness.restart(1)
        #expect(harness.status.rollingRestart?.state == .done)
    }

    /// All engines of a device go and come back together, whatever else is going on.
    @Test(arguments: 0..<3) func aFaultOfTheSharedDeviceIsWaitedFor(steps: Int) {
        var harness = Harness(sharing: SharingRules())
        _ = harness.order(.restartAll(isForced: false))
        if steps > 0 { _ = harness.send(.ended(.engine(0), .exited(code: 0))) }
        if steps > 1 { _ = harness.becomeReady(.engine(0)) }
        _ = harness.send(.sharing(.hold))
        for index in 0..<2 { _ = harness.send(.sharing(.kill(engine: index))) }
        for index in 0..<2 { #expect(harness.send(.ended(.engine(index), .killed(signal: 9))).effects.isEmpty) }
        #expect(harness.status.rollingRestart?.state == .running)
        #expect(harness.states == [.starting, .starting])
        #expect(harness.send(.sharing(.admit)).effects == [.start(.engine(0))])
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
        var harness = Harness(sharing: SharingRules())
        _ = harness.order(.restart(engine: 0, isForced: false))
        _ = harness.sendDeadline()
        let stuck = harness.sendDeadline()
        #expect(stuck.contains(.sharing(.stuck(engine: 0))) && stuck.effects.isEmpty)
        #expect(harness.sendDeadline().effects == [.kill(.engine(0))])
        #expect(harness.send(.ended(.engine(0), .killed(signal: 9))).effects == [.start(.engine(0))])
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
        var harness = Harness(models: [3, 2])
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

    private func growing(models: [Int] = [2], plans: [UInt64?] = [800, 800]) -> Harness {
        Harness(models: models, memory: Self.watch(plans))
    }

    /// What is asked for while engines hold this for so long.
    private func hold(
        _ mebibytes: [UInt64], from: Int, through: Int, _ harness: inout Harness
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
        #expect(actions.effects == [.terminate(.engine(0))])
        #expect(actions.logs.first?.hasPrefix("engine 0 holds 950 MiB of memory, 800 MiB were planned") == true)
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
        #expect(actions.effects.isEmpty)
        #expect(actions.logs.count == 1)
        _ = harness.order(.resume(engine: 1))
        #expect(hold([950, 100], from: 93, through: 93, &harness).effects == [.terminate(.engine(0))])
    }

    @Test func neverTwoAtOnceAndNotDuringOtherRestarts() {
        var harness = growing()
        let actions = hold([990, 950], from: 0, through: 90, &harness)
        #expect(actions.effects == [.terminate(.engine(0))])
        _ = harness.restart(0)
        #expect(hold([100, 950], from: 93, through: 147, &harness).effects.isEmpty)
        #expect(hold([100, 950], from: 150, through: 153, &harness).effects == [.terminate(.engine(1))])
        var rolling = growing()
        _ = rolling.order(.restartAll(isForced: false))
        #expect(hold([100, 950], from: 0, through: 60, &rolling).effects.filter { $0 == .terminate(.engine(1)) } == [])
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
