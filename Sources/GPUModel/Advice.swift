// Tandem — Apache-2.0

public import LanguageModel

/// What is known when advice is asked.
public struct AdviceRequest: Sendable {
    public var model: DecoderDescription
    public var device: DeviceParameters
    public var workload: Workload
    /// The host's times, if they were measured; null for ``HostModel/assumed``.
    public var host: HostModel?
    /// Whether the time of a step is not among those that were measured.
    public var assumesStepTime: Bool
    /// Most sequences that an engine runs at once, as it is set; null for no such setting.
    public var mostSequences: Int?
    /// Whether the engine plans a step ahead already.
    public var isAsynchronous: Bool
    /// Whether engines of several processes read one copy of the weights.
    public var sharesWeights: Bool
    /// How many engines there shall be; null for the best.
    public var engines: Int?
    /// CPU cores for engines, one each at least; null if there are enough.
    public var cores: Int?
    /// Whether a probe measured how processes share this GPU.
    public var isProbed: Bool

    public init(
        model: DecoderDescription, device: DeviceParameters, workload: Workload, host: HostModel? = nil,
        mostSequences: Int? = nil, isAsynchronous: Bool = false, sharesWeights: Bool = false, engines: Int? = nil,
        cores: Int? = nil,
        isProbed: Bool = false, assumesStepTime: Bool = false
    ) {
        self.assumesStepTime = assumesStepTime || host == nil
        self.model = model
        self.device = device
        self.workload = workload
        self.host = host
        self.mostSequences = mostSequences
        self.isAsynchronous = isAsynchronous
        self.sharesWeights = sharesWeights
        self.engines = engines
        self.cores = cores
        self.isProbed = isProbed
    }
}

/// Whether several engines on one GPU will pay.
public struct Advice: Sendable, Equatable {
    public enum Verdict: String, Sendable, Equatable {
        case yes
        case no
        /// One engine wastes what sharing would recover; mend that first.
        case fixEngineFirst = "fix the single engine first"
    }

    public var verdict: Verdict
    /// Why, in sentences, the most important first.
    public var reasons: [String]
    /// What to know before doing it.
    public var cautions: [String]
    /// Engines that are compared with one: those that were asked about, or the best number of several.
    public var engines: Int
    /// The gain of that many under MPS over one engine as it is, as a share of its throughput.
    public var gain: Double
    /// Between which the gain is expected.
    public var interval: ClosedRange<Double>
    public var decomposition: Decomposition
    /// The engine as it is.
    public var baseline: Prediction
    /// The engines that are compared with it.
    public var shared: Prediction
    /// One engine that plans a step ahead; null if it does already.
    public var alternative: Prediction?
    /// One engine without its limit of sequences; null if there is none that counts.
    public var largerBatch: Prediction?
    /// All arms, the baseline first; those that do not fit, or miss the latency, are missing.
    public var arms: [Prediction]
    /// Engines under MPS from one up, as far as they fit.
    public var byEngines: [Prediction]
    /// Bytes of keys and values of each of those engines.
    public var cacheBytesPerEngine: Double
    /// Tokens that these hold.
    public var cacheTokensPerEngine: Int
    /// `CUDA_MPS_ACTIVE_THREAD_PERCENTAGE` for each engine; 100 is no limit.
    public var threadPercentage: Int

    /// How many engines to run.
    public var bestEngines: Int { verdict == .yes ? engines : 1 }

    /// Gain of a prediction over the baseline.
    public func gain(of prediction: Prediction) -> Double {
        prediction.tokensPerSecond / baseline.tokensPerSecond - 1
    }
}
