// Tandem — Apache-2.0

import Glibc
import Testing

@testable import MPS

@Suite("Directories and processes")
struct DirectoryTests {
    private func temporary() throws -> String {
        let path = "/tmp/tmps-dir-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try #require(mkdir(path, 0o700) == 0)
        return path
    }

    private func remove(_ path: String) {
        if unlink(path) == 0 { return }
        for name in ProcessTable.names(in: path) { remove(path + "/" + name) }
        rmdir(path)
    }

    @Test("Only this user can enter them, also if they were open before")
    func privacy() throws {
        let base = try temporary()
        defer { remove(base) }
        let directories = try MPSDirectories(base: base, device: "GPU-1/../x", user: 7)
        #expect(directories.pipe == base + "/tandem-mps-7-GPU-1x/pipe")
        try directories.make()
        chmod(directories.parent, 0o755)
        try directories.make()
        var status = stat()
        for path in [directories.parent, directories.pipe, directories.log] {
            #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o700)
        }
    }

    @Test("What somebody else has put in their place is refused")
    func refusal() throws {
        let base = try temporary()
        defer { remove(base) }
        let directories = try MPSDirectories(base: base, device: "0")
        try #require(symlink("/tmp", directories.parent) == 0)
        #expect(throws: MPSError.notPrivate(path: directories.parent, reason: "it is none")) { try directories.make() }
    }

    @Test("A path that the daemon would die of is refused")
    func length() throws {
        let name = "/tandem-mps-7-0/pipe"
        let base = "/" + String(repeating: "b", count: 86 - name.utf8.count)
        #expect(try MPSDirectories(base: base, device: "0", user: 7).pipe.utf8.count == 87)
        #expect(throws: MPSError.self) { try MPSDirectories(base: base + "b", device: "0", user: 7) }
    }

    @Test("One owner at a time")
    func ownership() throws {
        let base = try temporary()
        defer { remove(base) }
        let directories = try MPSDirectories(base: base, device: "0")
        try directories.make()
        var first: MPSOwnership? = try directories.own()
        #expect(throws: MPSError.directoryInUse(path: directories.parent)) { try directories.own() }
        #expect(first != nil)
        first = nil
        _ = try directories.own()
    }

    @Test("The lock is beside the pipe directory")
    func lockPath() {
        #expect(MPSDirectories.lockPath(ofPipeDirectory: "/tmp/nvidia-mps") == "/tmp/nvidia-mps.lock")
        #expect(MPSDirectories.lockPath(ofPipeDirectory: "/tmp/nvidia-mps//") == "/tmp/nvidia-mps.lock")
    }

