// Tandem — Apache-2.0

public import GPUModel
public import LanguageModel

/// The model beside what was measured: rows of predictions and measurements, judged elsewhere.
public enum Validation {
    /// A number that was measured, and what the model says.
    public struct Row: Sendable {
        public var label: String
        public var measured: Double
        public var predicted: Double
        /// Whether parameters were chosen without it.
        public var isHeldOut: Bool

        public init(label: String, measured: Double, predicted: Double, isHeldOut: Bool = true) {
            self.label = label
            self.measured = measured
            self.predicted = predicted
            self.isHeldOut = isHeldOut
        }

        /// As a share of what was measured.
        public var relativeError: Double { predicted / measured - 1 }
        /// For gains: in points, as a share of one.
        public var difference: Double { predicted - measured }
    }

    public enum Pair: String, Sendable, CaseIterable {
        case timeSliced = "two processes, time slices"
        case streams = "two graphs in one process"
        case mps = "two or four processes under MPS"
    }

    // MARK: Steps

    /// Seconds of decode steps on the GPU; kernels as measured one by one, and one factor a model from its middle step.
    public static func steps() throws -> [Row] {
        let device = try DeviceParameters.named("h100").calibrated(by: try Measured.kernels())
        let cells = try Measured.cells(arm: "no MPS").filter { $0.isDecode && $0.ablation == .full && $0.pause == 0 }
        var rows: [Row] = []
        for model in Set(cells.map(\.model)).sorted() {
            let own = cells.filter { $0.model == model }.sorted { $0.deviceSeconds < $1.deviceSeconds }
            let anchor = own[own.count / 2]
            let factor = anchor.deviceSeconds / (try anchor.profile(device).seconds)
            for cell in own where !cell.isSameLoop(as: anchor) {
                rows.append(
                    Row(
                        label: "\(model), \(Int(cell.batch)) sequences of \(Int(cell.context))",
                        measured: cell.deviceSeconds, predicted: try cell.profile(device).seconds * factor))
            }
        }
        return rows
    }

    /// The same with published parameters and no factor, prefill too.
    public static func uncalibratedSteps() throws -> [Row] {
        let device = try DeviceParameters.named("h100")
        return try Measured.cells(arm: "no MPS").filter { $0.pause == 0 && $0.ablation == .full }.map { cell in
            Row(
                label:
                    "\(cell.model), \(cell.isDecode ? "decode" : "prefill") \(Int(cell.batch)) of \(Int(cell.context))",
                measured: cell.deviceSeconds, predicted: try cell.profile(device).seconds)
        }
    }

    /// Seconds a token of published servers, one asynchronous engine, host time assumed.
    public static func served() throws -> [Row] {
        let llama = DecoderDescription(
            architecture: "llama", name: "llama-3.1-8b", vocabularySize: 128_256, hiddenSize: 4096,
            intermediateSize: 14336, queryHeads: 32, keyValueHeads: 8, headDimension: 128, contextLength: 131_072,
            normEpsilon: 1e-5, tiedHead: false,
            ropes: [RotaryDescription(base: 500_000, dimensions: 128, fileLayout: .halfSplit)],
            layers: Array(repeating: LayerDescription(attentionScale: 0.0884), count: 32))
        let device = try DeviceParameters.named("h100")
        return try Measured.served().compactMap { row in
            let predictor = Predictor(
                step: StepModel(model: llama, device: device), memory: MemoryModel(model: llama, device: device),
                host: .assumed,
                workload: Workload(
                    promptTokens: row.promptTokens, outputTokens: row.outputTokens, concurrency: row.batch))
            guard let found = predictor.predict(.oneAsynchronous, engines: 1) else { return nil }
            return Row(
                label: "\(row.promptTokens) in, \(row.outputTokens) out, batch \(row.batch)",
                measured: row.secondsPerToken, predicted: found.latency / Double(row.outputTokens))
        }
    }

    // MARK: Sharing

