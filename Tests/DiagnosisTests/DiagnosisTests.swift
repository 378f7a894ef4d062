// Tandem — Apache-2.0

import Glibc
import MPS
import Testing

@testable import Diagnosis

@Suite("Diagnosis")
struct DiagnosisTests {
    /// A machine where all is well.
    private static func ready(_ adjust: (inout MachineFacts) -> Void = { _ in }) -> MachineFacts {
        var facts = MachineFacts()
        facts.driver = "580.65.06"
        facts.deviceError = 0
        facts.gpus = [MachineFacts.GPU(index: 0, uuid: "GPU-1", name: "NVIDIA H100", computeMode: "Exclusive_Process")]
        facts.mpsControl = "/usr/bin/nvidia-cuda-mps-control"
        facts.mpsServer = "/usr/bin/nvidia-cuda-mps-server"
        facts.user = 1000
        facts.sharedMemoryBytes = 8 << 30
        facts.openFileLimit = 65536
        facts.modelName = "m"
        facts.modelPath = "/m.gguf"
        facts.cores = 16
        facts.memoryAvailable = 32 << 30
        facts.pidNamespace = "pid:[4026531836]"
        facts.ipcNamespace = "ipc:[4026531839]"
        adjust(&facts)
        return facts
    }

    private static func daemon(
        _ outcome: ControlOutcome, owner: UInt32 = 1000, clients: Int? = nil
    ) -> MachineFacts.Daemon {
        MachineFacts.Daemon(pipeDirectory: "/tmp/nvidia-mps", owner: owner, outcome: outcome, clients: clients)
    }

    private static func mps(
        _ role: MPSRole, _ directory: String?, user: UInt32 = 1000, pid: Int32 = 7, exists: Bool? = true
    ) -> MachineFacts.ServiceProcess {
        MachineFacts.ServiceProcess(
            process: MPSProcess(
                identity: ProcessIdentity(pid: pid, startTime: 1), parent: 1, user: user, role: role,
                pipeDirectory: directory),
            directoryExists: directory == nil ? nil : exists)
    }

    @Test("A machine where all is well")
    func ready() {
        let findings = Diagnosis.findings(Self.ready())
        #expect(findings.allSatisfy { $0.level == .ok && $0.fix == nil }, "\(findings)")
        #expect(Set(findings.map(\.check)).count == findings.count)
    }

    @Test("Without a GPU there is nothing to say of MPS, and nothing wrong")
    func noGPU() {
        let findings = Diagnosis.findings(
            Self.ready {
                $0.driver = nil
                $0.deviceError = nil
                $0.gpus = nil
                $0.mpsControl = nil
                $0.mpsServer = nil
            })
        #expect(findings.filter { $0.level != .ok }.map(\.check) == ["driver"])
        #expect(findings.first?.level == .note)
        #expect(!findings.contains { $0.check.hasPrefix("mps") })
    }

