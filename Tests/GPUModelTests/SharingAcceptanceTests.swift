// Tandem — Apache-2.0

import GPUModel
import GPUModelValidation
import LanguageModel
import Testing

/// What holds for any input, and agreement of the model's own parts.
@Suite struct SharingAcceptanceTests {
    private static let models = ["qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b"]
    private static let contexts = [128.0, 512, 2048]
    private static let hosts = [
        HostModel.assumed, HostModel(secondsPerStep: 2e-3, secondsPerSequence: 1e-5),
        HostModel(secondsPerStep: 0.5e-3, secondsPerSequence: 0),
    ]

    private static func loops(
        _ profile: StepProfile, _ count: Int, host: Double, _ policy: SharingPolicy, isAsynchronous: Bool = false,
        sharing: SharingParameters? = nil, variation: Double = 0.2
    ) throws -> Double {
        let parameters = try sharing ?? DeviceParameters.named("h100").sharing
        let client = LoopClient(profile: profile, hostSeconds: host, isAsynchronous: isAsynchronous)
        return LoopSimulation(policy: policy, parameters: parameters, hostVariation: variation)
            .run(Array(repeating: client, count: count), steps: 24).stepsPerSecond.reduce(0, +)
    }

    /// Alone: kernels and host; a step ahead: the longer of both.
    @Test(arguments: SharingPolicy.allCases)
    func solo(policy: SharingPolicy) throws {
        for model in Self.models {
            let profile = try Made.real(model, 256, 512)
            for host in [0, 0.5e-3, 3e-3, 20e-3] {
                let sync = try Self.loops(profile, 1, host: host, policy, variation: 0)
                #expect(abs(sync * (profile.seconds + host) - 1) < 0.005)
                let async = try Self.loops(profile, 1, host: host, policy, isAsynchronous: true, variation: 0)
                #expect(abs(async * max(profile.seconds, host) - 1) < 0.02)
                let form = ClosedForm(profile: profile, parameters: try DeviceParameters.named("h100").sharing)
                #expect(abs(form.stepsPerSecond(loops: 1, hostSeconds: host, policy: policy) / sync - 1) < 0.005)
            }
        }
    }

    /// Never more than N alone, nor than the resource that is wanted most allows.
    @Test(arguments: [SharingPolicy.fair, .leftover])
    func bounds(policy: SharingPolicy) throws {
        var sharing = try DeviceParameters.named("h100").sharing
        sharing.interference = 0
        for count in [2, 3, 5] {
            for seed in UInt64(1)...12 {
                let profile = seed <= 3 ? try Made.real(Self.models[Int(seed) - 1], 256, 512) : Made.random(seed)
                for host in [0, profile.seconds / 2, profile.seconds * 2] {
                    let alone = try Self.loops(profile, 1, host: host, policy, sharing: sharing, variation: 0)
                    let together = try Self.loops(profile, count, host: host, policy, sharing: sharing, variation: 0)
                    #expect(together <= Double(count) * alone * 1.01)
                    let load = ClosedForm(profile: profile, parameters: sharing).load
                    let slots = 1 + sharing.coResidency * Double(count - 1)
                    let most = max(load.multiprocessors / slots, load.tensor, load.memory)
                    #expect(together * most <= 1.02)
                }
            }
        }
    }

