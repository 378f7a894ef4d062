// Tandem — Apache-2.0

import Testing
import VirtualDevice

@testable import Supervision

@Suite struct SimulatedDeviceTests {
    private struct Harness {
        var machine = SimulatedDeviceMachine(title: "simulated h100")
        var now = Duration.zero

        mutating func send(_ event: SimulatedDeviceMachine.Event) -> [SimulatedDeviceMachine.Action] {
            machine.handle(event, at: now)
        }

        mutating func sendDeadline() -> [SimulatedDeviceMachine.Action] {
            guard let deadline = machine.nextDeadline else { return [] }
            now = max(now, deadline)
            return send(.timePassed)
        }

        static func serving(_ engines: Int = 2) -> Harness {
            var harness = Harness()
            _ = harness.send(.begin)
            _ = harness.send(.started(pid: 50))
            _ = harness.send(.said(.report(DeviceReport())))
            for index in 0..<engines { _ = harness.send(.told(.started(engine: index, pid: 100 + Int32(index)))) }
            harness.now = .seconds(100)
            return harness
        }
    }

    @Test func enginesAreLetInOnceTheDeviceReports() {
        var harness = Harness()
        #expect(harness.send(.begin) == [.start])
        #expect(harness.send(.started(pid: 50)) == [])
        #expect(harness.send(.said(.report(DeviceReport()))) == [.report(.admit)])
        #expect(harness.send(.said(.report(DeviceReport(clients: 1)))) == [])
        #expect(harness.machine.report?.clients == 1)
        #expect(harness.send(.told(.started(engine: 0, pid: 9))) == [])
        #expect(harness.send(.told(.prove(engine: 0))) == [.report(.proved(engine: 0, failure: nil))])
        #expect(harness.machine.nextDeadline == nil)
    }

