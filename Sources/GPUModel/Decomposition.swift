// Tandem — Apache-2.0

/// Where the gain of several engines over one comes from: shares of the one engine's throughput, which add up.
public struct Decomposition: Sendable, Equatable {
    /// The GPU works while another engine's host does.
    public var hostIdleRecovered: Double
    /// Launches, drains and last waves of one engine's kernels are filled by another's.
    public var tailsFilled: Double
    /// Kernels that want different resources run at once.
    public var overlap: Double
    /// Each engine has a part of the batch, and steps of half the batch take more than half the time.
    public var batchSplit: Double
    /// Several copies of weights and contexts leave less memory for sequences.
    public var capacity: Double
    /// Kernels slow each other, and MPS slows each.
    public var interference: Double
    /// Requests in flight that the latency allows beyond those of one engine; 0 without a limit.
    public var latency: Double

    public var total: Double {
        hostIdleRecovered + tailsFilled + overlap + batchSplit + capacity + interference + latency
    }
}

extension Predictor {
    /// Takes the gain of `mps` over `one` apart by admitting one effect after the other, in the order of the fields but
    /// for interference, which comes before the batch is split.
    func decomposition(one: Prediction, mps: Prediction) -> Decomposition {
        let engines = mps.engines
        let parameters = step.device.sharing
        /// Throughput over that of the one engine, of engines with `sequences` each.
        func relative(
            _ sequences: Double, underMPS: Bool, parameters: SharingParameters, load: (StepProfile) -> Demand
        ) -> Double {
            let (shape, running) = workload.step(sequences: sequences)
            var profile = step.profile(shape)
            if underMPS { profile = profile.addingToEachKernel(parameters.mpsKernelSeconds) }
            let rate = ClosedForm(seconds: profile.seconds, load: load(profile), parameters: parameters).stepsPerSecond(
                loops: engines, hostSeconds: host.seconds(sequences: running), isAsynchronous: mps.arm.isAsynchronous,
                policy: mps.arm.policy)
            return rate * running / one.tokensPerSecond
        }
        let batch = one.sequencesPerEngine
        var alone = parameters
        alone.coResidency = 0
        alone.interference = 0
        var friendly = parameters
        friendly.interference = 0
        let full = { (profile: StepProfile) in ClosedForm(profile: profile, parameters: parameters).load }
        let exclusive = relative(batch, underMPS: false, parameters: alone) {
            Demand(multiprocessors: $0.seconds, tensor: 0, memory: 0)
        }
        let filled = relative(batch, underMPS: false, parameters: alone) {
            Demand(multiprocessors: full($0).multiprocessors, tensor: 0, memory: 0)
        }
        let overlapped = relative(batch, underMPS: false, parameters: friendly, load: full)
        let disturbed = relative(batch, underMPS: true, parameters: parameters, load: full)
        let split = relative(
            min(batch, one.concurrency / Double(engines)), underMPS: true, parameters: parameters, load: full)
        let most = min(Double(capacity(mps.arm, engines: engines)), mostSequences.map(Double.init) ?? .infinity)
        let bounded = relative(
            min(one.concurrency / Double(engines), most), underMPS: true, parameters: parameters, load: full)
        return Decomposition(
            hostIdleRecovered: exclusive - 1, tailsFilled: filled - exclusive, overlap: overlapped - filled,
            batchSplit: split - disturbed, capacity: bounded - split, interference: disturbed - overlapped,
            latency: mps.tokensPerSecond / one.tokensPerSecond - bounded)
    }
}