    /// Without a host, slices lose, and sharing is no worse than slices. With one, steps that fit a slice can be
    /// faster in slices: each then runs alone, and the next one's host works meanwhile. That was measured too; it
    /// stays small.
    @Test func slicing() throws {
        for count in [2, 3, 4] {
            for seed in UInt64(1)...9 {
                let profile = seed <= 3 ? try Made.real(Self.models[Int(seed) - 1], 64, 256) : Made.random(seed)
                let alone = try Self.loops(profile, 1, host: 0, .timeSliced)
                for (host, most) in [(0, 0.98), (profile.seconds / 2, 0.85), (profile.seconds * 2, 0.85)] {
                    let sliced = try Self.loops(profile, count, host: host, .timeSliced)
                    if host == 0 { #expect(sliced <= alone * 1.001) }
                    for policy in [SharingPolicy.fair, .leftover] {
                        let shared = try Self.loops(profile, count, host: host, policy)
                        #expect(shared >= sliced * most, "\(seed) \(count) \(host) \(shared / sliced)")
                    }
                }
            }
        }
    }

    /// N engines on parts of a batch never gain more than N - 1, whatever the fixed costs.
    @Test func gainIsBounded() throws {
        let device = try DeviceParameters.named("h100")
        for name in ["smollm2-135m", "qwen2.5-0.5b", "qwen2.5-7b"] {
            let step = StepModel(model: try #require(BuiltInModel.named(name)).description, device: device)
            for host in [HostModel.none, .assumed, HostModel(secondsPerStep: 20e-3, secondsPerSequence: 1e-4)] {
                for shape in [StepShape(decoding: 1024, context: 128), StepShape(prompts: 64, promptLength: 128)] {
                    for engines in [2, 3, 4] {
                        let part = Double(engines)
                        let split = StepShape(
                            decoding: shape.decoding / part, context: shape.context, prompts: shape.prompts / part,
                            promptLength: shape.promptLength)
                        let one = ClosedForm(profile: step.profile(shape), parameters: device.sharing).stepsPerSecond(
                            loops: 1, hostSeconds: host.seconds(sequences: shape.sequences), policy: .fair)
                        for policy in SharingPolicy.allCases {
                            let several = ClosedForm(profile: step.profile(split), parameters: device.sharing)
                                .stepsPerSecond(
                                    loops: engines, hostSeconds: host.seconds(sequences: split.sequences),
                                    policy: policy)
                            #expect(several / part / one - 1 <= part - 1 + 1e-9)
                            let simulated = try Self.loops(
                                step.profile(split), engines, host: host.seconds(sequences: split.sequences), policy)
                            #expect(simulated / part / one - 1 <= (part - 1) * 1.02 + 0.02)
                        }
                    }
                }
            }
        }
    }

    /// Queueing theory against the simulation: 54 cases a policy. It knows nothing of the order in which kernels get
    /// SMs, hence more room there.
    @Test(arguments: [(SharingPolicy.fair, 0.12), (.leftover, 0.15)])
    func closedForm(policy: SharingPolicy, most: Double) throws {
        var errors: [Double] = []
        for model in Self.models {
            for context in Self.contexts {
                let profile = try Made.real(model, 256, context)
                let form = ClosedForm(profile: profile, parameters: try DeviceParameters.named("h100").sharing)
                for host in Self.hosts.map({ $0.seconds(sequences: 256) }) {
                    for count in [2, 3] {
                        let simulated = try Self.loops(profile, count, host: host, policy)
                        let formed = form.stepsPerSecond(loops: count, hostSeconds: host, policy: policy)
                        errors.append(abs(formed / simulated - 1))
                    }
                }
            }
        }
        try #require(errors.count == 54)
        #expect(mean(errors) <= 0.05, "\(mean(errors))")
        #expect((errors.max() ?? 1) <= most, "\(errors.max() ?? 1)")
    }

    /// Slices meet steps in ways that no mean knows; the closed form is only near there.
    @Test func closedFormOfSlices() throws {
        var errors: [Double] = []
        for model in Self.models {
            for context in Self.contexts {
                let profile = try Made.real(model, 256, context)
                let form = ClosedForm(profile: profile, parameters: try DeviceParameters.named("h100").sharing)
                for host in Self.hosts.map({ $0.seconds(sequences: 256) }) {
                    let simulated = try Self.loops(profile, 2, host: host, .timeSliced)
                    errors.append(
                        abs(form.stepsPerSecond(loops: 2, hostSeconds: host, policy: .timeSliced) / simulated - 1))
                }
            }
        }
        #expect(mean(errors) <= 0.08, "\(mean(errors))")
    }

    /// The same seed makes the same run.
    @Test func deterministic() throws {
        let profile = try Made.real("qwen2.5-0.5b", 64, 256)
        let clients = Array(repeating: LoopClient(profile: profile, hostSeconds: 1e-3), count: 3)
        let parameters = try DeviceParameters.named("h100").sharing
        let first = LoopSimulation(policy: .leftover, parameters: parameters, seed: 4).run(clients)
        #expect(LoopSimulation(policy: .leftover, parameters: parameters, seed: 4).run(clients) == first)
        #expect(LoopSimulation(policy: .leftover, parameters: parameters, seed: 5).run(clients) != first)
    }

    /// One thread for all hosts is the limit where hosts are slow.
    @Test func oneProcess() throws {
        let profile = try Made.real("qwen2.5-0.5b", 64, 256)
        let client = LoopClient(profile: profile, hostSeconds: 3 * profile.seconds)
        let found = LoopSimulation(
            policy: .fair, parameters: try DeviceParameters.named("h100").sharing, sharesHostThread: true
        ).run([client, client, client]).stepsPerSecond.reduce(0, +)
        #expect(abs(found * client.hostSeconds - 1) < 0.05)
    }
}
