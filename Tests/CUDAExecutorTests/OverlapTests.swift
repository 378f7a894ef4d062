// Tandem — Apache-2.0

import InferenceEngine
import LanguageModel
import Testing

@testable import CUDAExecutor

/// Kernels that start before the ones before them have ended, and where products come from.
@Suite(.serialized) struct OverlapTests {
    private static func bits(
        _ name: String, overlaps: Bool, usesGraphs: Bool = true, isDeterministic: Bool = true
    ) throws -> [[UInt32]] {
        let checkpoint = try DoubleGPU.tiny(name)
        var options = DoubleGPU.options
        options.isDeterministic = isDeterministic
        options.usesGraphs = usesGraphs
        if overlaps { options.environment["TANDEM_CUDA_PDL"] = "1" }
        let requests = ParityTests.requests(checkpoint, [30, 17, 3], newTokens: 8)
        return try DoubleGPU.harness(checkpoint, options: options).run(requests, chunk: 20, asynchronous: true)
            .map(\.bits)
    }

    /// With products of our own every kernel of a decode step but the first starts early.
    @Test(arguments: ["llama-tied", "qwen2-tied", "gemma3-text"])
    func overlappedKernelsGiveTheSameBits(_ name: String) throws {
        let one = try Self.bits(name, overlaps: false)
        #expect(try Self.bits(name, overlaps: true) == one)
        #expect(try Self.bits(name, overlaps: true, usesGraphs: false) == one)
    }

    @Test func overlappedKernelsGiveTheSameBitsBesideALibrarysProducts() throws {
        let one = try Self.bits("qwen2-tied", overlaps: false, isDeterministic: false)
        #expect(try Self.bits("qwen2-tied", overlaps: true, isDeterministic: false) == one)
    }

    @Test func theDeviceSaysThatKernelsOverlap() throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        var options = DoubleGPU.options
        for (value, says) in [(nil, false), ("0", false), ("1", true)] as [(String?, Bool)] {
            options.environment["TANDEM_CUDA_PDL"] = value
            let executor = try CUDAExecutor(
                model: checkpoint.description, file: checkpoint.tensors, options: options)
            #expect(executor.capabilities.device.contains("overlapped kernels") == says)
            executor.shutdown()
        }
    }

    /// Products of each source agree, and a choice is measured from 193 rows on.
    @Test func productsOfAllSourcesAgree() throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        let requests = ParityTests.requests(checkpoint, [200])
        var exact: [Outcome] = []
        for source in [ProductSource.library, .own, .fastest] {
            var options = DoubleGPU.options
            options.products = source
            let harness = try DoubleGPU.harness(checkpoint, options: options, tokensPerStep: 256)
            let found = try harness.run(requests)
            if exact.isEmpty { exact = found }
            let difference = ParityTests.Difference(found[0].prompt, exact[0].prompt)
            #expect(difference.largest <= 5 * ParityTests.tolerance, "\(source)")
            let choices = (harness.executor as? CUDAExecutor)?.productChoices ?? []
            #expect(choices.isEmpty == (source != .fastest))
            #expect(choices.contains { $0.contains(" with gate: ") } == (source == .fastest))
        }
    }
}
