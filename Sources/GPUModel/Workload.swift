// Tandem — Apache-2.0

/// What is asked of the engines, on average and all the time.
public struct Workload: Sendable, Equatable {
    /// Tokens of a prompt.
    public var promptTokens: Int
    /// Tokens that are generated for each.
    public var outputTokens: Int
    /// Requests in flight.
    public var concurrency: Int
    /// Seconds from a request to its last token that must be kept.
    public var latency: Double?
    /// Most tokens of prompts in a step.
    public var promptTokensPerStep: Int

    public init(
        promptTokens: Int, outputTokens: Int, concurrency: Int, latency: Double? = nil, promptTokensPerStep: Int = 8192
    ) {
        self.promptTokens = promptTokens
        self.outputTokens = outputTokens
        self.concurrency = concurrency
        self.latency = latency
        self.promptTokensPerStep = promptTokensPerStep
    }

    /// Tokens of a sequence, on average over its life.
    var averageTokens: Int { promptTokens + outputTokens / 2 }

    /// A step of an engine in the middle of its work, and how many sequences take part: each request is in one step
    /// with its prompt, which gives the first token, and in one for each further token.
    func step(sequences: Double) -> (shape: StepShape, sequences: Double) {
        let output = Double(outputTokens)
        let prompt = Double(promptTokens)
        let most = output * Double(promptTokensPerStep) / prompt
        let running = min(sequences, most)
        let prompts = running / output
        return (
            StepShape(
                decoding: running - prompts, context: prompt + (output + 1) / 2, prompts: prompts, promptLength: prompt),
            running
        )
    }
}

/// One way to use a GPU.
public enum Arm: String, Sendable, Equatable, CaseIterable {
    /// One engine that waits for each step before it plans the next.
    case one
    /// One engine that plans the next step while the GPU computes.
    case oneAsynchronous
    /// Several processes without MPS.
    case timeSliced
    /// Several processes under MPS.
    case mps
    case mpsAsynchronous
    /// Several engines in one process, whose host work shares one thread.
    case inProcess

    var policy: SharingPolicy {
        switch self {
        case .timeSliced: .timeSliced
        case .inProcess, .one, .oneAsynchronous: .fair
        case .mps, .mpsAsynchronous: .leftover
        }
    }

    var isAsynchronous: Bool { self == .oneAsynchronous || self == .mpsAsynchronous }

    var isUnderMPS: Bool { self == .mps || self == .mpsAsynchronous }

    var sharesHostThread: Bool { self == .inProcess }

    /// Processes that hold a context, and weights if they are not shared.
    func processes(engines: Int) -> Int { self == .inProcess ? 1 : engines }
}

/// What an arm is predicted to do.
public struct Prediction: Sendable, Equatable {
    public var arm: Arm
    public var engines: Int
    /// Requests in flight in all engines, waiting ones included.
    public var concurrency: Double
    /// Sequences that each engine runs at once.
    public var sequencesPerEngine: Double
    public var requestsPerSecond: Double
    /// Generated tokens a second.
    public var tokensPerSecond: Double
    /// Seconds from a request to its last token, waiting included.
    public var latency: Double
    /// Seconds of a step alone on the GPU.
    public var deviceSeconds: Double
    /// Seconds of the host for a step.
    public var hostSeconds: Double
    /// Whether the cache holds fewer sequences than there are requests.
    public var isLimitedByCache: Bool
}

/// Predicts throughput of engines that run a workload all the time.
public struct Predictor: Sendable {
    public var step: StepModel
    public var memory: MemoryModel
    public var host: HostModel
    public var workload: Workload
    /// Whether engines plan a step ahead in arms that leave it open: slices, and one process.
    public var isAsynchronous = false
    /// Most sequences that an engine runs at once, as it is set; null for no such setting.
    public var mostSequences: Int?

    public init(
        step: StepModel, memory: MemoryModel, host: HostModel, workload: Workload, mostSequences: Int? = nil
    ) {
        self.mostSequences = mostSequences
        self.step = step
        self.memory = memory
        self.host = host
        self.workload = workload
    }

    private var parameters: SharingParameters { step.device.sharing }

