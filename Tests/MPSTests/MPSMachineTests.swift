// Tandem — Apache-2.0

import Testing

@testable import MPS

/// A machine with a clock that the test moves.
private struct Driver {
    var machine: MPSMachine
    var now = Duration.zero

    init(_ ownership: DaemonOwnership = .own) {
        machine = MPSMachine(ownership: ownership)
    }

    @discardableResult
    mutating func send(_ event: MPSEvent) -> [MPSAction] {
        machine.handle(event, now: now)
    }

    /// Lets time pass until `isDone`, answering nothing; all actions on the way.
    mutating func wait(upTo limit: Duration = .seconds(120), until isDone: (MPSMachine) -> Bool) -> [MPSAction] {
        let end = now + limit
        var actions: [MPSAction] = []
        while !isDone(machine), let deadline = machine.deadline, deadline <= end {
            now = deadline
            actions += send(.timePassed)
        }
        return actions
    }

    mutating func reachActive(engines: [Int] = []) {
        send(.begin)
        if machine.ownership == .own { send(.daemonStarted) }
        send(.answered(MPSSnapshot(server: .none, clients: 0)))
        for engine in engines { send(.engineStarted(engine)) }
        send(.serverStarting)
        send(.serverReady)
    }
}

private func steps(_ actions: [MPSAction]) -> [MPSAction] {
    actions.filter {
        switch $0 {
        case .log, .query: false
        default: true
        }
    }
}

@Suite("MPS machine")
struct MPSMachineTests {
    private let empty = MPSSnapshot(server: .none, clients: 0)
    private let active = MPSSnapshot(server: .active, clients: 2)

    @Test("A daemon of ours is started, asked, and lets engines in")
    func start() {
        var driver = Driver()
        #expect(driver.send(.begin) == [.startDaemon])
        #expect(driver.machine.phase == .starting)
        #expect(driver.send(.daemonStarted) == [.query])
        #expect(!driver.machine.isAdmitting)
        #expect(driver.send(.answered(empty)) == [.admit])
        #expect(driver.machine.phase == .idle)
        driver.send(.serverStarting)
        #expect(driver.machine.phase == .initializing)
        driver.send(.serverReady)
        #expect(driver.machine.phase == .active)
    }

    @Test("A stuck engine's work is dropped before it is killed, and the others go on")
    func stuckEngine() {
        var driver = Driver()
        driver.reachActive(engines: [0, 1])
        #expect(steps(driver.send(.engineStuck(1))) == [.terminateClient(engine: 1)])
        #expect(driver.send(.terminated(engine: 1, succeeded: true)) == [.killEngine(1)])
        #expect(driver.send(.engineEnded(1)).isEmpty)
        #expect(driver.machine.phase == .active && driver.machine.rung == nil && driver.machine.isAdmitting)
    }

    @Test("If its work could not be dropped, the server is looked at after the kill")
    func uncleanKill() {
        var driver = Driver()
        driver.reachActive(engines: [0, 1])
        driver.send(.engineStuck(1))
        #expect(driver.send(.terminated(engine: 1, succeeded: false)) == [.killEngine(1)])
        #expect(driver.send(.engineEnded(1)) == [.query])
        driver.send(.answered(MPSSnapshot(server: .active, clients: 1)))
        #expect(driver.machine.rung == nil && driver.machine.engines == [0])
    }

    @Test("An engine that survives SIGKILL takes the group along")
    func unkillable() {
        var driver = Driver()
        driver.reachActive(engines: [0, 1])
        driver.send(.engineStuck(1))
        let actions = driver.wait { $0.rung == .killGroup }
        #expect(steps(actions) == [.killEngine(1), .hold, .killEngine(0), .killEngine(1)])
    }

