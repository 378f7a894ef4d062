// Tandem — Apache-2.0

import EngineLink
import TestSupport
import Testing

@testable import Supervision

/// Drives a state machine whose engines share a device.
private struct SharingHarness {
    var state: SupervisorState
    var now = Duration.zero
    private var nextPid: Int32 = 100

    init(engines: Int = 2, hangLimits: HangLimits = HangLimits(silence: .zero, step: .zero)) {
        state = SupervisorState(
            addresses: (0..<engines).map { "a\($0)" }, groups: EngineGroup.groups([("m", engines)]),
            shutdownTimeout: .seconds(30), hangLimits: hangLimits, sharing: SharingRules())
    }

    mutating func send(_ event: SupervisorEvent) -> [SupervisorAction] {
        var actions = state.handle(event, at: now)
        for case .start(let child) in actions {
            nextPid += 1
            actions += state.handle(.started(child, pid: nextPid), at: now)
        }
        return actions
    }

    mutating func sendDeadline() -> [SupervisorAction] {
        guard let deadline = state.nextDeadline else { return [] }
        now = max(now, deadline)
        return send(.timePassed)
    }

    static func serving(hangLimits: HangLimits = HangLimits(silence: .zero, step: .zero)) -> SharingHarness {
        var harness = SharingHarness(hangLimits: hangLimits)
        _ = harness.send(.begin)
        _ = harness.send(.ready(.gateway, detail: ""))
        _ = harness.send(.sharing(.admit))
        for index in 0...1 {
            _ = harness.send(.ready(.engine(index), detail: "cuda"))
            _ = harness.send(.sharing(.proved(engine: index, failure: nil)))
        }
        return harness
    }
}

extension [SupervisorAction] {
    fileprivate var states: [RosterEntry.State]? {
        compactMap { if case .sendRoster(let roster) = $0 { roster.engines.map(\.state) } else { nil } }.last
    }
    fileprivate var logs: [String] { compactMap { if case .log(_, let text) = $0 { text } else { nil } } }
    fileprivate var effects: [SupervisorAction] {
        filter {
            switch $0 {
            case .sendRoster, .log: false
            default: true
            }
        }
    }
}

