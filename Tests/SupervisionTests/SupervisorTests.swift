// Tandem — Apache-2.0

import EngineLink
import Foundation
import Glibc
import Requests
import TestSupport
import Testing

@testable import Supervision

/// A supervisor on a thread of its own, with shell scripts as children.
final class SupervisorFixture: @unchecked Sendable {  // everything mutable is guarded by `condition`
    let directory: String
    private let condition = NSCondition()
    private var output: [SupervisorOutput] = []
    private var result: Result<Int32, SupervisionError>?
    private var thread = pthread_t()
    private var read = 0

    /// - Parameters:
    ///   - engine, gateway: shell text that runs in the child's place; `$dir` is the directory of the test.
    init(
        engine: String = "say_hello; exec cat <&3 >/dev/null",
        gateway: String = "say_ready; exec cat <&3 >/dev/null"
    ) throws {
        directory = NSTemporaryDirectory() + "/tandem-test-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(atPath: directory + "/run", withIntermediateDirectories: true)
        let hello = EngineHello(
            engineIndex: 0, pid: 1, modelName: "m", modelFingerprint: .init(high: 0, low: 0),
            tokenizerFingerprint: .init(high: 0, low: 0), vocabularySize: 1, blockSize: 16, hashSeed: 0,
            keyValueBlocks: 1, maximumContextLength: 1, maximumSequences: 1, device: "fake device")
        try Data(LinkCodec.frame(.engineHello(hello))).write(to: URL(fileURLWithPath: directory + "/hello"))
        try Data(LinkCodec.frame(.gatewayReady(port: 1))).write(to: URL(fileURLWithPath: directory + "/ready"))
        let script = """
            #!/bin/sh
            dir=\(directory)
            say_hello() { cat "$dir/hello" >&3; }
            say_ready() { cat "$dir/ready" >&3; }
            echo "$$ $*" >> "$dir/starts"
            case "$1" in
            engine) \(engine) ;;
            gateway) \(gateway) ;;
            esac
            """
        try ExecutableScript.write(script, to: directory + "/child")
    }

    deinit {
        try? FileManager.default.removeItem(atPath: directory)
    }

    func start(adjust: (inout SupervisorConfiguration) -> Void = { _ in }) {
        var configuration = SupervisorConfiguration(
            models: [SupervisedModel(name: "m", engineArguments: ["--model", "file"], engines: 2)],
            gatewayArguments: ["--name", "m"], environment: ["PATH": "/usr/bin:/bin"], host: "127.0.0.1", port: 0)
        configuration.executable = directory + "/child"
        configuration.runDirectoryBase = directory + "/run"
        configuration.shutdownTimeout = .seconds(5)
        configuration.output = { [weak self] line in self?.record(line) }
        adjust(&configuration)
        let context = Unmanaged.passRetained(Start(fixture: self, configuration: configuration)).toOpaque()
        pthread_create(
            &thread, nil,
            { raw in
                let start = Unmanaged<Start>.fromOpaque(raw!).takeRetainedValue()
                let result: Result<Int32, SupervisionError>
                do throws(SupervisionError) {
                    result = .success(try Supervisor.run(start.configuration))
                } catch {
                    result = .failure(error)
                }
                start.fixture.finish(result)
                return nil
            }, context)
    }

    private final class Start {
        let fixture: SupervisorFixture
        let configuration: SupervisorConfiguration

        init(fixture: SupervisorFixture, configuration: SupervisorConfiguration) {
            self.fixture = fixture
            self.configuration = configuration
        }
    }

    private func record(_ line: SupervisorOutput) {
        condition.withLock {
            output.append(line)
            condition.broadcast()
        }
    }

    private func finish(_ result: Result<Int32, SupervisionError>) {
        condition.withLock {
            self.result = result
            condition.broadcast()
        }
    }

    /// Waits for the next output with `text` in it and returns it; nil after five minutes.
    func output(containing text: String) -> String? {
        let deadline = Date(timeIntervalSinceNow: 300)
        return condition.withLock {
            while true {
                while read < output.count {
                    read += 1
                    switch output[read - 1] {
                    case .announcement(let line), .line(_, let line):
                        if line.contains(text) { return line }
                    }
                }
                if !condition.wait(until: deadline) { return nil }
            }
        }
    }

    /// Sends a signal to the supervisor's thread, where alone it is expected.
    func signal(_ number: Int32) {
        pthread_kill(thread, number)
    }

    func wait() -> Result<Int32, SupervisionError>? {
        let deadline = Date(timeIntervalSinceNow: 300)
        let ended = condition.withLock {
            while result == nil && condition.wait(until: deadline) {}
            return result
        }
        if ended != nil { pthread_join(thread, nil) }
        return ended
    }

