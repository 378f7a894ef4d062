// Tandem — Apache-2.0

public import LanguageModel

/// What one figure of a study varies, and what it asks.
public struct StudyDefinition: Sendable, Equatable {
    /// What engines do in a cell.
    public enum Phase: String, Sendable, Equatable, CaseIterable {
        /// One token for each sequence of a batch in every step, at a fixed context.
        case decode
        /// Prompts and nothing else.
        case prefill
        /// Requests that come by themselves, with prompts and answers.
        case serving
        /// Nothing runs: operations and bytes are counted from the models' descriptions.
        case resources
    }

    /// How the batch or load of a cell is meant when there are several engines.
    public enum Convention: String, Sendable, Equatable, CaseIterable {
        /// All engines together have it.
        case total
        /// Each engine has it.
        case perEngine = "per-engine"
    }

    /// What engines may keep in keys and values.
    public enum Cache: String, Sendable, Equatable, CaseIterable {
        /// What weights and contexts leave of the device's memory.
        case memory
        /// All arms as many tokens in all as the arm that has least.
        case equal
        /// Whatever the batch needs.
        case unlimited
    }

    /// Host times that a simulation assumes; measured arms have their own.
    public struct Host: Sendable, Equatable {
        /// How records name it: `none`, `assumed`.
        public var name: String
        /// Seconds of a step, and of each sequence in it.
        public var secondsPerStep: Double
        public var secondsPerSequence: Double
        /// Seconds of the front end for a request and for each token of its prompt; each engine has its own.
        public var frontEndPerRequest: Double
        public var frontEndPerPromptToken: Double
        /// Where the numbers are from.
        public var source: String

        public init(
            name: String, secondsPerStep: Double, secondsPerSequence: Double, frontEndPerRequest: Double = 0,
            frontEndPerPromptToken: Double = 0, source: String
        ) {
            self.name = name
            self.secondsPerStep = secondsPerStep
            self.secondsPerSequence = secondsPerSequence
            self.frontEndPerRequest = frontEndPerRequest
            self.frontEndPerPromptToken = frontEndPerPromptToken
            self.source = source
        }
    }

    /// `F1` to `F6`, `T1`, or what its author called it.
    public var figure: String
    public var title: String
    /// What it asks, in a sentence.
    public var question: String
    public var phase: Phase
    public var models: [String]
    /// Decode: tokens before the one that is computed. Prefill, serving: tokens of a prompt.
    public var contexts: [Int]
    /// Sequences at once; empty when serving.
    public var batches: [Int]
    /// Tokens that each request of serving gets.
    public var outputTokens: Int
    /// Requests a second of serving, lowest first.
    public var loads: [Double]
    /// Seconds in which requests of serving come, the first third of which does not count; null for the device's own
    /// choice.
    public var arrivalSeconds: Double?
    /// Seconds from a request to its last token at which arms are compared when serving.
    public var latencyTarget: Double?
    public var conventions: [Convention]
    public var ablations: [Ablation]
    public var caches: [Cache]
    /// Of a simulation; empty for measured devices.
    public var hosts: [Host]
    /// The first is what others are compared with.
    public var arms: [StudyArm]
    public var repetitions: Int
    /// `simulated:h100`, `cpu`, `cuda:0`.
    public var device: String

    public init(
        figure: String, title: String, question: String, phase: Phase, models: [String], contexts: [Int],
        batches: [Int] = [], outputTokens: Int = 0, loads: [Double] = [], arrivalSeconds: Double? = nil,
        latencyTarget: Double? = nil,
        conventions: [Convention] = [.total], ablations: [Ablation] = [.full], caches: [Cache] = [.memory],
        hosts: [Host] = [], arms: [StudyArm], repetitions: Int, device: String
    ) {
        self.figure = figure
        self.title = title
        self.question = question
        self.phase = phase
        self.models = models
        self.contexts = contexts
        self.batches = batches
        self.outputTokens = outputTokens
        self.loads = loads
        self.arrivalSeconds = arrivalSeconds
        self.latencyTarget = latencyTarget
        self.conventions = conventions
        self.ablations = ablations
        self.caches = caches
        self.hosts = hosts
        self.arms = arms
        self.repetitions = repetitions
        self.device = device
    }

    /// What the other arms are compared with; null for a figure without arms.
    public var baseline: StudyArm? { arms.first }
}
