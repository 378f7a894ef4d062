// Tandem — Apache-2.0

import EngineLink
import Foundation
import TestSupport
import Testing

@testable import Supervision

/// Drives a state machine whose engines are external.
private struct Harness {
    var state: SupervisorState
    var now = Duration.zero
    var nextPid: Int32 = 100

    init(engines: Int = 2, own: Int = 0, silence: Duration = .zero) {
        let groups = EngineGroup.groups(own > 0 ? [("e", engines), ("o", own)] : [("e", engines)])
        state = SupervisorState(
            addresses: (0..<engines + own).map { "a\($0)" }, groups: groups, shutdownTimeout: .seconds(30),
            hangLimits: HangLimits(silence: silence, step: .seconds(120)),
            external: ExternalRules(engines: Set(0..<engines), startTimeout: .seconds(60)))
    }

    mutating func send(_ event: SupervisorEvent) -> [SupervisorAction] {
        var actions = state.handle(event, at: now)
        for case .start(let child) in actions {
            nextPid += 1
            if case .engine(let index) = child {
                actions += state.handle(.placed(engine: index, address: "http://127.0.0.1:\(nextPid)"), at: now)
            }
            actions += state.handle(.started(child, pid: nextPid), at: now)
        }
        return actions
    }

    mutating func report(
        _ index: Int, _ computes: Bool, _ detail: String = "", pid: Int32? = nil
    ) -> [SupervisorAction] {
        report(index, computes ? .computes : .doubt, detail, pid: pid)
    }

    mutating func report(
        _ index: Int, _ finding: ExternalEngineReport.Finding, _ detail: String = "", pid: Int32? = nil
    ) -> [SupervisorAction] {
        send(
            .reported(
                ExternalEngineReport(
                    engineIndex: UInt32(index), pid: pid ?? state.engines[index].pid, finding: finding,
                    detail: detail)))
    }

    mutating func sendDeadline() -> [SupervisorAction] {
        guard let deadline = state.nextDeadline else { return [] }
        now = max(now, deadline)
        return send(.timePassed)
    }

    /// The deadlines before may be those of pauses.
    mutating func sendDeadlinesUntilAKill() -> [SupervisorAction] {
        for _ in 0..<10 {
            let actions = sendDeadline()
            if !actions.kills.isEmpty { return actions }
        }
        return []
    }

    static func serving(silence: Duration = .zero) -> Harness {
        var harness = Harness(silence: silence)
        _ = harness.send(.begin)
        _ = harness.send(.ready(.gateway, detail: ""))
        _ = harness.report(0, true)
        _ = harness.report(1, true)
        return harness
    }
}

extension [SupervisorAction] {
    fileprivate var starts: [Child] { compactMap { if case .start(let child) = $0 { child } else { nil } } }
    fileprivate var kills: [Child] { compactMap { if case .kill(let child) = $0 { child } else { nil } } }
    fileprivate var logs: [String] { compactMap { if case .log(_, let text) = $0 { text } else { nil } } }
    fileprivate var roster: Roster? { compactMap { if case .sendRoster(let roster) = $0 { roster } else { nil } }.last }
    fileprivate var announces: Bool { contains { if case .announce = $0 { true } else { false } } }
}

@Suite struct ExternalEngineTests {
    @Test func theyStartOneAfterTheOther() {
        var harness = Harness(engines: 3, own: 1)
        let begin = harness.send(.begin)
        #expect(begin.starts == [.gateway, .engine(3), .engine(0)])
        #expect(begin.roster?.engines.map(\.state) == [.starting, .starting, .starting, .starting])
        #expect(begin.roster?.engines.map { $0.pid != 0 } == [true, false, false, true])
        #expect(begin.roster?.engines[0].address == "http://127.0.0.1:103")
        // Nothing that the gateway has against an engine lets the next one start.
        #expect(harness.report(0, false, "/health answered 503").starts.isEmpty)
        let first = harness.report(0, true, "m")
        #expect(first.starts == [.engine(1)])
        #expect(first.roster?.engines.map(\.state) == [.ready, .starting, .starting, .starting])
        // One that dies lets the next one go first.
        #expect(harness.send(.ended(.engine(1), .exited(code: 1))).starts == [.engine(2)])
        #expect(harness.sendDeadline().starts.isEmpty)
        #expect(harness.report(2, true).starts == [.engine(1)])
    }

