// Tandem — Apache-2.0

import GPUModel
import LanguageModel
import Testing

/// A second implementation of the model, written differently: a step's time from the description's counts instead of
/// its kernels, and sharing in small steps of time instead of events.
@Suite struct IndependentImplementationTests {
    /// Seconds of a decode step: bytes and operations by component, and a fixed part for each kernel.
    static func stepSeconds(_ model: DecoderDescription, _ device: DeviceParameters, batch: Double, context: Double)
        -> Double
    {
        let layers = Double(model.layers.count)
        var attention = model
        attention.ablation = .attentionOnly
        var feedForward = model
        feedForward.ablation = .mlpOnly
        func product(_ weights: Double, kernels: Double, columns: Double) -> Double {
            let compute = 2 * batch * weights / (device.tensorRate * device.product.tensorShare)
            let transfer = (2 * weights + 2 * batch * columns) / (device.memoryRate * device.product.memoryShare)
            let exponent = device.product.exponent
            var sum = compute.magnitudePower(exponent) + transfer.magnitudePower(exponent)
            sum = sum.magnitudePower(1 / exponent)
            return sum + kernels * device.product.fixedSeconds
        }
        let hidden = Double(model.hiddenSize)
        let query = Double(model.queryHeads * model.headDimension)
        let keyValue = Double(model.keyValueHeads * model.headDimension)
        let width = Double(model.intermediateSize)
        let projections = Double(attention.flopsPerToken(head: false)) / 2
        let gated = Double(feedForward.flopsPerToken(head: false)) / 2
        let vocabulary = Double(model.vocabularySize)
        var seconds =
            product(projections, kernels: 2 * layers, columns: layers * (2 * query + 2 * keyValue + 2 * hidden))
            + product(gated, kernels: 2 * layers, columns: layers * (3 * width + 2 * hidden))
            + product(hidden * vocabulary, kernels: 1, columns: vocabulary + hidden)
        let cache = batch * Double(model.kvBytesRead(context: Int(context), elementBytes: 2))
        seconds +=
            cache / (device.memoryRate * device.decodeAttention.share)
            + layers
            * (device.decodeAttention.fixedSeconds
                + batch * Double(model.keyValueHeads) / Double(device.multiprocessors)
                * device.decodeAttention.blockSeconds)
        let moved = batch * (layers * (16 * hidden + 4 * (query + 2 * keyValue) + 6 * width) + 4 * vocabulary)
        seconds +=
            moved / (device.memoryRate * device.elementwise.memoryShare)
            + (4 * layers + 3) * device.elementwise.fixedSeconds
        return seconds
    }

    private static let device = try? DeviceParameters.named("h100")

    @Test func stepTimes() throws {
        let device = try #require(Self.device)
        for name in ["qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b", "llama-3.2-1b", "smollm2-1.7b"] {
            let model = try #require(BuiltInModel.named(name)).description
            for batch in [1.0, 16, 64, 256, 1024] {
                for context in [64.0, 256, 1024, 4096] {
                    let own = StepModel(model: model, device: device)
                        .profile(StepShape(decoding: batch, context: context)).seconds
                    let other = Self.stepSeconds(model, device, batch: batch, context: context)
                    #expect(abs(own / other - 1) <= 0.15, "\(name) \(batch) \(context) \(own / other)")
                }
            }
        }
    }

    /// A loop that is on its host, or somewhere in its kernels.
    private struct Loop {
        var hostRest: Double
        var rest = 0.0
        /// Twice the kernel's place, and one more in its work.
        var place = 0
        var progress = 0.0
    }

    /// The largest number that is allowed, by bisection.
    private static func largest(_ isAllowed: (Double) -> Bool) -> Double {
        if isAllowed(1) { return 1 }
        var (low, high) = (0.0, 1.0)
        for _ in 0..<20 {
            let middle = (low + high) / 2
            if isAllowed(middle) { low = middle } else { high = middle }
        }
        return low
    }