    /// Gains over one loop without MPS; its own time on the GPU is taken as measured, so that sharing alone is judged.
    ///
    /// - Parameters:
    ///   - sharing: null for the published parameters.
    ///   - isHeldOut: null for all.
    public static func gains(
        _ pair: Pair, sharing: SharingParameters? = nil, isHeldOut: Bool? = nil
    ) throws -> [Row] {
        var device = try DeviceParameters.named("h100")
        if let sharing { device.sharing = sharing }
        let bases = try Measured.cells(arm: "no MPS")
        let cells = pair == .mps ? try Measured.cells(arm: "MPS") : bases
        // Every second loop, in order of its name, was left out when the parameters were chosen.
        let order = Set(bases.map(label)).sorted()
        return try cells.compactMap { cell in
            guard let base = bases.first(where: { $0.isSameLoop(as: cell) && $0.run == cell.run }),
                let place = order.firstIndex(of: label(cell))
            else { return nil }
            if let isHeldOut, isHeldOut != (place % 2 == 1) { return nil }
            let measured: Double
            switch pair {
            case .streams:
                guard let two = cell.twoStreams else { return nil }
                measured = two / base.one - 1
            case .timeSliced, .mps:
                guard cell.each.count >= 2 else { return nil }
                measured = cell.each.reduce(0, +) / base.one - 1
            }
            let count = pair == .mps ? cell.each.count : 2
            return Row(
                label: label(cell) + (count > 2 ? ", \(count) processes" : ""), measured: measured,
                predicted: try simulate(pair, base, count, device) / base.one - 1, isHeldOut: place % 2 == 1)
        }
    }

    private static func simulate(
        _ pair: Pair, _ base: Measured.Cell, _ count: Int, _ device: DeviceParameters
    ) throws -> Double {
        var profile = try base.profile(device)
        profile = profile.scaled(by: base.deviceSeconds / profile.seconds)
        if pair == .mps { profile = profile.addingToEachKernel(device.sharing.mpsKernelSeconds) }
        let policy: SharingPolicy =
            switch pair {
            case .timeSliced: .timeSliced
            case .streams: .fair
            case .mps: .leftover
            }
        let client = LoopClient(profile: profile, hostSeconds: base.hostSeconds)
        return LoopSimulation(policy: policy, parameters: device.sharing, sharesHostThread: pair == .streams)
            .run(Array(repeating: client, count: count), steps: 16, warmUp: 2).stepsPerSecond.reduce(0, +)
    }

    private static func label(_ cell: Measured.Cell) -> String {
        let what = cell.ablation == .full ? "" : " \(cell.ablation)"
        let pause = cell.pause > 0 ? ", pause \(cell.pause * 1e3) ms" : ""
        return "\(cell.model)\(what) \(cell.isDecode ? "decode" : "prefill") \(Int(cell.batch)) of \(Int(cell.context))"
            + pause
    }

    /// Chooses co-residency, latency occupancy and what MPS adds to a kernel: the point of a grid with the least mean
    /// error on loops that are not held out.
    public static func choose() throws -> [(parameters: SharingParameters, error: Double)] {
        var found: [(parameters: SharingParameters, error: Double)] = []
        let device = try DeviceParameters.named("h100")
        for coResidency in [0, 0.05, 0.1, 0.15] {
            for latencyOccupancy in [0.7, 0.75, 0.8, 0.85, 0.9, 1] {
                for mpsKernelSeconds in [0.8e-6, 1.1e-6, 1.4e-6, 1.7e-6] {
                    var sharing = device.sharing
                    sharing.coResidency = coResidency
                    sharing.latencyOccupancy = latencyOccupancy
                    sharing.mpsKernelSeconds = mpsKernelSeconds
                    let rows = try [Pair.streams, .mps].flatMap { try gains($0, sharing: sharing, isHeldOut: false) }
                    found.append((sharing, mean(rows.map { abs($0.difference) })))
                }
            }
        }
        return found.sorted { $0.error < $1.error }
    }

    // MARK: OPT-1.3B by vLLM 0.5 on an H100 of 64 GB
    // FerranAgulloLopez/vLLMBatchingMemoryGap, benchmarks/definitive_results/replication

    /// Its two matrices of a feed-forward block are three of two thirds the width here.
    public static let opt = DecoderDescription(
        architecture: "opt", name: "opt-1.3b", vocabularySize: 50272, hiddenSize: 2048, intermediateSize: 5461,
        queryHeads: 32, keyValueHeads: 32, headDimension: 64, contextLength: 2048, normEpsilon: 1e-5, tiedHead: true,
        ropes: [RotaryDescription(base: 10000, dimensions: 64, fileLayout: .halfSplit)],
        layers: Array(repeating: LayerDescription(attentionScale: 0.125), count: 24))

