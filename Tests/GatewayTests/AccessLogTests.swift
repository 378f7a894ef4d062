// Tandem — Apache-2.0

import Dispatch
import HTTPCore
import JSON
import NIOCore
import Requests
import Synchronization
import Testing

@testable import Gateway

@Suite struct TraceContextTests {
    private static let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    @Test func aTraceIsKeptAndTheSpanIsOurs() throws {
        let trace = try #require(TraceContext(traceparent: Self.given, spanID: 0xAB))
        #expect("\(trace.traceID)" == "0af7651916cd43dd8448eb211c80319c")
        #expect(trace.parentID == 0xb7ad_6b71_6920_3331)
        #expect(trace.traceparent == "00-0af7651916cd43dd8448eb211c80319c-00000000000000ab-01")
    }

    @Test(arguments: [
        "", "00", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
        "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319é-b7ad6b7169203331-01",
    ]) func whatIsNoTraceIsNone(text: String) {
        #expect(TraceContext(traceparent: text, spanID: 1) == nil)
    }

    @Test func laterVersionsAreReadAsFarAsTheyAreKnown() throws {
        let text = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-what-the-future-brings"
        let trace = try #require(TraceContext(traceparent: text, spanID: 1))
        #expect(trace.traceparent == "00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01")
    }

    @Test func theAnswerNamesTheSpan() async throws {
        try await MemoryBench.run([MemoryEngine(text: "ab")]) { bench in
            let answer = try await bench.client.get("/health", headers: "Traceparent: \(Self.given)\r\n")
            #expect(answer.headers.contains("traceresponse: 00-0af7651916cd43dd8448eb211c80319c-"))
            for headers in ["", "Traceparent: x\r\n", "Traceparent: \(Self.given)\r\nTraceparent: \(Self.given)\r\n"] {
                let answer = try await bench.client.get("/health", headers: headers)
                #expect(answer.status == 200 && !answer.headers.contains("traceresponse"))
            }
        }
    }
}

@Suite struct AccessLineTests {
    /// 2026-02-03T04:05:06.789Z
    private static let time: Int64 = 1_770_091_506_789

