// Tandem — Apache-2.0

import GPUModel
import GPUModelValidation
import LanguageModel

/// The claims of the article that a model of one GPU can be asked about.
struct ArticleClaims {
    private let device: DeviceParameters
    private let contexts = [128.0, 512, 2048, 8192]

    init() throws { device = try DeviceParameters.named("h100") }

    private func model(_ name: String, _ ablation: Ablation = .full) throws -> DecoderDescription {
        guard var found = BuiltInModel.named(name)?.description else { throw Measured.Problem(description: name) }
        found.ablation = ablation
        return found
    }

    /// Gain of two engines under MPS, simulated.
    private func gain(
        _ model: DecoderDescription, _ whole: StepShape, isSplit: Bool, host: HostModel, isLimitedByCache: Bool = true
    ) -> Double {
        let step = StepModel(model: model, device: device)
        let memory = MemoryModel(model: model, device: device)
        func running(_ shape: StepShape, engines: Int) -> StepShape {
            var shape = shape
            guard isLimitedByCache, shape.decoding > 0 else { return shape }
            let most = memory.sequences(engines: engines, processes: engines, tokens: Int(shape.context))
            shape.decoding = min(shape.decoding, Double(max(most, 1)))
            return shape
        }
        let one = running(whole, engines: 1)
        var part = whole
        if isSplit {
            part.decoding /= 2
            part.prompts /= 2
        }
        part = running(part, engines: 2)
        let alone = one.sampled / (step.profile(one).seconds + host.seconds(sequences: one.sequences))
        let client = LoopClient(
            profile: step.profile(part).addingToEachKernel(device.sharing.mpsKernelSeconds),
            hostSeconds: host.seconds(sequences: part.sequences))
        let steps = LoopSimulation(policy: .leftover, parameters: device.sharing)
            .run([client, client], steps: 16, warmUp: 2).stepsPerSecond.reduce(0, +)
        return steps * part.sampled / alone - 1
    }

    private func decode(
        _ name: String, _ context: Double, _ isSplit: Bool, _ host: HostModel, _ ablation: Ablation = .full
    ) throws -> Double {
        gain(
            try model(name, ablation), StepShape(decoding: 1024, context: context), isSplit: isSplit, host: host,
            isLimitedByCache: ablation == .full)
    }

