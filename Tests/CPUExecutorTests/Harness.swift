// Tandem — Apache-2.0

import CPUExecutor
import LanguageModel
import TestSupport
import Weights

typealias Request = StepHarnessRequest
typealias Outcome = StepHarnessOutcome
typealias Harness = StepHarness<CPUExecutor>

extension StepHarness<CPUExecutor> {
    convenience init(
        model: DecoderDescription, file: any TensorSource, options: CPUExecutor.Options, slots: Int = 80,
        tokensPerStep: Int = 1024, contextLength: Int = 256, blocks: Int = 512
    ) throws {
        let elementBytes = options.compute.keyValueElementBytes
        try self.init(
            CPUExecutor(model: model, file: file, options: options), model: model,
            bytesPerToken: model.kvBytesPerToken(elementBytes: elementBytes), slots: slots,
            tokensPerStep: tokensPerStep, contextLength: contextLength, blocks: blocks)
    }
}