    /// Two loops in small steps of time; host times vary by a fifth, as in the simulation.
    static func gain(_ profile: StepProfile, host: Double, sharing: SharingParameters) -> Double {
        let kernels = profile.sequences.flatMap { sequence in
            (0..<sequence.repeats).flatMap { _ in sequence.kernels }
        }
        let latency = Demand(multiprocessors: sharing.latencyOccupancy, tensor: 0, memory: 0)
        let tick = 0.5e-6
        let ticks = Int(24 * (2 * profile.seconds + host) / tick)
        var state: UInt32 = 7
        func hostTime() -> Double {
            state = state &* 1_664_525 &+ 1_013_904_223
            return host * (0.8 + 0.4 * Double(state >> 8) / Double(1 << 24))
        }
        func seconds(_ place: Int) -> Double {
            place % 2 == 0 ? kernels[place / 2].fixedSeconds : kernels[place / 2].workSeconds
        }
        func demand(_ place: Int) -> Demand { place % 2 == 0 ? latency : kernels[place / 2].demand }
        func fit(_ first: Demand, _ second: Demand, _ rates: (Double, Double)) -> Bool {
            first.multiprocessors * rates.0 + second.multiprocessors * rates.1 <= 1 + sharing.coResidency
                && first.tensor * rates.0 + second.tensor * rates.1 <= 1
                && first.memory * rates.0 + second.memory * rates.1 <= 1
        }
        var loops = [Loop(hostRest: hostTime()), Loop(hostRest: hostTime() / 2)]
        for _ in 0..<ticks {
            var rates = [1.0, 1.0]
            if loops.allSatisfy({ $0.hostRest <= 0 }) {
                let (first, second) = (demand(loops[0].place), demand(loops[1].place))
                let both = largest { fit(first, second, ($0, $0)) }
                rates[0] = max(both, largest { fit(first, second, ($0, both)) })
                rates[1] = max(both, largest { fit(first, second, (rates[0], $0)) })
                for index in 0...1 { rates[index] /= 1 + sharing.interference }
            }
            for index in 0...1 {
                if loops[index].hostRest > 0 {
                    loops[index].hostRest -= tick
                    if loops[index].hostRest <= 0 { loops[index].rest = seconds(0) }
                    continue
                }
                loops[index].progress += tick * rates[index]
                loops[index].rest -= tick * rates[index]
                while loops[index].rest <= 0 {
                    loops[index].place += 1
                    if loops[index].place == 2 * kernels.count {
                        loops[index].place = 0
                        loops[index].hostRest = hostTime()
                        break
                    }
                    loops[index].rest += seconds(loops[index].place)
                }
            }
        }
        let done = loops.reduce(0) { $0 + $1.progress } / profile.seconds
        return done / (Double(ticks) * tick) * (profile.seconds + host) - 1
    }

    @Test func gains() throws {
        let device = try #require(Self.device)
        var errors: [(label: String, error: Double)] = []
        for (name, batch) in [("qwen2.5-0.5b", 256.0), ("qwen2.5-1.5b", 64), ("smollm2-135m", 256)] {
            for context in [128.0, 1024] {
                let profile = StepModel(model: try #require(BuiltInModel.named(name)).description, device: device)
                    .profile(StepShape(decoding: batch, context: context))
                for host in [0.2e-3, 1.3e-3, 4e-3] {
                    let alone = 1 / (profile.seconds + host)
                    let client = LoopClient(profile: profile, hostSeconds: host)
                    let own =
                        LoopSimulation(policy: .fair, parameters: device.sharing)
                        .run([client, client], steps: 24).stepsPerSecond.reduce(0, +) / alone - 1
                    let other = Self.gain(profile, host: host, sharing: device.sharing)
                    errors.append(("\(name) \(context) \(host) \(own) \(other)", abs(own - other)))
                }
            }
        }
        #expect(Double(errors.filter { $0.error <= 0.08 }.count) >= 0.9 * Double(errors.count), "\(errors)")
    }
}

extension Double {
    /// A power by repeated square roots of the base, to six digits.
    fileprivate func magnitudePower(_ exponent: Double) -> Double {
        var result = 1.0
        var whole = exponent
        while whole >= 1 {
            result *= self
            whole -= 1
        }
        var root = self
        var part = 0.5
        for _ in 0..<40 {
            root = root.squareRoot()
            if whole >= part {
                result *= root
                whole -= part
            }
            part /= 2
        }
        return result
    }
}
