// Tandem — Apache-2.0

import Glibc
import TestSupport
import Testing

@testable import MPS

@Suite("Texts of the control daemon")
struct ControlTextTests {
    @Test("Lists are numbers; an error text is no empty list")
    func lists() {
        #expect(ControlAnswers.processIDs([]) == [])
        #expect(ControlAnswers.processIDs(["12", " 7 "]) == [12, 7])
        #expect(ControlAnswers.processIDs(["Server 5 not found"]) == nil)
        #expect(ControlAnswers.processIDs(["12", "Unknown command \"x\""]) == nil)
        #expect(ControlAnswers.processIDs(["-3"]) == nil)
    }

    @Test("ps: columns, commands with blanks, process ids of another namespace")
    func listing() {
        let header = "PID        ID         SERVER          DEVICE             NAMESPACE       COMMAND"
        #expect(ControlAnswers.clients(["Server not found"]) == [])
        #expect(ControlAnswers.clients([header]) == [])
        #expect(
            ControlAnswers.clients([
                header, "9741       0          6472            GPU-cb213c7d  4026531836  ./a.out -x y",
            ])
                == [
                    ControlClient(
                        pid: 9741, server: 6472, device: "GPU-cb213c7d", namespace: 4_026_531_836,
                        command: "./a.out -x y")
                ])
        #expect(ControlAnswers.clients([header, "0 1 6472 GPU-1 77 x"])?.first?.pid == 0)
        // As driver 580 wrote it on an H100.
        let seen = "PID       ID        SERVER         DEVICE                    NAMESPACE      COMMAND        "
        #expect(
            ControlAnswers.clients([seen, "532       1         534            GPU-1a2b3c4d    4026531836     python3"])
                == [
                    ControlClient(
                        pid: 532, server: 534, device: "GPU-1a2b3c4d", namespace: 4_026_531_836, command: "python3")
                ])
        #expect(ControlAnswers.clients(["Server 3 not found"]) == nil)
        #expect(ControlAnswers.clients([header, "Unknown command"]) == nil)
    }

    @Test("Version 3: the header proves that there was an answer")
    func tables() {
        #expect(ControlAnswers.clientsVersion3([]) == nil)
        #expect(ControlAnswers.clientsVersion3(["pid,server,device,namespace,command"]) == [])
        #expect(
            ControlAnswers.serversVersion3(["name,uid,pid,status,pipe-directory", "uid_0,0,41,Ready,/x"])
                == [ControlServer(name: "uid_0", pid: 41, status: .active)])
        #expect(ControlAnswers.serversVersion3(["name,uid,pid,status", "uid_0,0"]) == nil)
    }

    @Test("Status, percentages, limits, priorities, results")
    func values() {
        #expect(ControlAnswers.serverStatus(["FAULT"]) == .fault)
        #expect(ControlAnswers.serverStatus(["ACTIVE"]) == .active)
        #expect(ControlAnswers.serverStatus(["Unknown command \"get_server_status\""]) == nil)
        #expect(ControlAnswers.serverStatus(["Server 7 not found"]) == nil)
        #expect(ControlAnswers.percentage(["33.3"]) == 33.3)
        #expect(ControlAnswers.percentage(["oops"]) == nil)
        #expect(ControlAnswers.memoryLimit([]) == MemoryLimit.none)
        #expect(ControlAnswers.memoryLimit(["10G"]) == .mebibytes(10240))
        #expect(ControlAnswers.memoryLimit(["512M"]) == .mebibytes(512))
        #expect(ControlAnswers.memoryLimit(["512"]) == nil)
        #expect(ControlAnswers.memoryLimit(["9223372036854775807G"]) == nil)
        #expect(ControlAnswers.priority(["1"]) == .belowNormal)
        #expect(ControlAnswers.priority(["Invalid priority value - must be 0 or 1!"]) == nil)
        #expect(ControlAnswers.terminated(["0"]))
        #expect(!ControlAnswers.terminated(["no such client", "1"]))
        #expect(!ControlAnswers.terminated([]))
        #expect(Percentage.text(33.333) == "33.3")
        #expect(Percentage.text(100) == "100.0")
    }

    @Test("A session is whole only with all its sentinels")
    func sentinels() {
        let session = ControlSession([.serverList, .clients], nonce: 35)
        #expect(session.lines == ["get_server_list", "tandem_z_0", "ps", "tandem_z_1"])
        func complaint(_ index: Int) -> String { "Unknown command \"tandem_z_\(index)\"" }
        #expect(session.split([complaint(0), "Server not found", complaint(1)]) == [[], ["Server not found"]])
        #expect(session.split([]) == nil)
        #expect(session.split(["12", complaint(0), "x"]) == nil)
        #expect(session.split(["12", complaint(1)]) == nil)
        #expect(session.split([complaint(0), complaint(1), "more"]) == nil)
    }

    @Test(
        "Log lines",
        arguments: [
            ("Starting control daemon using socket /tmp/p/control", ControlLogLine.Event.daemonStarted),
            ("CUDA MPS Control binary version: 13000", .binaryVersion(13000)),
            ("Starting new server 311 for user 0", .serverStarting(pid: 311)),
            ("NEW SERVER 311: Ready", .serverReady(pid: 311)),
            ("Server 311 exited with status 1", .serverEnded(pid: 311, status: 1)),
            ("NEW CLIENT 8 from user 0: Server already exists", .client(pid: 8, pending: false)),
            (
                "NEW CLIENT 8 from user 0: Server is not ready, push client to pending list",
                .client(pid: 8, pending: true)
            ),
            ("Server encountered a fatal exception. Shutting down", .serverFault),
            ("Exit with status 0", .daemonEnded(status: 0)),
            ("Server is handling a fatal GPU error.", .serverFault),
            ("Client {PID: 965, Context: 1} encountered a fatal GPU error.", .clientFault(pid: 965)),
            ("User did not send valid credentials", nil),
            ("Server 311 is <busy>", nil),
            ("NEW SERVER x: Ready", nil),
        ] as [(String, ControlLogLine.Event?)])
    func log(text: String, event: ControlLogLine.Event?) {
        let line = ControlLogLine("[2026-11-22 12:37:24.014 Control 12593] \(text)")
        #expect(line?.pid == 12593 && line?.writer == "Control")
        #expect(line?.event == event)
    }

    @Test("What is no log line")
    func noLog() {
        for text in ["", "[", "[]", "[a b c d] x", "An instance of this daemon is already running", "12"] {
            #expect(ControlLogLine(text) == nil)
        }
    }

    @Test("A log is followed, cut in place, and followed on")
    func tail() throws {
        let directory = "/tmp/tmps-log-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try #require(mkdir(directory, 0o700) == 0)
        let path = directory + "/log"
        defer { unlink(path); rmdir(directory) }
        var tail = LogTail(path: path, limit: 64)
        #expect(tail.lines() == [])
        // As MPS does it.
        let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        func append(_ text: String) { _ = write(descriptor, text, text.utf8.count) }
        append("one\ntw")
        #expect(tail.lines() == ["one"])
        append("o\n" + String(repeating: "x", count: 60) + "\n")
        #expect(tail.lines() == ["two", String(repeating: "x", count: 60)])
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_size == 0, "it was cut")
        append("three\n")
        #expect(tail.lines() == ["three"])
        #expect(stat(path, &status) == 0 && status.st_size == 6, "no hole where the old text was")
    }
}

