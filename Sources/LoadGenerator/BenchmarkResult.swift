// Tandem — Apache-2.0

/// What was asked for, as far as the result repeats it.
public struct BenchmarkSettings: Sendable {
    /// In words: what makes requests come, and what they are.
    public var pace: String
    public var workload: String
    public var url: String
    public var model: String
    /// Where the tokenizer came from; nil if words were counted.
    public var tokenizer: String?
    public var isChat = false
    public var seed: UInt64
    /// In requests per second; nil for a closed pace or one without a single rate.
    public var rate: Double?
    public var burstiness = 1.0
    /// Clients of a closed pace, or the most in flight of an open one.
    public var concurrency: Int?
    /// Whether latencies count from when requests were due.
    public var isOpen = false
    /// Whether answers must be as long as they may.
    public var ignoresEnd = false
    /// Length of a ramp in seconds, whose parts are to be told apart; nil for anything else.
    public var rampSeconds: Double?
    public var goodput: Goodput?

    public init(pace: String, workload: String, url: String, model: String, seed: UInt64) {
        self.pace = pace
        self.workload = workload
        self.url = url
        self.model = model
        self.seed = seed
    }
}

/// What was measured. Latencies are in milliseconds.
public struct BenchmarkResult: Sendable {
    /// Latencies of all requests that were answered; nil where no request has one.
    struct Latencies: Sendable {
        var timeToFirstToken: Statistics?
        var timePerOutputToken: Statistics?
        var interTokenLatency: Statistics?
        var endToEnd: Statistics?
    }

    /// Requests that failed for one reason.
    struct Failure: Sendable, Equatable {
        var reason: String
        var count: Int
        /// What the first of them was told.
        var example: String
    }

    /// Who counted the tokens of answers.
    enum TokenCounts: String, Sendable {
        case usage, chunks, mixed
    }

    public var settings: BenchmarkSettings
    var records: [RequestRecord]
    var seconds: Double
    public var complete: Int
    public var failed: Int
    /// In flight when the run was stopped, and due before that but not sent.
    public var unfinished: Int
    var unsent: Int
    public var isStopped: Bool
    var inputTokens: Int
    var outputTokens: Int
    var tokenCounts: TokenCounts?
    /// Answered within the limits; nil without limits.
    var good: Int?
    /// Counted from when requests were due, if the pace is open; else from when they were sent.
    var latencies: Latencies
    /// Counted from when requests were sent.
    var latenciesFromSending: Latencies
    var failures: [Failure]
    var peakInFlight: Int
    /// Most tokens that came within a second.
    var peakOutputTokens: Double
    var generator: GeneratorReport
    var slices: [BenchmarkSlice] = []
    /// Static batches.
    var batches: [BatchTiming]
    /// What a reader must know before using the numbers.
    public var warnings: [String] = []

    public init(_ outcome: LoadOutcome, settings: BenchmarkSettings) {
        self.settings = settings
        records = outcome.records
        seconds = Double(outcome.nanoseconds) / 1e9
        let answered = records.filter { $0.outcome == .complete }
        complete = answered.count
        unfinished = records.count { $0.outcome == .unfinished }
        failed = records.count - complete - unfinished
        unsent = outcome.unsent
        isStopped = outcome.isStopped
        inputTokens = answered.reduce(0) { $0 + $1.inputTokens }
        outputTokens = answered.reduce(0) { $0 + $1.outputTokens }
        let reported = answered.count { $0.completionTokens != nil }
        if complete > 0 { tokenCounts = reported == complete ? .usage : reported == 0 ? .chunks : .mixed }
        let isOpen = settings.isOpen
        latencies = Self.latencies(answered) { isOpen ? $0.scheduled : $0.sent }
        latenciesFromSending = isOpen ? Self.latencies(answered) { $0.sent } : latencies
        good = settings.goodput.map { goodput in
            answered.count { goodput.isMet(by: $0.latencies(from: isOpen ? $0.scheduled : $0.sent)) }
        }
        failures = Self.failures(records)
        peakInFlight = Self.peakInFlight(records)
        peakOutputTokens = Self.peakOutputTokens(answered)
        generator = GeneratorReport(outcome, isOpen: isOpen)
        if let length = settings.rampSeconds { slices = BenchmarkSlice.slices(records, seconds: length) }
        batches = outcome.batches
        warnings = generator.warnings + countWarnings(answered)
        if outcome.cachedPromptTokens > 0 {
            warnings.append("engines took \(outcome.cachedPromptTokens) tokens of prompts from their cache")
        }
    }

    private static func latencies(_ answered: [RequestRecord], from start: (RequestRecord) -> UInt64) -> Latencies {
        let each = answered.map { $0.latencies(from: start($0)) }
        return Latencies(
            timeToFirstToken: Statistics(each.compactMap(\.timeToFirstToken)),
            timePerOutputToken: Statistics(each.compactMap(\.timePerOutputToken)),
            interTokenLatency: Statistics(answered.flatMap { $0.gaps.map { Double($0) / 1e6 } }),
            endToEnd: Statistics(each.map(\.endToEnd)))
    }

    private static func failures(_ records: [RequestRecord]) -> [Failure] {
        var failures: [Failure] = []
        for record in records {
            guard case .failed(let reason, let detail) = record.outcome else { continue }
            if let place = failures.firstIndex(where: { $0.reason == reason }) {
                failures[place].count += 1
            } else {
                failures.append(Failure(reason: reason, count: 1, example: detail))
            }
        }
        return failures.sorted { $0.count > $1.count }
    }

