// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import LoadGenerator

/// A server that answers by the number of the request.
private final class Answers: HTTPRequestHandler {
    enum Kind: Sendable {
        case stream(usage: Bool), whole, status(Int), cut, error, incomplete, never
    }

    private let state = Mutex<(seen: Int, held: [HTTPResponder], bodies: [JSONObject])>((0, [], []))
    private let kind: @Sendable (Int) -> Kind
    private let awaited: Int
    /// Succeeds when so many requests have come as are awaited.
    let reached = LoadRunTests.group.any().makePromise(of: Void.self)

    init(awaited: Int = 1, _ kind: @escaping @Sendable (Int) -> Kind) {
        self.awaited = awaited
        self.kind = kind
    }

    deinit { reached.succeed(()) }

    private static func event(_ data: String) -> [UInt8] { Array("data: \(data)\n\n".utf8) }

    var bodies: [JSONObject] { state.withLock { $0.bodies } }

    func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        let object = try? JSONParser.parse(Array(request.body.readableBytesView)).object
        let number = state.withLock { state in
            state.seen += 1
            state.bodies.append(object ?? JSONObject())
            return state.seen - 1
        }
        if number + 1 == awaited { reached.succeed(()) }
        let tokens = object?["max_tokens"]?.integer ?? 0
        switch kind(number) {
        case .status(let code):
            responder.respond(
                status: HTTPStatus(code: code), body: Array(#"{"error":{"message":"no \#(code)"}}"#.utf8))
        case .whole:
            let usage = #"{"prompt_tokens":9,"completion_tokens":\#(tokens)}"#
            responder.respond(
                status: .ok,
                body: Array(#"{"choices":[{"text":"x","finish_reason":"length"}],"usage":\#(usage)}"#.utf8))
        case .never: state.withLock { $0.held.append(responder) }
        case .stream(let usage):
            responder.startStream(status: .ok, headers: ["Content-Type": "text/event-stream"])
            for _ in 0..<tokens { responder.write(Self.event(#"{"choices":[{"text":" x"}]}"#)) }
            responder.write(Self.event(#"{"choices":[{"text":"","finish_reason":"length"}]}"#))
            if usage {
                let counts = #"{"prompt_tokens":9,"completion_tokens":\#(tokens)}"#
                responder.write(Self.event(#"{"choices":[],"usage":\#(counts)}"#))
            }
            responder.write(Self.event("[DONE]"))
            responder.finish()
        case .cut, .error, .incomplete:
            responder.startStream(status: .ok)
            responder.write(Self.event(#"{"choices":[{"text":" x"}]}"#))
            if case .error = kind(number) {
                responder.write(Self.event(#"{"error":{"message":"gone"}}"#))
            }
            if case .cut = kind(number) { responder.abort() } else { responder.finish() }
        }
    }
}

@Suite struct LoadRunTests {
    static let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)

    private func plan(port: Int, pace: LoadPlan.Pace, requests: Int? = nil, streams: Bool = true) -> LoadPlan {
        LoadPlan(
            endpoint: HTTPEndpoint(host: "127.0.0.1", port: port), apiKey: "k",
            template: RequestTemplate(model: "m", isChat: false, streams: streams, fields: JSONObject()),
            workload: Workload(
                source: .synthetic(SyntheticWorkload(inputTokens: .fixed(8), outputTokens: .fixed(5))),
                text: PromptText(), seed: 1),
            pace: pace, requests: requests)
    }

    private func run(
        _ answers: Answers, pace: LoadPlan.Pace, requests: Int? = nil, streams: Bool = true,
        during: (LoadRun) async throws -> Void = { _ in }
    ) async throws -> LoadOutcome {
        let server = try await HTTPServer.start(
            group: Self.group, listening: .address(host: "127.0.0.1", port: 0), handler: answers)
        let run = LoadRun(
            plan(port: server.port ?? 0, pace: pace, requests: requests, streams: streams), on: Self.group.any())
        try await during(run)
        let outcome = try await run.result.get()
        await server.close()
        return outcome
    }

    private func reasons(_ outcome: LoadOutcome) -> [String] {
        outcome.records.map { record in
            switch record.outcome {
            case .complete: "complete"
            case .failed(let reason, _): reason
            case .unfinished: "unfinished"
            }
        }
    }

    @Test(arguments: [1, 3, 20])
    func closedLoopsSendAll(clients: Int) async throws {
        let answers = Answers { .stream(usage: $0 % 2 == 0) }
        let outcome = try await run(answers, pace: .closed(clients: clients), requests: 12)
        #expect(reasons(outcome) == Array(repeating: "complete", count: 12))
        #expect(outcome.records.map(\.index) == Array(0..<12))
        #expect(outcome.records.allSatisfy { $0.chunks == 5 && $0.gaps.count == 4 && $0.outputTokens == 5 })
        #expect(outcome.records.count { $0.completionTokens == 5 && $0.promptTokens == 9 } == 6)
        #expect(outcome.records.allSatisfy { $0.sent >= $0.scheduled && $0.ended >= $0.lastText ?? .max })
        #expect(answers.bodies.count == 12 && answers.bodies.allSatisfy { $0["model"]?.string == "m" })
        #expect(!outcome.isStopped)
    }

    @Test func pausesKeepTheCount() async throws {
        let outcome = try await run(
            Answers { _ in .stream(usage: true) }, pace: .closed(clients: 2, pauseNanoseconds: 1_000_000), requests: 7)
        #expect(reasons(outcome) == Array(repeating: "complete", count: 7))
    }

    @Test(arguments: [nil, 1, 4])
    func schedulesAreKept(limit: Int?) async throws {
        let schedule = (0..<10).map { UInt64($0) * 1_000_000 }
        let outcome = try await run(
            Answers { _ in .stream(usage: true) }, pace: .open(schedule: schedule, limit: limit))
        #expect(outcome.records.map(\.scheduled) == schedule)
        #expect(reasons(outcome) == Array(repeating: "complete", count: 10))
        #expect(outcome.records.allSatisfy { $0.sent >= $0.scheduled })
    }

    @Test func failuresAreTold() async throws {
        let kinds: [Answers.Kind] = [.cut, .stream(usage: true), .status(429), .status(500), .error, .incomplete]
        let outcome = try await run(Answers { kinds[$0] }, pace: .closed(clients: 1), requests: 6)
        #expect(
            reasons(outcome) == [
                "connection cut", "complete", "HTTP 429", "HTTP 500", "error in the stream", "incomplete answer",
            ])
        #expect(outcome.records[2].outcome == .failed(reason: "HTTP 429", detail: "no 429"))
        #expect(outcome.records[4].outcome == .failed(reason: "error in the stream", detail: "gone"))
    }

    /// A client would try again on another connection if a kept one was lost; a measurement must not.
    @Test func nothingIsSentTwice() async throws {
        let answers = Answers { $0 == 1 ? .cut : .stream(usage: true) }
        let outcome = try await run(answers, pace: .closed(clients: 1), requests: 3)
        #expect(reasons(outcome) == ["complete", "connection cut", "complete"])
        #expect(answers.bodies.count == 3)
    }

    @Test func wholeAnswersAreCounted() async throws {
        let outcome = try await run(
            Answers { _ in .whole }, pace: .closed(clients: 1), requests: 2, streams: false)
        #expect(reasons(outcome) == ["complete", "complete"])
        #expect(outcome.records.allSatisfy { $0.completionTokens == 5 && $0.firstText == nil })
    }

    @Test func nobodyListens() async throws {
        let server = try await HTTPServer.start(
            group: Self.group, listening: .address(host: "127.0.0.1", port: 0), handler: Answers { _ in .never })
        let port = server.port ?? 0
        await server.close()
        let plan = plan(port: port, pace: .closed(clients: 2), requests: 3)
        let outcome = try await LoadRun(plan, on: Self.group.any()).result.get()
        #expect(reasons(outcome) == ["unreachable", "unreachable", "unreachable"])
        await #expect(throws: LoadGeneratorError.self) {
            try await ServedModels.ask(plan.endpoint, apiKey: nil, on: Self.group.any()).get()
        }
    }

    @Test func aStoppedRunKeepsWhatItHas() async throws {
        let answers = Answers(awaited: 4) { $0 < 2 ? .stream(usage: true) : .never }
        let schedule: [UInt64] = [0, 0, 0, 0, 0, 3_600_000_000_000]
        let outcome = try await run(answers, pace: .open(schedule: schedule, limit: 2)) { run in
            // The fourth is sent when the first two are answered.
            try await answers.reached.futureResult.get()
            #expect(run.progress.sent == 4 && run.progress.complete == 2 && run.progress.failed == 0)
            run.stop()
        }
        #expect(outcome.isStopped && outcome.unsent == 1)
        #expect(reasons(outcome).sorted() == ["complete", "complete", "unfinished", "unfinished"])
    }

    @Test func anEmptyScheduleIsOverAtOnce() async throws {
        let outcome = try await run(Answers { _ in .never }, pace: .open(schedule: []))
        #expect(outcome.records.isEmpty && !outcome.isStopped)
    }
}
