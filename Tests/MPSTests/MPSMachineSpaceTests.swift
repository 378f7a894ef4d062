// Tandem — Apache-2.0

import Testing

@testable import MPS

/// Walks through every state that a machine can reach, times left out.
@Suite("MPS machine, every reachable state", .serialized)
struct MPSMachineSpaceTests {
    /// A machine, and whether an engine may still be alive for it.
    private struct Place {
        var machine: MPSMachine
        var now: Duration
        var path: [Int]
    }

    private static let events: [MPSEvent] =
        [
            .begin, .stop, .daemonStarted, .daemonNotStarted(reason: ""), .daemonEnded, .notAnswered(.truncated),
            .notAnswered(.busy(.daemon)), .notAnswered(.busy(.lock)), .notAnswered(.noDaemon), .serverStarting,
            .serverReady, .serverEnded, .serverFault, .serversGone, .engineStarted(0), .engineStarted(1),
            .engineEnded(0), .engineEnded(1), .engineStuck(0), .engineStuck(1), .engineFault(0),
            .terminated(engine: 0, succeeded: true), .terminated(engine: 0, succeeded: false),
        ]
        + [MPSSnapshot.Server.none, .initializing, .active, .fault].flatMap { server in
            [0, 1].map { .answered(MPSSnapshot(server: server, clients: $0)) }
        }

    private static let allEvents = events + [.timePassed]

    private static func text(_ path: [Int]) -> [String] { path.map { "\(allEvents[$0])" } }

    @Test("Rules hold everywhere, and time alone leads out of every trouble", arguments: DaemonOwnership.allCases)
    func space(ownership: DaemonOwnership) {
        var limits = MPSMachine.Limits()
        limits.restartsUntilFailed = 2
        limits.unansweredQueries = 2
        var seen: Set<MPSMachine.Signature> = []
        /// The first way to break each rule.
        var broken: [String: [String]] = [:]
        var open = [Place(machine: MPSMachine(ownership: ownership, limits: limits), now: .zero, path: [])]
        while let place = open.popLast() {
            guard seen.insert(place.machine.signature).inserted else { continue }
            if let problem = Self.noWayOut(of: place) { broken[problem] = broken[problem] ?? Self.text(place.path) }
            for (index, event) in Self.allEvents.enumerated() {
                var next = place
                // The end of a wait is another event than a repetition in it: both are followed.
                let times = event == .timePassed ? 200 : 1
                for _ in 0..<times {
                    let before = next
                    if event == .timePassed {
                        guard let deadline = next.machine.deadline else { break }
                        next.now = max(next.now, deadline)
                    }
                    let actions = next.machine.handle(event, now: next.now)
                    next.path = place.path.suffix(20) + [index]
                    for rule in Self.brokenRules(before.machine, actions, next.machine) where broken[rule] == nil {
                        broken[rule] = Self.text(next.path) + ["\(actions)"]
                    }
                    if !seen.contains(next.machine.signature) { open.append(next) }
                    guard next.machine.signature == before.machine.signature else { break }
                }
            }
        }
        for (rule, path) in broken { Issue.record("\(rule): \(path.joined(separator: ", "))") }
        #expect(seen.count > 100, "the walk must have gone somewhere")
        print("MPS machine, \(ownership): \(seen.count) states, \(Self.events.count + 1) events each")
    }

    private static func brokenRules(_ before: MPSMachine, _ actions: [MPSAction], _ after: MPSMachine) -> [String] {
        var broken: [String] = []
        func require(_ condition: Bool, _ rule: String) {
            if !condition { broken.append(rule) }
        }
        if before.ownership == .external {
            let forbidden: [MPSAction] = [.startDaemon, .quit, .killServer, .killDaemon, .cleanDirectory]
            require(!actions.contains(where: forbidden.contains), "touches what is not ours")
            require(after.ownership == .external, "takes what is not ours")
        }
        if after.isAdmitting {
            require([.idle, .initializing, .active].contains(after.phase), "lets engines in while \(after.phase)")
            let allowed: [RecoveryRung?] = [nil, .terminateClient, .killEngine]
            require(allowed.contains(after.rung), "lets engines in on rung \(String(describing: after.rung))")
        }
        require(actions.contains(.admit) == (after.isAdmitting && !before.isAdmitting), "a wrong admit")
        require(actions.contains(.hold) == (before.isAdmitting && !after.isAdmitting), "a wrong hold")
        // Rungs are climbed upwards only, until all is well or a restart begins.
        if let from = before.rung, let to = after.rung, from != .restart {
            require(to >= from, "from \(from) back to \(to)")
        }
        if actions.contains(.killDaemon) { require(before.rung == .killServer, "kills the daemon first") }
        if actions.contains(.quit), !after.engines.isEmpty {
            require(before.rung == .killGroup, "quits under living engines")
        }
        if actions.contains(.startDaemon) { require(!before.daemonLives, "starts a second daemon") }
        for case .killEngine(let engine) in actions {
            require(before.engines.union(after.engines).contains(engine), "kills an engine that is not there")
        }
        if after.phase != .absent { require(after.deadline != nil, "sleeps for ever in \(after.phase)") }
        return broken
    }

    /// Lets time pass in a silent world: no answer, no end of a process. There must be a new attempt, or rest.
    private static func noWayOut(of place: Place) -> String? {
        var machine = place.machine
        var now = place.now
        let isTrouble = [.starting, .draining, .fault, .wedged, .dead].contains(machine.phase)
        guard machine.rung != nil || isTrouble else { return nil }
        for _ in 0..<2000 {
            guard let deadline = machine.deadline else { return machine.phase == .absent ? nil : "never wakes up" }
            now = max(now, deadline)
            let actions = machine.handle(.timePassed, now: now)
            if actions.contains(.startDaemon) || machine.phase == .failed { return nil }
            if machine.ownership == .external, machine.rung != .terminateClient, machine.rung != .killEngine {
                let tries = actions.contains { if case .killEngine = $0 { true } else { $0 == .query } }
                if tries { return nil }
            }
            if machine.rung == nil, [.idle, .active].contains(machine.phase) { return nil }
        }
        return "no way out of \(machine.phase) on rung \(String(describing: machine.rung))"
    }
}
