// Tandem — Apache-2.0

import CTandemSystem
import Glibc
import Testing

@testable import Processes

@Suite struct SpawnTests {
    /// What a shell command prints, and how it ends.
    private func run(_ command: String, environment: [String: String] = [:], cores: [Int32] = []) throws -> (
        output: String, code: Int32
    ) {
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        defer { close(ends[0]) }
        let child: SpawnedProcess
        do {
            defer { close(ends[1]) }
            child = try Spawn(
                path: "/bin/sh", arguments: ["a name", "-c", command], environment: environment,
                descriptors: [(ends[1], STDOUT_FILENO)], cores: cores
            ).start()
        }
        defer { close(child.pidfd) }
        var output: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while case let count = read(ends[0], &buffer, buffer.count), count > 0 { output += buffer[..<count] }
        var status = tandem_exit_status()
        #expect(tandem_reap(child.pidfd, true, &status) == 1)
        return (String(decoding: output, as: UTF8.self), status.exit_code)
    }

    @Test func aChildHasWhatItIsGivenAndNothingElse() throws {
        let run = try run("echo $0 $GIVEN $HOME; exit 7", environment: ["GIVEN": "a = b"])
        #expect(run.output == "a name a = b\n")
        #expect(run.code == 7)
    }

    @Test func aChildIsPutOnItsCores() throws {
        var cores = [Int32](repeating: 0, count: 8192)
        let count = tandem_affinity_get(0, &cores, Int32(cores.count))
        try #require(count > 0)
        let run = try run(
            "while read name rest; do [ $name = Cpus_allowed_list: ] && echo $rest; done </proc/self/status",
            cores: [cores[0]])
        #expect(run.output == "\(cores[0])\n")
    }

    @Test func whatCannotBeStartedSaysWhere() {
        let error = #expect(throws: SpawnError.self) {
            _ = try Spawn(path: "/no/such/program", arguments: ["x"], environment: [:], descriptors: []).start()
        }
        #expect(error == SpawnError(stage: "start the program", code: ENOENT))
    }
}
