// Tandem — Apache-2.0

internal import EngineLink
internal import HTTPCore
internal import JSON
internal import LoadGenerator
internal import NIOCore

extension MeasuredStudy {
    /// Seconds in which requests come where the definition says nothing.
    static let arrivalSeconds = 20.0
    /// So many times as long as requests come, a run may take.
    private static let patience = 4.0

    /// Requests over HTTP to a server, at their own pace; those of the first third do not count.
    ///
    /// - Parameter name: of the model, as the server knows it.
    /// - Returns: the plan, and how many nanoseconds from its begin do not count.
    func loadPlan(
        _ server: StudyServer, _ cell: StudyCell, _ arm: StudyArm, _ text: PromptText, name: String, seed: UInt64
    ) -> LoadPlan {
        let rate = (cell.load ?? 0) * (cell.convention == .perEngine ? Double(arm.engines) : 1)
        let seconds = definition.arrivalSeconds ?? Self.arrivalSeconds
        var random = RandomSource(seed: seed)
        let schedule = ArrivalProcess.poisson(rate: rate).schedule(requests: nil, seconds: seconds, random: &random)
        var fields = JSONObject()
        fields["temperature"] = .number(0)
        fields["ignore_eos"] = .bool(true)
        return LoadPlan(
            endpoint: HTTPEndpoint(host: "127.0.0.1", port: Int(server.port)),
            template: RequestTemplate(model: name, isChat: false, streams: true, fields: fields),
            workload: Workload(
                source: .synthetic(
                    SyntheticWorkload(
                        inputTokens: .fixed(cell.context), outputTokens: .fixed(definition.outputTokens))),
                text: text, seed: seed),
            pace: .open(schedule: schedule))
    }

    /// After so long a run is given up, and what has not ended counts with the time it took so far.
    var longestLoad: TimeAmount {
        .nanoseconds(Int64((definition.arrivalSeconds ?? Self.arrivalSeconds) * Self.patience * 1e9))
    }

    /// Latencies and throughput of what came after the first third.
    func readLoad(_ outcome: LoadOutcome, _ measurement: inout StudyMeasurement) {
        let seconds = definition.arrivalSeconds ?? Self.arrivalSeconds
        let (begin, end) = (UInt64(seconds / 3 * 1e9), UInt64(seconds * 1e9))
        let counted = outcome.records.filter { $0.scheduled >= begin }
        let answered = counted.filter { $0.outcome == .complete }
        measurement.completed = answered.count
        measurement.failed = counted.count { record in
            if case .failed = record.outcome { return true }
            return false
        }
        if let fault = outcome.fault { return measurement.failure = fault }
        for record in outcome.records {
            guard case .failed(let reason, let detail) = record.outcome else { continue }
            measurement.failure = "\(measurement.failed ?? 0) of \(counted.count) requests: \(reason): \(detail)"
            return
        }
        guard !counted.isEmpty else {
            measurement.failure = "no request came; give higher \"loads\", or more \"arrival_seconds\""
            return
        }
        // From when requests were due: who makes the client wait is charged for it.
        let waited = { (record: RequestRecord, moment: UInt64) in Double(moment &- record.scheduled) / 1e9 }
        measurement.endToEnd = .init(counted.map { waited($0, max($0.ended, $0.scheduled)) })
        measurement.timeToFirstToken = .init(counted.map { waited($0, max($0.firstText ?? $0.ended, $0.scheduled)) })
        measurement.interTokenLatency = .init(answered.flatMap(\.gaps).map { Double($0) / 1e9 })
        // Tokens are spread evenly between a request's first and last: servers report numbers, not moments.
        var tokens = 0.0
        var prompts = 0
        for record in outcome.records {
            guard let first = record.firstText, let last = record.lastText, record.outputTokens > 0 else { continue }
            if first >= begin, first < end { prompts += record.inputTokens }
            let inside = Double(min(max(last, begin), end) - min(max(first, begin), end))
            let whole = Double(last - first)
            // What comes at once comes at that moment.
            let share = whole > 0 ? inside / whole : first >= begin && first < end ? 1 : 0
            tokens += Double(record.outputTokens) * share
        }
        let window = Double(end - begin) / 1e9
        measurement.generatedTokensPerSecond = tokens / window
        measurement.promptTokensPerSecond = Double(prompts) / window
        measurement.requestsPerSecond = tokens / window / Double(max(1, definition.outputTokens))
        let unfinished = counted.count { $0.outcome == .unfinished }
        if unfinished > 0 {
            measurement.notes.append(
                "\(unfinished) of \(counted.count) requests had not ended when the run was given up; their latencies "
                    + "are lower bounds")
        }
    }
}
