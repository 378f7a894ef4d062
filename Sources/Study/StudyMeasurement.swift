// Tandem — Apache-2.0

/// What one cell gave in one repetition. What was not measured, or does not exist, is null.
public struct StudyMeasurement: Sendable, Equatable {
    /// Percentiles of a latency, in seconds.
    public struct Latency: Sendable, Equatable {
        public var mean: Double
        public var p50: Double
        public var p90: Double
        public var p99: Double

        public init(mean: Double, p50: Double, p90: Double, p99: Double) {
            self.mean = mean
            self.p50 = p50
            self.p90 = p90
            self.p99 = p99
        }
    }

    /// Seconds of a step of one engine, by the part of the model, and of its host.
    public struct StepTime: Sendable, Equatable {
        public var attention: Double
        public var feedForward: Double
        /// Embedding, head, sampling.
        public var rest: Double
        /// The host's work, which may run beside the device's.
        public var host: Double

        public init(attention: Double, feedForward: Double, rest: Double, host: Double) {
            self.attention = attention
            self.feedForward = feedForward
            self.rest = rest
            self.host = host
        }
    }

    public var cell: StudyCell
    /// From 0.
    public var repetition: Int
    public var seed: UInt64
    /// Of all engines together.
    public var promptTokensPerSecond: Double?
    public var generatedTokensPerSecond: Double?
    public var stepsPerSecond: Double?
    public var requestsPerSecond: Double?
    public var timeToFirstToken: Latency?
    public var interTokenLatency: Latency?
    public var endToEnd: Latency?
    /// Share of the time in which the device had work.
    public var deviceBusyShare: Double?
    public var stepTime: StepTime?
    /// Tokens of keys and values that each engine can keep.
    public var cacheTokensPerEngine: Int?
    /// Sequences that each engine really had at once, on average.
    public var sequencesPerEngine: Double?
    /// Requests or sequences that ended well, and that did not.
    public var completed: Int?
    public var failed: Int?
    /// Why there are no numbers; null if there are.
    public var failure: String?
    /// What a reader must know of this measurement.
    public var notes: [String]
    /// Seconds that it took to make.
    public var seconds: Double

    /// A measurement without numbers.
    public init(cell: StudyCell, repetition: Int, seed: UInt64, failure: String? = nil, seconds: Double = 0) {
        self.cell = cell
        self.repetition = repetition
        self.seed = seed
        self.failure = failure
        self.seconds = seconds
        notes = []
    }

    /// Tokens a second that the cell's phase is about: of prompts in prefill, else generated ones.
    public var throughput: Double? {
        failure == nil ? (cell.phase == .prefill ? promptTokensPerSecond : generatedTokensPerSecond) : nil
    }
}