    /// Process id and arguments of every start so far.
    var starts: [(pid: Int32, arguments: String)] {
        let text = (try? String(contentsOfFile: directory + "/starts", encoding: .utf8)) ?? ""
        return text.split(separator: "\n").map { line in
            let parts = line.split(separator: " ", maxSplits: 1)
            return (Int32(parts[0]) ?? 0, String(parts.last ?? ""))
        }
    }

    /// Process id of the latest child with these first arguments, once it runs.
    func pid(of role: String) -> Int32? {
        waitForStart { $0.last { $0.arguments.hasPrefix(role) }?.pid }
    }

    /// Waits until `search` finds something among the starts; nil after five minutes. The children only write a file, so there
    /// is nothing to wait on but the file.
    func waitForStart<Found>(_ search: ([(pid: Int32, arguments: String)]) -> Found?) -> Found? {
        let deadline = ContinuousClock.now + .seconds(300)
        while ContinuousClock.now < deadline {
            if let found = search(starts) { return found }
            sched_yield()
        }
        return nil
    }

    /// Nothing of the supervisor may be left.
    func expectNothingLeft() {
        #expect((try? FileManager.default.contentsOfDirectory(atPath: directory + "/run")) == [])
        for start in starts { #expect(kill(start.pid, 0) == -1 && errno == ESRCH) }
    }
}

@Suite struct SupervisorTests {
    @Test func servesAndStops() throws {
        let fixture = try SupervisorFixture()
        fixture.start()
        let announcement = try #require(fixture.output(containing: "is served by"))
        #expect(announcement.contains("2 engines, each fake device"))
        #expect(announcement.contains("curl -N http://127.0.0.1:"))
        // The second engine may still be on its way.
        try #require(fixture.waitForStart { $0.count == 3 ? true : nil } == true)
        fixture.signal(SIGTERM)
        #expect(fixture.wait() == .success(0))
        fixture.expectNothingLeft()

        let starts = fixture.starts.map(\.arguments).sorted()
        try #require(starts.count == 3)
        #expect(starts[0].hasPrefix("engine --index 0 --model file --link link+unix:"))
        #expect(starts[0].contains("/engine-0.sock --threads "))
        #expect(starts[0].hasSuffix("--weights-fd 4 --status-fd 3"))
        #expect(starts[2] == "gateway --name m --listen-fd 4 --status-fd 3")
    }

