// Tandem — Apache-2.0

import JSON
import Testing

@testable import TerminalView

/// An answer of `/engines` with two engines.
func snapshot(
    uptime: Double = 60, generated: Int = 0, running: Int = 3, state: String = "ready", events: String = "",
    counts: [Int] = [0, 0, 0]
) throws -> EnginesSnapshot {
    let text = """
        {"version": "1.2.3", "pid": 7, "uptime_seconds": \(uptime), "event_loops": 1,
         "gateway": {"requests": 5, "sequences": 5, "held_sequences": 0, "prompt_tokens": \(generated * 2),
           "generated_tokens": \(generated), "finished": 12, "failed": 0, "aborted": 1, "retries": 2, "migrations": 3},
         "engines": [
           {"index": 0, "model": "toy", "state": "ready", "serving": true, "pid": 100, "restarts": 0, "reason": "",
            "device": "cpu", "max_sequences": 8, "running": \(running), "waiting": 0, "kv_blocks_used": 30,
            "kv_blocks_total": 40, "steps": \(generated), "prompt_tokens": 200, "cached_prompt_tokens": 50,
            "generated_tokens": \(generated)},
           {"index": 1, "model": "toy", "state": "\(state)", "serving": \(state == "ready"), "pid": 0, "restarts": 4,
            "reason": "was killed by SIGKILL", "device": null, "running": null, "waiting": null}],
         "latency": {"time_to_first_token_seconds": {"bounds": [0.01, 0.1], "counts": \(counts), "sum": 1},
           "inter_token_latency_seconds": {"bounds": [0.01, 0.1], "counts": \(counts), "sum": 1}},
         "events": [\(events)]}
        """
    return try #require(EnginesSnapshot(JSONParser.parse(text.utf8)))
}

let death = #"""
    {"id": 1, "time": 5, "uptime_seconds": 50, "kind": "engine_lost", "model": "toy", "engine": 1,
     "reason": "was killed by SIGKILL"},
    {"id": 2, "time": 5, "uptime_seconds": 50, "kind": "sequences_moved", "model": "toy", "engine": 1,
     "reason": "", "continued": 2, "retried": 1, "refused": 0},
    {"id": 3, "time": 5, "uptime_seconds": 58, "kind": "engine_ready", "model": "toy", "engine": 1, "reason": ""}
    """#

@Suite struct TopModelTests {
    @Test func answersAreRead() throws {
        let answer = try snapshot(generated: 100, events: death)
        #expect(answer.version == "1.2.3" && answer.pid == 7 && answer.requests == 5)
        #expect(answer.engines.map(\.index) == [0, 1] && answer.engines[1].running == nil)
        #expect(answer.events.map(\.kind) == ["engine_lost", "sequences_moved", "engine_ready"])
        #expect(answer.models == ["toy"])
    }

    @Test(arguments: ["null", "{}", "[]", #"{"engines": []}"#, #"{"engines": 5, "gateway": {}}"#])
    func whatIsNoAnswerIsRefused(text: String) throws {
        #expect(try EnginesSnapshot(JSONParser.parse(text.utf8)) == nil)
    }

    @Test func nonsenseIsBounded() throws {
        let text = #"""
            {"gateway": {"requests": -5, "generated_tokens": 9223372036854775807}, "engines": [5, {"index": "x"}],
             "latency": {"time_to_first_token_seconds": {"bounds": [2, 1], "counts": [1]}}}
            """#
        let answer = try #require(EnginesSnapshot(JSONParser.parse(text.utf8)))
        #expect(answer.requests == 0 && answer.engines.count == 1)
        #expect(answer.generatedTokens == 1 << 53)
        #expect(answer.timeToFirstToken == HistogramCounts())
        var model = TopModel(endpoint: "e")
        model.received(answer, at: 0)
        model.received(answer, at: 0)
        _ = TopView(columns: 80, rows: 24).lines(of: model, at: 1)
    }

    @Test func ratesAreOfTheLatestSeconds() throws {
        var model = TopModel(endpoint: "e")
        model.received(try snapshot(uptime: 1, generated: 0), at: 1)
        #expect(model.rates == nil)
        for second in 2...10 {
            model.received(try snapshot(uptime: Double(second), generated: second * 10), at: Double(second))
        }
        #expect(model.rates?.generated == 10 && model.rates?.prompt == 20)
        #expect(try model.rates(of: #require(model.latest).engines[0])?.steps == 10)
        #expect(model.history { $0.generatedTokens } == [20] + Array(repeating: 10, count: 8))
    }

    @Test func aRestartedGatewayBeginsAnew() throws {
        var model = TopModel(endpoint: "e")
        model.received(try snapshot(uptime: 100, generated: 1000), at: 1)
        model.received(try snapshot(uptime: 2, generated: 5), at: 2)
        #expect(model.rates == nil && model.history { $0.generatedTokens } == [])
    }

    @Test func historyIsBounded() throws {
        var model = TopModel(endpoint: "e")
        for second in 0..<1000 { model.received(try snapshot(uptime: Double(second)), at: Double(second)) }
        #expect(model.samples.count == TopModel.history)
    }

    @Test func quantilesAreOfTheWindow() throws {
        var histogram = HistogramCounts(bounds: [1, 2, 4], counts: [0, 4, 0, 0])
        #expect(histogram.quantile(0.5) == 1.5)
        #expect(histogram.quantile(1) == 2)
        histogram.counts = [0, 0, 0, 3]
        #expect(histogram.quantile(0.5) == 4)
        histogram.counts = [0, 0, 0, 0]
        #expect(histogram.quantile(0.5) == nil)
        #expect(HistogramCounts().quantile(0.5) == nil)
        let before = HistogramCounts(bounds: [1], counts: [5, 1])
        #expect(HistogramCounts(bounds: [1], counts: [7, 1]).since(before).counts == [2, 0])
        #expect(HistogramCounts(bounds: [1], counts: [2, 0]).since(before).counts == [2, 0])
        var model = TopModel(endpoint: "e")
        model.received(try snapshot(uptime: 1, counts: [100, 0, 0]), at: 1)
        model.received(try snapshot(uptime: 2, counts: [100, 10, 0]), at: 2)
        #expect(model.latest(\.timeToFirstToken).counts == [0, 10, 0])
    }
}

@Suite struct AnswerReaderTests {
    private func read(_ text: String, isClosed: Bool = false) -> AnswerReader.Outcome {
        AnswerReader.read(Array(text.utf8), isClosed: isClosed)
    }

    @Test func answersOfAllFramings() {
        let body = AnswerReader.Outcome.whole(status: 200, body: Array("hello".utf8))
        #expect(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") == body)
        #expect(
            read("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n") == body)
        #expect(read("HTTP/1.0 200 OK\r\n\r\nhello", isClosed: true) == body)
        #expect(read("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") == .whole(status: 404, body: []))
    }

    @Test func everyBeginningIsIncomplete() {
        for whole in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ] {
            let end = whole.hasSuffix("0\r\n\r\n") ? 2 : 0
            for length in 0..<(whole.utf8.count - end) {
                let part = Array(whole.utf8.prefix(length))
                #expect(AnswerReader.read(part, isClosed: false) == .incomplete)
                guard case .unreadable = AnswerReader.read(part, isClosed: true) else {
                    Issue.record("\(length) bytes were taken for an answer")
                    continue
                }
            }
        }
    }

    @Test(arguments: [
        "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\nx",
    ])
    func whatCannotBeReadIsSaid(text: String) {
        guard case .unreadable = read(text) else {
            Issue.record("it was read: \(text)")
            return
        }
    }
}