    func plansAhead(_ arm: Arm) -> Bool {
        switch arm {
        case .timeSliced, .inProcess: isAsynchronous
        case .one, .oneAsynchronous, .mps, .mpsAsynchronous: arm.isAsynchronous
        }
    }

    /// Sequences that an engine's cache holds.
    public func capacity(_ arm: Arm, engines: Int) -> Int {
        memory.sequences(
            engines: engines, processes: arm.processes(engines: engines), tokens: workload.averageTokens)
    }

    /// The arm with so many requests in flight, by the closed form.
    ///
    /// - Parameter concurrency: null for the workload's.
    /// - Returns: null if the engines do not fit.
    public func predict(_ arm: Arm, engines: Int, concurrency: Double? = nil) -> Prediction? {
        predict(arm, engines: engines, concurrency: concurrency) { profile, hostSeconds in
            ClosedForm(profile: profile, parameters: parameters).stepsPerSecond(
                loops: engines, hostSeconds: hostSeconds, isAsynchronous: plansAhead(arm),
                sharesHostThread: arm.sharesHostThread, policy: arm.policy)
        }
    }

    /// The same by simulation, which also knows how slices and steps of different lengths meet.
    public func simulate(_ arm: Arm, engines: Int, concurrency: Double? = nil, steps: Int = 24) -> Prediction? {
        predict(arm, engines: engines, concurrency: concurrency) { profile, hostSeconds in
            let client = LoopClient(
                profile: profile, hostSeconds: hostSeconds, isAsynchronous: plansAhead(arm))
            return LoopSimulation(
                policy: arm.policy, parameters: parameters, sharesHostThread: arm.sharesHostThread
            ).run(Array(repeating: client, count: engines), steps: steps).stepsPerSecond.reduce(0, +)
        }
    }

    /// With as many requests in flight, up to the workload's, as keep its latency.
    ///
    /// - Returns: null if the engines do not fit, or if even one request in each takes longer.
    public func predictWithinLatency(_ arm: Arm, engines: Int) -> Prediction? {
        guard let all = predict(arm, engines: engines) else { return nil }
        guard let latency = workload.latency, all.latency > latency else { return all }
        var low = min(Double(engines), Double(workload.concurrency))
        guard let least = predict(arm, engines: engines, concurrency: low), least.latency <= latency else { return nil }
        var high = Double(workload.concurrency)
        for _ in 0..<40 where high - low > 0.01 {
            let middle = (low + high) / 2
            if let found = predict(arm, engines: engines, concurrency: middle), found.latency <= latency {
                low = middle
            } else {
                high = middle
            }
        }
        return predict(arm, engines: engines, concurrency: low)
    }

    private func predict(
        _ arm: Arm, engines: Int, concurrency: Double?,
        stepsPerSecond: (_ profile: StepProfile, _ hostSeconds: Double) -> Double
    ) -> Prediction? {
        let capacity = Double(capacity(arm, engines: engines))
        guard capacity >= 1 else { return nil }
        let inFlight = concurrency ?? Double(workload.concurrency)
        let wanted = inFlight / Double(engines)
        let most = min(capacity, mostSequences.map(Double.init) ?? .infinity)
        let (shape, running) = workload.step(sequences: min(wanted, most))
        var profile = step.profile(shape)
        if arm.isUnderMPS { profile = profile.addingToEachKernel(parameters.mpsKernelSeconds) }
        let hostSeconds = host.seconds(sequences: running)
        let rate = requestLimit(
            stepsPerSecond(profile, hostSeconds) * running / Double(workload.outputTokens), engines: engines)
        return Prediction(
            arm: arm, engines: engines, concurrency: inFlight, sequencesPerEngine: running, requestsPerSecond: rate,
            tokensPerSecond: rate * Double(workload.outputTokens), latency: inFlight / rate,
            deviceSeconds: profile.seconds, hostSeconds: hostSeconds,
            isLimitedByCache: wanted > capacity && most == capacity)
    }

    /// The front end takes so many and no more.
    private func requestLimit(_ rate: Double, engines: Int) -> Double {
        let seconds = host.frontEndSeconds(promptTokens: Double(workload.promptTokens))
        guard seconds > 0 else { return rate }
        return min(rate, (host.frontEndPerEngine ? Double(engines) : 1) / seconds)
    }
}
