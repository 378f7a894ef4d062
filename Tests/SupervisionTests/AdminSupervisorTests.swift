// Tandem — Apache-2.0

import EngineLink
import Foundation
import Glibc
import Processes
import Testing

@testable import Supervision

/// Commands to a real supervisor, whose children are shell scripts.
@Suite struct AdminSupervisorTests {
    /// Its run directory, once it serves.
    private func directory(_ fixture: SupervisorFixture) throws -> String {
        _ = try #require(fixture.output(containing: "is served by"))
        return try #require(RunningSupervisor.all(in: fixture.directory + "/run").first).directory
    }

    /// Asks until the status is as it should be.
    private func status(
        _ directory: String, _ isWanted: (SupervisorStatus) -> Bool
    ) throws -> SupervisorStatus {
        let deadline = ContinuousClock.now + .seconds(300)
        var client = try AdminClient(directory: directory, patience: .seconds(300))
        while true {
            guard case .status(let status) = try client.ask(.status) else {
                throw AdminClient.Problem(description: "not a status")
            }
            if isWanted(status) || ContinuousClock.now > deadline { return status }
            sched_yield()
        }
    }

    private func isServing(_ status: SupervisorStatus) -> Bool {
        status.engines.allSatisfy { $0.process.state == .ready }
    }

    private func ask(_ directory: String, _ command: AdminCommand) throws -> AdminReply {
        var client = try AdminClient(directory: directory, patience: .seconds(300))
        return try client.ask(command)
    }

    @Test func statusDrainAndRestart() throws {
        let fixture = try SupervisorFixture()
        fixture.start { $0.version = "7" }
        let directory = try directory(fixture)
        let before = try status(directory, isServing)
        #expect(isServing(before) && before.version == "7" && before.pid == getpid() && before.port != 0)
        #expect(before.gateway.state == .ready && before.gateway.pid == fixture.pid(of: "gateway"))
        #expect(before.engines.map(\.process.pid) == [0, 1].map { fixture.pid(of: "engine --index \($0)") })
        #expect(before.engines.map(\.model) == ["m", "m"] && before.engines[0].device == "fake device")
        #expect(before.engines.allSatisfy { $0.memory.now ?? 0 > 0 && !$0.cores.isEmpty })

        guard case .accepted = try ask(directory, .drain(engine: 0, isForced: false)),
            case .refused = try ask(directory, .drain(engine: 1, isForced: false)),
            case .accepted = try ask(directory, .resume(engine: 0)),
            case .refused = try ask(directory, .resume(engine: 5)),
            case .accepted = try ask(directory, .restart(engine: 1, isForced: false))
        else {
            Issue.record("not answered as it should be")
            return
        }
        let after = try status(directory, isServing)
        #expect(after.engines[0].process.pid == before.engines[0].process.pid)
        #expect(after.engines[1].process.pid != before.engines[1].process.pid)
        #expect(after.engines[1].process.restarts == 1 && after.engines[1].process.deathsInARow == 0)
        #expect(after.engines[1].process.lastExit == "was restarted on request")

        guard case .accepted = try ask(directory, .restartAll(isForced: false)) else {
            Issue.record("no rolling restart")
            return
        }
        let last = try status(directory) { $0.rollingRestart?.state != .running }
        #expect(last.rollingRestart == RollingRestartStatus(state: .done, restarted: [0, 1]))
        #expect(last.engines.map(\.process.restarts) == [1, 2])
        fixture.signal(SIGTERM)
        #expect(fixture.wait() == .success(0))
        fixture.expectNothingLeft()
    }

    @Test func anEngineAbovePlanIsRestarted() throws {
        let fixture = try SupervisorFixture()
        fixture.start { configuration in
            // Any process holds more than nothing.
            configuration.models[0].plannedBytes = 0
            configuration.memoryWatch = MemoryWatch.Settings(
                period: .milliseconds(10), sustained: .zero, pause: .seconds(3600), pauseOfOne: .seconds(3600),
                leastMargin: 0)
        }
        let directory = try directory(fixture)
        #expect(fixture.output(containing: "is to be restarted") != nil)
        #expect(fixture.output(containing: "is ready again") != nil)
        let status = try status(directory) { status in
            isServing(status) && status.engines.allSatisfy { $0.memory.isAbovePlan }
        }
        // One, and not the other as well.
        #expect(status.engines.map(\.process.restarts).reduce(0, +) == 1)
        let restarted = status.engines.first { $0.process.restarts == 1 }
        #expect(restarted?.process.lastExit == "was restarted for its memory")
        fixture.signal(SIGTERM)
        #expect(fixture.wait() == .success(0))
        fixture.expectNothingLeft()
    }

    @Test func rubbishDisturbsNobody() throws {
        let fixture = try SupervisorFixture()
        fixture.start()
        let directory = try directory(fixture)
        var random = SystemRandomNumberGenerator()
        var descriptors: [Int32] = []
        defer { for descriptor in descriptors { close(descriptor) } }
        for _ in 0..<100 {
            let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            #expect(UnixSocket.use(directory + "/admin.sock") { connect(descriptor, $0, $1) } == 0)
            let bytes = (0..<Int.random(in: 0...3000)).map { _ in UInt8.random(in: .min ... .max, using: &random) }
            _ = send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            descriptors.append(descriptor)
        }
        let status = try status(directory, isServing)
        #expect(isServing(status) && status.engines.map(\.process.restarts) == [0, 0])
        fixture.signal(SIGTERM)
        #expect(fixture.wait() == .success(0))
        fixture.expectNothingLeft()
    }
}
