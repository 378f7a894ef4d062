// Tandem — Apache-2.0

import JSON
import Testing

@testable import LoadGenerator

@Suite struct ResultTests {
    private let millisecond: UInt64 = 1_000_000

    /// Due at 10 ms, sent at 20, text at 50, 60 and 90, ended at 100.
    private func answered(_ index: Int, tokens: Int? = 4) -> RequestRecord {
        var record = RequestRecord(index: index, scheduled: 10 * millisecond, sent: 20 * millisecond)
        (record.firstText, record.lastText) = (50 * millisecond, 90 * millisecond)
        record.gaps = [10 * millisecond, 30 * millisecond]
        record.chunks = 3
        record.ended = 100 * millisecond
        (record.promptTokens, record.completionTokens) = (7, tokens)
        (record.expectedPromptTokens, record.maximumTokens) = (7, 4)
        record.outcome = .complete
        return record
    }

    private func failed(_ index: Int, _ reason: String) -> RequestRecord {
        var record = RequestRecord(index: index, scheduled: 0, sent: 0)
        record.ended = 5 * millisecond
        record.outcome = .failed(reason: reason, detail: "detail \(index)")
        return record
    }

    private func settings(isOpen: Bool) -> BenchmarkSettings {
        var settings = BenchmarkSettings(pace: "p", workload: "w", url: "http://h:1", model: "m", seed: 9)
        settings.isOpen = isOpen
        settings.ignoresEnd = true
        return settings
    }

    private func result(_ records: [RequestRecord], _ settings: BenchmarkSettings) -> BenchmarkResult {
        var outcome = LoadOutcome()
        outcome.records = records
        outcome.nanoseconds = 500 * millisecond
        outcome.cpuNanoseconds = 50 * millisecond
        outcome.tickLags = [1000, 2000]
        return BenchmarkResult(outcome, settings: settings)
    }

    private func document(_ result: BenchmarkResult, isDetailed: Bool = false) throws -> JSONObject {
        let bytes = result.json(date: "d", version: "v", isDetailed: isDetailed)
        return try #require(try JSONParser.parse(bytes).object)
    }

    @Test func percentilesAreExact() throws {
        let statistics = try #require(Statistics([4, 1, 3, 2]))
        #expect(statistics.mean == 2.5 && statistics.median == 2.5 && statistics.maximum == 4)
        #expect(statistics.percentile(0) == 1 && statistics.percentile(100) == 4)
        #expect(abs(statistics.percentile(90) - 3.7) < 1e-12)
        #expect(abs(statistics.deviation - 1.25.squareRoot()) < 1e-12)
        #expect(Statistics([5])?.percentile(99) == 5 && Statistics([]) == nil)
        let hundred = try #require(Statistics((1...101).map(Double.init).reversed()))
        #expect([50, 90, 95, 99].map { hundred.percentile($0) } == [51, 91, 96, 100])
    }

    @Test func latenciesCountFromWhenTheyShould() throws {
        let open = try document(result([answered(0)], settings(isOpen: true)))
        #expect(open["mean_ttft_ms"]?.number == 40 && open["p99_e2el_ms"]?.number == 90)
        #expect(open["from_sent"]?.object?["mean_ttft_ms"]?.number == 30)
        #expect(open["from_sent"]?.object?["p50_e2el_ms"]?.number == 80)
        #expect(open["latency_from"]?.string == "scheduled")
        let closed = try document(result([answered(0)], settings(isOpen: false)))
        #expect(closed["mean_ttft_ms"]?.number == 30 && closed["latency_from"]?.string == "sent")
        for document in [open, closed] {
            #expect(document["mean_itl_ms"]?.number == 20 && document["p99_itl_ms"]?.number == 29.8)
            #expect(abs((document["mean_tpot_ms"]?.number ?? 0) - 40.0 / 3) < 1e-9)
        }
    }

