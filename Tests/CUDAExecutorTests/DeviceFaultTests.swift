// Tandem — Apache-2.0

import CUDADriver
import Glibc
import InferenceEngine
import LanguageModel
import Requests
import TestSupport
import Testing

@testable import CUDAExecutor

/// What an executor says when its GPU fails: each test has a stand-in of its own, a copy of the library's file.
@Suite(.serialized) struct DeviceFaultTests {
    final class OwnGPU {
        let path: String
        private let handle: UnsafeMutableRawPointer

        /// - Parameter settings: names without `TANDEM_DOUBLE_`.
        init(_ settings: [String: String] = [:]) throws {
            var template = Array("/tmp/tandem-gpu.XXXXXX".utf8CString)
            try #require(mkdtemp(&template) != nil)
            let folder = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            path = folder + "/libtandem-cuda-double.so"
            try Self.copy(DoubleGPU.path, to: path)
            handle = try #require(dlopen(path, RTLD_NOW))
            typealias Set = @convention(c) (UnsafePointer<CChar>, UnsafePointer<CChar>) -> Void
            let set = unsafeBitCast(try #require(dlsym(handle, "tandem_cuda_double_set")), to: Set.self)
            for (name, value) in settings { set("TANDEM_DOUBLE_\(name)", value) }
        }

        deinit {
            unlink(path)
            rmdir(String(path.dropLast("/libtandem-cuda-double.so".count)))
        }

        private static func copy(_ source: String, to destination: String) throws {
            let from = open(source, O_RDONLY)
            try #require(from >= 0, "\(source) is not built")
            defer { close(from) }
            let to = open(destination, O_WRONLY | O_CREAT, 0o755)
            try #require(to >= 0)
            defer { close(to) }
            var status = stat()
            fstat(from, &status)
            var left = Int(status.st_size)
            while left > 0 {
                let count = sendfile(to, from, nil, left)
                try #require(count > 0)
                left -= count
            }
        }

        func planFaults(_ text: String) throws {
            typealias Plan = @convention(c) (UnsafePointer<CChar>) -> Int32
            let plan = unsafeBitCast(
                try #require(dlsym(handle, "tandem_cuda_double_plan_faults")), to: Plan.self)
            try #require(plan(text) == 1)
        }

        var options: CUDAExecutor.Options {
            CUDAExecutor.Options(device: .index(0), environment: ["TANDEM_CUDA_DRIVER": path])
        }
    }

    static func steps(_ gpu: OwnGPU, fault: String?) throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        let harness = try DoubleGPU.harness(checkpoint, options: gpu.options)
        if let fault { try gpu.planFaults(fault) }
        _ = try harness.run([ChoiceTests.request(checkpoint)])
    }

    @Test(arguments: ["0", "1"], ["launch:3=700", "launch:90=719", "copy:9=700", "multiply:7=719"])
    func aFatalFaultEndsTheEngineAndUnderMPSAll(_ mps: String, _ fault: String) throws {
        let gpu = try OwnGPU(["MPS": mps])
        try Self.steps(gpu, fault: nil)
        let error = #expect(throws: ExecutorError.self) { try Self.steps(gpu, fault: fault) }
        #expect(error?.kind == .fatal, "\(error?.message ?? "")")
        #expect(error?.concernsAll == (mps == "1"), "\(error?.message ?? "")")
    }

    /// Products are checked under MPS, and what the library suggests need not run.
    @Test func aSuggestedAlgorithmThatDoesNotRunIsPassedOver() throws {
        let gpu = try OwnGPU(["MPS": "1"])
        try Self.steps(gpu, fault: "multiply:1=15")
    }