@Suite("What clients are given")
struct ClientEnvironmentTests {
    private let device = "GPU-8f6e1a2b-0000-1111-2222-333344445555"

    @Test("One place puts it together")
    func variables() {
        var client = ClientEnvironment(pipeDirectory: "/run/p", device: device, token: "t")
        client.threadPercentage = 33.333
        client.memoryMebibytes = 2048
        client.priority = .belowNormal
        let variables = client.variables(over: [
            "PATH": "/bin", "CUDA_MPS_PIPE_DIRECTORY": "/other", "CUDA_MPS_LOG_DIRECTORY": "/log",
            "CUDA_VISIBLE_DEVICES": "3",
        ])
        #expect(
            variables == [
                "PATH": "/bin", "CUDA_MPS_PIPE_DIRECTORY": "/run/p", "CUDA_VISIBLE_DEVICES": device,
                "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "33.3", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "\(device)=2048M",
                "CUDA_MPS_CLIENT_PRIORITY": "1", "TANDEM_MPS_TOKEN": "t",
            ])
        #expect(client.conflicts().map(\.severity) == [.warning], "part of the multiprocessors: products to be checked")
    }

    @Test("Conflicts of what we would give")
    func conflicts() {
        func variables(_ adjust: (inout ClientEnvironment) -> Void) -> [String] {
            var client = ClientEnvironment(pipeDirectory: "/run/p", device: device, token: "t")
            adjust(&client)
            return client.conflicts().filter { $0.severity == .error }.map(\.variable)
        }
        #expect(variables { $0.pipeDirectory = "/" + String(repeating: "p", count: 87) } == ["CUDA_MPS_PIPE_DIRECTORY"])
        #expect(variables { $0.pipeDirectory = "/" + String(repeating: "p", count: 86) } == [])
        #expect(variables { $0.pipeDirectory = "p" } == ["CUDA_MPS_PIPE_DIRECTORY"])
        #expect(variables { $0.device = "0" } == ["CUDA_VISIBLE_DEVICES"])
        for value in [0, -1, 100.5, .nan] {
            #expect(variables { $0.threadPercentage = value } == ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"])
        }
        #expect(
            variables {
                $0.partition = "GPU-1/2"; $0.threadPercentage = 50
            } == ["CUDA_MPS_SM_PARTITION"])
        #expect(variables { $0.partition = "GPU-1/2/3" } == [])
        #expect(variables { $0.partition = "7" } == ["CUDA_MPS_SM_PARTITION"])
        #expect(variables { $0.memoryMebibytes = 100 } == ["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"])
    }

    @Test(
        "Conflicts of what a user has set",
        arguments: [
            ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "150", true), ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "0", true),
            ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "half", true), ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "12.5", false),
            ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "0=1G,GPU-1=512M", false),
            ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "0=1T", true),
            ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "1G", true), ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "", true),
            ("CUDA_MPS_CLIENT_PRIORITY", "2", true), ("CUDA_MPS_CLIENT_PRIORITY", "1", false),
            ("CUDA_MPS_DEVICE_MEM_LIMIT", "0=1G", true), ("CUDA_DEVICE_MAX_CONNECTIONS", "8", true),
            ("CUDA_DEVICE_MAX_CONNECTIONS", "2", false), ("CUDA_VISIBLE_DEVICES", "0", true),
            ("CUDA_VISIBLE_DEVICES", "GPU-1", false), ("CUDA_MPS_PIPE_DIRECTORY", "/other", true),
            ("CUDA_MPS_PIPE_DIRECTORY", "/run/p", false), ("PATH", "x", false),
        ])
    func surroundings(name: String, value: String, isConflict: Bool) {
        #expect(ClientEnvironment.lint([name: value], pipeDirectory: "/run/p").isEmpty == !isConflict)
    }

    @Test("Ordinals matter only under MPS")
    func ordinals() {
        #expect(ClientEnvironment.lint(["CUDA_VISIBLE_DEVICES": "1"]) == [])
    }
}
