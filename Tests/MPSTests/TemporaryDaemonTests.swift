// Tandem — Apache-2.0

import Glibc
import Testing

@testable import MPS

struct TemporaryDaemonTests {
    @Test func clientsFindItAndNothingIsLeft() throws {
        let fake = try FakeMPS()
        let daemon = try TemporaryDaemon(base: fake.root, environment: fake.environment)
        let pipe = try #require(daemon.environment["CUDA_MPS_PIPE_DIRECTORY"])
        #expect(pipe.hasPrefix(fake.root))
        let backEnd = CommandLineBackEnd(
            program: fake.root + "/bin/nvidia-cuda-mps-control", environment: daemon.environment)
        #expect(backEnd.ask([.serverList], within: .seconds(30)) == .answer([[]]))
        #expect(!ProcessTable().processes(inPipeDirectory: pipe).isEmpty)
        daemon.end()
        #expect(ProcessTable().processes(inPipeDirectory: pipe).isEmpty)
        // Once more changes nothing.
        daemon.end()
    }

    @Test func longPathsAreRefused() throws {
        let fake = try FakeMPS()
        let base = fake.root + "/" + String(repeating: "x", count: 90)
        #expect(throws: MPSError.pathTooLong(path: "\(base)/tandem-mps-\(getuid())-study/pipe", limit: 87)) {
            try TemporaryDaemon(base: base, environment: fake.environment)
        }
    }
}
