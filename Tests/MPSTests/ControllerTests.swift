// Tandem — Apache-2.0

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import MPS

/// A controller on a thread of its own, with stand-ins for engines that die when they are told to.
final class ControllerFixture: Sendable {
    private struct State {
        var requests: [MPSController.Request] = []
        var engines: [Int: FakeClient] = [:]
    }

    let fake: FakeMPS
    let controller: MPSController
    private let state: Box
    private let thread: pthread_t

    /// Unchecked: `state`, with its fake clients, is touched under the lock only, and `controller` is set once, before
    /// the thread that reads it is made.
    private final class Box: @unchecked Sendable {
        let lock = Mutex(())
        var state = State()
        weak var controller: MPSController?

        func with<Result>(_ body: (inout State) -> Result) -> Result {
            lock.withLock { _ in body(&state) }
        }

        func take(_ request: MPSController.Request) {
            with { $0.requests.append(request) }
            guard case .killEngine(let engine) = request else { return }
            with { $0.engines.removeValue(forKey: engine) }?.kill()
            controller?.engineEnded(engine)
        }
    }

    init(
        _ fake: FakeMPS, ownership: DaemonOwnership = .own,
        adjust: (inout MPSController.Configuration) -> Void = { _ in }
    )
        throws
    {
        self.fake = fake
        var limits = MPSMachine.Limits()
        // A machine under test is busy: what is expected to succeed has time, what is expected to fail need not.
        limits.quit = .milliseconds(300)
        limits.retry = .milliseconds(100)
        limits.probe = .milliseconds(300)
        limits.start = .seconds(30)
        limits.killGroup = .seconds(1)
        var configuration = MPSController.Configuration(
            directories: fake.directories, programs: try MPSPrograms(searchPath: fake.root + "/bin"),
            environment: fake.environment, ownership: ownership, limits: limits)
        configuration.queryLimit = .seconds(1)
        adjust(&configuration)
        let box = Box()
        state = box
        controller = try MPSController(configuration) { box.take($0) }
        box.controller = controller
        let context = Unmanaged.passRetained(controller)
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { pointer in
                pointer.map { Unmanaged<MPSController>.fromOpaque($0).takeRetainedValue().run() }
                return nil
            }, context.toOpaque())
        self.thread = thread
    }

    /// Ends daemon and thread.
    func stop() {
        controller.stop()
        pthread_join(thread, nil)
    }

    var logged: [String] {
        state.with { $0.requests.compactMap { if case .log(let text) = $0 { text } else { nil } } }
    }

    var requests: [MPSController.Request] {
        state.with { $0.requests.filter { if case .log = $0 { false } else { true } } }
    }

    /// Starts an engine; whether it attached.
    func startEngine(_ engine: Int, awaitAttach: Bool = true) throws -> Bool {
        let client = try FakeClient(fake, token: "token\(engine)")
        let identity = try #require(ProcessTable().identity(of: client.pid))
        state.with { $0.engines[engine] = client }
        controller.engineStarted(engine, process: identity)
        return awaitAttach ? client.wait(for: "attached") : true
    }

    func engineLines(_ engine: Int) -> [String] { state.with { $0.engines[engine]?.lines ?? [] } }

    func prove(_ engine: Int, token: String) {
        guard let pid = state.with({ $0.engines[engine]?.pid }), let process = ProcessTable().identity(of: pid) else {
            return
        }
        controller.prove(engine, proof: AttachProof.Engine(process: process, token: token, saysAttached: true))
    }

    func waitForRequest(_ condition: (MPSController.Request) -> Bool) {
        let deadline = Deadline(.seconds(60))
        while !deadline.isOver {
            if requests.contains(where: condition) { return }
            var time = timespec(tv_sec: 0, tv_nsec: 20_000_000)
            nanosleep(&time, nil)
        }
        Issue.record("not asked for: \(requests)")
    }

    func wait(for what: String, _ condition: (MPSController.Status) -> Bool) {
        let deadline = Deadline(.seconds(60))
        while !deadline.isOver {
            if condition(controller.status) { return }
            var time = timespec(tv_sec: 0, tv_nsec: 20_000_000)
            nanosleep(&time, nil)
        }
        Issue.record("\(what) does not come: \(controller.status), \(logged)")
    }
}

