// Tandem — Apache-2.0

extension BenchmarkResult {
    /// The result for people, with a line feed at the end of every line.
    public var table: String {
        let number = { (value: Double, digits: Int) in Decimal.text(value, digits: digits) }
        var lines = [
            "\(settings.url), model \(settings.model)\(settings.isChat ? ", chat" : "")",
            "\(settings.pace); \(settings.workload); seed \(settings.seed)",
            "",
        ]
        var requests = "\(complete) complete, \(failed) failed"
        if unfinished > 0 { requests += ", \(unfinished) unfinished" }
        if unsent > 0 { requests += ", \(unsent) due and not sent" }
        lines.append(
            Self.row("requests", "\(requests), in \(number(seconds, 2)) s\(isStopped ? " (interrupted)" : "")"))
        for failure in failures {
            lines.append(Self.row("", "\(failure.count) x \(failure.reason): \(failure.example)"))
        }
        lines.append(
            Self.row(
                "throughput",
                "\(number(rate(complete), 2)) requests/s, \(number(rate(outputTokens), 1)) output tokens/s, "
                    + "\(number(rate(inputTokens + outputTokens), 1)) tokens/s in all"))
        if let good, let goodput = settings.goodput {
            lines.append(
                Self.row(
                    "goodput",
                    "\(number(rate(good), 2)) requests/s: \(good) of \(records.count) within \(goodput.description)"))
        }
        if let tokenCounts {
            let who =
                switch tokenCounts {
                case .usage: "the server's count"
                case .chunks: "a piece of text is taken for a token: the server did not count"
                case .mixed: "the server's count, and pieces of text where it did not count"
                }
            lines.append(Self.row("tokens", "\(inputTokens) in, \(outputTokens) out (\(who))"))
        }
        lines.append(Self.row("in flight", "\(peakInFlight) at most"))
        lines += latencyLines
        lines += sliceLines
        lines += batchLines
        lines += ["", Self.row("generator", generator.text)]
        lines += warnings.map { "warning: \($0)" }
        return lines.map { $0 + "\n" }.joined()
    }

    private static func row(_ name: String, _ text: String) -> String { padded(name, 13) + text }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(1, width - text.count))
    }

    private static func right(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(1, width - text.count)) + text
    }

    private var latencyLines: [String] {
        guard complete > 0 else { return [] }
        let columns = ["mean", "p50", "p90", "p95", "p99", "max"]
        let title = settings.isOpen ? "ms from due time" : "ms"
        var lines = ["", Self.padded(title, 23) + columns.map { Self.right($0, 10) }.joined()]
        let add = { (name: String, statistics: Statistics?) in
            guard let statistics else { return lines.append(Self.padded(name, 23) + Self.right("-", 10)) }
            let values = [statistics.mean] + [50, 90, 95, 99].map { statistics.percentile($0) } + [statistics.maximum]
            let texts = values.map { Self.right(Decimal.text($0, digits: 2), 10) }
            lines.append(Self.padded(name, 23) + texts.joined())
        }
        add("time to first token", latencies.timeToFirstToken)
        add("time per output token", latencies.timePerOutputToken)
        add("inter-token latency", latencies.interTokenLatency)
        add("end to end", latencies.endToEnd)
        if settings.isOpen {
            lines.append("ms from sending")
            add("time to first token", latenciesFromSending.timeToFirstToken)
            add("end to end", latenciesFromSending.endToEnd)
        }
        return lines
    }

    private var batchLines: [String] {
        guard !batches.isEmpty else { return [] }
        let columns = ["seconds", "prefill s", "tokens", "decode tok/s"]
        var lines = ["", Self.padded("batch", 13) + columns.map { Self.right($0, 13) }.joined()]
        for (number, batch) in batches.enumerated() {
            let seconds = { (nanoseconds: UInt64) in Decimal.text(Double(nanoseconds) / 1e9, digits: 3) }
            let texts = [
                seconds(batch.ended - batch.submitted), seconds(batch.prefilled - batch.submitted), "\(batch.tokens)",
                batch.decodeRate.map { Decimal.text($0, digits: 1) } ?? "-",
            ]
            lines.append(Self.padded("\(number + 1)", 13) + texts.map { Self.right($0, 13) }.joined())
        }
        return lines
    }

    private var sliceLines: [String] {
        guard !slices.isEmpty else { return [] }
        let columns = ["offered/s", "requests", "failed", "TTFT mean", "TTFT p99", "e2e mean"]
        var lines = ["", Self.padded("seconds", 13) + columns.map { Self.right($0, 11) }.joined()]
        for slice in slices {
            let length = slice.range.upperBound - slice.range.lowerBound
            let milliseconds = { (value: Double?) in value.map { Decimal.text($0, digits: 1) } ?? "-" }
            let texts = [
                Decimal.text(Double(slice.sent) / length, digits: 2), "\(slice.sent)", "\(slice.failed)",
                milliseconds(slice.timeToFirstToken?.mean), milliseconds(slice.timeToFirstToken?.percentile(99)),
                milliseconds(slice.endToEnd?.mean),
            ]
            let ends = [slice.range.lowerBound, slice.range.upperBound].map { Decimal.text($0, digits: 1) }
            lines.append(
                Self.padded(ends.joined(separator: "-"), 13) + texts.map { Self.right($0, 11) }.joined())
        }
        return lines
    }
}

extension GeneratorReport {
    /// In words.
    var text: String {
        let number = { (value: Double) in Decimal.text(value, digits: 2) }
        var parts: [String] = []
        if let sendLag { parts.append("sent late by \(number(sendLag.percentile(99))) ms (p99)") }
        if let tickLag { parts.append("clock late by \(number(tickLag.percentile(99))) ms (p99)") }
        parts.append("\(number(cores)) cores used")
        return parts.joined(separator: ", ")
    }
}