    private func entry() throws -> AccessLogEntry {
        var entry = AccessLogEntry(
            method: .post, path: "/v1/completions", requestID: "r-1", status: .ok, bodyBytes: 1234,
            duration: .microseconds(12_345), timeToFirstByte: .microseconds(678), outcome: .complete,
            remoteAddress: try SocketAddress(ipAddress: "::1", port: 99))
        let trace = TraceContext(
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", spanID: 7)
        entry.note = AccessNote(trace: trace, model: "toy", engine: 1, promptTokens: 3, generatedTokens: 4)
        return entry
    }

    private func line(_ entry: AccessLogEntry, _ format: AccessLogSettings.Format) -> String {
        var bytes: [UInt8] = []
        AccessLine(entry: entry, time: Self.time).append(to: &bytes, format: format)
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test func textSaysEverything() throws {
        #expect(
            line(try entry(), .text)
                == "2026-02-03T04:05:06.789Z [::1]:99 POST /v1/completions 200 1234 B 12.345 ms complete first=0.678 "
                + "id=r-1 trace=0af7651916cd43dd8448eb211c80319c span=0000000000000007 model=toy engine=1 "
                + "prompt_tokens=3 generated_tokens=4\n")
    }

    @Test func jsonSaysEverything() throws {
        let text = line(try entry(), .json)
        #expect(text.hasSuffix("}\n") && text.filter { $0 == "\n" }.count == 1)
        let json = try TestModel.json(text)
        #expect(json["time"].string == "2026-02-03T04:05:06.789Z")
        #expect(json["remote"].string == "[::1]:99" && json["method"].string == "POST")
        #expect(json["path"].string == "/v1/completions" && json["status"].integer == 200)
        #expect(json["bytes"].integer == 1234 && json["outcome"].string == "complete")
        #expect(text.contains(#""duration":0.012345,"first_byte":0.000678"#))
        #expect(json["request_id"].string == "r-1" && json["model"].string == "toy")
        #expect(json["trace_id"].string == "0af7651916cd43dd8448eb211c80319c")
        #expect(json["span_id"].string == "0000000000000007" && json["parent_id"].string == "b7ad6b7169203331")
        #expect(json["engine"].integer == 1 && json["prompt_tokens"].integer == 3)
        #expect(json["generated_tokens"].integer == 4)
    }

    @Test func nothingBreaksOutOfALine() throws {
        var entry = try entry()
        entry.path = "/a b\u{1B}[31m\"é"
        entry.requestID = "x\" status=1\n"
        let text = line(entry, .text)
        #expect(text.contains(" /a?b?[31m\"?? ") && text.contains(" id=x\"?status=1? "))
        let json = try TestModel.json(line(entry, .json))
        #expect(json["path"].string == entry.path && json["request_id"].string == entry.requestID)
    }

    @Test func whatIsNotKnownIsLeftOut() throws {
        let entry = AccessLogEntry(
            method: nil, path: nil, requestID: nil, status: .badRequest, bodyBytes: 10, duration: .zero,
            timeToFirstByte: nil, outcome: .complete, remoteAddress: nil, note: nil)
        #expect(line(entry, .text) == "2026-02-03T04:05:06.789Z - - - 400 10 B 0.000 ms complete\n")
        #expect(
            line(entry, .json)
                == #"{"time":"2026-02-03T04:05:06.789Z","remote":"-","status":400,"bytes":10,"duration":0.0,"#
                + #""outcome":"complete"}"# + "\n")
    }

    @Test func linesAreWrittenWholeAndWhatIsTooMuchIsCounted() async throws {
        let written = Mutex<[UInt8]>([])
        let gate = Gate()
        let log = AccessLog(
            AccessLogSettings(
                format: .text,
                sink: { bytes in
                    gate.wait()
                    written.withLock { $0 += bytes }
                }, millisecondsSince1970: { Self.time }))
        // Nobody reads: the first batch is stuck in the sink, the next waits, the rest is dropped.
        let entry = try entry()
        log.add(entry)
        await gate.untilWaiting()
        for _ in 0..<AccessLog.capacity + 5 { log.add(entry) }
        gate.open()
        await log.shutdown()
        let lines = String(decoding: written.withLock { $0 }, as: UTF8.self).split(separator: "\n")
        #expect(lines.count == AccessLog.capacity + 2)
        #expect(lines.last == "2026-02-03T04:05:06.789Z 5 lines were dropped")
    }
}

/// Holds a thread up until it is opened.
private final class Gate: Sendable {
    private let opened = DispatchSemaphore(value: 0)
    private let isWaiting = Atomic(false)

    func wait() {
        isWaiting.store(true, ordering: .releasing)
        opened.wait()
        opened.signal()
    }

    func untilWaiting() async {
        while !isWaiting.load(ordering: .acquiring) { await Task.yield() }
    }

    func open() { opened.signal() }
}

@Suite(.timeLimit(.minutes(10))) struct AccessLogOfAGatewayTests {
    @Test func aGenerationIsDescribed() async throws {
        let entries = Mutex<[AccessLogEntry]>([])
        try await MemoryBench.run(
            [MemoryEngine(text: "abc")], observe: { entry in entries.withLock { $0.append(entry) } }
        ) { bench in
            _ = try await bench.post("/v1/completions", #"{"prompt":"xy","max_tokens":3}"#)
            _ = try await bench.post("/v1/completions", #"{"prompt":"xy","max_tokens":3,"stream":true}"#)
            _ = try await bench.post("/v1/completions", #"{"prompt":7.5}"#)
        }
        let all = entries.withLock { $0 }
        #expect(all.map(\.outcome) == [.complete, .complete, .complete])
        #expect(all.map { $0.status?.code } == [200, 200, 400])
        for entry in all.prefix(2) {
            let note = try #require(entry.note as? AccessNote)
            #expect(note.model == "toy" && note.engine == 1000 && !note.hasFailed)
            #expect(note.promptTokens == 2 && note.generatedTokens == 3)
            #expect(entry.timeToFirstByte != nil && entry.requestID == "r")
        }
    }
}