    @Test func aFaultTakesAllEnginesAndLetsThemInAgain() {
        var harness = Harness.serving()
        #expect(
            harness.send(.told(.fault(engine: 1))) == [
                .report(.hold), .report(.kill(engine: 0)), .report(.kill(engine: 1)),
            ])
        #expect(harness.send(.told(.ended(engine: 1))) == [])
        #expect(harness.send(.told(.ended(engine: 0))) == [.report(.admit)])
    }

    @Test func aDeviceThatEndsIsStartedAgainOnceItsEnginesAreGone() {
        var harness = Harness.serving()
        let ended = harness.send(.ended(reason: "was killed by SIGKILL"))
        #expect(
            ended == [
                .log(
                    "the simulated h100 was killed by SIGKILL; it is started again, and all its engines with it"),
                .report(.hold), .report(.kill(engine: 0)), .report(.kill(engine: 1)),
            ])
        #expect(harness.machine.nextDeadline == nil)
        #expect(harness.send(.told(.ended(engine: 0))) == [])
        #expect(harness.send(.told(.ended(engine: 1))) == [])
        #expect(harness.sendDeadline() == [.start])
        #expect(harness.machine.restarts == 1)
        _ = harness.send(.started(pid: 51))
        #expect(harness.send(.said(.report(DeviceReport()))) == [.report(.admit)])
    }

    @Test func anEngineThatWasStartedAMomentBeforeTheEndGoes() {
        var harness = Harness.serving(0)
        _ = harness.send(.ended(reason: "exited with code 1"))
        #expect(harness.send(.told(.started(engine: 0, pid: 9))) == [.report(.kill(engine: 0))])
        #expect(harness.machine.nextDeadline == nil)
        #expect(harness.send(.told(.ended(engine: 0))) == [])
        #expect(harness.sendDeadline() == [.start])
    }

    @Test func workOfAStuckEngineIsDroppedBeforeItIsKilled() {
        var harness = Harness.serving()
        #expect(harness.send(.told(.stuck(engine: 1))) == [.order(.drop(engine: 1))])
        #expect(harness.send(.said(.dropped(engine: 0))) == [])
        #expect(harness.send(.said(.dropped(engine: 1))) == [.report(.kill(engine: 1))])
        #expect(harness.machine.nextDeadline == nil)
        #expect(harness.send(.told(.ended(engine: 1))) == [])
    }

    @Test func aDeviceThatDropsNothingIsKilled() {
        var harness = Harness.serving()
        _ = harness.send(.told(.stuck(engine: 1)))
        #expect(harness.machine.nextDeadline == .seconds(103))
        let actions = harness.sendDeadline()
        #expect(
            actions == [
                .log(
                    "the simulated h100 does not drop the work of engine 1, which hangs: it is killed, and all its engines "
                        + "with it"), .kill,
            ])
        #expect(harness.machine.nextDeadline == nil)
        #expect(harness.send(.ended(reason: "was killed by SIGKILL")).contains(.report(.kill(engine: 0))))
    }

    @Test func aDeviceThatDoesNotStartIsGivenUp() {
        var harness = Harness()
        _ = harness.send(.begin)
        var reports: [SimulatedDeviceMachine.Action] = []
        for _ in 1...3 {
            reports += harness.send(.notStarted(reason: "no memory"))
            reports += harness.sendDeadline()
        }
        #expect(reports.filter { $0 == .report(.failed) }.count == 1)
        let line =
            "the simulated h100 could not be started: no memory; it is started again, and all its engines with it"
        #expect(reports.contains(.log(line)))
        var silent = Harness()
        _ = silent.send(.begin)
        _ = silent.send(.started(pid: 9))
        #expect(silent.sendDeadline().last == .kill)
    }

    @Test func itEndsWithTheServer() {
        var harness = Harness.serving(0)
        #expect(harness.send(.told(.stop)) == [.kill])
        #expect(harness.send(.ended(reason: "was killed by SIGKILL")) == [.report(.ended)])
        var down = Harness.serving(0)
        _ = down.send(.ended(reason: "exited with code 1"))
        #expect(down.send(.told(.stop)) == [.report(.ended)])
        #expect(down.machine.nextDeadline == nil)
    }

    /// Whatever comes in whatever order: engines are let in only while a device serves and none of the old ones lives,
    /// and nothing waits for ever.
    @Test(arguments: 0..<50)
    func randomWalks(seed: UInt64) {
        var state = seed &* 7919 + 1
        func next(_ count: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % count
        }
        var harness = Harness()
        var (isRunning, isAdmitting) = (false, false)
        var alive: Set<Int> = []
        var doomed: Set<Int> = []
        func apply(_ actions: [SimulatedDeviceMachine.Action]) {
            var queue = actions
            while !queue.isEmpty {
                switch queue.removeFirst() {
                case .start:
                    #expect(!isRunning && alive.isEmpty)
                    isRunning = true
                    queue += harness.send(.started(pid: 50))
                    if next(4) > 0 { queue += harness.send(.said(.report(DeviceReport()))) }
                case .kill:
                    #expect(isRunning)
                    isRunning = false
                    queue += harness.send(.ended(reason: "was killed"))
                case .order(.drop(let engine)):
                    if next(3) > 0 { queue += harness.send(.said(.dropped(engine: engine))) }
                case .report(.hold): isAdmitting = false
                case .report(.admit):
                    #expect(isRunning && alive.isEmpty)
                    isAdmitting = true
                case .report(.kill(let engine)): doomed.insert(engine)
                case .report, .log: break
                }
            }
        }
        apply(harness.send(.begin))
        for _ in 0..<300 {
            harness.now += .milliseconds(next(500))
            switch next(6) {
            case 0 where isAdmitting:
                let engine = next(4)
                guard alive.insert(engine).inserted else { break }
                apply(harness.send(.told(.started(engine: engine, pid: 9))))
            case 1:
                guard let engine = doomed.intersection(alive).min() ?? (next(4) == 0 ? alive.min() : nil) else { break }
                alive.remove(engine)
                doomed.remove(engine)
                apply(harness.send(.told(.ended(engine: engine))))
            case 2:
                guard let engine = alive.max(), next(4) == 0 else { break }
                apply(harness.send(.told(next(2) == 0 ? .fault(engine: engine) : .stuck(engine: engine))))
            case 3 where isRunning && next(8) == 0:
                isRunning = false
                apply(harness.send(.ended(reason: "was killed")))
            default:
                guard let deadline = harness.machine.nextDeadline, deadline <= harness.now else { break }
                apply(harness.send(.timePassed))
            }
        }
        // In the end it serves, if its engines go when they are told to.
        for _ in 0..<20 where !isAdmitting {
            while let engine = alive.popFirst() { apply(harness.send(.told(.ended(engine: engine)))) }
            apply(harness.sendDeadline())
            if isRunning { apply(harness.send(.said(.report(DeviceReport())))) }
        }
        #expect(isAdmitting)
    }
}
