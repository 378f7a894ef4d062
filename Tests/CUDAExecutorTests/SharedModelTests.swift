// Tandem — Apache-2.0

import CUDADriver
import InferenceEngine
import LanguageModel
import TestSupport
import Testing

@testable import CUDAExecutor

/// Several executors of one process.
@Suite(.serialized) struct SharedModelTests {
    private static func harnesses(
        _ count: Int, deterministic: Bool = true, process: ProcessShare = ProcessShare(), path: String = DoubleGPU.path
    ) throws -> (harnesses: [StepHarness<CUDAExecutor>], executors: [CUDAExecutor]) {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        let model = checkpoint.description
        var executors: [CUDAExecutor] = []
        for place in 0..<count {
            var options = CUDAExecutor.Options(device: .index(0), environment: ["TANDEM_CUDA_DRIVER": path])
            options.isDeterministic = deterministic
            options.process = process
            options.process.engines = count
            options.process.place = place
            executors.append(
                try executors.first.map { try CUDAExecutor(beside: $0.shared, options: options) }
                    ?? CUDAExecutor(model: model, file: checkpoint.tensors, options: options))
        }
        let bytes = try DeviceShape(model).keyValueBytesPerToken(layers: model.layers.count)
        let harnesses = try executors.map {
            try StepHarness($0, model: model, bytesPerToken: bytes, slots: 16, tokensPerStep: 256, blocks: 256)
        }
        return (harnesses, executors)
    }

    private static func requests() throws -> [Request] {
        ParityTests.requests(try DoubleGPU.tiny("llama-tied"), [30, 17, 3], newTokens: 8)
    }

    @Test func executorsOfAProcessShareWeightsAndComputeTheSameBits() throws {
        let requests = try Self.requests()
        let alone = try DoubleGPU.harness(
            DoubleGPU.tiny("llama-tied"), options: Self.deterministic
        ).run(requests)
        let (harnesses, executors) = try Self.harnesses(3)
        #expect(executors[1].shared.weights === executors[0].shared.weights)
        for harness in harnesses {
            #expect(try harness.run(requests, chunk: 20).map(\.bits) == alone.map(\.bits))
        }
    }

    private static var deterministic: CUDAExecutor.Options {
        var options = DoubleGPU.options
        options.isDeterministic = true
        return options
    }

    @Test func theSecondCostsNoWeights() throws {
        let gpu = try DeviceFaultTests.OwnGPU()
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        var options = CUDAExecutor.Options(device: .index(0), environment: ["TANDEM_CUDA_DRIVER": gpu.path])
        options.process.engines = 2
        let first = try CUDAExecutor(model: checkpoint.description, file: checkpoint.tensors, options: options)
        let free = try first.shared.context.memory().free
        options.process.place = 1
        let second = try CUDAExecutor(beside: first.shared, options: options)
        #expect(try first.shared.context.memory().free == free)
        #expect(second.weightBytes == first.weightBytes && first.weightBytes > 0)
    }

    @Test func oneGoesOnWhenTheOtherHasGone() throws {
        let requests = try Self.requests()
        var (harnesses, executors) = try Self.harnesses(2)
        let expected = try harnesses[1].run(requests).map(\.tokens)
        harnesses.removeFirst()
        executors.removeAll()
        #expect(try harnesses[0].run(requests, firstBlock: 100).map(\.tokens) == expected)
    }

    @Test func partsComputeTheSameAndAreToldToTheLibrary() throws {
        let requests = try Self.requests()
        let process = ProcessShare(priorities: [.normal, .low], partition: .green)
        let (harnesses, executors) = try Self.harnesses(2, process: process)
        #expect(
            executors.map(\.capabilities.device).map { $0.hasSuffix(", 64 multiprocessors)") } == [true, true])
        let expected = try DoubleGPU.harness(
            DoubleGPU.tiny("llama-tied"), options: Self.deterministic
        ).run(requests).map(\.tokens)
        for harness in harnesses { #expect(try harness.run(requests).map(\.tokens) == expected) }
        // By the library, each product checked.
        let (fast, _) = try Self.harnesses(2, deterministic: false, process: process)
        for harness in fast { #expect(try harness.run(requests).map(\.tokens.count) == [8, 8, 8]) }
    }

    @Test func aDriverWithoutPartsIsAPermanentError() throws {
        let gpu = try DeviceFaultTests.OwnGPU(["GREEN_CONTEXTS": "0"])
        let error = #expect(throws: ExecutorError.self) {
            try Self.harnesses(2, process: ProcessShare(partition: .green), path: gpu.path)
        }
        #expect(error?.kind == .unsupported)
        #expect(error?.message.contains("--gpu-partition none") == true)
    }

    @Test func memoryCountsTheWeightsOfAProcessOnce() {
        let gib = 1 << 30
        func bytes(free: Int, engines: Int, hosted: Int, place: Int = 0) -> Int {
            DeviceMemoryPlan.keyValueBytes(
                own: gib, weights: 14 * gib, totalBytes: 80 * gib, freeBytes: free, engines: engines,
                process: ProcessShare(engines: hosted, place: place), fraction: 0.9)
        }
        let further = DeviceMemoryPlan.furtherEngineBytes
        // Two engines of one process: their caches and buffers, one copy of the weights and one context fill the share.
        let two = bytes(free: 65 * gib, engines: 2, hosted: 2)
        #expect(2 * (two + gib) + 14 * gib + DeviceMemoryPlan.contextBytes + further == 72 * gib)
        // The second has as much when the first has taken its part.
        #expect(bytes(free: 65 * gib - two - gib, engines: 2, hosted: 2, place: 1) == two)
        // Two processes of two.
        let four = bytes(free: 65 * gib, engines: 4, hosted: 2)
        #expect(2 * (2 * (four + gib) + 14 * gib + DeviceMemoryPlan.contextBytes + further) == 72 * gib)
        // Alone in its process, an engine is counted as ever.
        #expect(
            bytes(free: 65 * gib, engines: 2, hosted: 1)
                == DeviceMemoryPlan.keyValueBytes(
                    fixed: 15 * gib, totalBytes: 80 * gib, freeBytes: 79 * gib, engines: 2, fraction: 0.9))
        // Others hold most of the GPU.
        #expect(bytes(free: 5 * gib, engines: 2, hosted: 2) == (5 * gib - (64 << 20) - further) / 2 - gib)
        #expect(bytes(free: gib, engines: 2, hosted: 2) == 0)
    }
}
