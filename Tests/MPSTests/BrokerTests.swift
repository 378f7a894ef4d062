// Tandem — Apache-2.0

import Glibc
import TestSupport
import Testing

@testable import MPS

/// A daemon that runs while the value lives.
final class RunningDaemon {
    private let process: DaemonProcess
    /// How it ended. Once that is known its descriptor is closed, and the number may be somebody else's.
    private var exit: ProcessExit?
    let fake: FakeMPS

    /// - Parameter awaits: whether it must answer a query first.
    init(_ fake: FakeMPS, awaits: Bool = true) throws {
        self.fake = fake
        process = try DaemonProcess(
            programs: MPSPrograms(searchPath: fake.root + "/bin"), directories: fake.directories,
            environment: fake.environment, device: nil, version: .version2)
        guard awaits else { return }
        let deadline = Deadline(.seconds(30))
        var outcome = ControlOutcome.noDaemon
        while !deadline.isOver {
            outcome = fake.broker().ask([.serverList])
            if outcome == .answer([[]]) { return }
            shortPause()
        }
        Issue.record("the daemon does not answer: \(outcome)")
    }

    deinit {
        guard exit == nil else { return }
        process.child.send(SIGKILL)
        _ = process.child.reap(wait: true)
    }

    /// Does something once its log says that it listens, without asking it anything.
    func whenListening<Result>(_ body: () -> Result) -> Result? {
        var log = LogTail(path: fake.directories.controlLog)
        let deadline = Deadline(.seconds(30))
        while !deadline.isOver {
            if log.lines().contains(where: { ControlLogLine($0)?.event == .daemonStarted }) { return body() }
            shortPause()
        }
        return nil
    }

    func send(_ signal: Int32) { process.child.send(signal) }

    /// Waits for its end.
    func end() -> ProcessExit? {
        let deadline = Deadline(.seconds(30))
        while !deadline.isOver {
            exit = exit ?? process.child.reap()
            if let exit { return exit }
            shortPause()
        }
        return nil
    }
}

private func shortPause() {
    var time = timespec(tv_sec: 0, tv_nsec: 20_000_000)
    nanosleep(&time, nil)
}

@Suite("Broker and daemon", .serialized)
struct BrokerTests {
    @Test("Every answer is whole, empty ones too")
    func answers() throws {
        let daemon = try RunningDaemon(FakeMPS())
        let broker = daemon.fake.broker()
        #expect(
            broker.ask([.serverList, .clients, .serverStatus(server: 4), .defaultPriority, .clientList(server: 4)])
                == .answer([
                    [], ["Server not found"], ["Unknown command \"get_server_status\""], ["0"], ["Server 4 not found"],
                ]))
    }

    @Test("Settings are read back: values that the daemon refuses without a word are noticed")
    func settings() throws {
        let daemon = try RunningDaemon(FakeMPS())
        let broker = daemon.fake.broker()
        #expect(broker.set(.setDefaultThreadPercentage(33.333)) != nil)
        #expect(broker.set(.setDefaultThreadPercentage(150)) == nil)
        #expect(broker.ask([.defaultThreadPercentage]) == .answer([["33.3"]]))
        #expect(broker.set(.setDefaultPriority(.belowNormal)) != nil)
        #expect(broker.set(.setDefaultMemoryLimit(device: "0", mebibytes: 512)) != nil)
        #expect(broker.ask([.defaultMemoryLimit(device: "0")]) == .answer([["512M"]]))
        #expect(broker.ask([.defaultMemoryLimit(device: "1")]) == .answer([[]]))
    }

    @Test("No daemon, and one that is gone but left its sockets")
    func absence() throws {
        let fake = try FakeMPS()
        #expect(fake.broker().ask([.serverList]) == .noDaemon, "no directory")
        try fake.directories.make()
        #expect(fake.broker().ask([.serverList]) == .noDaemon, "nothing in it")
        let daemon = try RunningDaemon(fake)
        daemon.send(SIGKILL)
        #expect(daemon.end() == ProcessExit(code: 0, signal: SIGKILL))
        #expect(access(fake.directories.pipe + "/control", F_OK) == 0, "the socket stays")
        #expect(fake.broker().ask([.serverList]) == .noDaemon)
    }

    @Test("A stopped daemon is busy, not empty")
    func stopped() throws {
        let daemon = try RunningDaemon(FakeMPS())
        daemon.send(SIGSTOP)
        #expect(daemon.fake.broker(limit: .milliseconds(300)).ask([.serverList]) == .busy(.daemon))
        daemon.send(SIGCONT)
        #expect(daemon.fake.broker().ask([.serverList]) == .answer([[]]))
    }

    @Test("Who holds the lock is waited for, and not for ever")
    func lock() throws {
        let daemon = try RunningDaemon(FakeMPS())
        let path = MPSDirectories.lockPath(ofPipeDirectory: daemon.fake.directories.pipe)
        let lock = try #require(FileLock(path: path, until: Deadline(.seconds(5))))
        #expect(daemon.fake.broker(limit: .milliseconds(100)).ask([.serverList]) == .busy(.lock))
        lock.release()
        #expect(daemon.fake.broker().ask([.serverList]) == .answer([[]]))
    }

    @Test("A session that was cut off is silence and success; the broker notices and asks again")
    func cutOff() throws {
        let fake = try FakeMPS("kick")
        let daemon = try RunningDaemon(fake, awaits: false)
        let run = daemon.whenListening {
            ToolRun(
                program: fake.program, arguments: [], environment: fake.clientEnvironment, input: ["get_server_list"],
                limit: .seconds(10))
        }
        #expect(run?.result == .ended(ProcessExit(code: 0, signal: 0)))
        #expect(run?.output == [] && run?.errors == [])
        // One more is cut off.
        #expect(fake.broker().ask([.defaultPriority]) == .answer([["0"]]))
    }

    @Test("Sessions that are always cut off end, and never as an answer")
    func alwaysCutOff() throws {
        let fake = try FakeMPS("kick-always")
        let daemon = try RunningDaemon(fake, awaits: false)
        #expect(daemon.whenListening { fake.broker().ask([.serverList]) } == .truncated)
        // What must not be done twice is not asked twice.
        #expect(fake.broker().ask([.startServer(user: getuid())]) == .truncated)
    }

    @Test("Four processes ask at once: every answer is right")
    func processes() async throws {
        let daemon = try RunningDaemon(FakeMPS())
        await askFromFourProcesses(daemon.fake, queries: 20)
    }

    @Test("A second daemon in a directory ends, also right after the first said that it would")
    func secondDaemon() throws {
        let fake = try FakeMPS()
        let daemon = try RunningDaemon(fake)
        let second = try DaemonProcess(
            programs: MPSPrograms(searchPath: fake.root + "/bin"), directories: fake.directories,
            environment: fake.environment, device: nil, version: .version2)
        #expect(second.child.reap(wait: true) == ProcessExit(code: 1, signal: 0))
        var log = LogTail(path: fake.directories.controlLog)
        #expect(log.lines().contains("An instance of this daemon is already running"))
        #expect(fake.broker().quit())
        #expect(daemon.end() == ProcessExit(code: 0, signal: 0))
        _ = try RunningDaemon(fake)
    }

    @Test("The log grows with every query and is cut in place")
    func logGrowth() throws {
        let daemon = try RunningDaemon(FakeMPS())
        var log = LogTail(path: daemon.fake.directories.controlLog, limit: 2000)
        var status = stat()
        for _ in 0..<20 {
            _ = daemon.fake.broker().ask([.serverList])
            _ = log.lines()
            #expect(stat(daemon.fake.directories.controlLog, &status) == 0 && status.st_size < 2000)
        }
    }

    @Test("Version 3: modules and verbs, and lists proved by their header")
    func version3() throws {
        let fake = try FakeMPS("version3")
        let process = try DaemonProcess(
            programs: MPSPrograms(searchPath: fake.root + "/bin"), directories: fake.directories,
            environment: fake.environment, device: nil, version: .version2)
        defer {
            process.child.send(SIGKILL)
            _ = process.child.reap(wait: true)
        }
        let broker = fake.broker(version: .version3)
        let deadline = Deadline(.seconds(30))
        while broker.ask([.serverList]) == .noDaemon && !deadline.isOver { shortPause() }
        guard case .answer(let lists) = broker.ask([.serverList, .clients]) else {
            Issue.record("no answer")
            return
        }
        #expect(ControlAnswers.serversVersion3(lists[0]) == [])
        #expect(ControlAnswers.clientsVersion3(lists[1]) == [])
        let client = try FakeClient(fake)
        #expect(client.wait(for: "attached"))
        guard case .answer(let after) = broker.ask([.serverList, .clients]) else {
            Issue.record("no answer")
            return
        }
        #expect(ControlAnswers.serversVersion3(after[0])?.map(\.status) == [.active])
        #expect(ControlAnswers.clientsVersion3(after[1])?.map(\.pid) == [client.pid])
    }

    @Test("Without MPS there is no daemon to ask")
    func noMPS() throws {
        #expect(try FakeMPS().broker(version: .none).ask([.serverList]) == .noDaemon)
    }
}