    private static func peakInFlight(_ records: [RequestRecord]) -> Int {
        // At one moment ends go before beginnings.
        let changes = records.flatMap { [($0.sent, 1), (max($0.ended, $0.sent), -1)] }.sorted { $0 < $1 }
        var (inFlight, peak) = (0, 0)
        for change in changes {
            inFlight += change.1
            peak = max(peak, inFlight)
        }
        return peak
    }

    private static func peakOutputTokens(_ answered: [RequestRecord]) -> Double {
        var seconds: [UInt64: Double] = [:]
        for record in answered where record.chunks > 0 {
            guard var moment = record.firstText else { continue }
            let tokens = Double(record.outputTokens) / Double(record.chunks)
            seconds[moment / 1_000_000_000, default: 0] += tokens
            for gap in record.gaps {
                moment += gap
                seconds[moment / 1_000_000_000, default: 0] += tokens
            }
        }
        return seconds.values.max() ?? 0
    }

    private func countWarnings(_ answered: [RequestRecord]) -> [String] {
        var warnings: [String] = []
        let uncounted = answered.count { $0.completionTokens == nil }
        if uncounted > 0 {
            warnings.append(
                "the server did not report the tokens of \(uncounted) of \(complete) answers: there a piece of text "
                    + "counts as a token")
        }
        let others = answered.filter { record in
            guard let expected = record.expectedPromptTokens, let reported = record.promptTokens else { return false }
            return expected != reported
        }
        if let first = others.first {
            warnings.append(
                "\(others.count) of \(complete) prompts have another length by the server's count: the first has "
                    + "\(first.inputTokens) tokens and was made to have \(first.expectedPromptTokens ?? 0)")
        }
        let short = answered.count { ($0.completionTokens ?? .max) < $0.maximumTokens ?? 0 }
        if settings.ignoresEnd, short > 0 {
            warnings.append("\(short) of \(complete) answers are shorter than was asked for, in spite of ignore_eos")
        }
        return warnings
    }

    /// Per second; 0 if nothing took any time.
    func rate(_ count: Int) -> Double { seconds > 0 ? Double(count) / seconds : 0 }
}

/// What the generator was itself busy with, and whether its numbers can be trusted.
struct GeneratorReport: Sendable {
    /// How late requests were sent, in milliseconds; nil if none was.
    var sendLag: Statistics?
    /// How late its clock ticked, in milliseconds; nil if the run was too short for it.
    var tickLag: Statistics?
    /// Cores that this process kept busy, 1 for one of them.
    var cores: Double
    var cpuSeconds: Double
    var warnings: [String] = []

    /// Most that is let pass: milliseconds, and part of the time between two requests.
    private static let tolerableLag = (milliseconds: 1.0, part: 0.05)

    init(_ outcome: LoadOutcome, isOpen: Bool) {
        sendLag = Statistics(outcome.records.map { Double($0.lag) / 1e6 })
        tickLag = Statistics(outcome.tickLags.map { Double($0) / 1e6 })
        cpuSeconds = Double(outcome.cpuNanoseconds) / 1e9
        cores = outcome.nanoseconds > 0 ? Double(outcome.cpuNanoseconds) / Double(outcome.nanoseconds) : 0
        let text = { (value: Double) in Decimal.text(value, digits: 2) }
        if let late = sendLag?.percentile(99) {
            let moments = outcome.records.map(\.scheduled)
            let span = Double((moments.max() ?? 0) - (moments.min() ?? 0)) / 1e6
            let interval = moments.count > 1 ? span / Double(moments.count - 1) : .infinity
            if late > Self.tolerableLag.milliseconds {
                warnings.append("the generator sent late: p99 \(text(late)) ms; the machine is too busy for this load")
            } else if isOpen, interval > 0, late > Self.tolerableLag.part * interval {
                warnings.append(
                    "the generator sent late: p99 \(text(late)) ms, with \(text(interval)) ms between two requests")
            }
        }
        if let late = tickLag?.percentile(99), late > Self.tolerableLag.milliseconds {
            warnings.append(
                "the generator was kept from its work: its clock ticked late by \(text(late)) ms (p99), and latencies "
                    + "may be too long by as much")
        }
    }
}

/// A part of a ramp: what was due in it, and what became of that.
struct BenchmarkSlice: Sendable {
    /// Seconds from the beginning.
    var range: Range<Double>
    var sent: Int
    var failed: Int
    var outputTokens: Int
    var timeToFirstToken: Statistics?
    var endToEnd: Statistics?

    private static let parts = 10

    static func slices(_ records: [RequestRecord], seconds: Double) -> [BenchmarkSlice] {
        (0..<parts).map { part in
            let range = seconds * Double(part) / Double(parts)..<seconds * Double(part + 1) / Double(parts)
            let due = records.filter { range.contains(Double($0.scheduled) / 1e9) }
            let answered = due.filter { $0.outcome == .complete }
            let latencies = answered.map { $0.latencies(from: $0.scheduled) }
            return BenchmarkSlice(
                range: range, sent: due.count, failed: due.count - answered.count,
                outputTokens: answered.reduce(0) { $0 + $1.outputTokens },
                timeToFirstToken: Statistics(latencies.compactMap(\.timeToFirstToken)),
                endToEnd: Statistics(latencies.map(\.endToEnd)))
        }
    }
}
