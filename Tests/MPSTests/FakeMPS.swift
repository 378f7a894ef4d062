// Tandem — Apache-2.0

import CTandemSystem
import Glibc
import TestSupport

@testable import MPS

/// A directory with stand-ins for NVIDIA's programs, and with a daemon's directories beside them.
final class FakeMPS: Sendable {
    let root: String
    let directories: MPSDirectories
    let environment: [String: String]

    /// - Parameters:
    ///   - quirks: words that `fake_mps.py` lists.
    ///   - control: a real `nvidia-cuda-mps-control` instead of the stand-in.
    init(_ quirks: String..., control: String? = nil) throws {
        root = "/tmp/tmps-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        for directory in [root, root + "/bin"] where mkdir(directory, 0o700) != 0 {
            throw MPSError.system(operation: "create", subject: directory, errno: errno)
        }
        for name in ["nvidia-cuda-mps-control", "nvidia-cuda-mps-server", "fake-client"] {
            if name == MPSRole.control.program, let control {
                guard symlink(control, "\(root)/bin/\(name)") == 0 else {
                    throw MPSError.system(operation: "link", subject: name, errno: errno)
                }
            } else {
                try ExecutableScript.write(Self.launcher, to: "\(root)/bin/\(name)")
            }
        }
        directories = try MPSDirectories(base: root, device: "0")
        var environment = ["FAKE_MPS": quirks.joined(separator: ",")]
        environment["PATH"] = root + "/bin:" + (getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin")
        self.environment = environment
    }

    deinit {
        for process in ProcessTable().processes(inPipeDirectory: directories.pipe) {
            kill(process.identity.pid, SIGKILL)
        }
        remove(root)
    }

    /// A module is compiled once, and an interpreter without its site packages starts in a few milliseconds.
    private static let launcher: String = {
        let fixtures = #filePath.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Fixtures/mps"
        let find = "import sys; print(sys.executable)"
        let run = ToolRun(
            program: "/usr/bin/env", arguments: ["python3", "-c", find],
            environment: ["PATH": getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"], input: [],
            limit: .seconds(30))
        return """
            #!\(run.output.first ?? "/usr/bin/python3") -SE
            import sys
            sys.path.insert(0, "\(fixtures)")
            import fake_mps
            sys.exit(fake_mps.main())
            """
    }()

    var program: String { root + "/bin/nvidia-cuda-mps-control" }

    /// The environment of a client of the daemon.
    var clientEnvironment: [String: String] {
        environment.merging(["CUDA_MPS_PIPE_DIRECTORY": directories.pipe]) { $1 }
    }

    func broker(limit: Duration = .seconds(10), version: ControlProtocol = .version2) -> ControlBroker {
        ControlBroker(
            pipeDirectory: directories.pipe, program: program, environment: environment, protocolVersion: version,
            limit: limit)
    }

    private func remove(_ path: String) {
        if unlink(path) == 0 { return }
        for name in ProcessTable.names(in: path) { remove(path + "/" + name) }
        rmdir(path)
    }
}
