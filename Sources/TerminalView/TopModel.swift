// Tandem — Apache-2.0

/// What `tandem top` knows: the latest answers of a gateway, and whether it answers.
public struct TopModel: Sendable {
    struct Sample: Sendable {
        /// Seconds since any fixed instant, of this machine.
        var time: Double
        var snapshot: EnginesSnapshot
    }

    /// Counters' increases a second.
    public struct Rates: Sendable, Equatable {
        public var generated = 0.0
        public var prompt = 0.0
        public var steps = 0.0
    }

    /// Answers that are kept: what a sparkline of a wide terminal shows.
    static let history = 240
    /// Seconds over which latencies are taken.
    public static let latencyWindow = 10.0
    /// Seconds over which rates are taken.
    static let rateWindow = 3.0

    /// Where it looks, for people.
    public var endpoint: String
    public var isPaused = false
    public var showsHelp = false
    /// Seconds between two looks.
    public var interval: Double
    /// Why the gateway does not answer; `nil` while it does.
    public private(set) var problem: String?
    private(set) var problemSince = 0.0
    private(set) var samples: [Sample] = []

    public init(endpoint: String, interval: Double = 1) {
        self.endpoint = endpoint
        self.interval = interval
    }

    /// The latest answer.
    public var latest: EnginesSnapshot? { samples.last?.snapshot }

    /// Takes an answer.
    ///
    /// - Parameter time: seconds since any fixed instant.
    public mutating func received(_ snapshot: EnginesSnapshot, at time: Double) {
        problem = nil
        // Another process counts from 0 again.
        if let latest, latest.pid != snapshot.pid || latest.uptime > snapshot.uptime { samples = [] }
        samples.append(Sample(time: time, snapshot: snapshot))
        if samples.count > Self.history { samples.removeFirst(samples.count - Self.history) }
    }

    /// The gateway did not answer.
    public mutating func failed(_ reason: String, at time: Double) {
        if problem == nil { problemSince = time }
        problem = reason
    }

    // MARK: Figures

    /// The newest sample that is at least so many seconds older than the latest, else the oldest one.
    private func sample(before seconds: Double) -> Sample? {
        guard let last = samples.last else { return nil }
        return samples.last { last.time - $0.time >= seconds } ?? samples.first
    }

    /// Of the whole gateway; `nil` before there are two answers.
    var rates: Rates? {
        guard let last = samples.last, let first = sample(before: Self.rateWindow), last.time > first.time
        else { return nil }
        let seconds = last.time - first.time
        return Rates(
            generated: Self.increase(first.snapshot.generatedTokens, last.snapshot.generatedTokens) / seconds,
            prompt: Self.increase(first.snapshot.promptTokens, last.snapshot.promptTokens) / seconds)
    }

    /// Of an engine; `nil` before there are two answers about it.
    func rates(of engine: EnginesSnapshot.Engine) -> Rates? {
        guard let last = samples.last, let first = sample(before: Self.rateWindow), last.time > first.time,
            let before = first.snapshot.engines.first(where: {
                $0.index == engine.index && $0.model == engine.model
            })
        else { return nil }
        let seconds = last.time - first.time
        return Rates(
            generated: Self.increase(before.generatedTokens, engine.generatedTokens) / seconds,
            prompt: Self.increase(before.promptTokens, engine.promptTokens) / seconds,
            steps: Self.increase(before.steps, engine.steps) / seconds)
    }

    /// A counter that began anew has increased by what it shows.
    private static func increase(_ before: Int, _ after: Int) -> Double {
        Double(after >= before ? after - before : after)
    }

    /// Increases a second between one answer and the next, oldest first.
    func history(of counter: (EnginesSnapshot) -> Int) -> [Double] {
        zip(samples, samples.dropFirst()).map { first, second in
            let seconds = second.time - first.time
            return seconds > 0 ? Self.increase(counter(first.snapshot), counter(second.snapshot)) / seconds : 0
        }
    }

    /// Observations of the latest seconds, and how many seconds these are.
    func latest(_ histogram: (EnginesSnapshot) -> HistogramCounts) -> HistogramCounts {
        guard let last = samples.last, let first = sample(before: Self.latencyWindow), samples.count > 1
        else { return HistogramCounts() }
        return histogram(last.snapshot).since(histogram(first.snapshot))
    }
}
