// Tandem — Apache-2.0

import EngineLink
import Foundation
import Glibc
import HTTPCore
import JSON
import NIOCore
import NIOPosix
import Requests
import Synchronization
import Testing
import Tokenization

@testable import Gateway

/// An engine that answers every sequence with the same text, a token a frame, and can be told to stop half-way.
final class FakeEngine: EngineLinkServerDelegate {
    private struct State {
        var server: EngineLinkServer?
        var connections: Set<LinkConnectionID> = []
        var submitted: [EngineRequest] = []
        var cancelled: [RequestID] = []
    }

    private let text: [TokenID]
    /// How many tokens of a sequence it generates before it falls silent; nil for all.
    private let limit: Int?
    private let state = Mutex(State())

    init(text: String, limit: Int? = nil) {
        self.text = text.ids
        self.limit = limit
    }

    var submitted: [EngineRequest] { state.withLock { $0.submitted } }
    var cancelled: [RequestID] { state.withLock { $0.cancelled } }

    func start(at path: String, tokenizer: Digest128) async throws {
        let hello = EngineHello(
            engineIndex: 0, pid: 1, modelName: "toy", modelFingerprint: Digest128(high: 1, low: 1),
            tokenizerFingerprint: tokenizer, vocabularySize: 258, blockSize: 16, hashSeed: 0, keyValueBlocks: 64,
            maximumContextLength: 64, maximumSequences: 8, device: "test")
        let server = try await EngineLinkServer.start(
            at: .unix(path: path), hello: hello, on: MultiThreadedEventLoopGroup.singleton.next(), delegate: self
        ).get()
        state.withLock { $0.server = server }
    }

    func stop() async throws {
        try await state.withLock { $0.server }?.close().get()
    }

    func linkOpened(_ connection: LinkConnectionID, hello: ClientHello) {
        state.withLock { _ = $0.connections.insert(connection) }
    }

    func linkClosed(_ connection: LinkConnectionID, reason: LinkError?) {
        state.withLock { _ = $0.connections.remove(connection) }
    }

    func linkReceived(_ message: LinkMessage, from connection: LinkConnectionID) {
        let server = state.withLock { state in
            switch message {
            case .submit(let request): state.submitted.append(request)
            case .cancel(let id): state.cancelled.append(id)
            default: break
            }
            return state.server
        }
        guard case .submit(let request) = message else { return }
        let rest = Array(text.dropFirst(request.resumeOffset))
        for (index, token) in rest.enumerated() {
            let position = request.resumeOffset + index + 1
            if let limit, position > limit { return }
            let atLimit = position == request.maximumNewTokens
            let ended = index == rest.count - 1 || atLimit
            let output = SequenceOutput(id: request.id, tokens: [token], finish: ended ? .length : nil)
            server?.send(.stepOutput(StepOutput(step: UInt64(position), outputs: [output])), to: connection)
            if ended { return }
        }
    }
}

/// A gateway over one or more fake engines, and requests to it.
struct Bench {
    let server: GatewayServer
    let port: Int
    let directory: String

