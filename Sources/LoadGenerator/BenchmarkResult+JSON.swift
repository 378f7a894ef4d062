// Tandem — Apache-2.0

import JSON

extension BenchmarkResult {
    /// The result as a document. Fields that `vllm bench serve` writes have its names and units (vLLM 0.31,
    /// `vllm/benchmarks/serve.py`); others are our own.
    ///
    /// - Parameters:
    ///   - date: as vLLM writes it: `20261126-193000`.
    ///   - isDetailed: whether the values of single requests are in it.
    public func json(date: String, version: String, isDetailed: Bool) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.field("date", date)
        writer.field("endpoint_type", settings.isChat ? "openai-chat" : "openai")
        writer.field("backend", settings.isChat ? "openai-chat" : "openai")
        writer.field("model_id", settings.model)
        writer.field("tokenizer_id", settings.tokenizer)
        writer.field("num_prompts", records.count)
        // As vLLM has it, which calls a closed loop an infinite rate under a limit of concurrency.
        if let rate = settings.rate { writer.field("request_rate", rate) } else { writer.field("request_rate", "inf") }
        writer.field("burstiness", settings.burstiness)
        writer.field("max_concurrency", settings.concurrency)
        writer.field("duration", seconds)
        writer.field("completed", complete)
        writer.field("failed", failed)
        writer.field("total_input_tokens", inputTokens)
        writer.field("total_output_tokens", outputTokens)
        writer.field("request_throughput", rate(complete))
        writer.field("request_goodput", good.map { rate($0) })
        writer.field("output_throughput", rate(outputTokens))
        writer.field("total_token_throughput", rate(inputTokens + outputTokens))
        writer.field("max_output_tokens_per_s", peakOutputTokens)
        writer.field("max_concurrent_requests", peakInFlight)
        write(latencies, isFull: true, to: &writer)
        if isDetailed { writeDetails(to: &writer) }
        writeOwn(version: version, to: &writer)
        writer.endObject()
        return writer.bytes + [UInt8(ascii: "\n")]
    }

    private func write(_ latencies: Latencies, isFull: Bool, to writer: inout JSONWriter) {
        var all = [("ttft", latencies.timeToFirstToken)]
        if isFull { all += [("tpot", latencies.timePerOutputToken), ("itl", latencies.interTokenLatency)] }
        all.append(("e2el", latencies.endToEnd))
        for (name, statistics) in all {
            writer.field("mean_\(name)_ms", statistics?.mean)
            writer.field("median_\(name)_ms", statistics?.median)
            writer.field("std_\(name)_ms", statistics?.deviation)
            for percent in [50, 90, 95, 99] {
                writer.field("p\(percent)_\(name)_ms", statistics?.percentile(Double(percent)))
            }
            writer.field("max_\(name)_ms", statistics?.maximum)
        }
    }

    /// Lists as long as the workload. Times are in seconds, as vLLM's are.
    private func writeDetails(to writer: inout JSONWriter) {
        let seconds = { (moment: UInt64) in Double(moment) / 1e9 }
        writer.list("input_lens", records) { $1.integer($0.inputTokens) }
        writer.list("output_lens", records) { $1.integer($0.outcome == .complete ? $0.outputTokens : 0) }
        writer.list("ttfts", records) { record, writer in
            let start = settings.isOpen ? record.scheduled : record.sent
            writer.number(record.firstText.map { seconds($0 - min(start, $0)) } ?? 0)
        }
        writer.list("itls", records) { record, writer in
            writer.beginArray()
            for gap in record.gaps { writer.number(seconds(gap)) }
            writer.endArray()
        }
        writer.list("start_times", records) { $1.number(seconds($0.sent)) }
        writer.list("scheduled_times", records) { $1.number(seconds($0.scheduled)) }
        writer.list("end_times", records) { $1.number(seconds($0.ended)) }
        writer.list("errors", records) { record, writer in
            switch record.outcome {
            case .complete: writer.string("")
            case .failed(let reason, let detail): writer.string("\(reason): \(detail)")
            case .unfinished: writer.string("unfinished")
            }
        }
    }

    private func writeOwn(version: String, to writer: inout JSONWriter) {
        writer.field("generator", "tandem bench \(version)")
        writer.field("url", settings.url)
        writer.field("pace", settings.pace)
        writer.field("workload", settings.workload)
        writer.key("seed")
        writer.integer(settings.seed)
        writer.field("latency_from", settings.isOpen ? "scheduled" : "sent")
        writer.key("from_sent")
        writer.beginObject()
        write(latenciesFromSending, isFull: false, to: &writer)
        writer.endObject()
        writer.field("token_counts", tokenCounts?.rawValue)
        writer.field("goodput_limits", settings.goodput?.description)
        writer.field("good_requests", good)
        writer.field("unfinished", unfinished)
        writer.field("unsent", unsent)
        writer.key("interrupted")
        writer.bool(isStopped)
        writer.list("failures", failures) { failure, writer in
            writer.beginObject()
            writer.field("reason", failure.reason)
            writer.field("count", failure.count)
            writer.field("example", failure.example)
            writer.endObject()
        }
        writer.field("generator_send_lag_p99_ms", generator.sendLag?.percentile(99))
        writer.field("generator_clock_lag_p99_ms", generator.tickLag?.percentile(99))
        writer.field("generator_cpu_seconds", generator.cpuSeconds)
        writer.field("generator_cores", generator.cores)
        if !slices.isEmpty {
            writer.list("slices", slices) { slice, writer in
                writer.beginObject()
                let length = slice.range.upperBound - slice.range.lowerBound
                writer.field("from_s", slice.range.lowerBound)
                writer.field("to_s", slice.range.upperBound)
                writer.field("offered_rate", Double(slice.sent) / length)
                writer.field("requests", slice.sent)
                writer.field("failed", slice.failed)
                writer.field("output_tokens", slice.outputTokens)
                writer.field("mean_ttft_ms", slice.timeToFirstToken?.mean)
                writer.field("p99_ttft_ms", slice.timeToFirstToken?.percentile(99))
                writer.field("mean_e2el_ms", slice.endToEnd?.mean)
                writer.endObject()
            }
        }
        if !batches.isEmpty {
            let seconds = { (nanoseconds: UInt64) in Double(nanoseconds) / 1e9 }
            writer.list("batches", batches) { batch, writer in
                writer.beginObject()
                writer.field("duration_s", seconds(batch.ended - batch.submitted))
                writer.field("prefill_s", seconds(batch.prefilled - batch.submitted))
                writer.field("output_tokens", batch.tokens)
                writer.field("decode_throughput", batch.decodeRate)
                writer.endObject()
            }
        }
        writer.list("warnings", warnings) { $1.string($0) }
    }
}

extension JSONWriter {
    fileprivate mutating func field(_ name: String, _ value: String?) {
        key(name)
        if let value { string(value) } else { null() }
    }

    fileprivate mutating func field(_ name: String, _ value: Int?) {
        key(name)
        if let value { integer(value) } else { null() }
    }

    fileprivate mutating func field(_ name: String, _ value: Double?) {
        key(name)
        if let value { number(value) } else { null() }
    }

    fileprivate mutating func list<Value>(
        _ name: String, _ values: [Value], _ write: (Value, inout JSONWriter) -> Void
    ) {
        key(name)
        beginArray()
        for value in values { write(value, &self) }
        endArray()
    }
}