@Suite struct SharingStateTests {
    @Test func enginesStartOneAfterTheOtherOnceTheDeviceIsReadyAndServeOnceProved() {
        var harness = SharingHarness()
        #expect(harness.send(.begin).effects == [.start(.gateway)])
        #expect(harness.send(.ready(.gateway, detail: "")).effects == [])
        #expect(
            harness.send(.sharing(.admit)).effects == [
                .start(.engine(0)), .sharing(.started(engine: 0, pid: 102)),
            ])
        let ready = harness.send(.ready(.engine(0), detail: "cuda"))
        #expect(ready.effects == [.sharing(.prove(engine: 0))])
        #expect(ready.states == nil)
        let proved = harness.send(.sharing(.proved(engine: 0, failure: nil)))
        #expect(
            proved.effects == [
                .announce(devices: ["cuda"]), .start(.engine(1)), .sharing(.started(engine: 1, pid: 103)),
            ])
        #expect(proved.states == [.ready, .starting])
        _ = harness.send(.ready(.engine(1), detail: "cuda"))
        #expect(harness.send(.sharing(.proved(engine: 1, failure: nil))).states == [.ready, .ready])
    }

    @Test func anEngineBesideTheDeviceIsKilledAndCounted() {
        var harness = SharingHarness()
        _ = harness.send(.begin)
        _ = harness.send(.ready(.gateway, detail: ""))
        _ = harness.send(.sharing(.admit))
        _ = harness.send(.ready(.engine(0), detail: "cuda"))
        #expect(harness.send(.sharing(.proved(engine: 0, failure: "time slices"))).effects == [.kill(.engine(0))])
        // A second verdict changes nothing.
        #expect(harness.send(.sharing(.proved(engine: 0, failure: nil))).effects == [])
        let ended = harness.send(.ended(.engine(0), .killed(signal: 9)))
        #expect(
            ended.logs == ["engine 0 was killed: it does not share the GPU: time slices; starting it again in 0.1 s"])
        #expect(
            ended.effects == [
                .sharing(.ended(engine: 0)), .start(.engine(1)), .sharing(.started(engine: 1, pid: 103)),
            ])
    }

    @Test func aFaultTakesAllEnginesAndBringsThemBackInOrder() {
        var harness = SharingHarness.serving()
        harness.now = .seconds(100)
        let first = harness.send(.ended(.engine(1), .exited(code: 14)))
        #expect(first.effects == [.sharing(.fault(engine: 1)), .sharing(.ended(engine: 1))])
        #expect(first.states == [.ready, .restarting])
        #expect(harness.send(.sharing(.hold)).effects == [])
        #expect(harness.send(.sharing(.kill(engine: 0))).effects == [.kill(.engine(0))])
        let second = harness.send(.ended(.engine(0), .killed(signal: 9)))
        #expect(second.effects == [.sharing(.ended(engine: 0))])
        #expect(second.states == [.restarting, .restarting])
        harness.now = .milliseconds(100_050)
        // The pause after a fault is counted from the fault on.
        #expect(harness.send(.sharing(.admit)).effects == [])
        #expect(harness.state.nextDeadline == .milliseconds(100_100))
        #expect(harness.sendDeadline().effects == [.start(.engine(0)), .sharing(.started(engine: 0, pid: 104))])
        _ = harness.send(.ready(.engine(0), detail: "cuda"))
        let back = harness.send(.sharing(.proved(engine: 0, failure: nil)))
        #expect(back.effects == [.start(.engine(1)), .sharing(.started(engine: 1, pid: 105))])
        #expect(back.states == [.ready, .restarting] || back.states == [.ready, .starting])
    }

    /// No other one starts meanwhile.
    @Test func anEngineThatNeverServesIsGivenUp() {
        var harness = SharingHarness.serving(hangLimits: HangLimits(silence: .zero, step: .zero, start: .seconds(600)))
        harness.now = .seconds(100)
        _ = harness.send(.ended(.engine(1), .killed(signal: 9)))
        #expect(harness.sendDeadline().effects.contains(.start(.engine(1))))
        _ = harness.send(.ended(.engine(0), .killed(signal: 9)))
        let started = harness.now
        while harness.now < started + .seconds(600) {
            #expect(!harness.sendDeadline().effects.contains(.start(.engine(0))))
        }
        #expect(harness.state.engines[1].condition == .killed)
        #expect(harness.sendDeadline().effects.contains(.kill(.engine(1))))
        #expect(harness.now == started + .seconds(615))
        #expect(harness.send(.ended(.engine(1), .killed(signal: 9))).effects.contains(.start(.engine(0))))
    }

    @Test func faultsInARowAreTriedEverMoreRarely() {
        var harness = SharingHarness.serving()
        harness.now = .seconds(100)
        var pauses: [Duration] = []
        for _ in 0..<12 {
            for index in 0...1 where harness.state.engines[index].isAlive {
                _ = harness.send(.ended(.engine(index), .exited(code: 14)))
            }
            _ = harness.send(.sharing(.hold))
            let before = harness.now
            _ = harness.send(.sharing(.admit))
            while !harness.state.engines.contains(where: { $0.condition == .starting }) { _ = harness.sendDeadline() }
            pauses.append(harness.now - before)
        }
        #expect(pauses.first == .milliseconds(100))
        #expect(pauses.last == .seconds(30))
        #expect(zip(pauses, pauses.dropFirst()).allSatisfy { $0 <= $1 })
    }

    @Test func aDeviceThatFaultsBeforeAnythingIsServedEndsTheStart() {
        var harness = SharingHarness(engines: 1)
        _ = harness.send(.begin)
        _ = harness.send(.ready(.gateway, detail: ""))
        var actions: [SupervisorAction] = []
        for _ in 0..<3 {
            _ = harness.send(.sharing(.admit))
            _ = harness.sendDeadline()
            actions = harness.send(.ended(.engine(0), .exited(code: 14)))
            _ = harness.send(.sharing(.hold))
        }
        #expect(actions.logs.contains { $0.hasPrefix("cannot start: the GPU had a fatal fault 3 times") })
        #expect(actions.effects.contains(.kill(.gateway)))
        #expect(harness.send(.ended(.gateway, .killed(signal: 9))).effects == [.sharing(.stop)])
        #expect(harness.send(.sharing(.ended)).effects == [.exit(code: 1)])
    }

    /// Nobody is left to be killed: a further signal ends the wait.
    @Test func aSignalEndsTheWaitForSharingToEnd() {
        var harness = SharingHarness()
        _ = harness.send(.begin)
        _ = harness.send(.stopRequested(signal: 2))
        let ended = harness.send(.ended(.gateway, .exited(code: 0)))
        #expect(ended.effects == [.sharing(.stop)])
        let second = harness.send(.stopRequested(signal: 2))
        #expect(second.effects == [.exit(code: 130)])
        #expect(second.logs.first?.contains("is not waited for") == true)
    }

    @Test func sharingThatDoesNotWorkEndsTheStartOnly() {
        var starting = SharingHarness()
        _ = starting.send(.begin)
        #expect(starting.send(.sharing(.failed)).effects == [.closeListener, .kill(.gateway)])
        var serving = SharingHarness.serving()
        #expect(serving.send(.sharing(.failed)).isEmpty)
        var vain = SharingHarness()
        _ = vain.send(.begin)
        for _ in 0..<2 {
            _ = vain.send(.sharing(.admit))
            #expect(vain.send(.sharing(.hold)).logs == [])
        }
        _ = vain.send(.sharing(.admit))
        #expect(vain.send(.sharing(.hold)).logs.last?.hasPrefix("cannot start: engines had to go 3 times") == true)
    }

    @Test func anEngineThatHangsIsLeftToTheSharingForAWhile() {
        var harness = SharingHarness.serving(hangLimits: HangLimits())
        harness.now = .seconds(9)
        _ = harness.send(.heartbeat(.gateway, progress: 0, isWorking: false))
        _ = harness.send(.heartbeat(.engine(0), progress: 0, isWorking: false))
        let hang = harness.sendDeadline()
        #expect(hang.effects == [.sharing(.stuck(engine: 1))])
        #expect(hang.states == [.ready, .restarting])
        for second in stride(from: 14, through: 24, by: 5) {
            harness.now = .seconds(second)
            _ = harness.send(.heartbeat(.gateway, progress: 0, isWorking: false))
            _ = harness.send(.heartbeat(.engine(0), progress: 0, isWorking: false))
        }
        // Something else was more urgent there.
        #expect(harness.state.nextDeadline == .seconds(25))
        #expect(harness.sendDeadline().effects == [.kill(.engine(1))])
        let ended = harness.send(.ended(.engine(1), .killed(signal: 9)))
        #expect(
            ended.logs == ["engine 1 was killed: it gave no sign of life for 10 s; starting it again in 0.1 s"])
        #expect(harness.sendDeadline().effects == [.start(.engine(1)), .sharing(.started(engine: 1, pid: 104))])
    }

    @Test func theEndOfTheSharingIsWaitedForButNotForEver() {
        var harness = SharingHarness.serving()
        _ = harness.send(.stopRequested(signal: 15))
        #expect(
            harness.send(.ended(.gateway, .exited(code: 0))).effects == [
                .terminate(.engine(0)), .terminate(.engine(1)),
            ])
        _ = harness.send(.ended(.engine(0), .exited(code: 0)))
        #expect(
            harness.send(.ended(.engine(1), .exited(code: 0))).effects == [
                .sharing(.ended(engine: 1)), .sharing(.stop),
            ])
        #expect(harness.sendDeadline().effects == [.exit(code: 0)])
        #expect(harness.now == SupervisorState.sharingGrace)
    }

    /// Whatever comes in whatever order: engines start one at a time, only while they may, and each comes back.
    @Test(arguments: 0..<60 as Range<UInt64>)
    func randomWalks(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var harness = SharingHarness(engines: 3)
        var alive: Set<Int> = []
        var isAdmitting = false
        func check(_ actions: [SupervisorAction]) {
            for action in actions {
                switch action {
                case .start(.engine(let index)):
                    #expect(isAdmitting)
                    #expect(alive.insert(index).inserted)
                    let busy = harness.state.engines.count { $0.condition == .starting || $0.condition == .proving }
                    #expect(busy <= 1)
                case .exit: Issue.record("nobody asked for the end")
                default: break
                }
            }
        }
        check(harness.send(.begin))
        check(harness.send(.ready(.gateway, detail: "")))
        isAdmitting = true
        check(harness.send(.sharing(.admit)))
        check(harness.send(.ready(.engine(0), detail: "")))
        check(harness.send(.sharing(.proved(engine: 0, failure: nil))))
        for _ in 0..<200 {
            let index = Int.random(in: 0..<3, using: &random)
            switch Int.random(in: 0..<8, using: &random) {
            case 0:
                isAdmitting = false
                check(harness.send(.sharing(.hold)))
            case 1:
                isAdmitting = true
                check(harness.send(.sharing(.admit)))
            case 2: check(harness.send(.sharing(.kill(engine: index))))
            case 3 where alive.remove(index) != nil:
                let code: Int32 = Bool.random(using: &random) ? 14 : 11
                if code == 14 { isAdmitting = false }
                check(harness.send(.ended(.engine(index), .exited(code: code))))
            case 4: check(harness.send(.ready(.engine(index), detail: "")))
            case 5: check(harness.send(.sharing(.proved(engine: index, failure: nil))))
            case 6: check(harness.send(.sharing(.proved(engine: index, failure: "no"))))
            default: check(harness.sendDeadline())
            }
        }
        isAdmitting = true
        check(harness.send(.sharing(.admit)))
        for _ in 0..<100 {
            for (index, engine) in harness.state.engines.enumerated() {
                switch engine.condition {
                case .killed:
                    alive.remove(index)
                    check(harness.send(.ended(.engine(index), .killed(signal: 9))))
                case .starting: check(harness.send(.ready(.engine(index), detail: "")))
                case .proving: check(harness.send(.sharing(.proved(engine: index, failure: nil))))
                case .waiting, .due: check(harness.sendDeadline())
                case .ready, .idle: break
                }
            }
        }
        #expect(harness.state.engines.allSatisfy { $0.condition == .ready })
    }
}