    func append(to text: inout String) throws {
        text += """
            ## The article's claims
            Two engines under MPS over one without, on the model's H100. *Split*: half of the batch each; *each*: the \
            whole batch each; the article does not say which it did. Host: none, or the assumed 1 ms and 1.1 us a \
            sequence. All figures of this section are simulated.

            **Decode, batch 1024: "over 50 % for small models at short context, falling with log context, below 10 % \
            at 7B or at 2k".**


            """
        var rows: [[String]] = []
        for name in ["qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b"] {
            for (label, isSplit, host) in [
                ("split, no host", true, HostModel.none), ("each, no host", false, .none),
                ("split, host", true, .assumed), ("each, host", false, .assumed),
            ] {
                rows.append(
                    [name, label]
                        + (try contexts.map { Table.signed(try decode(name, $0, isSplit, host)) }))
            }
        }
        text += Table.text(["model", ""] + contexts.map { "context \(Int($0))" }, rows) + "\n"
        text += """
            Holds with a host: smaller models gain more, long contexts and large models little, and less than nothing \
            once two copies of weights leave too few sequences. **Does not follow**: 50 %, unless the host leaves the \
            GPU idle for about as long as it computes, or the batch is not split; and without a host there is next to \
            nothing. On a measured H100 decode loops that keep the GPU busy gained -7 to +5 % from MPS.

            **Prefill, batch 256, steps of 8192 tokens: "over 100 % below 3B".**


            """
        rows = []
        for name in ["qwen2.5-0.5b", "qwen2.5-3b", "qwen2.5-7b"] {
            let described = try model(name)
            rows.append(
                [name]
                    + [32.0, 128, 512, 2048].map { length in
                        let shape = StepShape(prompts: 8192 / length, promptLength: length)
                        return [HostModel.none, .assumed].map {
                            Table.signed(gain(described, shape, isSplit: false, host: $0))
                        }.joined(separator: ", ")
                    })
        }
        text += Table.text(["model: no host, host", "length 32", "128", "512", "2048"], rows) + "\n"
        text += """
            **Does not follow** for any GPU reason: two engines gain at most 100 % wherever a step's cost grows no \
            faster than its work, and a prefill step keeps the tensor cores busy. A front end (HTTP, tokenizer) that \
            each engine has for itself and that is the bottleneck gives exactly 100 %.

            **Ablations, 3B, decode 1024 each: "attention alone gains far more than the whole, the MLP alone \
            little".**


            """
        rows = []
        let base = try model("qwen2.5-3b")
        for host in [HostModel.none, .assumed] {
            for context in [128.0, 512, 2048] {
                let attention = try decode("qwen2.5-3b", context, false, host, .attentionOnly)
                let feedForward = try decode("qwen2.5-3b", context, false, host, .mlpOnly)
                let shape = StepShape(decoding: 1024, context: context)
                let full = gain(base, shape, isSplit: false, host: host, isLimitedByCache: false)
                let profile = StepModel(model: base, device: device).profile(shape)
                let parts = (profile.seconds(of: .attention), profile.seconds(of: .feedForward))
                let share = parts.0 / (parts.0 + parts.1)
                let arithmetic = share * attention + (1 - share) * feedForward
                let harmonic = 1 / (share / (1 + attention) + (1 - share) / (1 + feedForward)) - 1
                rows.append(
                    ["\(Int(context)), \(host == .none ? "no host" : "host")"]
                        + [attention, feedForward, full, arithmetic, harmonic].map(Table.signed))
            }
        }
        text +=
            Table.text(
                ["context", "attention only", "MLP only", "whole", "expected, weighted mean", "expected, times added"],
                rows) + "\n"
        text += """
            **Does not follow** without a host: with SM slots held for a kernel's whole time, neither part leaves \
            much to the other, and the measured H100 agrees (attention only -10 to +8 %, MLP only -3 to +4 % for its \
            pairs). With a host, attention alone gains more than the whole because its steps are shorter and the \
            host's share larger; the attention-only gain then measures the host. The weighted mean of gains is never \
            below the mean that adds times, so part of "expected above actual" is arithmetic.

            **Gemma-4B: "asynchronous scheduling +33 %, two engines +35 % at 8 s".** Lengths and host are not stated. \
            The model says for 1000 tokens in, 256 out, within 8 s:


            """
        rows = []
        for host in [1.1e-6, 20e-6, 50e-6] {
            let gemma = try model("gemma-3-4b")
            let predictor = Predictor(
                step: StepModel(model: gemma, device: device), memory: MemoryModel(model: gemma, device: device),
                host: HostModel(secondsPerStep: 1e-3, secondsPerSequence: host),
                workload: Workload(promptTokens: 1000, outputTokens: 256, concurrency: 1024, latency: 8))
            guard let one = predictor.predictWithinLatency(.one, engines: 1) else { continue }
            func gain(_ arm: Arm, _ engines: Int) -> String {
                predictor.predictWithinLatency(arm, engines: engines)
                    .map { Table.signed($0.tokensPerSecond / one.tokensPerSecond - 1) } ?? "misses it"
            }
            rows.append([
                "1 ms + \(Table.number(host * 1e6, 1)) us a sequence", gain(.oneAsynchronous, 1), gain(.mps, 2),
                gain(.mpsAsynchronous, 2),
            ])
        }
        text += Table.text(["host", "asynchronous", "two engines", "two, asynchronous"], rows) + "\n"
        text += """
            That both recover about the same **cannot be told**: it depends on how the host's time splits into steps \
            and sequences. What is divided by two engines is the time by sequence; asynchronous scheduling hides both.

            **The table of resources** follows from the model's description. With context N, growth as a power of N \
            for 3B at 4096, counted:


            """
        let parts: [(ResourceCount.Part, String)] = [
            (.feedForward, "MLP"), (.attention, "attention"), (.projections, "attention's projections"),
        ]
        rows = parts.map { part, name in
            func power(_ value: KeyPath<ResourceCount, Double>, _ phase: ResourceCount.Phase) -> String {
                Table.number(base.growth(of: value, part, phase, at: 4096), 1)
            }
            return [
                name, power(\.operations, .prefill), power(\.operations, .decode), power(\.bytes, .decode),
            ]
        }
        text +=
            Table.text(["", "prefill, operations", "decode, operations a token", "decode, bytes a token"], rows) + "\n"
    }
}