    @Test func countsAndRates() throws {
        let records = [answered(0), answered(1), failed(2, "HTTP 429"), failed(3, "HTTP 500"), failed(4, "HTTP 429")]
        let result = result(records, settings(isOpen: false))
        let document = try document(result, isDetailed: true)
        let counts = ["completed", "failed", "total_input_tokens", "total_output_tokens", "num_prompts"]
        #expect(counts.map { document[$0]?.integer } == [2, 3, 14, 8, 5])
        #expect(document["request_throughput"]?.number == 4 && document["output_throughput"]?.number == 16)
        #expect(document["total_token_throughput"]?.number == 44 && document["request_rate"]?.string == "inf")
        #expect(document["max_concurrent_requests"]?.integer == 3)
        #expect(document["max_output_tokens_per_s"]?.number.map { abs($0 - 8) < 1e-9 } == true)
        #expect(document["request_goodput"]?.isNull == true && document["token_counts"]?.string == "usage")
        #expect(document["generator_cores"]?.number == 0.1)
        let failures = document["failures"]?.array?.map { $0.object?["count"]?.integer }
        #expect(failures == [2, 1])
        #expect(
            document["errors"]?.array?.map(\.string) == [
                "", "", "HTTP 429: detail 2", "HTTP 500: detail 3", "HTTP 429: detail 4",
            ])
        #expect(document["ttfts"]?.array?.map(\.number) == [0.03, 0.03, 0, 0, 0])
        #expect(result.table.contains("2 x HTTP 429: detail 2") && result.table.contains("2 complete, 3 failed"))
        #expect(result.warnings.isEmpty)
    }

    @Test func nothingAnswered() throws {
        let result = result([failed(0, "unreachable")], settings(isOpen: true))
        let document = try document(result)
        #expect(document["mean_ttft_ms"]?.isNull == true && document["output_throughput"]?.number == 0)
        #expect(document["token_counts"]?.isNull == true)
        #expect(result.table.contains("1 x unreachable: detail 0"))
    }

    @Test func goodputCounts() throws {
        let cases = [
            ("ttft:30", 2), ("ttft:29", 0), ("itl:30,e2el:80", 2), ("itl:29", 0), ("tpot:13.3", 0), ("tpot:14", 2),
        ]
        for (text, good) in cases {
            var settings = settings(isOpen: false)
            settings.goodput = try Goodput(text)
            let result = result([answered(0), answered(1), failed(2, "x")], settings)
            #expect(result.good == good, "\(text)")
            #expect(try document(result)["request_goodput"]?.number == Double(good) * 2)
        }
        #expect(try Goodput("ttft:500 itl:50.5").description == "ttft:500,itl:50.5")
        for text in ["", "ttft", "ttft:-1", "ttft:x", "foo:1", "ttft:inf", "ttft:1:2"] {
            #expect(throws: LoadGeneratorError.self, "\(text)") { try Goodput(text) }
        }
    }

    @Test func whatIsDoubtfulIsSaid() {
        var (uncounted, short, other) = (answered(0, tokens: nil), answered(1, tokens: 3), answered(2))
        other.promptTokens = 8
        uncounted.lag = 3 * millisecond
        short.lag = 0
        let result = result([uncounted, short, other], settings(isOpen: true))
        #expect(result.tokenCounts == .mixed && result.outputTokens == 3 + 3 + 4)
        #expect(result.warnings.count == 4)
        #expect(result.warnings[0].contains("sent late: p99 2.94 ms"))
        #expect(result.warnings[1].contains("1 of 3 answers"))
        #expect(result.warnings[2].contains("has 8 tokens and was made to have 7"))
        #expect(result.warnings[3].contains("1 of 3 answers are shorter"))
    }

    @Test func lagIsComparedWithTheInterval() {
        let records = (0..<3).map { index in
            var record = RequestRecord(index: index, scheduled: UInt64(index) * millisecond, sent: 0)
            record.lag = millisecond / 5
            return record
        }
        #expect(result(records, settings(isOpen: true)).warnings.count == 1)
        #expect(result(records, settings(isOpen: false)).warnings.isEmpty)
    }

    @Test func rampsAreCutIntoSlices() throws {
        var settings = settings(isOpen: true)
        settings.rampSeconds = 0.1
        let result = result([answered(0), failed(1, "x")], settings)
        let slices = try #require(try document(result)["slices"]?.array?.map(\.object))
        #expect(slices.count == 10 && slices[0]?["failed"]?.integer == 1 && slices[1]?["requests"]?.integer == 1)
        #expect(slices[1]?["mean_ttft_ms"]?.number == 40 && slices[2]?["mean_ttft_ms"]?.isNull == true)
        #expect(slices[1]?["offered_rate"]?.number.map { abs($0 - 100) < 1e-6 } == true)
    }

    @Test func numbersForPeople() {
        #expect(Decimal.text(1.005, digits: 1) == "1.0" && Decimal.text(12.345, digits: 2) == "12.35")
        #expect(Decimal.text(-0.04, digits: 1) == "0.0" && Decimal.text(-1.26, digits: 1) == "-1.3")
        #expect(Decimal.text(7, digits: 0) == "7" && Decimal.text(.infinity, digits: 1) == "-")
        #expect(Decimal.text(0.05, digits: 3, trims: true) == "0.05" && Decimal.text(5, digits: 3, trims: true) == "5")
    }
}