/// Asks from four processes at once; each fails if one of its answers was wrong.
func askFromFourProcesses(_ fake: FakeMPS, queries: Int) async {
    let (pipes, program) = (fake.directories.pipe, fake.program)
    let path = fake.environment["PATH"] ?? ""
    await withTaskGroup(of: Void.self) { group in
        for _ in 0..<4 {
            group.addTask {
                await #expect(processExitsWith: .success) {
                    [pipes = pipes as String, program = program as String, path = path as String, queries] in
                    let broker = ControlBroker(
                        pipeDirectory: pipes, program: program, environment: ["PATH": path], limit: .seconds(60))
                    for _ in 0..<queries {
                        let outcome = broker.ask([.serverList, .defaultThreadPercentage])
                        guard outcome == .answer([[], ["100.0"]]) else {
                            print("wrong: \(outcome)")
                            exit(1)
                        }
                    }
                }
            }
        }
    }
}

/// A stand-in for a CUDA program.
final class FakeClient {
    private let child: ChildLaunch.Child
    private let path: String
    private var isReaped = false

    init(_ fake: FakeMPS, token: String = "token") throws {
        path = fake.root + "/client-\(UInt32.random(in: 0 ... .max))"
        let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
        let log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        defer { for descriptor in [null, log] { close(descriptor) } }
        var environment = fake.clientEnvironment
        environment[ClientEnvironment.tokenVariable] = token
        child = try ChildLaunch(
            program: fake.root + "/bin/fake-client", environment: environment, input: null, output: log, errors: log
        ).start()
    }

    deinit { kill() }

    var pid: Int32 { child.pid }

    var lines: [String] {
        String(decoding: ProcessTable.read(path, limit: 65536) ?? [], as: UTF8.self).split(separator: "\n").map(
            String.init)
    }

    /// Whether it says this within a while.
    func wait(for line: String) -> Bool {
        let deadline = Deadline(.seconds(30))
        while !deadline.isOver {
            if lines.contains(line) { return true }
            shortPause()
        }
        return false
    }

    func kill() {
        guard !isReaped else { return }
        child.send(SIGKILL)
        _ = child.reap(wait: true)
        isReaped = true
    }
}