@Suite("Controller", .serialized)
struct ControllerTests {
    @Test("Start, attach, end: nothing is left behind")
    func life() throws {
        let fixture = try ControllerFixture(FakeMPS())
        fixture.wait(for: "a daemon") { $0.phase == .idle && $0.isAdmitting }
        #expect(try fixture.startEngine(0))
        fixture.wait(for: "a client") { $0.phase == .active && $0.clients.count == 1 }
        fixture.stop()
        #expect(fixture.controller.status.phase == .absent)
        #expect(ProcessTable().processes(inPipeDirectory: fixture.fake.directories.pipe) == [])
        #expect(fixture.requests == [.admit, .hold, .killEngine(0)])
    }

    @Test("A stuck engine is dropped, killed, and the other stays attached")
    func stuck() throws {
        let fixture = try ControllerFixture(FakeMPS())
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        #expect(try fixture.startEngine(0))
        #expect(try fixture.startEngine(1))
        fixture.wait(for: "two clients") { $0.clients.count == 2 }
        fixture.controller.engineStuck(1)
        fixture.wait(for: "one client") { $0.rung == nil && $0.clients.count == 1 && $0.counts[.killEngine] == 1 }
        #expect(fixture.requests == [.admit, .killEngine(1)])
        #expect(fixture.engineLines(0) == ["attached"])
        fixture.stop()
    }

    @Test("An engine proves that it is a client; another one does not")
    func proof() throws {
        let fixture = try ControllerFixture(FakeMPS())
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        #expect(try fixture.startEngine(0))
        let mine = try #require(ProcessTable().identity(of: getpid()))
        fixture.prove(0, token: "token0")
        fixture.controller.prove(1, proof: AttachProof.Engine(process: mine, token: "nobody's"))
        fixture.waitForRequest { $0 == .proved(engine: 0, .attached) }
        fixture.waitForRequest { $0 == .proved(engine: 1, .detached) }
        fixture.stop()
    }

    @Test("In another PID namespace a client cannot be named: after the kill the server is asked")
    func namespaces() throws {
        let fixture = try ControllerFixture(FakeMPS("pid-zero"))
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        #expect(try fixture.startEngine(0))
        fixture.wait(for: "a client") { $0.clients == [0] }
        fixture.controller.engineStuck(0)
        fixture.wait(for: "the end of it") { $0.rung == nil && $0.clients == [] && $0.counts[.killEngine] == 1 }
        #expect(fixture.controller.status.isAdmitting)
        fixture.stop()
    }

    @Test("A fault: all engines go, newcomers are refused until then, and then all is well")
    func fault() throws {
        let fixture = try ControllerFixture(FakeMPS("new"))
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        #expect(try fixture.startEngine(0))
        #expect(try fixture.startEngine(1))
        fixture.wait(for: "two clients") { $0.clients.count == 2 }
        try ExecutableScript.write("", to: fixture.fake.root + "/tandem-mps-\(getuid())-0/fault")
        let refused = try FakeClient(fixture.fake)
        #expect(refused.wait(for: "807"))
        fixture.wait(for: "recovery") { $0.counts[.killGroup] == 1 && $0.rung == nil && $0.isAdmitting }
        #expect(fixture.requests == [.admit, .hold, .killEngine(0), .killEngine(1), .admit])
        #expect(try fixture.startEngine(0))
        fixture.stop()
    }

    @Test("A wedged server: every rung up to its death, which frees the daemon")
    func wedge() throws {
        let fixture = try ControllerFixture(FakeMPS("mute-server"))
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        let daemon = fixture.controller.status.daemon
        _ = try fixture.startEngine(0, awaitAttach: false)
        fixture.wait(for: "recovery") { $0.counts[.killServer] ?? 0 >= 1 && $0.rung == nil && $0.isAdmitting }
        let counts = fixture.controller.status.counts
        #expect(counts[.killGroup] == 1 && counts[.quit] == 1, "\(counts)")
        #expect(fixture.controller.status.daemon != nil)
        #expect(fixture.controller.status.daemon == daemon || counts[.cleanDirectory] == 1)
        fixture.stop()
        #expect(ProcessTable().processes(inPipeDirectory: fixture.fake.directories.pipe) == [])
    }