    @Test("A fault ends all engines, waits until no client is left, and lets them in again")
    func fault() {
        var driver = Driver()
        driver.reachActive(engines: [0, 1])
        #expect(steps(driver.send(.serverFault)) == [.hold, .killEngine(0), .killEngine(1)])
        #expect(driver.machine.phase == .fault)
        driver.send(.engineEnded(0))
        driver.send(.answered(empty))
        #expect(driver.machine.phase == .fault, "an engine still lives")
        #expect(driver.send(.engineEnded(1)) == [.query])
        driver.send(.answered(MPSSnapshot(server: .active, clients: 1)))
        #expect(driver.machine.phase == .fault, "a client is still listed")
        driver.send(.answered(MPSSnapshot(server: .fault, clients: 0)))
        #expect(driver.machine.phase == .fault)
        #expect(driver.send(.answered(MPSSnapshot(server: .active, clients: 0))) == [.admit])
        #expect(driver.machine.phase == .active && driver.machine.rung == nil)
        #expect(driver.machine.counts == [.killGroup: 1])
    }

    @Test("A server that says FAULT without clients is believed to take new ones, once")
    func forgiveness() {
        var driver = Driver()
        driver.reachActive(engines: [0])
        driver.send(.serverFault)
        driver.send(.engineEnded(0))
        let left = MPSSnapshot(server: .fault, clients: 0)
        #expect(driver.send(.answered(left)).isEmpty)
        #expect(driver.send(.answered(left)) == [.admit])
        driver.send(.engineStarted(0))
        #expect(driver.send(.answered(left)).isEmpty, "not attached yet")
        #expect(steps(driver.send(.engineFault(0))) == [.hold, .killEngine(0)])
        driver.send(.engineEnded(0))
        for _ in 0..<5 { #expect(driver.send(.answered(left)).isEmpty) }
        #expect(steps(driver.wait { $0.rung == .quit }) == [.quit])
    }

    @Test("FAULT as an answer is a fault, and so are an engine's error and the server's end")
    func faultBySnapshot() {
        for event in [
            MPSEvent.answered(MPSSnapshot(server: .fault, clients: 2)), .engineFault(0), .serverEnded, .serverFault,
        ] {
            var driver = Driver()
            driver.reachActive(engines: [0])
            driver.send(event)
            #expect(driver.machine.phase == .fault, "\(event)")
        }
        var driver = Driver()
        driver.reachActive()
        driver.send(.serverEnded)
        #expect(driver.machine.phase == .idle, "nobody used it")
    }

    @Test("A wedged daemon: every rung in its order, then a restart")
    func ladder() {
        var driver = Driver()
        driver.reachActive(engines: [0])
        for _ in 0..<2 { driver.send(.notAnswered(.busy(.daemon))) }
        #expect(driver.machine.phase == .active)
        var actions = driver.send(.notAnswered(.busy(.daemon)))
        #expect(driver.machine.phase == .wedged)
        driver.send(.engineEnded(0))
        actions += driver.wait { $0.rung == .killDaemon }
        actions += driver.send(.daemonEnded)
        actions += driver.wait { $0.phase == .starting }
        #expect(
            steps(actions) == [
                .hold, .killEngine(0), .quit, .killServer, .killDaemon, .killServer, .cleanDirectory, .startDaemon,
            ])
        driver.send(.daemonStarted)
        #expect(driver.send(.answered(empty)) == [.admit])
        #expect(driver.machine.rung == nil)
    }

    @Test("A daemon that answers once its server is dead is kept")
    func freedByServerKill() {
        var driver = Driver()
        driver.reachActive()
        for _ in 0..<3 { driver.send(.notAnswered(.busy(.daemon))) }
        _ = driver.wait { $0.rung == .killServer }
        #expect(driver.send(.serversGone) == [.query])
        #expect(driver.send(.answered(empty)) == [.admit])
        #expect(driver.machine.phase == .idle)
    }

    @Test("A session that others cut off, or a lock that they hold, is no sign of a wedge")
    func truncation() {
        var driver = Driver()
        driver.reachActive()
        for _ in 0..<50 {
            driver.send(.notAnswered(.truncated))
            driver.send(.notAnswered(.busy(.lock)))
        }
        #expect(driver.machine.phase == .active)
    }