    /// Seconds between tokens. The GPU's factor comes from solo rows, the host's time beforehand from another source;
    /// sequences that ran at once follow from throughput and time between tokens (Little).
    ///
    /// - Parameters:
    ///   - hostSeconds: of a step.
    ///   - ownSolo: whether the factor of each limit of sequences comes from its own solo row, or all from that of 96.
    public static func replication(hostSeconds: Double, ownSolo: Bool) throws -> [Row] {
        // Total tokens a second, prompts of 111 and answers of 292 tokens.
        let published: [Replicated] = [
            Replicated(limit: 96, engines: 1, rate: 9121, interval: 13.8e-3),
            Replicated(limit: 96, engines: 2, rate: 12314, interval: 19.0e-3),
            Replicated(limit: 96, engines: 4, rate: 13172, interval: 31.5e-3),
            Replicated(limit: 256, engines: 1, rate: 10871, interval: 29.3e-3),
            Replicated(limit: 256, engines: 2, rate: 14669, interval: 37.1e-3),
            Replicated(limit: 256, engines: 4, rate: 14720, interval: 45.8e-3),
        ]
        let device = try DeviceParameters.named("h100")
        let step = StepModel(model: opt, device: device, fusion: .eager)
        return published.compactMap { row in
            guard
                let solo = published.first(where: { $0.engines == 1 && $0.limit == (ownSolo ? row.limit : 96) }),
                row.engines != solo.engines || row.limit != solo.limit
            else { return nil }
            let factor = (solo.interval - hostSeconds) / step.profile(solo.shape).seconds
            var profile = step.profile(row.shape).scaled(by: factor)
            if row.engines > 1 { profile = profile.addingToEachKernel(device.sharing.mpsKernelSeconds) }
            let client = LoopClient(profile: profile, hostSeconds: hostSeconds)
            let rate = LoopSimulation(policy: .leftover, parameters: device.sharing)
                .run(Array(repeating: client, count: row.engines), steps: 16, warmUp: 2).stepsPerSecond
            return Row(
                label: "\(row.engines) of \(row.limit)", measured: row.interval,
                predicted: Double(row.engines) / rate.reduce(0, +))
        }
    }

    private struct Replicated {
        var limit: Int
        var engines: Int
        var rate: Double
        var interval: Double

        var shape: StepShape {
            let running = rate * 292 / 403 * interval / Double(engines)
            return StepShape(decoding: running, context: 111 + 146, prompts: running / 292, promptLength: 111)
        }
    }

    /// 50 requests in all, split over processes: throughput over that of one engine.
    public static func splitRequests(hostSeconds: Double) throws -> [Row] {
        let device = try DeviceParameters.named("h100")
        let step = StepModel(model: opt, device: device, fusion: .eager)
        func rate(_ engines: Int, _ policy: SharingPolicy, cost: Double) -> Double {
            let batch = 50 / Double(engines)
            let profile = step.profile(StepShape(decoding: batch, context: 257)).addingToEachKernel(cost)
            let client = LoopClient(profile: profile, hostSeconds: hostSeconds)
            return batch
                * LoopSimulation(policy: policy, parameters: device.sharing)
                .run(Array(repeating: client, count: engines)).stepsPerSecond.reduce(0, +)
        }
        let one = rate(1, .fair, cost: 0)
        return [
            Row(
                label: "2 under MPS", measured: 0.82,
                predicted: rate(2, .leftover, cost: device.sharing.mpsKernelSeconds) / one),
            Row(label: "2 time-sliced", measured: 0.67, predicted: rate(2, .timeSliced, cost: 0) / one),
            Row(label: "4 time-sliced", measured: 0.37, predicted: rate(4, .timeSliced, cost: 0) / one),
        ]
    }
}

/// Sums of errors.
public func mean(_ values: [Double]) -> Double { values.isEmpty ? 0 : values.reduce(0, +) / Double(values.count) }

/// The value below which a share of all lies.
public func quantile(_ values: [Double], _ share: Double) -> Double {
    let sorted = values.sorted()
    guard let last = sorted.last else { return 0 }
    let place = Int(share * Double(sorted.count))
    return place < sorted.count ? sorted[place] : last
}