    private static let cases: [(String, Finding.Level, @Sendable (inout MachineFacts) -> Void)] = [
        ("driver", .problem, { $0.driver = "470.57" }),
        ("driver", .problem, { $0.driver = "unknown" }),
        ("driver", .note, { $0.driver = nil }),
        ("driver", .note, { $0.kernelIsWSL = true }),
        ("gpu", .problem, { $0.deviceError = EACCES }),
        ("gpu", .problem, { $0.deviceError = EIO }),
        ("gpu", .problem, { $0.gpus = [] }),
        ("gpu", .note, { $0.gpus = nil }),
        ("mps-programs", .problem, { $0.mpsControl = nil }),
        ("mps-programs", .problem, { $0.mpsServer = nil }),
        ("mps-daemon", .ok, { $0.daemon = daemon(.answer([[]])) }),
        ("mps-daemon", .note, { $0.daemon = daemon(.noDaemon) }),
        ("mps-daemon", .note, { $0.daemon = daemon(.truncated) }),
        ("mps-daemon", .note, { $0.daemon = daemon(.busy(.lock)) }),
        ("mps-daemon", .problem, { $0.daemon = daemon(.busy(.daemon)) }),
        ("mps-user", .problem, { $0.daemon = daemon(.answer([[]]), owner: 0) }),
        ("mps-user", .ok, { $0.daemon = daemon(.answer([[]]), owner: 1000) }),
        (
            "mps-daemon", .problem,
            {
                $0.daemon = daemon(.answer([["7"]]))
                $0.daemon?.isInFault = true
            }
        ),
        ("mps-processes", .ok, { $0.mpsProcesses = [mps(.control, "/p"), mps(.server, "/p", pid: 8)] }),
        ("mps-processes", .problem, { $0.mpsProcesses = [mps(.control, "/p"), mps(.server, "/q", pid: 8)] }),
        ("mps-processes", .problem, { $0.mpsProcesses = [mps(.control, "/p", exists: false)] }),
        ("mps-processes", .note, { $0.mpsProcesses = [mps(.control, "/p", user: 0)] }),
        ("mps-processes", .note, { $0.mpsProcesses = [mps(.control, "/p"), mps(.control, "/q", pid: 8)] }),
        // Another user's directory is hidden: nothing is said of its server.
        (
            "mps-processes", .note,
            { $0.mpsProcesses = [mps(.control, nil, user: 0), mps(.server, nil, user: 0, pid: 8)] }
        ),
        ("mps-clients", .ok, { $0.daemon = daemon(.answer([["7"]]), clients: 40) }),
        ("mps-clients", .problem, { $0.daemon = daemon(.answer([["7"]]), clients: 47) }),
        (
            "mps-clients", .ok,
            {
                $0.driver = "590.1"
                $0.daemon = daemon(.answer([["7"]]), clients: 47)
            }
        ),
        ("compute-mode", .note, { $0.gpus?[0].computeMode = "Default" }),
        ("compute-mode", .problem, { $0.gpus?[0].computeMode = "Prohibited" }),
        ("compute-mode", .note, { $0.gpus?[0].usesMIG = true }),
        ("compute-mode", .note, { $0.gpus = nil }),
        ("namespaces", .note, { $0.pidNamespace = "pid:[4026532000]" }),
        ("namespaces", .note, { $0.ipcNamespace = "ipc:[4026532000]" }),
        ("namespaces", .note, { $0.pidNamespace = nil }),
        ("environment", .problem, { $0.environment = ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "200"] }),
        ("environment", .note, { $0.environment = ["CUDA_MPS_MEMORY": "1"] }),
        ("shared-memory", .problem, { $0.sharedMemoryBytes = nil }),
        ("shared-memory", .note, { $0.sharedMemoryBytes = 64 << 20 }),
        ("open-files", .note, { $0.openFileLimit = 1024 }),
        ("run-directory", .problem, { $0.runDirectoryIsWritable = false }),
        ("run-directory", .note, { $0.refusedRunDirectory = "/nowhere" }),
        ("port", .problem, { $0.portError = EADDRINUSE }),
        ("port", .problem, { $0.portError = EACCES }),
        ("model", .note, { $0.modelPath = nil }),
        ("model", .problem, { $0.modelProblem = "offset 8: no GGUF" }),
        (
            "model", .problem,
            {
                $0.modelPath = nil; $0.missingTools = ["curl"]
            }
        ),
        ("cores", .note, { $0.cores = 1 }),
        ("cores", .note, { $0.coreQuota = 1.5 }),
        ("memory", .problem, { $0.memoryAvailable = 100 << 20 }),
        ("memory", .note, { $0.memoryAvailable = nil }),
    ]

    @Test("Each finding, and a fix for each problem", arguments: cases.indices)
    func finding(index: Int) {
        let (check, level, adjust) = Self.cases[index]
        let findings = Diagnosis.findings(Self.ready(adjust))
        let found = findings.filter { $0.check == check }
        #expect(found.map(\.level) == [level], "\(found)")
        for finding in findings where finding.level == .problem { #expect(finding.fix != nil, "\(finding)") }
    }

    @Test("A daemon outside of our PID namespace cannot prove who is attached")
    func namespaces() {
        let facts = Self.ready {
            $0.pidNamespace = "pid:[4026532000]"
            $0.daemon = Self.daemon(.answer([[]]))
        }
        #expect(Diagnosis.namespaces(facts).fix?.contains("--pid=host") == true)
    }

    @Test("What files and tools say")
    func texts() {
        #expect(
            MachineFacts.driverVersion(
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.261.03  Tue Aug 1 12:00:00 UTC 2025\nGCC version: 12.2"
            )
                == "535.261.03")
        #expect(MachineFacts.driverVersion("") == nil)
        #expect(MachineFacts.coreQuota("200000 100000\n") == 2)
        #expect(MachineFacts.coreQuota("max 100000") == nil)
        #expect(MachineFacts.coreQuota("") == nil)
        #expect(MachineFacts.memoryAvailable("MemTotal: 5 kB\nMemAvailable:   2048 kB\n") == 2 << 20)
        #expect(MachineFacts.memoryAvailable("") == nil)
        #expect(
            MachineFacts.gpus(
                listing: ["0, GPU-1, NVIDIA H100 80GB HBM3, Default, 81559 MiB, Disabled, 00000000:3B:00.0"]) == [
                    MachineFacts.GPU(
                        index: 0, uuid: "GPU-1", name: "NVIDIA H100 80GB HBM3", memoryMebibytes: 81559,
                        busID: "00000000:3B:00.0")
                ])
        let other = MachineFacts.gpus(
            listing: ["0, GPU-1, L4, Exclusive_Process, 23034 MiB, [N/A], 00000000:01:00.0"])
        #expect(other?.first?.usesMIG == false)
        #expect(MachineFacts.gpus(listing: ["No devices were found"]) == nil)
    }

    @Test("This machine can be looked at")
    func gather() {
        let facts = MachineFacts.gather(
            environment: ["PATH": "/usr/bin:/bin"], host: "127.0.0.1", port: 0, modelName: "m", modelPath: nil)
        #expect(facts.cores >= 1 && facts.memoryAvailable ?? 0 > 0 && facts.portError == 0)
        #expect(facts.pidNamespace?.hasPrefix("pid:[") == true)
        #expect(!Diagnosis.findings(facts).isEmpty)
    }
}