    @Test("A server that starts may leave queries unanswered, but not for ever")
    func initializing() {
        var driver = Driver()
        driver.send(.begin)
        driver.send(.daemonStarted)
        driver.send(.answered(empty))
        driver.send(.serverStarting)
        for _ in 0..<50 { driver.send(.notAnswered(.busy(.daemon))) }
        #expect(driver.machine.phase == .initializing)
        let before = driver.now
        _ = driver.wait { $0.phase == .wedged }
        #expect(driver.now - before == driver.machine.limits.initialize)
    }

    @Test("When the daemon dies, engines go, its orphaned server too, and another one is started")
    func death() {
        var driver = Driver()
        driver.reachActive(engines: [0])
        #expect(steps(driver.send(.daemonEnded)) == [.hold, .killEngine(0)])
        #expect(driver.machine.phase == .dead)
        #expect(driver.send(.engineEnded(0)) == [.killServer, .cleanDirectory])
        #expect(steps(driver.wait { $0.phase == .starting }) == [.startDaemon])
    }

    @Test("Restarts that do not help are given up for a while")
    func givingUp() {
        var driver = Driver()
        driver.send(.begin)
        var starts = 0
        for _ in 0..<20 where driver.machine.phase != .failed {
            driver.send(.daemonNotStarted(reason: "no GPU"))
            starts += driver.wait { $0.phase == .starting || $0.phase == .failed }.filter { $0 == .startDaemon }.count
        }
        #expect(driver.machine.phase == .failed)
        #expect(starts == driver.machine.limits.restartsUntilFailed - 1)
        #expect(steps(driver.wait { $0.phase == .starting }) == [.startDaemon])
    }

    @Test("The end: quit, and force only if that does not work")
    func stop() {
        var driver = Driver()
        driver.reachActive()
        #expect(driver.send(.stop) == [.hold, .quit])
        #expect(driver.machine.phase == .draining)
        #expect(driver.send(.daemonEnded) == [.killServer, .cleanDirectory])
        #expect(driver.machine.phase == .absent && driver.machine.deadline == nil)

        driver = Driver()
        driver.reachActive()
        var actions = driver.send(.stop)
        actions += driver.wait { $0.phase == .absent }
        #expect(steps(actions) == [.hold, .quit, .killServer, .killDaemon, .killServer, .cleanDirectory])
    }

    @Test("A stop while the daemon starts anew is no wedge")
    func stopDuringTheRestart() {
        var driver = Driver()
        driver.reachActive(engines: [0])
        driver.send(.daemonEnded)
        driver.send(.engineEnded(0))
        _ = driver.wait { $0.phase == .starting }
        driver.send(.daemonStarted)
        #expect(driver.send(.stop) == [.quit])
        #expect(driver.machine.phase == .draining)
        #expect(driver.send(.daemonEnded) == [.killServer, .cleanDirectory])
        #expect(driver.machine.phase == .absent)
    }

    @Test("The fault of an engine that ended before it was known holds starts no longer than its end")
    func faultOfAnUnknownEngine() {
        var driver = Driver()
        driver.reachActive()
        let actions = driver.send(.engineFault(3))
        #expect(steps(actions).first == .hold)
        #expect(actions.last == .query)
        #expect(driver.send(.answered(empty)) == [.admit])
    }

    @Test("Somebody else's daemon is waited for, and its owner is told once")
    func external() {
        var driver = Driver(.external)
        driver.reachActive(engines: [0])
        #expect(driver.machine.phase == .active)
        for _ in 0..<3 { driver.send(.notAnswered(.busy(.daemon))) }
        driver.send(.engineEnded(0))
        let actions = driver.wait(upTo: .seconds(300)) { _ in false }
        #expect(steps(actions).isEmpty)
        #expect(actions.filter { if case .log = $0 { true } else { false } }.count == 1)
        #expect(actions.contains(.query))
        #expect(driver.send(.answered(empty)) == [.admit])
    }

    @Test("An adopted daemon that died is replaced by one of ours")
    func adopted() {
        var driver = Driver(.adopted)
        #expect(driver.send(.begin) == [.query])
        driver.send(.answered(active))
        #expect(driver.machine.phase == .active)
        driver.send(.notAnswered(.noDaemon))
        #expect(steps(driver.wait { $0.phase == .starting }) == [.startDaemon])
        #expect(driver.machine.ownership == .own)
    }
}