    static func run(
        _ engines: [FakeEngine], serving: Int? = nil, configure: (inout GatewayConfiguration) -> Void = { _ in },
        _ body: (Bench) async throws -> Void
    ) async throws {
        let directory = NSTemporaryDirectory() + "tandem-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let tokenizer = try TestModel.tokenizer()
        for (index, engine) in engines.enumerated() {
            try await engine.start(at: "\(directory)/\(index).sock", tokenizer: tokenizer.fingerprint)
        }
        let template = try ChatTemplate(
            source: "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}")
        var configuration = GatewayConfiguration(
            models: [
                ServedModel(
                    names: ["toy", "alias"], tokenizer: tokenizer, chatTemplate: template, contextLength: 64,
                    created: 5)
            ],
            listener: .address(host: "127.0.0.1", port: 0), version: "1.2.3", pid: 9, log: { _ in },
            secondsSince1970: { 77 })
        // These engines send no heartbeats, and machines that build beside the tests are slow.
        configuration.engineSilenceTimeout = .zero
        configure(&configuration)
        let server = try await GatewayServer.start(
            configuration, roster: roster(0..<(serving ?? engines.count), directory))
        let bench = Bench(server: server, port: try #require(server.port), directory: directory)
        do {
            if serving != 0 { try await bench.untilHealthy() }
            try await body(bench)
        } catch {
            await server.drain()
            throw error
        }
        await server.drain()
        for engine in engines { try await engine.stop() }
    }

    static func roster(_ indices: Range<Int>, generation: UInt64 = 1, _ directory: String) -> Roster {
        Roster(
            generation: generation,
            engines: indices.map {
                RosterEntry(index: UInt32($0), address: "link+unix:\(directory)/\($0).sock", state: .ready, pid: 1)
            })
    }

    private func untilHealthy() async throws {
        for _ in 0..<10_000 {
            if try await get("/health").status == 200 { return }
            await Task.yield()
        }
        Issue.record("the gateway did not become healthy")
    }

    var client: TestClient { TestClient(port: port) }

    func get(_ path: String, method: String = "GET", headers: String = "") async throws -> TestClient.Answer {
        try await client.get(path, method: method, headers: headers)
    }

    func post(_ path: String, _ body: String, headers: String = "") async throws -> TestClient.Answer {
        try await client.post(path, body, headers: headers)
    }
}

@Suite struct GatewayServerTests {
    @Test(arguments: [
        (1024, false, 896), (1024, true, 448), (100, false, 50), (100, true, 25), (1, true, 1),
        (.max, false, .max - 128),
    ])
    func clientsLeaveDescriptorsForTheGateway(descriptors: Int, hasUpstream: Bool, connections: Int) {
        #expect(
            GatewayServer.connections(descriptors: descriptors, eachHasUpstream: hasUpstream) == connections)
    }

    @Test func completionsWhole() async throws {
        let engine = FakeEngine(text: "hello")
        try await Bench.run([engine]) { bench in
            let answer = try await bench.post(
                "/v1/completions", #"{"model":"alias","prompt":["ab","c"],"n":2,"seed":4}"#,
                headers: "X-Request-Id: abc\r\n")
            #expect(answer.status == 200)
            #expect(answer.headers.contains("X-Request-Id: abc"))
            let json = answer.json
            #expect(json["id"] == .string("cmpl-abc"))
            #expect(json["object"] == .string("text_completion"))
            #expect(json["created"] == .integer(77))
            #expect(json["model"] == .string("alias"))
            #expect(json["choices"].array?.count == 4)
            for index in 0..<4 {
                #expect(json["choices"][index]["index"] == .integer(Int64(index)))
                #expect(json["choices"][index]["text"] == .string("hello"))
                #expect(json["choices"][index]["finish_reason"] == .string("length"))
            }
            #expect(json["usage"]["prompt_tokens"] == .integer(3))
            #expect(json["usage"]["completion_tokens"] == .integer(20))
            #expect(engine.submitted.map(\.sampling.choiceIndex).sorted() == [0, 0, 1, 1])
            #expect(engine.submitted.allSatisfy { $0.sampling.seed == 4 && $0.stopTokens == [TestModel.end] })
        }
    }

