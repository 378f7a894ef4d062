// Tandem — Apache-2.0

import CUDADriver
import MPS
import Testing

@testable import Diagnosis

@Suite("Diagnosis of CUDA")
struct CUDADiagnosisTests {
    private static let missing = CUDAError(
        kind: .missing, call: "libnvrtc.so", detail: "is not here", remedy: "pip install it")

    /// A machine whose CUDA is as it should be.
    private static func facts(_ adjust: (inout CUDAFacts) -> Void = { _ in }) -> CUDAFacts {
        func library(_ name: String) -> CUDAFacts.Answer<CUDAFacts.Library> {
            .success(CUDAFacts.Library(path: "/lib/\(name)", version: "13.0"))
        }
        var facts = CUDAFacts(
            driver: library("libcuda.so.1"), compiler: library("libnvrtc.so.13"),
            matrices: library("libcublasLt.so.13"))
        facts.devices = [device(ComputeCapability(major: 9, minor: 0))]
        adjust(&facts)
        return facts
    }

    private static func device(_ capability: ComputeCapability, usesMPS: Bool = true) -> CUDAFacts.Device {
        CUDAFacts.Device(
            index: 0, name: "A GPU", uuid: "GPU-1", computeCapability: capability, multiprocessors: 132,
            memoryBytes: 80 << 30, usesMPS: usesMPS)
    }

    private static func findings(
        _ cuda: MachineFacts.CUDAAnswer, _ adjust: (inout MachineFacts) -> Void = { _ in }
    ) -> [Finding] {
        var facts = MachineFacts()
        facts.cuda = cuda
        adjust(&facts)
        return Diagnosis.cuda(facts)
    }

    @Test("All is well")
    func ready() {
        let findings = Self.findings(.facts(Self.facts()))
        #expect(findings.allSatisfy { $0.level == .ok && $0.fix == nil }, "\(findings)")
        #expect(
            findings.map(\.check) == ["cuda-driver", "cuda-devices", "cuda-compiler", "cuda-matrices", "cuda-mps"])
    }

    @Test("Without a driver there is nothing to say")
    func noDriver() { #expect(Self.findings(.notAsked).isEmpty) }

    private static let cases: [(String, Finding.Level, @Sendable (inout CUDAFacts) -> Void)] = [
        ("cuda-driver", .problem, { $0.driver = .failure(missing) }),
        ("cuda-devices", .problem, { $0.devices = [] }),
        ("cuda-devices", .problem, { $0.devices = [device(ComputeCapability(major: 7, minor: 5))] }),
        ("cuda-devices", .note, { $0.devices.append(device(ComputeCapability(major: 7, minor: 5))) }),
        ("cuda-compiler", .problem, { $0.compiler = .failure(missing) }),
        (
            "cuda-compiler", .note,
            {
                $0.compiler = .failure(missing)
                $0.precompiledFolder = "/cubins"
            }
        ),
        ("cuda-matrices", .note, { $0.matrices = .failure(missing) }),
    ]

    @Test("What is wrong is said once, with its fix", arguments: cases)
    func isSaid(_ check: String, _ level: Finding.Level, _ adjust: @Sendable (inout CUDAFacts) -> Void) {
        let findings = Self.findings(.facts(Self.facts(adjust)))
        let wrong = findings.filter { $0.level != .ok }
        #expect(wrong.map(\.check) == [check])
        #expect(wrong.first?.level == level)
        #expect(wrong.first?.fix?.isEmpty == false)
        // The remedy is not said twice.
        #expect(wrong.first?.text.contains("pip install") == false)
    }

    @Test("A driver that does not answer")
    func silence() {
        let findings = Self.findings(.silence)
        #expect(findings.map(\.level) == [.problem])
    }

    @Test("A daemon that programs pass by")
    func attachment() {
        let cuda = Self.facts { $0.devices = [Self.device(ComputeCapability(major: 9, minor: 0), usesMPS: false)] }
        #expect(Self.findings(.facts(cuda)).last?.level == .ok)
        let findings = Self.findings(.facts(cuda)) {
            $0.daemon = MachineFacts.Daemon(pipeDirectory: "/tmp/nvidia-mps", owner: 0, outcome: .answer([[]]))
        }
        #expect(findings.last?.check == "cuda-mps")
        #expect(findings.last?.level == .note)
        #expect(findings.last?.fix != nil)
    }
}