    @Test("A process is known by its start, and its name may hold anything")
    func identity() throws {
        let table = ProcessTable()
        let own = try #require(table.identity(of: getpid()))
        #expect(table.lives(own))
        #expect(!table.lives(ProcessIdentity(pid: own.pid, startTime: own.startTime + 1)))
        #expect(table.identity(of: 0) == nil && table.identity(of: -1) == nil)

        let root = try temporary()
        defer { remove(root) }
        func process(_ pid: Int, stat: String, words: [String], environment: [String]) throws {
            try #require(mkdir("\(root)/\(pid)", 0o700) == 0)
            try write(stat, "\(root)/\(pid)/stat")
            try write(words.map { $0 + "\0" }.joined(), "\(root)/\(pid)/cmdline")
            try write(environment.map { $0 + "\0" }.joined(), "\(root)/\(pid)/environ")
        }
        func stat(_ state: String, parent: Int, start: Int) -> String {
            "9 (a) b (c) \(state) \(parent) " + (0..<17).map { "\($0)" }.joined(separator: " ") + " \(start) 0 0\n"
        }
        let here = ["CUDA_MPS_PIPE_DIRECTORY=/run/p"]
        try process(
            10, stat: stat("S", parent: 1, start: 77), words: ["/usr/bin/nvidia-cuda-mps-control", "-f"],
            environment: here)
        try process(
            11, stat: stat("S", parent: 10, start: 78), words: ["nvidia-cuda-mps-server"], environment: ["X=1"] + here)
        try process(
            12, stat: stat("S", parent: 1, start: 79), words: ["/usr/bin/nvidia-cuda-mps-control"], environment: here)
        try process(13, stat: stat("Z", parent: 1, start: 80), words: ["nvidia-cuda-mps-server"], environment: here)
        try process(
            14, stat: stat("S", parent: 1, start: 81), words: ["nvidia-cuda-mps-server"],
            environment: ["CUDA_MPS_PIPE_DIRECTORY=/run/p2"])
        try process(
            15, stat: stat("S", parent: 1, start: 82), words: ["python3", "-SE", "/x/nvidia-cuda-mps-server"],
            environment: here)
        try process(16, stat: "nonsense", words: ["nvidia-cuda-mps-server"], environment: here)
        try process(17, stat: stat("S", parent: 1, start: 83), words: ["vim", "/notes/nvidia"], environment: here)
        let fake = ProcessTable(root: root)
        let found = fake.processes(inPipeDirectory: "/run/p")
        #expect(
            found.map(\.identity) == [
                ProcessIdentity(pid: 10, startTime: 77), ProcessIdentity(pid: 11, startTime: 78),
                ProcessIdentity(pid: 15, startTime: 82),
            ])
        #expect(found.map(\.role) == [.control, .server, .server])
        #expect(found.map(\.parent) == [1, 10, 1])
        #expect(fake.variable("X", of: 11) == "1")
        #expect(fake.variable("CUDA_MPS", of: 11) == nil)
    }

    private func write(_ text: String, _ path: String) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        #expect(Glibc.write(descriptor, text, text.utf8.count) == text.utf8.count)
    }

    @Test("Attach proof: listed, not listed, blind, contradicted, ended")
    func attach() throws {
        let root = try temporary()
        defer { remove(root) }
        for (pid, token) in [(20, "a"), (21, "b"), (22, "c"), (30, "c")] {
            try #require(mkdir("\(root)/\(pid)", 0o700) == 0)
            let numbers = (0..<18).map { "\($0)" }.joined(separator: " ")
            try write("\(pid) (x) S \(numbers) \(pid * 10) 0\n", "\(root)/\(pid)/stat")
            try write("TANDEM_MPS_TOKEN=\(token)\0", "\(root)/\(pid)/environ")
        }
        func engine(_ pid: Int32, _ token: String, _ says: Bool? = nil) -> AttachProof.Engine {
            AttachProof.Engine(
                process: ProcessIdentity(pid: pid, startTime: UInt64(pid) * 10), token: token, saysAttached: says)
        }
        let table = ProcessTable(root: root)
        func judge(_ engines: [Int: AttachProof.Engine], _ pids: [Int32]) -> [Int: AttachProof.Verdict] {
            AttachProof.judge(engines, clients: pids.map { ControlClient(pid: $0, server: 9) }, processes: table)
        }
        // Engine 2 works in a child, process 30.
        let all = [0: engine(20, "a", true), 1: engine(21, "b"), 2: engine(22, "c")]
        #expect(judge(all, [20, 30]) == [0: .attached, 1: .detached, 2: .attached])
        #expect(judge([0: engine(20, "a", false)], [20]) != [0: .attached])
        #expect(judge([0: engine(20, "a", true)], []) != [0: .attached])
        guard case .unknown(let reason)? = judge([0: engine(20, "a")], [0])[0] else {
            Issue.record("a blind daemon proves nothing")
            return
        }
        #expect(reason.contains("PID namespace"))
        #expect(judge([0: engine(99, "z")], [99]) == [0: .unknown("its process has ended")])
    }

    @Test("Programs are found in PATH and at their usual places")
    func programs() throws {
        let root = try temporary()
        defer { remove(root) }
        #expect(throws: MPSError.programMissing(name: "nvidia-cuda-mps-control")) {
            try MPSPrograms(searchPath: root, usualDirectories: [])
        }
        for (directory, name) in [("bin", "nvidia-cuda-mps-control"), ("sbin", "nvidia-cuda-mps-server")] {
            try #require(mkdir("\(root)/\(directory)", 0o700) == 0)
            try write("", "\(root)/\(directory)/\(name)")
            chmod("\(root)/\(directory)/\(name)", 0o700)
        }
        let programs = try MPSPrograms(searchPath: "/nowhere:\(root)/bin", usualDirectories: ["\(root)/sbin"])
        #expect(programs.control == "\(root)/bin/nvidia-cuda-mps-control")
        #expect(programs.server == "\(root)/sbin/nvidia-cuda-mps-server")
        #expect(programs.searchPath("/bin") == "/bin:\(root)/bin:\(root)/sbin")
    }
}