    @Test func completionsStreamed() async throws {
        try await Bench.run([FakeEngine(text: "hello")]) { bench in
            let answer = try await bench.post(
                "/v1/completions", #"{"prompt":"ab","stream":true,"stream_options":{"include_usage":true}}"#)
            #expect(answer.headers.contains("text/event-stream"))
            let events = answer.events
            #expect(events.last == "[DONE]")
            let chunks = try events.dropLast().map { try TestModel.json($0) }
            #expect(chunks.count == 6)
            let texts = chunks.compactMap { $0["choices"][0]["text"].string }
            #expect(texts == ["h", "e", "l", "l", "o"])
            #expect(Set(chunks.compactMap { $0["id"].string }).count == 1)
            #expect(chunks[4]["choices"][0]["finish_reason"] == .string("length"))
            #expect(chunks[3]["choices"][0]["finish_reason"] == .null)
            #expect(chunks[3]["usage"] == .null)
            #expect(chunks[5]["choices"] == .array([]))
            #expect(chunks[5]["usage"]["total_tokens"] == .integer(7))
        }
    }

    @Test func chatStreamed() async throws {
        let engine = FakeEngine(text: "yes")
        try await Bench.run([engine]) { bench in
            let answer = try await bench.post(
                "/v1/chat/completions",
                #"{"messages":[{"role":"developer","content":"s"},{"role":"user","content":[{"type":"text","text":"q"}]}],"stream":true}"#
            )
            let chunks = try answer.events.dropLast().map { try TestModel.json($0) }
            #expect(chunks.first?["choices"][0]["delta"]["role"] == .string("assistant"))
            #expect(chunks.compactMap { $0["choices"][0]["delta"]["content"].string }.joined() == "yes")
            #expect(chunks.last?["choices"][0]["delta"] == .object(JSONObject()))
            #expect(chunks.last?["choices"][0]["finish_reason"] == .string("length"))
            #expect(engine.submitted.first?.tokens == "system:s;user:q;".ids)
            #expect(engine.submitted.first?.maximumNewTokens == 64 - 16)
        }
    }

    @Test func echoRepeatsThePrompt() async throws {
        try await Bench.run([FakeEngine(text: "cd")]) { bench in
            let json = try await bench.post("/v1/completions", #"{"prompt":"ab","echo":true}"#).json
            #expect(json["choices"][0]["text"] == .string("abcd"))
        }
    }

    @Test func aStopStringEndsTheEnginesWork() async throws {
        let engine = FakeEngine(text: "one. two", limit: 7)
        try await Bench.run([engine]) { bench in
            let json = try await bench.post("/v1/completions", #"{"prompt":"ab","stop":". "}"#).json
            #expect(json["choices"][0]["text"] == .string("one"))
            #expect(json["choices"][0]["finish_reason"] == .string("stop"))
            #expect(json["choices"][0]["stop_reason"] == .string(". "))
        }
    }

    /// The first engine falls silent after two tokens and goes; the stream goes on where it was.
    @Test func aStreamSurvivesItsEngine() async throws {
        let first = FakeEngine(text: "hello", limit: 2)
        let second = FakeEngine(text: "hello")
        try await Bench.run([first, second], serving: 1) { bench in
            async let answer = bench.post("/v1/completions", #"{"prompt":"ab","stream":true,"seed":1}"#)
            while first.submitted.isEmpty { await Task.yield() }
            try await first.stop()
            bench.server.update(
                Roster(generation: 2, engines: Bench.roster(1..<2, bench.directory).engines))
            let chunks = try await answer.events.dropLast().map { try TestModel.json($0) }
            #expect(chunks.compactMap { $0["choices"][0]["text"].string }.joined() == "hello")
            #expect(second.submitted.first?.resumeOffset == 2 || second.submitted.first?.resumeOffset == 0)
            #expect(second.submitted.first.map { $0.tokens == "ab".ids + "hello".ids.prefix($0.resumeOffset) } == true)
        }
    }

    /// The engine falls silent and the gateway is told to end: the client is told, too.
    @Test func aStreamThatOutlastsTheDrainEndsWithAnError() async throws {
        let engine = FakeEngine(text: "hello", limit: 2)
        var stream: Task<TestClient.Answer, any Error>?
        try await Bench.run([engine], configure: { $0.drainTimeout = .milliseconds(1) }) { bench in
            stream = Task { try await bench.post("/v1/completions", #"{"prompt":"ab","stream":true,"n":2}"#) }
            let both = #"vllm:generation_tokens_total{model_name="toy"} 4"#
            while try await !bench.get("/metrics").body.contains(both) { await Task.yield() }
        }
        let answer = try #require(try await stream?.value)
        #expect(answer.status == 200)
        let events = try answer.events.map { try TestModel.json($0) }
        #expect(events.count == 5)
        #expect(events.last?["error"]["code"] == .string("unavailable"))
    }

    @Test func errorsAreOpenAIObjects() async throws {
        try await Bench.run([FakeEngine(text: "x")]) { bench in
            func check(_ answer: TestClient.Answer, _ status: Int, _ code: String?, _ parameter: String? = nil) {
                #expect(answer.status == status)
                let error = answer.json["error"]
                #expect(error["message"].string?.isEmpty == false)
                #expect(error["type"].string?.isEmpty == false)
                #expect(error["code"] == (code.map { .string($0) } ?? .null))
                #expect(error["param"] == (parameter.map { .string($0) } ?? .null))
            }
            try await check(bench.post("/v1/completions", "{"), 400, nil)
            try await check(
                bench.post("/v1/completions", #"{"prompt":"a","model":"no"}"#), 404, "model_not_found", "model")
            try await check(bench.get("/nowhere"), 404, "not_found")
            let wrongMethod = try await bench.get("/v1/completions")
            check(wrongMethod, 405, "method_not_allowed")
            #expect(wrongMethod.headers.contains("Allow: POST"))
            let long = String(repeating: "a", count: 60)
            try await check(
                bench.post("/v1/completions", #"{"prompt":"\#(long)","max_tokens":5}"#), 400,
                "context_length_exceeded", "prompt")
            try await check(bench.post("/v1/completions", #"{"prompt":""}"#), 400, nil, "prompt")
            try await check(bench.get("/v1/models/none"), 404, "model_not_found", "model")
            try await check(
                bench.post("/v1/chat/completions", #"{"messages":[{"role":"king","content":"x"}]}"#), 400, nil,
                "messages[0].role")
            try await check(
                bench.post(
                    "/v1/chat/completions",
                    #"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}"#),
                400, nil, "messages[0].content[0].type")
        }
    }

    @Test func informationEndpoints() async throws {
        try await Bench.run([FakeEngine(text: "x")]) { bench in
            let models = try await bench.get("/v1/models").json
            #expect(models["data"].array?.compactMap { $0["id"].string } == ["toy", "alias"])
            #expect(models["data"][0]["max_model_len"] == .integer(64))
            #expect(try await bench.get("/v1/models/toy").json["id"] == .string("toy"))
            #expect(try await bench.get("/version").json["version"] == .string("1.2.3"))
            #expect(try await bench.get("/live").status == 200)
            #expect(try await bench.get("/ping").status == 200)
            let metrics = try await bench.get("/metrics")
            for line in [
                #"tandem_engine_serving{engine="0",model_name="toy"} 1"#,
                #"tandem_engine_state{engine="0",model_name="toy",state="ready"} 1"#,
                #"tandem_engine_state{engine="0",model_name="toy",state="failed"} 0"#,
                #"tandem_engines{model_name="toy"} 1"#, #"tandem_engines_serving{model_name="toy"} 1"#,
                #"tandem_gateway_host_seconds_total{model_name="toy",phase="tokenize"} "#,
            ] { #expect(metrics.body.contains(line), "\(line)") }
            let head = try await bench.get("/metrics", method: "HEAD")
            #expect(head.status == 200 && head.body.isEmpty)
            let tokens = try await bench.post("/tokenize", #"{"prompt":"abc","return_token_strs":true}"#).json
            #expect(tokens["tokens"] == .array([.integer(97), .integer(98), .integer(99)]))
            #expect(tokens["token_strs"][0] == .string("a"))
            let chat = try await bench.post("/tokenize", #"{"messages":[{"role":"user","content":"q"}]}"#).json
            #expect(chat["count"] == .integer(7))
            #expect(try await bench.post("/detokenize", #"{"tokens":[97,98]}"#).json["prompt"] == .string("ab"))
        }
    }

    @Test func withoutAnEngineThereIsNoHealth() async throws {
        try await Bench.run([], serving: 0) { bench in
            let health = try await bench.get("/health")
            #expect(health.status == 503)
            #expect(health.headers.contains("Retry-After"))
            #expect(try await bench.get("/live").status == 200)
            #expect(try await bench.get("/v1/models").status == 200)
        }
    }

    @Test func keysAreChecked() async throws {
        try await Bench.run([FakeEngine(text: "x")], configure: { $0.apiKeys = ["secret"] }) { bench in
            func status(_ path: String, key: String?) async throws -> Int {
                try await bench.get(path, headers: key.map { "Authorization: Bearer \($0)\r\n" } ?? "").status
            }
            let statuses = [
                try await status("/v1/models", key: nil), try await status("/v1/models", key: "wrong!"),
                try await status("/v1/models", key: "secret"), try await status("/health", key: nil),
            ]
            #expect(statuses == [401, 401, 200, 200])
        }
    }

    @Test func aRequestThatNeverHasRoomIsRefusedForGood() async throws {
        try await Bench.run([FakeEngine(text: "x")], configure: { $0.maximumSequences = 1 }) { bench in
            let answer = try await bench.post("/v1/completions", #"{"prompt":"a","n":2}"#)
            #expect(answer.status == 400)
            #expect(!answer.headers.contains("Retry-After"))
        }
    }
}
