// Tandem — Apache-2.0

import CPUExecutor
import CUDADriver
import Glibc
import InferenceEngine
import LanguageModel
import TestSupport
import Weights

@testable import CUDAExecutor

/// The stand-in for a GPU's driver, which is built with the tests.
enum DoubleGPU {
    /// Its file: beside the tests' own, or where an environment variable says.
    static let path: String = {
        if let path = getenv("TANDEM_CUDA_DRIVER") { return String(cString: path) }
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count)
        let own = String(decoding: buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return own.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 } + "/libtandem-cuda-double.so"
    }()

    static var options: CUDAExecutor.Options {
        // A cache would keep the double's images, which are nobody's code.
        CUDAExecutor.Options(device: .index(0), environment: ["TANDEM_CUDA_DRIVER": path])
    }

    /// A model of `Tests/Fixtures/tiny`.
    static func tiny(_ name: String) throws -> Checkpoint {
        try Checkpoint(path: ModelFixture.fixturePath("tiny/\(name)"))
    }

    static func harness(
        _ checkpoint: Checkpoint, options: CUDAExecutor.Options = options, slots: Int = 16, tokensPerStep: Int = 256,
        contextLength: Int = 256, blocks: Int = 256
    ) throws -> StepHarness<CUDAExecutor> {
        let model = checkpoint.description
        return try StepHarness(
            CUDAExecutor(model: model, file: checkpoint.tensors, options: options), model: model,
            bytesPerToken: DeviceShape(model).keyValueBytesPerToken(layers: model.layers.count), slots: slots,
            tokensPerStep: tokensPerStep, contextLength: contextLength, blocks: blocks)
    }

    static func cpuHarness(_ checkpoint: Checkpoint, contextLength: Int = 256) throws -> StepHarness<CPUExecutor> {
        let model = checkpoint.description
        return try StepHarness(
            CPUExecutor(
                model: model, file: checkpoint.tensors, options: CPUExecutor.Options(compute: .f32, threads: 2)),
            model: model, bytesPerToken: model.kvBytesPerToken(elementBytes: 4), slots: 16, tokensPerStep: 256,
            contextLength: contextLength, blocks: 256)
    }
}
