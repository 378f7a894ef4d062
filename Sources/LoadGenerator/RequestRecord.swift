// Tandem — Apache-2.0

/// What became of one request. Times are nanoseconds from the beginning of the run.
public struct RequestRecord: Sendable, Equatable {
    /// How a request ended.
    public enum Outcome: Sendable, Equatable {
        case complete
        /// - Parameters:
        ///   - reason: few words that are the same for the same cause, to be counted by.
        ///   - detail: what the server or the system said.
        case failed(reason: String, detail: String)
        /// The run was ended before the request was.
        case unfinished
    }

    /// Its place in the workload.
    public var index: Int
    /// When it was due.
    public var scheduled: UInt64
    /// When it was sent.
    public var sent: UInt64
    /// How late it was sent by the generator's own fault: not counted is the wait for a free place under a limit of
    /// requests in flight.
    public var lag: UInt64 = 0
    /// When the first and the last text of the answer came; nil if there was none, or it did not come as a stream.
    public var firstText: UInt64?
    public var lastText: UInt64?
    public var ended: UInt64 = 0
    /// Between one piece of text and the next.
    public var gaps: [UInt64] = []
    /// Pieces of text.
    public var chunks = 0
    /// What the server reported.
    public var promptTokens: Int?
    public var completionTokens: Int?
    /// What was asked for.
    public var expectedPromptTokens: Int?
    public var maximumTokens: Int?
    public var outcome = Outcome.unfinished

    public init(index: Int, scheduled: UInt64, sent: UInt64) {
        self.index = index
        self.scheduled = scheduled
        self.sent = sent
    }

    /// Tokens of the answer: the server's count, else one a piece of text.
    public var outputTokens: Int { completionTokens ?? chunks }

    /// Tokens of the prompt: the server's count, else what it was made to have.
    public var inputTokens: Int { promptTokens ?? expectedPromptTokens ?? 0 }

    /// Latencies, in milliseconds, counted from a moment.
    func latencies(from start: UInt64) -> Latencies {
        let milliseconds = { (moment: UInt64) in Double(moment &- min(start, moment)) / 1e6 }
        var latencies = Latencies(endToEnd: milliseconds(ended))
        if let firstText, let lastText {
            latencies.timeToFirstToken = milliseconds(firstText)
            if outputTokens > 1 {
                latencies.timePerOutputToken = Double(lastText &- firstText) / 1e6 / Double(outputTokens - 1)
            }
            latencies.longestGap = gaps.max().map { Double($0) / 1e6 }
        }
        return latencies
    }

    /// In milliseconds.
    struct Latencies {
        var timeToFirstToken: Double?
        var timePerOutputToken: Double?
        /// Between two pieces of text.
        var longestGap: Double?
        var endToEnd: Double
    }
}
