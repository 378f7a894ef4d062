// Tandem — Apache-2.0

/// Time that the step thread burns on purpose, in nanoseconds, to study what host work costs: a slower host for the same
/// device. Outputs do not change.
public struct HostStalls: Sendable, Equatable {
    /// Before each step is submitted.
    public var perStep: UInt64
    /// The same, for each of the step's sequences.
    public var perSequence: UInt64
    /// When a request is admitted.
    public var perRequest: UInt64
    /// The same, for each of its tokens.
    public var perPromptToken: UInt64

    public init(perStep: UInt64 = 0, perSequence: UInt64 = 0, perRequest: UInt64 = 0, perPromptToken: UInt64 = 0) {
        self.perStep = perStep
        self.perSequence = perSequence
        self.perRequest = perRequest
        self.perPromptToken = perPromptToken
    }

    /// The stall before a step.
    func step(sequences: Int) -> UInt64 { perStep &+ perSequence &* UInt64(clamping: sequences) }

    /// The stall of an admission.
    func admission(promptTokens: Int) -> UInt64 { perRequest &+ perPromptToken &* UInt64(clamping: promptTokens) }
}