    @Test func servingBeginsWithTheFirstThatComputes() {
        var harness = Harness()
        _ = harness.send(.begin)
        #expect(!harness.send(.ready(.gateway, detail: "")).announces)
        #expect(harness.report(0, true).announces)
    }

    @Test func reportsOfAnotherProcessAreLate() {
        var harness = Harness()
        _ = harness.send(.begin)
        #expect(harness.report(0, true, pid: 7).isEmpty)
        #expect(harness.report(1, true, pid: 0).isEmpty)
        let none = ExternalEngineReport(engineIndex: 9, pid: 1, finding: .computes)
        #expect(harness.send(.reported(none)).isEmpty)
        #expect(harness.report(0, true).starts == [.engine(1)])
    }

    @Test func anEngineThatNeverComputesIsKilledAndCountsAsFailed() {
        var harness = Harness()
        _ = harness.send(.begin)
        _ = harness.send(.ready(.gateway, detail: ""))
        for attempt in 1...3 {
            _ = harness.report(0, false, "POST /v1/completions answered 500")
            let late = harness.sendDeadlinesUntilAKill()
            #expect(late.kills == [.engine(0)])
            #expect(
                late.logs == [
                    "engine 0: it answered no request within 60 s of its start (POST /v1/completions answered 500); "
                        + "killing it"
                ])
            // What is being killed still holds what the next one needs.
            #expect(late.starts.isEmpty)
            let ended = harness.send(.ended(.engine(0), .killed(signal: 9)))
            #expect(ended.starts == [.engine(1)])
            #expect(harness.sendDeadlinesUntilAKill().kills == [.engine(1)])
            let last = harness.send(.ended(.engine(1), .killed(signal: 9)))
            if attempt < 3 {
                #expect(last.starts == [.engine(0)])
            } else {
                #expect(last.logs.last?.hasPrefix("cannot start: engine 1 was killed: it answered no request") == true)
                #expect(harness.state.exitCode == 1)
            }
        }
    }

    @Test func theSupervisorDoesNotExpectSignsOfLife() {
        var harness = Harness.serving(silence: .seconds(10))
        #expect(harness.state.nextDeadline == .seconds(10), "the gateway's")
        harness.now = .seconds(1000)
        _ = harness.send(.heartbeat(.gateway, progress: 1, isWorking: false))
        #expect(harness.send(.timePassed).kills.isEmpty)
    }

    @Test func doubtThatStaysIsTheEnd() {
        var harness = Harness.serving()
        func wait(_ seconds: Int) -> [SupervisorAction] {
            var actions: [SupervisorAction] = []
            for _ in 0..<seconds {
                harness.now += .seconds(1)
                actions += harness.send(.heartbeat(.gateway, progress: 1, isWorking: false))
                actions += harness.send(.timePassed)
            }
            return actions
        }
        #expect(harness.report(1, false, "nothing came").logs == ["engine 1 is in doubt: nothing came"])
        #expect(wait(119).isEmpty)
        #expect(harness.report(1, false, "something else").logs.isEmpty)
        let end = wait(1)
        #expect(end.kills == [.engine(1)])
        #expect(end.roster?.engines.map(\.state) == [.ready, .restarting])
        _ = harness.send(.ended(.engine(1), .killed(signal: 9)))
        #expect(harness.sendDeadline().starts == [.engine(1)])
        _ = harness.report(1, true)
        // Doubt that is dispelled in time is nothing.
        _ = harness.report(1, false, "nothing came")
        _ = wait(119)
        #expect(harness.report(1, true).logs == ["engine 1 computes again"])
        #expect(wait(500).isEmpty)
    }

    @Test func crashLoopsBecomeFailures() {
        var harness = Harness.serving()
        var death: [SupervisorAction] = []
        for _ in 0..<10 {
            death = harness.send(.ended(.engine(1), .exited(code: 3)))
            _ = harness.send(.heartbeat(.gateway, progress: 0, isWorking: false))
            while harness.state.engines[1].condition != .starting {
                _ = harness.send(.heartbeat(.gateway, progress: 0, isWorking: false))
                _ = harness.sendDeadline()
            }
        }
        #expect(death.roster?.engines[1].state == .failed)
        let verdict = "10 times in a row and counts as failed, the next attempt is in 30 s"
        #expect(death.logs.last?.contains(verdict) == true)
    }

    @Test func anEngineIsAskedToEndOnceItHasFinishedWhatItHad() {
        var harness = Harness.serving()
        func terminated(_ actions: [SupervisorAction]) -> [Child] {
            actions.compactMap { if case .terminate(let child) = $0 { child } else { nil } }
        }
        let order = harness.send(.administer(.restart(engine: 1, isForced: false), connection: 1))
        #expect(order.roster?.engines.map(\.state) == [.ready, .draining])
        #expect(terminated(order).isEmpty)
        #expect(terminated(harness.report(1, .idle, pid: 7)).isEmpty)
        #expect(terminated(harness.report(1, .idle)) == [.engine(1)])
        #expect(harness.send(.ended(.engine(1), .killed(signal: 15))).starts == [.engine(1)])
        _ = harness.report(1, true)
        // One that never finishes is asked to end all the same.
        _ = harness.send(.administer(.restart(engine: 1, isForced: false), connection: 1))
        #expect(terminated(harness.sendDeadline()) == [.engine(1)])
        _ = harness.send(.ended(.engine(1), .exited(code: 0)))
        _ = harness.report(1, true)
        // One that was drained before has finished already, unless it was resumed.
        _ = harness.send(.administer(.drain(engine: 1, isForced: false), connection: 1))
        _ = harness.report(1, .idle)
        _ = harness.send(.administer(.resume(engine: 1), connection: 1))
        #expect(terminated(harness.send(.administer(.restart(engine: 1, isForced: false), connection: 1))).isEmpty)
        #expect(terminated(harness.report(1, .idle)) == [.engine(1)])
        _ = harness.send(.ended(.engine(1), .exited(code: 0)))
        _ = harness.report(1, true)
        _ = harness.send(.administer(.drain(engine: 1, isForced: false), connection: 1))
        _ = harness.report(1, .idle)
        #expect(
            terminated(harness.send(.administer(.restart(engine: 1, isForced: false), connection: 1))) == [.engine(1)])
    }

    @Test func theyGetTimeToEndTheirWorkers() {
        var harness = Harness.serving()
        _ = harness.send(.stopRequested(signal: 15))
        let drained = harness.send(.ended(.gateway, .exited(code: 0)))
        #expect(drained.filter { if case .terminate = $0 { true } else { false } }.count == 2)
        #expect(harness.state.nextDeadline == .seconds(10))
        #expect(harness.sendDeadline().kills == [.engine(0), .engine(1)])
    }

    @Test func linesAreFoundHoweverTheyCome() {
        let text = Array("one\ntwo\r\n\n12% \r99% \rlast".utf8)
        for size in [1, 2, 5, text.count] {
            var buffer = LineBuffer(maximumLine: 1000)
            var lines: [[UInt8]] = []
            for start in stride(from: 0, to: text.count, by: size) {
                lines += buffer.add(text[start..<min(start + size, text.count)])
            }
            #expect(lines.map { String(decoding: $0, as: UTF8.self) } == ["one", "two", "", "12% ", "99% "])
            #expect(buffer.rest.map { String(decoding: $0, as: UTF8.self) } == "last")
        }
        var buffer = LineBuffer(maximumLine: 4)
        #expect(buffer.add(Array("abcdefghij".utf8)).map(\.count) == [4, 4])
        #expect(buffer.rest?.count == 2)
    }

    @Test func freePortsDiffer() throws {
        var taken: Set<UInt16> = []
        for _ in 0..<20 {
            let port = try #require(FreePort.find(except: taken))
            #expect(!taken.contains(port) && port > 1023)
            taken.insert(port)
        }
    }

    @Test func programsAreFoundAsByAShell() throws {
        let directory = NSTemporaryDirectory() + "/tandem-test-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(atPath: directory + "/sub", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try ExecutableScript.write("#!/bin/sh\n", to: directory + "/tool")
        try Data().write(to: URL(fileURLWithPath: directory + "/data"))
        #expect(try ExternalEngine.executable("tool", path: "/nowhere:\(directory)") == directory + "/tool")
        #expect(try ExternalEngine.executable(directory + "/tool", path: nil) == directory + "/tool")
        func reason(_ program: String) -> String? {
            do throws(SupervisionError) {
                _ = try ExternalEngine.executable(program, path: directory)
                return nil
            } catch { return "\(error)" }
        }
        #expect(reason("tol") == "cannot run tol: it is in no directory of PATH; install it, or give its path")
        #expect(reason("\(directory)/data")?.hasSuffix("it is not executable (chmod +x)") == true)
        #expect(reason("\(directory)/sub")?.hasSuffix("it is no file") == true)
        #expect(reason("\(directory)/none")?.hasSuffix("No such file or directory") == true)
    }
}
