// Tandem — Apache-2.0

import GPUModel
import LanguageModel
import Testing

@Suite struct KernelPredictionTests {
    @Test(arguments: ["qwen2.5-0.5b", "qwen2.5-3b"])
    func nothingIsPredictedBelowItsFloor(name: String) throws {
        let model = try #require(BuiltInModel.named(name)).description
        let device = try DeviceParameters.named("h100")
        let predictions = KernelPrediction.all(model, on: device)
        #expect(predictions.count == 5 * 4 + 5 * 2 + 4 * 4 + 8 + 4)
        for prediction in predictions {
            #expect(prediction.seconds > prediction.floorSeconds, "\(prediction.name) \(prediction.sizes)")
            #expect(prediction.floorSeconds > 0 && prediction.bytes > 0)
        }
    }

    /// The floors of two kernels, by hand.
    @Test func floorsAreOfBytesOrOfOperations() throws {
        let model = try #require(BuiltInModel.named("qwen2.5-3b")).description
        let device = try DeviceParameters.named("h100")
        let predictions = KernelPrediction.all(model, on: device)
        let prompts = try #require(
            predictions.first { $0.name == "attention_prefill" && $0.sizes.contains { $0 == ("tokens", 2048) } })
        // Four prompts, 2048 * 2049 / 2 pairs, 16 heads of 128, four operations each.
        let pairs: Double = 4 * 2_098_176
        #expect(prompts.operations == pairs * 16 * 128 * 4)
        #expect(prompts.floorSeconds == prompts.operations / 989e12)
        let decode = try #require(
            predictions.first { $0.name == "attention_decode" && $0.sizes.contains { $0 == ("context", 8192) } })
        // 32 sequences: keys and values of two heads, queries and results of sixteen, two bytes each.
        let vectors: Double = 32 * (2 * 2 * 8192 + 2 * 16)
        #expect(decode.bytes == vectors * 128 * 2)
        #expect(decode.floorSeconds == decode.bytes / 3.35e12)
    }
}