    @Test func modelsHaveTheirOwnArgumentsAndMemory() throws {
        let fixture = try SupervisorFixture(
            engine: "stat -Lc %i /proc/self/fd/4 > \"$dir/weights-$3\"; say_hello; exec cat <&3 >/dev/null")
        fixture.start { configuration in
            configuration.models = [
                SupervisedModel(name: "first", engineArguments: ["--model", "a"], engines: 2),
                SupervisedModel(name: "second", engineArguments: ["--model", "b"], engines: 1, threads: 7),
            ]
        }
        let announcement = try #require(fixture.output(containing: "models are served"))
        #expect(announcement.contains("first   2 engines, each fake device\n"))
        #expect(announcement.contains("second  1 engine, each fake device\n"))
        try #require(fixture.waitForStart { $0.count == 4 ? true : nil } == true)
        kill(try #require(fixture.pid(of: "engine --index 2")), SIGKILL)
        #expect(fixture.output(containing: "engine 2 (second) was killed") != nil)
        #expect(fixture.output(containing: "engine 2 (second) is ready again") != nil)
        // Both engines of the first model reported before they said hello, or will not be asked.
        _ = fixture.waitForStart { _ in
            FileManager.default.fileExists(atPath: fixture.directory + "/weights-1") ? true : nil
        }
        fixture.signal(SIGTERM)
        #expect(fixture.wait() == .success(0))
        fixture.expectNothingLeft()

        let starts = fixture.starts.map(\.arguments).sorted()
        try #require(starts.count == 5)
        #expect(starts[0].hasPrefix("engine --index 0 --model a --link "))
        #expect(starts[1].hasPrefix("engine --index 1 --model a --link "))
        #expect(starts[2].hasPrefix("engine --index 2 --model b --link "))
        #expect(starts[2].contains("/engine-2.sock --threads 7 "))
        #expect(starts[3].hasPrefix("engine --index 2 --model b --link "))
        let inode = { (index: Int) in
            try String(contentsOfFile: fixture.directory + "/weights-\(index)", encoding: .utf8)
        }
        #expect(try inode(0) == inode(1))
        #expect(try inode(0) != inode(2))
    }

    @Test func aModelThatCannotStartLeavesTheOthersServed() throws {
        let fixture = try SupervisorFixture(
            engine: """
                case "$*" in *broken*) exit \(ChildExit.permanentFailureCode) ;; esac
                say_hello; exec cat <&3 >/dev/null
                """)
        fixture.start { configuration in
            configuration.models = [
                SupervisedModel(name: "good", engineArguments: ["--model", "fine"], engines: 1),
                SupervisedModel(name: "bad", engineArguments: ["--model", "broken"], engines: 1),
            ]
        }
        let announcement = try #require(fixture.output(containing: "1 of 2 models are served"))
        #expect(announcement.contains("bad   no engine of 1 serves"))
        fixture.signal(SIGTERM)
        #expect(fixture.wait() == .success(0))
        fixture.expectNothingLeft()
    }

    @Test func killedEngineAndGatewayComeBack() throws {
        let fixture = try SupervisorFixture()
        fixture.start()
        _ = try #require(fixture.output(containing: "is served by"))
        for role in ["engine --index 0", "engine --index 1", "gateway"] {
            kill(try #require(fixture.pid(of: role)), SIGKILL)
            #expect(fixture.output(containing: "was killed by SIGKILL") != nil)
            #expect(fixture.output(containing: "is ready again") != nil)
        }
        #expect(fixture.starts.count == 6)
        fixture.signal(SIGINT)
        #expect(fixture.wait() == .success(0))
        fixture.expectNothingLeft()
    }

    @Test func childrenGetTheirDescriptorsAndCores() throws {
        let fixture = try SupervisorFixture(
            engine: """
                [ -e /proc/self/fd/5 ] && echo bad > "$dir/leak"
                readlink /proc/self/fd/4 > "$dir/weights-$3"
                grep Cpus_allowed_list /proc/self/status > "$dir/cpus-$3"
                say_hello; exec cat <&3
                """,
            gateway: """
                readlink /proc/self/fd/4 > "$dir/listener"; echo "$SECRET" > "$dir/secret"
                say_ready; exec cat <&3 >/dev/null
                """)
        fixture.start { configuration in
            configuration.gatewayEnvironment = ["SECRET": "s3"]
            configuration.models[0].engines = 1
        }
        _ = try #require(fixture.output(containing: "is served by"))
        fixture.signal(SIGTERM)
        #expect(fixture.wait() == .success(0))
        let text = { (name: String) in
            try String(contentsOfFile: fixture.directory + "/" + name, encoding: .utf8)
        }
        #expect(try text("weights-0").contains("memfd:tandem-weights"))
        #expect(try text("listener").hasPrefix("socket:"))
        #expect(try text("secret") == "s3\n")
        #expect(try text("cpus-0").hasPrefix("Cpus_allowed_list:"))
        #expect(!FileManager.default.fileExists(atPath: fixture.directory + "/leak"))
    }

    @Test func gatewayHearsOfEveryChange() throws {
        let fixture = try SupervisorFixture(gateway: "say_ready; exec cat <&3 > \"$dir/rosters\"")
        fixture.start()
        _ = try #require(fixture.output(containing: "is served by"))
        kill(try #require(fixture.pid(of: "engine --index 1")), SIGKILL)
        #expect(fixture.output(containing: "engine 1 is ready again") != nil)
        fixture.signal(SIGTERM)
        #expect(fixture.wait() == .success(0))
        var reader = LinkFrameReader()
        reader.append(Array(try Data(contentsOf: URL(fileURLWithPath: fixture.directory + "/rosters"))))
        var rosters: [Roster] = []
        while case .roster(let roster) = try reader.next() { rosters.append(roster) }
        #expect(rosters.map(\.generation) == rosters.map(\.generation).sorted())
        #expect(rosters.contains { $0.engines[1].state == .restarting && $0.engines[1].restarts == 1 })
        #expect(rosters.first?.engines.count == 2)
    }

    @Test func childThatIgnoresTheSignalIsKilledByTheSecond() throws {
        let fixture = try SupervisorFixture(gateway: "trap '' TERM; say_ready; cat <&3 >/dev/null")
        fixture.start()
        _ = try #require(fixture.output(containing: "is served by"))
        fixture.signal(SIGTERM)
        #expect(fixture.output(containing: "finishing open requests") != nil)
        fixture.signal(SIGTERM)
        #expect(fixture.wait() == .success(128 + SIGTERM))
        fixture.expectNothingLeft()
    }

    @Test func unusableModelEndsTheStart() throws {
        let fixture = try SupervisorFixture(engine: "exit \(ChildExit.permanentFailureCode)")
        fixture.start()
        #expect(fixture.output(containing: "cannot start") != nil)
        #expect(fixture.wait() == .success(ChildExit.permanentFailureCode))
        fixture.expectNothingLeft()
    }

    @Test func missingProgramEndsTheStart() throws {
        let fixture = try SupervisorFixture()
        fixture.start { $0.executable = "/nonexistent/tandem" }
        #expect(fixture.output(containing: "cannot start the program: No such file") != nil)
        #expect(fixture.wait() == .success(1))
        fixture.expectNothingLeft()
    }

    @Test func childThatSpeaksNonsenseIsReplaced() throws {
        let fixture = try SupervisorFixture(
            engine: """
                if [ "$3" = 1 ] && ! [ -e "$dir/once" ]; then : > "$dir/once"; printf '\\005\\000\\000\\000wrong' >&3; fi
                say_hello; exec cat <&3
                """)
        fixture.start()
        #expect(fixture.output(containing: "engine 1 sent what is not a message") != nil)
        #expect(fixture.output(containing: "engine 1 is ready again") != nil)
        fixture.signal(SIGTERM)
        #expect(fixture.wait() == .success(0))
        fixture.expectNothingLeft()
    }

    @Test func takenPortIsNamed() throws {
        let fixture = try SupervisorFixture()
        let listener = try ListeningSocket(host: "127.0.0.1", port: 0)
        fixture.start { $0.port = listener.port }
        let result = fixture.wait()
        #expect(result == .failure(.portInUse(host: "127.0.0.1", port: listener.port)))
        #expect(SupervisionError.portInUse(host: "h", port: 8000).description.contains("--port"))
        fixture.expectNothingLeft()
        close(listener.descriptor)
    }

    @Test func unknownHostIsNamed() {
        #expect(throws: SupervisionError.self) { try ListeningSocket(host: "no such host", port: 1) }
    }
}

@Suite struct RunDirectoryTests {
    @Test func remainsOfTheDeadGoAndTheLivingStay() throws {
        let base = NSTemporaryDirectory() + "/tandem-test-" + UUID().uuidString.prefix(8)
        defer { try? FileManager.default.removeItem(atPath: base) }
        let make = { (name: String) in
            try FileManager.default.createDirectory(
                atPath: base + "/" + name, withIntermediateDirectories: true)
        }
        let uid = getuid()
        // No process has this id: it is above the largest that Linux gives.
        try make("tandem-\(uid)-99999999")
        try make("tandem-\(uid)-99999998")
        for name in ["lock", "engine-0.sock"] {
            try Data().write(to: URL(fileURLWithPath: base + "/tandem-\(uid)-99999998/" + name))
        }
        try make("tandem-\(uid)-1")
        try make("other-\(uid)-99999999")
        let names = { try FileManager.default.contentsOfDirectory(atPath: base).sorted() }
        do {
            let first = try RunDirectory(base: base)
            #expect(first.path == "\(base)/tandem-\(uid)-\(getpid())")
            let attributes = try FileManager.default.attributesOfItem(atPath: first.path)
            #expect(attributes[.posixPermissions] as? Int == 0o700)
            let loss = try first.restore()
            #expect(loss == .nothing)
            let second = try RunDirectory(base: base)
            #expect(second.path == first.path + "-1")
            #expect(try names().count == 4)
            withExtendedLifetime((first, second)) {}
        }
        #expect(try names() == ["other-\(uid)-99999999", "tandem-\(uid)-1"])
    }

    @Test func whatIsRemovedIsMadeAgainAndWhatIsNotOursIsLeftAlone() throws {
        let base = NSTemporaryDirectory() + "/tandem-test-" + UUID().uuidString.prefix(8)
        let victim = base + "-victim"
        for path in [base, victim] {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        }
        defer { for path in [base, victim] { try? FileManager.default.removeItem(atPath: path) } }
        try Data().write(to: URL(fileURLWithPath: victim + "/file"))
        do {
            let directory = try RunDirectory(base: base)
            try FileManager.default.removeItem(atPath: directory.path)
            let loss = try directory.restore()
            #expect(loss == .all)
            #expect(FileManager.default.fileExists(atPath: directory.path + "/lock"))
            let none = try directory.restore()
            #expect(none == .nothing)
            try FileManager.default.removeItem(atPath: directory.path + "/lock")
            let lock = try directory.restore()
            #expect(lock == .lock && FileManager.default.fileExists(atPath: directory.path + "/lock"))
            // Somebody else takes the name.
            try FileManager.default.removeItem(atPath: directory.path)
            try FileManager.default.createSymbolicLink(atPath: directory.path, withDestinationPath: victim)
            #expect(throws: SupervisionError.self) { try directory.restore() }
        }
        #expect(FileManager.default.fileExists(atPath: victim + "/file"))
    }

    @Test func baseIsShortAndWritable() {
        #expect(RunDirectory.base(environment: [:]) == "/tmp")
        #expect(RunDirectory.base(environment: ["XDG_RUNTIME_DIR": "/nonexistent"]) == "/tmp")
        let long = "/tmp/" + String(repeating: "x", count: 80)
        #expect(RunDirectory.base(environment: ["XDG_RUNTIME_DIR": long]) == "/tmp")
    }
}