    /// The driver tells the number of an instance of a divided GPU as it does a whole one's.
    @Test func aGPUIsFoundByTheBeginningOfItsNumber() throws {
        let gpu = try OwnGPU()
        let driver = try CUDADriver(environment: gpu.options.environment)
        let number = try driver.device(.index(0)).uuid.dropFirst(4)
        for name in ["GPU-\(number)", "MIG-\(number)", "GPU-\(number.prefix(8))", "MIG-\(number.prefix(8))"] {
            #expect(try driver.device(.uuid(name)).index == 0)
        }
        #expect(throws: CUDAError.self) { try driver.device(.uuid("MIG-ffffffff")) }
    }

    @Test func aMissingGPUIsNamed() {
        var options = DoubleGPU.options
        options.environment["TANDEM_CUDA_DRIVER"] = "/nonexistent/libcuda.so"
        let error = #expect(throws: ExecutorError.self) {
            try CUDAExecutor(model: smallModel(), randomSeed: 1, options: options)
        }
        #expect(error?.kind == .unsupported && error?.message.contains("--device cpu") == true)
    }

    @Test func anOldGPUIsRefused() throws {
        let gpu = try OwnGPU(["CAPABILITY": "7.5"])
        let error = #expect(throws: ExecutorError.self) {
            try CUDAExecutor(model: smallModel(), randomSeed: 1, options: gpu.options)
        }
        #expect(error?.kind == .unsupported && error?.message.contains("7.5") == true)
    }

    @Test func aPartOfTheMemoryThatIsTooSmallIsSaidInNumbers() throws {
        let gpu = try OwnGPU(["MEMORY_MIB": "1024"])
        let model = smallModel(head: 64)
        var options = gpu.options
        options.engines = 2
        let executor = try CUDAExecutor(model: model, randomSeed: 1, options: options)
        let error = #expect(throws: ExecutorError.self) {
            try executor.prepare(
                limits: ExecutorLimits(slots: 4, tokensPerStep: 64, contextLength: 128, keyValueBytes: 0),
                groups: model.kvGroups)
        }
        #expect(error?.kind == .outOfMemory)
        let message = error?.message ?? ""
        #expect(
            message.hasPrefix("nothing is left for keys and values: of 1.0 GiB")
                && message.contains("2 engines have 90 %"), "\(message)")
    }

    @Test func tooLittleMemoryIsSaidInNumbers() throws {
        let gpu = try OwnGPU(["MEMORY_MIB": "120"])
        let model = smallModel(head: 64)
        let executor = try CUDAExecutor(model: model, randomSeed: 1, options: gpu.options)
        let error = #expect(throws: ExecutorError.self) {
            try executor.prepare(
                limits: ExecutorLimits(slots: 4, tokensPerStep: 64, contextLength: 128, keyValueBytes: 200 << 20),
                groups: model.kvGroups)
        }
        #expect(error?.kind == .outOfMemory && error?.message.contains("MiB are free") == true)
    }

    @Test(arguments: [(805, ExecutorError.Kind.retry), (807, .retry)])
    func aServerThatIsNotReadyIsWorthAnotherTry(_ code: Int, _ kind: ExecutorError.Kind) throws {
        let gpu = try OwnGPU(["MPS": "1"])
        try gpu.planFaults("context=\(code)")
        let error = #expect(throws: ExecutorError.self) {
            try CUDAExecutor(model: smallModel(), randomSeed: 1, options: gpu.options)
        }
        #expect(error?.kind == kind)
    }

    /// Steps that were refused change nothing, and the GPU goes on.
    @Test func aBadPlanIsRefused() throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        let harness = try DoubleGPU.harness(checkpoint)
        let tokens = try harness.run([ChoiceTests.request(checkpoint)])[0].tokens
        var plan = StepPlan()
        plan.step = 900
        plan.tokens = [1]
        plan.rows = [StepRow(slot: 9, tokenOffset: 0, tokenCount: 1, startPosition: 0)]
        let error = #expect(throws: ExecutorError.self) { try harness.executor.submit(plan) }
        #expect(error?.kind == .unsupported)
        #expect(try harness.run([ChoiceTests.request(checkpoint)])[0].tokens == tokens)
    }
}
