// Tandem — Apache-2.0

import GPUModel
import GPUModelValidation
import LanguageModel
import Testing

@Suite struct StepModelTests {
    static func model(_ name: String) throws -> DecoderDescription {
        try #require(BuiltInModel.named(name)).description
    }

    /// Counts of parameters as the publishers' safetensors files state them.
    @Test(arguments: [
        ("qwen2.5-0.5b", 494_032_768), ("qwen2.5-1.5b", 1_543_714_304), ("qwen2.5-3b", 3_085_938_688),
        ("qwen2.5-7b", 7_615_616_512), ("qwen3-0.6b", 596_049_920), ("qwen3-1.7b", 1_720_574_976),
        ("qwen3-4b", 4_022_468_096), ("qwen3-8b", 8_190_735_360), ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.2-3b", 3_212_749_824), ("gemma-3-270m", 268_098_176), ("gemma-3-1b", 999_885_952),
        ("smollm2-135m", 134_515_008), ("smollm2-360m", 361_821_120), ("smollm2-1.7b", 1_711_376_384),
    ])
    func builtInModels(name: String, parameters: Int) throws {
        #expect(try Self.model(name).parameterCount == parameters)
    }

    @Test func namesOfBuiltInModels() {
        for name in ["Qwen/Qwen2.5-0.5B-Instruct", "QWEN2.5-0.5b", "qwen2.5-0.5b"] {
            #expect(BuiltInModel.named(name)?.name == "qwen2.5-0.5b")
        }
        #expect(BuiltInModel.named("google/gemma-3-4b-it")?.name == "gemma-3-4b")
        #expect(BuiltInModel.named("meta-llama/Llama-3.2-1B")?.name == "llama-3.2-1b")
        #expect(BuiltInModel.named("qwen9-1b") == nil)
        #expect(BuiltInModel.named("") == nil)
        #expect(Set(BuiltInModel.all.map(\.name)).count == BuiltInModel.all.count)
    }

    /// The matrix products of a step do what the description counts.
    @Test(arguments: ["qwen2.5-3b", "gemma-3-4b"], Ablation.allCases)
    func operations(name: String, ablation: Ablation) throws {
        var model = try Self.model(name)
        model.ablation = ablation
        let device = try DeviceParameters.named("h100")
        let profile = StepModel(model: model, device: device).profile(StepShape(decoding: 64, context: 700))
        let rate = device.product.tensorShare * device.tensorRate
        let counted = 64 * Double(model.flopsPerToken(head: true, context: 700)) / rate
        let spent = profile.sum { $0.workSeconds * $0.demand.tensor }
        #expect(abs(spent / counted - 1) < 0.001)
    }

    @Test func ablations() throws {
        let device = try DeviceParameters.named("h100")
        func seconds(_ ablation: Ablation) throws -> (total: Double, rest: Double) {
            var model = try Self.model("qwen2.5-3b")
            model.ablation = ablation
            let profile = StepModel(model: model, device: device).profile(StepShape(decoding: 256, context: 1000))
            return (profile.seconds, profile.seconds(of: .rest))
        }
        let (full, attention, feedForward) = (try seconds(.full), try seconds(.attentionOnly), try seconds(.mlpOnly))
        #expect(abs(attention.total + feedForward.total - full.rest - full.total) < 1e-9)
    }

    @Test func windowsBoundAttention() throws {
        let step = StepModel(model: try Self.model("gemma-3-1b"), device: try DeviceParameters.named("h100"))
        let short = step.profile(StepShape(decoding: 256, context: 512)).seconds
        let long = step.profile(StepShape(decoding: 256, context: 8192)).seconds
        var unbounded = step
        for index in unbounded.model.layers.indices { unbounded.model.layers[index].window = nil }
        unbounded = StepModel(model: unbounded.model, device: unbounded.device)
        let all = unbounded.profile(StepShape(decoding: 256, context: 8192)).seconds
        // 4 of 26 layers see all.
        #expect(long - short < 0.25 * (all - short))
        #expect(long > short)
    }

    @Test func eagerHasMoreKernels() throws {
        let model = try Self.model("qwen3-0.6b")
        let device = try DeviceParameters.named("h100")
        let shape = StepShape(decoding: 32, context: 100)
        let fused = StepModel(model: model, device: device).profile(shape)
        let eager = StepModel(model: model, device: device, fusion: .eager).profile(shape)
        #expect(fused.kernelCount == 28 * 9 + 4)
        #expect(eager.kernelCount > fused.kernelCount)
        #expect(eager.seconds > fused.seconds)
    }

    /// Steps of an H100: kernels measured one by one, one step of each model for a factor, all others to judge it.
    @Test func measuredSteps() throws {
        let rows = try Validation.steps()
        try #require(rows.count >= 18)
        // Each within 10 % is the aim; 3B at 64 sequences misses it, where repeats of the measurement differ by 7 %.
        #expect(rows.filter { abs($0.relativeError) <= 0.1 }.count >= rows.count - 1, "\(rows)")
        #expect(rows.allSatisfy { abs($0.relativeError) <= 0.15 }, "\(rows)")
    }

    /// Servers that others measured: mean error, without any calibration.
    @Test func publishedServers() throws {
        let rows = try Validation.served()
        try #require(rows.count >= 40)
        let error = mean(rows.map { abs($0.relativeError) })
        #expect(error <= 0.25, "\(error)")
    }
}

@Suite struct ResourceTableTests {
    /// The article's table: with what power of the context each grows.
    @Test func growth() throws {
        let model = try StepModelTests.model("qwen2.5-3b")
        func power(_ value: KeyPath<ResourceCount, Double>, _ part: ResourceCount.Part, _ phase: ResourceCount.Phase)
            -> Double
        {
            model.growth(of: value, part, phase, at: 4096)
        }
        #expect(abs(power(\.operations, .feedForward, .prefill) - 1) < 0.01)
        #expect(power(\.bytes, .feedForward, .decode) == 0)
        #expect(power(\.operations, .feedForward, .decode) == 0)
        #expect(abs(power(\.operations, .attention, .prefill) - 2) < 0.01)
        #expect(abs(power(\.bytes, .attention, .decode) - 1) < 0.01)
        #expect(abs(power(\.operations, .attention, .decode) - 1) < 0.01)
        #expect(power(\.bytes, .projections, .decode) == 0)
    }

    /// Within windows a token's attention stops growing.
    @Test func windows() throws {
        var model = try StepModelTests.model("gemma-3-1b")
        for index in model.layers.indices { model.layers[index].window = 512 }
        #expect(abs(model.growth(of: \.operations, .attention, .decode, at: 4096)) < 0.01)
        #expect(abs(model.growth(of: \.operations, .attention, .prefill, at: 65536) - 1) < 0.02)
    }

    /// Summed over a prompt token by token.
    @Test func prompts() throws {
        var model = try StepModelTests.model("gemma-3-270m")
        let length = 900
        let counts = model.resourceCounts(context: length)
        let counted = try #require(counts.first { $0.part == .attention && $0.phase == .prefill })
        model.ablation = .attentionOnly
        let base = model.flopsPerToken(head: false)
        let sum = (1...length).reduce(0) { $0 + model.flopsPerToken(head: false, context: $1) - base }
        #expect(abs(counted.operations / Double(sum) - 1) < 1e-9)
    }
}
