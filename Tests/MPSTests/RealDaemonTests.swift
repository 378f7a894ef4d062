// Tandem — Apache-2.0

import Glibc
import TestSupport
import Testing

@testable import MPS

/// NVIDIA's own daemon: the one that `Scripts/fetch-mps` brings, or the machine's.
enum RealMPS {
    static let control: String? = {
        var directories: [String] = []
        if let cache = getenv("TANDEM_CACHE") { directories.append(String(cString: cache) + "/mps/bin") }
        let root = #filePath.split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" }
        directories.append(root + "/.build-cache/mps/bin")
        return try? MPSPrograms(searchPath: directories.joined(separator: ":")).control
    }()
}

/// Needs no GPU: servers are stand-ins, which the real daemon takes for its own when they are first in PATH.
@Suite(
    "The real control daemon", .serialized,
    .enabled(if: RealMPS.control != nil, "no nvidia-cuda-mps-control here: Scripts/fetch-mps gets it"))
struct RealDaemonTests {
    private func fake(_ quirks: String...) throws -> FakeMPS {
        try FakeMPS(quirks.joined(separator: ","), control: RealMPS.control)
    }

    @Test("800 queries from 4 processes, 800 right")
    func processes() async throws {
        let daemon = try RunningDaemon(fake())
        await askFromFourProcesses(daemon.fake, queries: 200)
    }

    @Test("Answers are as the stand-in gives them")
    func answers() throws {
        let daemon = try RunningDaemon(fake())
        let broker = daemon.fake.broker()
        #expect(
            broker.ask([.serverList, .clients, .defaultPriority, .clientList(server: 4)])
                == .answer([[], ["Server not found"], ["0"], ["Server 4 not found"]]))
        #expect(broker.set(.setDefaultThreadPercentage(33.333)) != nil)
        #expect(broker.set(.setDefaultThreadPercentage(150)) == nil)
        #expect(broker.ask([.defaultThreadPercentage]) == .answer([["33.3"]]))
        #expect(broker.set(.setDefaultPriority(.belowNormal)) != nil)
    }

    @Test("Without the broker, callers may read silence and success")
    func withoutBroker() async throws {
        let daemon = try RunningDaemon(fake())
        let fake = daemon.fake
        let counts = await withTaskGroup(of: (silent: Int, right: Int, refused: Int).self) { group in
            for _ in 0..<4 {
                group.addTask {
                    var counts = (silent: 0, right: 0, refused: 0)
                    for _ in 0..<50 {
                        let run = ToolRun(
                            program: fake.program, arguments: [], environment: fake.clientEnvironment,
                            input: ["get_default_client_priority"], limit: .seconds(10))
                        if run.output == ["0"] {
                            counts.right += 1
                        } else if run.result != .ended(ProcessExit(code: 0, signal: 0)) {
                            counts.refused += 1
                        } else if run.output.isEmpty {
                            counts.silent += 1
                        }
                    }
                    return counts
                }
            }
            return await group.reduce((silent: 0, right: 0, refused: 0)) {
                ($0.silent + $1.silent, $0.right + $1.right, $0.refused + $1.refused)
            }
        }
        // How many get in each other's way is a matter of the machine's speed: on a quiet one it may be none.
        print(
            "without the broker: 200 queries, \(counts.right) right, \(counts.refused) refused, "
                + "\(counts.silent) silent successes")
        // What is answered is right or nothing, never something else.
        #expect(counts.right + counts.refused + counts.silent == 200 && counts.right > 0)
    }

    @Test("A path of 88 bytes ends it without a word, one of 87 does not")
    func pathLength() throws {
        for (length, isGood) in [(87, true), (88, false)] {
            let fake = try fake()
            try fake.directories.make()
            let base = fake.root + "/"
            let pipe = base + String(repeating: "p", count: length - base.utf8.count)
            var environment = fake.environment
            environment["CUDA_MPS_PIPE_DIRECTORY"] = pipe
            environment["CUDA_MPS_LOG_DIRECTORY"] = fake.directories.log
            let null = open("/dev/null", O_RDWR | O_CLOEXEC)
            defer { close(null) }
            let child = try ChildLaunch(
                program: fake.program, arguments: ["-f"], environment: environment, input: null, output: null,
                errors: null
            ).start()
            let broker = ControlBroker(pipeDirectory: pipe, program: fake.program, environment: environment)
            let deadline = Deadline(.seconds(20))
            var answered = false
            var end: ProcessExit?
            while !answered && end == nil && !deadline.isOver {
                answered = broker.ask([.serverList]) == .answer([[]])
                end = child.reap()
            }
            #expect(answered == isGood)
            #expect(end == (isGood ? nil : ProcessExit(code: 1, signal: 0)))
            if end == nil {
                child.send(SIGKILL)
                _ = child.reap(wait: true)
            }
        }
    }

    @Test("Start and end")
    func life() throws {
        let fixture = try ControllerFixture(fake())
        fixture.wait(for: "a daemon") { $0.phase == .idle && $0.isAdmitting }
        fixture.stop()
        #expect(fixture.controller.status.phase == .absent)
        #expect(ProcessTable().processes(inPipeDirectory: fixture.fake.directories.pipe) == [])
    }

    @Test("A real wedge: every rung, and a daemon that answers afterwards")
    func wedge() throws {
        let fixture = try ControllerFixture(fake("mute-server"))
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        _ = try fixture.startEngine(0, awaitAttach: false)
        fixture.wait(for: "recovery") { $0.counts[.killServer] ?? 0 >= 1 && $0.rung == nil && $0.isAdmitting }
        let counts = fixture.controller.status.counts
        print("a wedge of the real daemon: \(counts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" })")
        #expect(counts[.killGroup] == 1 && counts[.quit] == 1)
        #expect(fixture.fake.broker().ask([.serverList, .defaultPriority]) == .answer([[], ["0"]]))
        fixture.stop()
        #expect(ProcessTable().processes(inPipeDirectory: fixture.fake.directories.pipe) == [])
    }

    @Test("Stopped and killed daemons are replaced, orphaned servers ended")
    func replacement() throws {
        let fixture = try ControllerFixture(fake()) {
            $0.queryLimit = .milliseconds(300)
            $0.limits.killServer = .milliseconds(300)
        }
        fixture.wait(for: "a daemon") { $0.isAdmitting }
        for signal in [SIGSTOP, SIGKILL] {
            let daemon = try #require(fixture.controller.status.daemon)
            kill(daemon, signal)
            fixture.wait(for: "another daemon") { $0.daemon != nil && $0.daemon != daemon && $0.isAdmitting }
        }
        fixture.stop()
    }
}
