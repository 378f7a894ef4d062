// Tandem — Apache-2.0

/// Host time of an engine and of what stands before it.
public struct HostModel: Sendable, Equatable {
    /// Seconds of each step, however many sequences take part: scheduling, launching, waking up.
    public var secondsPerStep: Double
    /// Seconds for each sequence of a step.
    public var secondsPerSequence: Double
    /// Seconds of the front end (HTTP, templates, tokenizer) for each request.
    public var frontEndPerRequest: Double
    /// Seconds of the front end for each token of a prompt.
    public var frontEndPerPromptToken: Double
    /// Whether each engine has a front end of its own, as engines that are servers have.
    public var frontEndPerEngine: Bool

    public init(
        secondsPerStep: Double, secondsPerSequence: Double, frontEndPerRequest: Double = 0,
        frontEndPerPromptToken: Double = 0, frontEndPerEngine: Bool = false
    ) {
        self.secondsPerStep = secondsPerStep
        self.secondsPerSequence = secondsPerSequence
        self.frontEndPerRequest = frontEndPerRequest
        self.frontEndPerPromptToken = frontEndPerPromptToken
        self.frontEndPerEngine = frontEndPerEngine
    }

    /// Where nothing is known of an engine: 1 ms a step is an assumption; 1.1 µs a sequence is what vLLM's
    /// `update_from_output` was measured to take (0.142 ms at 128, 0.287 ms at 256 sequences: vllm-project/vllm pull
    /// request 46112).
    public static let assumed = HostModel(secondsPerStep: 1e-3, secondsPerSequence: 1.1e-6)

    /// No host at all.
    public static let none = HostModel(secondsPerStep: 0, secondsPerSequence: 0)

    /// Seconds of the engine's host for one step.
    public func seconds(sequences: Double) -> Double { secondsPerStep + secondsPerSequence * sequences }

    /// Seconds of the front end for one request.
    public func frontEndSeconds(promptTokens: Double) -> Double {
        frontEndPerRequest + frontEndPerPromptToken * promptTokens
    }
}
