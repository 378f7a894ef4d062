// Tandem — Apache-2.0

import EngineLink
import Foundation
import HTTPCore
import JSON
import NIOCore
import Requests
import Synchronization
import Testing
import Tokenization

@testable import Gateway

/// A gateway over two models: `plain`, whose engine has index 0, and `pairs`, also called `second`, whose engines have the
/// indices from 1 on and whose tokenizer has a token for `ab`.
private struct TwoModels {
    let server: GatewayServer
    let client: TestClient
    let directory: String
    let tokenizers: [Tokenizer]
    let log: Log

    final class Log: Sendable {
        private let lines = Mutex<[String]>([])

        func add(_ line: String) { lines.withLock { $0.append(line) } }
        var all: [String] { lines.withLock { $0 } }
    }

    /// - Parameters:
    ///   - tokenizers: which model's tokenizer each engine has; what its index says if it is left out.
    static func run(
        _ engines: [FakeEngine], serving: Range<Int>? = nil, tokenizers fingerprints: [Int]? = nil,
        configure: (inout GatewayConfiguration) -> Void = { _ in }, _ body: (TwoModels) async throws -> Void
    ) async throws {
        let directory = NSTemporaryDirectory() + "tandem-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let tokenizers = [try TestModel.tokenizer(), try TestModel.tokenizer(merges: ["a b"])]
        for (index, engine) in engines.enumerated() {
            try await engine.start(
                at: "\(directory)/\(index).sock",
                tokenizer: tokenizers[fingerprints?[index] ?? min(index, 1)].fingerprint)
        }
        var plain = ServedModel(
            names: ["plain"], tokenizer: tokenizers[0],
            chatTemplate: try ChatTemplate(source: "{% for m in messages %}{{ m.content }}{% endfor %}"),
            contextLength: 64, created: 5)
        plain.engines = 0..<1
        var pairs = ServedModel(
            names: ["pairs", "second"], tokenizer: tokenizers[1],
            chatTemplate: try ChatTemplate(source: "{% for m in messages %}<{{ m.content }}>{% endfor %}"),
            contextLength: 32, created: 6)
        pairs.engines = 1..<UInt32(max(2, engines.count))
        let log = Log()
        var configuration = GatewayConfiguration(
            models: [plain], listener: .address(host: "127.0.0.1", port: 0), version: "1", pid: 9,
            log: { log.add($0) }, secondsSince1970: { 77 })
        configuration.engineSilenceTimeout = .zero
        configuration.models.append(pairs)
        configure(&configuration)
        let server = try await GatewayServer.start(
            configuration, roster: roster(serving ?? 0..<engines.count, directory))
        let bench = TwoModels(
            server: server, client: TestClient(port: try #require(server.port)), directory: directory,
            tokenizers: tokenizers, log: log)
        do {
            if serving == nil, fingerprints == nil { try await bench.until { $0.status == 200 } }
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

    /// Asks for `/health` until the answer is as wanted.
    func until(_ isWanted: (TestClient.Answer) -> Bool) async throws {
        for _ in 0..<20_000 {
            if isWanted(try await client.get("/health")) { return }
            await Task.yield()
        }
        Issue.record("the gateway's health did not become what was expected")
    }

    func post(_ path: String, _ body: String) async throws -> TestClient.Answer { try await client.post(path, body) }
}

@Suite struct SeveralModelsTests {
    @Test func requestsReachTheEnginesOfTheirModel() async throws {
        let engines = [FakeEngine(text: "plain"), FakeEngine(text: "pairs")]
        try await TwoModels.run(engines) { bench in
            for (body, text, name) in [
                (#"{"prompt":"ab"}"#, "plain", "plain"), (#"{"model":"plain","prompt":"ab"}"#, "plain", "plain"),
                (#"{"prompt":"ab","model":"pairs"}"#, "pairs", "pairs"),
                (#"{"model":"second","prompt":"ab"}"#, "pairs", "second"),
                (#"{"model":null,"prompt":"ab"}"#, "plain", "plain"),
            ] {
                let answer = try await bench.post("/v1/completions", body)
                #expect(answer.json["choices"][0]["text"] == .string(text), "\(body): \(answer.body)")
                #expect(answer.json["model"] == .string(name))
            }
            #expect(engines[0].submitted.map(\.tokens) == Array(repeating: "ab".ids, count: 3))
            #expect(engines[1].submitted.map(\.tokens) == [[258], [258]])
            // Each has its own template, and its own limit.
            let chat = #""messages":[{"role":"user","content":"ab"}],"max_tokens":"#
            #expect(try await bench.post("/v1/chat/completions", #"{"model":"second",\#(chat)3}"#).status == 200)
            #expect(engines[1].submitted.last?.tokens == "<".ids + [258] + ">".ids)
            #expect(try await bench.post("/v1/chat/completions", "{\(chat)40}").status == 200)
            #expect(engines[0].submitted.last?.tokens == "ab".ids)
            let long = try await bench.post("/v1/chat/completions", #"{"model":"second",\#(chat)40}"#)
            #expect(long.status == 400)
            #expect(long.json["error"]["message"].string?.contains("32 tokens") == true)
        }
    }

    @Test func longBodiesFindTheirModelToo() async throws {
        let engines = [FakeEngine(text: "plain"), FakeEngine(text: "pairs")]
        try await TwoModels.run(engines) { bench in
            let user = String(repeating: "x", count: 100_000)
            let answer = try await bench.post(
                "/v1/completions", #"{"prompt":"ab","user":"\#(user)","model":"pairs"}"#)
            #expect(answer.json["choices"][0]["text"] == .string("pairs"))
            let unknown = try await bench.post("/v1/completions", #"{"user":"\#(user)","model":"none"}"#)
            #expect(unknown.status == 404)
        }
    }

    @Test(arguments: [
        "/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/score", "/v1/rerank", "/classify",
        "/tokenize", "/detokenize",
    ])
    func unknownModelsAreRefusedWithAllNames(path: String) async throws {
        try await TwoModels.run([FakeEngine(text: "a"), FakeEngine(text: "b")]) { bench in
            let answer = try await bench.post(path, #"{"model":"gpt"}"#)
            #expect(answer.status == 404)
            let error = answer.json["error"]
            #expect(error["code"] == .string("model_not_found"))
            #expect(error["param"] == .string("model"))
            #expect(error["message"].string?.contains("`gpt`") == true)
            #expect(error["message"].string?.contains("plain, pairs, second") == true)
        }
    }

    @Test func brokenBodiesAreRefusedAsEver() async throws {
        try await TwoModels.run([FakeEngine(text: "a"), FakeEngine(text: "b")]) { bench in
            for body in ["", "[]", "{", #"{"model":"pairs","prompt":"#, #"{"model":5,"prompt":"a"}"#] {
                let answer = try await bench.post("/v1/completions", body)
                #expect(answer.status == 400, "\(body)")
            }
            let unknown = try await bench.post("/v1/nothing", #"{"model":"pairs"}"#)
            #expect(unknown.status == 404)
            let read = try await bench.client.get("/v1/completions")
            #expect(read.status == 405)
        }
    }

    @Test func modelsAreListedWithTheirLimits() async throws {
        try await TwoModels.run([FakeEngine(text: "a"), FakeEngine(text: "b")]) { bench in
            let data = try await bench.client.get("/v1/models").json["data"].array ?? []
            #expect(data.compactMap { $0["id"].string } == ["plain", "pairs", "second"])
            #expect(data.compactMap { $0["root"].string } == ["plain", "pairs", "pairs"])
            #expect(data.map { $0["max_model_len"] } == [.integer(64), .integer(32), .integer(32)])
            #expect(try await bench.client.get("/v1/models/second").json["max_model_len"] == .integer(32))
            let missing = try await bench.client.get("/v1/models/none")
            #expect(missing.status == 404)
            #expect(missing.body.contains("plain, pairs, second"))
        }
    }

    @Test func tokensAreThoseOfTheModel() async throws {
        try await TwoModels.run([FakeEngine(text: "a"), FakeEngine(text: "b")]) { bench in
            let own = try await bench.post("/tokenize", #"{"prompt":"ab"}"#).json
            #expect(own["tokens"] == .array([.integer(97), .integer(98)]))
            #expect(own["max_model_len"] == .integer(64))
            let other = try await bench.post("/tokenize", #"{"model":"pairs","prompt":"ab"}"#).json
            #expect(other["tokens"] == .array([.integer(258)]))
            #expect(other["max_model_len"] == .integer(32))
            #expect(try await bench.post("/detokenize", #"{"tokens":[258]}"#).status == 400)
            let text = try await bench.post("/detokenize", #"{"tokens":[258],"model":"second"}"#)
            #expect(text.json["prompt"] == .string("ab"))
            #expect(try await bench.client.get("/tokenizer_info").json["vocab_size"] == .integer(258))
            #expect(try await bench.client.get("/tokenizer_info?model=pairs").json["vocab_size"] == .integer(259))
            #expect(try await bench.client.get("/tokenizer_info?model=x").status == 404)
        }
    }

    @Test func healthNeedsAnEngineOfEveryModel() async throws {
        let engines = [FakeEngine(text: "plain"), FakeEngine(text: "pairs"), FakeEngine(text: "pairs")]
        try await TwoModels.run(engines, serving: 0..<1) { bench in
            try await bench.until { $0.body.contains("`pairs`") && !$0.body.contains("`plain`") }
            #expect(try await bench.client.get("/health").status == 503)
            // What the other serves is served.
            #expect(try await bench.post("/v1/completions", #"{"prompt":"ab"}"#).status == 200)
            bench.server.update(TwoModels.roster(0..<3, generation: 2, bench.directory))
            try await bench.until { $0.json["engines"] == .integer(3) }
            let models = try await bench.client.get("/health").json["models"]
            #expect(models["plain"] == .integer(1))
            #expect(models["pairs"] == .integer(2))
        }
    }

    @Test func anEngineWithTheTokenizerOfAnotherModelIsRefused() async throws {
        let engines = [FakeEngine(text: "plain"), FakeEngine(text: "pairs")]
        try await TwoModels.run(engines, tokenizers: [0, 0]) { bench in
            try await bench.until { $0.body.contains("`pairs`") && !$0.body.contains("`plain`") }
            for _ in 0..<20_000 where !bench.log.all.contains(where: { $0.contains("tokenizer") }) {
                await Task.yield()
                _ = try await bench.client.get("/live")
            }
            #expect(bench.log.all.contains { $0.hasPrefix("engine 1: ") && $0.contains("tokenizer") })
            #expect(try await bench.client.get("/health").status == 503)
        }
    }

    @Test func eachModelHasItsOwnLimit() async throws {
        let silent = FakeEngine(text: "plain", limit: 0)
        var held: Task<TestClient.Answer, any Error>?
        try await TwoModels.run([silent, FakeEngine(text: "pairs")]) {
            $0.maximumSequences = 1
            $0.drainTimeout = .milliseconds(1)
        } _: { bench in
            held = Task { try await bench.post("/v1/completions", #"{"prompt":"ab"}"#) }
            while silent.submitted.isEmpty { await Task.yield() }
            let refused = try await bench.post("/v1/completions", #"{"prompt":"ab"}"#)
            #expect(refused.status == 429)
            let served = try await bench.post("/v1/completions", #"{"prompt":"ab","model":"pairs"}"#)
            #expect(served.status == 200)
            let load = try await bench.client.get("/load").json["server_load"]
            #expect(load == .integer(1))
        }
        #expect(try await held?.value.status == 503)
    }

    @Test func aLostEngineOfOneModelDoesNotConcernTheOther() async throws {
        let engines = [FakeEngine(text: "plain", limit: 2), FakeEngine(text: "pairs")]
        var stream: Task<TestClient.Answer, any Error>?
        try await TwoModels.run(engines, configure: { $0.drainTimeout = .milliseconds(1) }) { bench in
            stream = Task { try await bench.post("/v1/completions", #"{"prompt":"ab","stream":true}"#) }
            let both = #"vllm:generation_tokens_total{model_name="plain"} 2"#
            while try await !bench.client.get("/metrics").body.contains(both) { await Task.yield() }
            bench.server.update(TwoModels.roster(0..<1, generation: 2, bench.directory))
            try await bench.until { $0.body.contains("`pairs`") && !$0.body.contains("`plain`") }
            bench.server.update(TwoModels.roster(0..<2, generation: 3, bench.directory))
            try await bench.until { $0.status == 200 }
            #expect(try await bench.post("/v1/completions", #"{"prompt":"ab","model":"pairs"}"#).status == 200)
        }
        // Never moved, never ended: it stands where its own engine fell silent, and the end of the gateway cut it.
        #expect(engines[0].submitted.count == 1)
        let events = try #require(try await stream?.value).events.map { try TestModel.json($0) }
        #expect(events.compactMap { $0["choices"][0]["text"].string } == ["p", "l"])
        #expect(events.last?["error"]["code"] == .string("unavailable"))
    }

    @Test func metricsNameTheModel() async throws {
        try await TwoModels.run([FakeEngine(text: "plain"), FakeEngine(text: "pairs")]) { bench in
            _ = try await bench.post("/v1/completions", #"{"model":"pairs","prompt":"ab"}"#)
            _ = try await bench.post("/v1/completions", #"{"model":"pairs"}"#)
            _ = try await bench.post("/v1/completions", #"{"model":"none"}"#)
            let metrics = try await bench.client.get("/metrics").body
            for line in [
                #"vllm:prompt_tokens_total{model_name="pairs"} 1"#, #"vllm:prompt_tokens_total{model_name="plain"} 0"#,
                #"tandem_engine_serving{engine="0",model_name="plain"} 1"#,
                #"tandem_engine_serving{engine="1",model_name="pairs"} 1"#,
                #"tandem_engines{model_name="plain"} 1"#, #"tandem_engines{model_name="pairs"} 1"#,
                #"tandem_http_errors_total{model_name="pairs",status="400"} 1"#,
                #"tandem_http_errors_total{status="404"} 1"#,
            ] { #expect(metrics.contains(line + "\n"), "\(line)") }
            #expect(!metrics.contains(#"engine="1",model_name="plain""#))
            #expect(try await bench.client.get("/load").json["server_load"] == .integer(0))
        }
    }
}