    @Test("A stopped daemon is killed and replaced")
    func stoppedDaemon() throws {
        let fixture = try ControllerFixture(FakeMPS()) {
            $0.queryLimit = .milliseconds(300)
            $0.limits.killServer = .milliseconds(300)
        }
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        let daemon = try #require(fixture.controller.status.daemon)
        kill(daemon, SIGSTOP)
        fixture.wait(for: "another daemon") { $0.daemon != nil && $0.daemon != daemon && $0.isAdmitting }
        let counts = fixture.controller.status.counts
        for rung in [RecoveryRung.killGroup, .quit, .killServer, .killDaemon, .cleanDirectory, .restart] {
            #expect(counts[rung] ?? 0 >= 1, "\(rung)")
        }
        fixture.stop()
    }

    @Test("A killed daemon: its orphaned server goes, engines go, another one comes")
    func killedDaemon() throws {
        let fixture = try ControllerFixture(FakeMPS())
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        #expect(try fixture.startEngine(0))
        fixture.wait(for: "a server") { $0.servers.count == 1 }
        let (daemon, server) = (try #require(fixture.controller.status.daemon), fixture.controller.status.servers[0])
        let orphan = try #require(ProcessTable().identity(of: server))
        kill(daemon, SIGKILL)
        fixture.wait(for: "another daemon") { $0.daemon != nil && $0.daemon != daemon && $0.isAdmitting }
        #expect(!ProcessTable().lives(orphan))
        #expect(fixture.requests == [.admit, .hold, .killEngine(0), .admit], "\(fixture.logged)")
        fixture.stop()
    }

    @Test("A killed server: engines go, the daemon stays")
    func killedServer() throws {
        let fixture = try ControllerFixture(FakeMPS())
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        #expect(try fixture.startEngine(0))
        fixture.wait(for: "a server") { $0.servers.count == 1 && $0.phase == .active }
        let daemon = fixture.controller.status.daemon
        kill(fixture.controller.status.servers[0], SIGKILL)
        fixture.wait(for: "recovery") { $0.phase == .idle && $0.isAdmitting && $0.counts[.killGroup] == 1 }
        #expect(fixture.controller.status.daemon == daemon)
        #expect(try fixture.startEngine(0))
        fixture.stop()
    }

    @Test("A server that cannot start: the daemon stays, the client is dropped")
    func failingServer() throws {
        let fixture = try ControllerFixture(FakeMPS("fail-server"))
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        let client = try FakeClient(fixture.fake)
        #expect(client.wait(for: "805"))
        fixture.wait(for: "peace") { $0.phase == .idle && $0.isAdmitting }
        fixture.stop()
    }

    @Test("What an earlier supervisor left in the directory is ended first")
    func remains() throws {
        let fake = try FakeMPS()
        let daemon = try RunningDaemon(fake)
        let client = try FakeClient(fake)
        #expect(client.wait(for: "attached"))
        let fixture = try ControllerFixture(fake)
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        #expect(daemon.end() == ProcessExit(code: 0, signal: SIGKILL))
        #expect(ProcessTable().processes(inPipeDirectory: fake.directories.pipe).count == 1)
        fixture.stop()
    }

    @Test("Somebody else's daemon is used, and survives us")
    func external() throws {
        let fake = try FakeMPS()
        let daemon = try RunningDaemon(fake)
        let fixture = try ControllerFixture(fake, ownership: .external)
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        #expect(try fixture.startEngine(0))
        fixture.wait(for: "a client") { $0.clients.count == 1 }
        daemon.send(SIGSTOP)
        fixture.wait(for: "trouble") { $0.phase == .wedged }
        daemon.send(SIGCONT)
        fixture.wait(for: "recovery") { $0.isAdmitting }
        fixture.stop()
        #expect(fake.broker().ask([.defaultPriority]) == .answer([["0"]]))
        let counts = fixture.controller.status.counts
        #expect(counts[.killServer] == nil && counts[.killDaemon] == nil && counts[.cleanDirectory] == nil)
    }

    @Test("An adopted daemon is managed like our own, and replaced when it dies")
    func adopted() throws {
        let fake = try FakeMPS()
        let daemon = try RunningDaemon(fake)
        let fixture = try ControllerFixture(fake, ownership: .adopted)
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        #expect(fixture.controller.status.daemon == nil)
        daemon.send(SIGKILL)
        _ = daemon.end()
        fixture.wait(for: "one of ours") { $0.daemon != nil && $0.isAdmitting }
        fixture.stop()
        #expect(ProcessTable().processes(inPipeDirectory: fake.directories.pipe) == [])
    }
}
