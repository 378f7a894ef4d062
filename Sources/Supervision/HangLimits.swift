// Tandem — Apache-2.0

/// When a child that runs but gets nowhere counts as hanging, and is killed.
public struct HangLimits: Sendable, Equatable {
    /// How long a child that serves may give no sign of life; zero for ever. It gives one every 250 ms.
    public var silence: Duration
    /// How long an engine with work may get nowhere; zero for ever. Engines count parts of a step, on a CPU every layer of
    /// the model.
    public var step: Duration
    /// How long an engine may take from its start until it serves; zero for ever. While one starts under MPS no other does.
    public var start: Duration

    public init(silence: Duration = .seconds(10), step: Duration = .seconds(120), start: Duration = .zero) {
        self.silence = silence
        self.step = step
        self.start = start
    }

    /// A supervisor that looks so much later than it wanted to did not run meanwhile, and its children, maybe, neither:
    /// nobody can be blamed for a silence then.
    static let lateness = Duration.seconds(1)
}
