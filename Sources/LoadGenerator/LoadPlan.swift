// Tandem — Apache-2.0

public import HTTPCore

/// A run: what is sent where, and when.
public struct LoadPlan: Sendable {
    /// What makes the next request come.
    public enum Pace: Sendable, Equatable {
        /// So many clients, each of which sends its next request when it has its answer, after a pause.
        case closed(clients: Int, pauseNanoseconds: UInt64 = 0)
        /// At these nanoseconds from the beginning, whatever the server does.
        ///
        /// - Parameter limit: the most in flight; others wait, and their latency grows meanwhile. Nil for no limit.
        case open(schedule: [UInt64], limit: Int? = nil)
    }

    public var endpoint: HTTPEndpoint
    public var apiKey: String?
    public var template: RequestTemplate
    public var workload: Workload
    public var pace: Pace
    /// The most requests of a closed pace; nil for no limit.
    public var requests: Int?
    /// After which no request of a closed pace is sent; nil for no limit.
    public var nanoseconds: UInt64?
    /// How long the server may be silent.
    public var timeoutNanoseconds: UInt64 = 600_000_000_000

    public init(
        endpoint: HTTPEndpoint, apiKey: String? = nil, template: RequestTemplate, workload: Workload, pace: Pace,
        requests: Int? = nil, nanoseconds: UInt64? = nil
    ) {
        self.endpoint = endpoint
        self.apiKey = apiKey
        self.template = template
        self.workload = workload
        self.pace = pace
        self.requests = requests
        self.nanoseconds = nanoseconds
    }

    /// How many requests there will be; nil if only time tells.
    public var expectedRequests: Int? {
        switch pace {
        case .closed: requests
        case .open(let schedule, _): schedule.count
        }
    }
}

/// Where a run is.
public struct LoadProgress: Sendable, Equatable {
    public var sent = 0
    public var complete = 0
    public var failed = 0
    /// Pieces of text that came.
    public var chunks = 0

    /// Nothing was sent yet.
    public init() {}

    public var inFlight: Int { sent - complete - failed }
}

/// What a run brought.
public struct LoadOutcome: Sendable {
    /// Of all requests that were sent, in the order of their numbers.
    public var records: [RequestRecord] = []
    /// Requests that were due before the run was stopped and were not sent.
    public var unsent = 0
    /// Whether it was stopped before its end.
    public var isStopped = false
    /// How late the generator's own clock ticked, in nanoseconds: what is late by it is late in all it measures.
    public var tickLags: [UInt64] = []
    /// From the beginning to the end of the last request.
    public var nanoseconds: UInt64 = 0
    /// CPU time that this process took meanwhile.
    public var cpuNanoseconds: UInt64 = 0

    /// Static batches, if these were sent.
    public var batches: [BatchTiming] = []
    /// Prompt tokens that an engine had kept, in static batches.
    public var cachedPromptTokens = 0
    /// Why nothing could be sent at all.
    public var fault: String?

    /// Nothing.
    public init() {}
}
