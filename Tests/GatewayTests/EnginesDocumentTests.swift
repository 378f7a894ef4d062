// Tandem — Apache-2.0

import EngineLink
import JSON
import NIOCore
import Synchronization
import Telemetry
import Testing

@testable import Gateway

@Suite struct EnginesDocumentTests {
    @Test func everyEngineIsShownWithWhatItSaid() async throws {
        let engines = [FakeEngine(text: "hello"), FakeEngine(text: "hello")]
        try await Bench.run(engines) { bench in
            #expect(try await bench.post("/v1/completions", #"{"prompt":"ab"}"#).status == 200)
            let answer = try await bench.get("/engines")
            #expect(answer.status == 200)
            #expect(answer.headers.contains("application/json") && answer.headers.contains("no-store"))
            let json = answer.json
            #expect(json["version"] == .string("1.2.3"))
            #expect(json["pid"] == .integer(9) && json["time"] == .integer(77))
            #expect(json["event_loops"] == .integer(1))
            #expect(json["engines"].array?.count == 2)
            for index in 0..<2 {
                let engine = json["engines"][index]
                #expect(engine["index"] == .integer(Int64(index)))
                #expect(engine["model"] == .string("toy"))
                #expect(engine["address"] == .string("link+unix:\(bench.directory)/\(index).sock"))
                #expect(engine["state"] == .string("ready") && engine["serving"] == .bool(true))
                #expect(engine["device"] == .string("test") && engine["block_size"] == .integer(16))
                #expect(engine["kv_blocks_total"] == .integer(64))
                // It has not said anything yet.
                #expect(engine["running"] == .null)
                #expect(engine["heard_seconds_ago"].number != nil)
                #expect(engine["outstanding_requests"] == .integer(0))
            }
            #expect(json["totals"]["serving"] == .integer(2))
            #expect(json["gateway"]["generated_tokens"] == .integer(5))
            #expect(json["gateway"]["finished"] == .integer(1))
            #expect(json["gateway"]["requests"] == .integer(0))
            let first = json["latency"]["time_to_first_token_seconds"]
            #expect(first["counts"].array?.count == (first["bounds"].array?.count ?? 0) + 1)
            #expect(first["counts"].array?.compactMap(\.integer).reduce(0, +) == 1)
            #expect(json["events"].array?.map { $0["kind"] } == [.string("engine_ready"), .string("engine_ready")])
        }
    }

    /// Connections are spread over event loops, and each loop knows only its own requests.
    @Test func severalEventLoopsAreAddedUp() async throws {
        try await Bench.run([FakeEngine(text: "hello", limit: 2)], configure: { $0.eventLoops = 3 }) { bench in
            let requests = 5
            try await withThrowingTaskGroup(of: Void.self) { group in
                let done = Done()
                for _ in 0..<requests {
                    group.addTask {
                        try await bench.client.leave("/v1/completions", #"{"prompt":"ab"}"#) { done.value }
                    }
                }
                var json = JSONValue.null
                for _ in 0..<20_000 {
                    json = try await bench.get("/engines").json
                    if json["totals"]["outstanding_requests"] == .integer(Int64(requests)) { break }
                }
                #expect(json["event_loops"] == .integer(3))
                #expect(json["totals"]["outstanding_requests"] == .integer(Int64(requests)))
                #expect(json["gateway"]["requests"] == .integer(Int64(requests)))
                #expect(json["gateway"]["sequences"] == .integer(Int64(requests)))
                #expect(json["engines"].array?.count == 1)
                let metrics = try await bench.get("/metrics").body
                #expect(metrics.contains("tandem_gateway_unfinished_sequences{model_name=\"toy\"} \(requests)\n"))
                done.set()
                try await group.waitForAll()
            }
        }
    }

    @Test func theKeyGuardsWhatIsNotForEverybody() async throws {
        try await Bench.run([FakeEngine(text: "x")], configure: { $0.apiKeys = ["secret"] }) { bench in
            for (path, key, status) in [
                ("/engines", "", 401), ("/ui/events", "", 401), ("/ui", "", 200), ("/ui/", "", 200),
                ("/metrics", "", 200), ("/engines", "Authorization: Bearer secret\r\n", 200),
                ("/engines", "Authorization: Bearer other\r\n", 401),
            ] {
                let answer = try await bench.get(path, headers: key)
                #expect(answer.status == status, "\(path)")
            }
        }
    }

    @Test func onlyReadingIsAllowed() async throws {
        try await Bench.run([FakeEngine(text: "x")]) { bench in
            for path in ["/engines", "/ui", "/ui/events", "/metrics"] {
                let posted = try await bench.post(path, "{}")
                #expect(posted.status == 405)
                let head = try await bench.get(path, method: "HEAD")
                #expect(head.status == 200 && head.body.isEmpty, "\(path)")
            }
        }
    }

    @Test func headOfMetricsGathersNothing() async throws {
        try await Bench.run([FakeEngine(text: "x")]) { bench in
            let head = try await bench.get("/metrics", method: "HEAD")
            #expect(head.headers.contains("text/plain; version=0.0.4"))
            // Gauges of engines are made when metrics are asked for.
            #expect(!head.headers.contains("Content-Length"))
            #expect(try await bench.get("/metrics").body.contains("vllm:num_requests_running"))
        }
    }

    @Test func metricsHaveTheNamesThatDashboardsKnow() async throws {
        try await Bench.run([FakeEngine(text: "hello")]) { bench in
            #expect(try await bench.post("/v1/completions", #"{"prompt":"ab"}"#).status == 200)
            let text = try await bench.get("/metrics").body
            for name in [
                "vllm:num_requests_waiting_by_reason{engine=\"0\",model_name=\"toy\",reason=\"capacity\"} 0",
                "vllm:admission_rejections_total{model_name=\"toy\",reason=\"max_num_queued_reqs\"} 0",
                "tandem_router_migrations_total{model_name=\"toy\",outcome=\"continued\",reason=\"lost\"} 0",
                "tandem_router_migration_pause_seconds_count{model_name=\"toy\"} 0",
                "tandem_router_held_sequences{model_name=\"toy\"} 0",
                "vllm:cache_config_info{block_size=\"16\",engine=\"0\",model_name=\"toy\",num_gpu_blocks=\"64\"} 1",
                "process_max_fds ", "process_virtual_memory_bytes ",
            ] {
                #expect(text.contains("\n\(name)"), "\(name)")
            }
        }
    }

    @Test func aRefusedRequestIsCounted() async throws {
        try await Bench.run([FakeEngine(text: "hello", limit: 2)], configure: { $0.maximumSequences = 1 }) { bench in
            let done = Done()
            async let first: Void = bench.client.leave("/v1/completions", #"{"prompt":"ab"}"#) { done.value }
            for _ in 0..<20_000 {
                let load = try await bench.get("/load").json
                if load["server_load"] == .integer(1) { break }
            }
            let refused = try await bench.post("/v1/completions", #"{"prompt":"ab"}"#)
            #expect(refused.status == 429)
            let text = try await bench.get("/metrics").body
            #expect(
                text.contains("vllm:admission_rejections_total{model_name=\"toy\",reason=\"max_num_queued_reqs\"} 1"))
            done.set()
            try await first
        }
    }
}

/// A value that several threads use.
final class Guarded<Value: Sendable>: Sendable {
    private let value: Mutex<Value>

    init(_ value: sending Value) { self.value = Mutex(value) }

    func withLock<Result>(_ body: (inout sending Value) -> sending Result) -> sending Result { value.withLock(body) }
}

/// Something that has happened.
final class Done: Sendable {
    private let flag = Guarded(false)
    var value: Bool { flag.withLock { $0 } }
    func set() { flag.withLock { $0 = true } }
}

@Suite struct EngineCensusTests {
    private func report(_ index: Int, requests: Int, steps: UInt64? = nil, restarts: UInt32 = 0) -> EngineReport {
        EngineReport(
            index: index, model: "m", address: "a", state: .ready, isServing: steps != nil, pid: 5, restarts: restarts,
            reason: "", hello: nil, statistics: steps.map { EngineStatistics(steps: $0) },
            outstandingRequests: requests, outstandingTokens: requests * 10)
    }

    private func census(_ engines: [EngineReport], unfinished: Int = 1) -> EngineCensus {
        var census = EngineCensus([])
        census.models = [EngineCensus.Model(name: "m", engines: engines, unfinished: unfinished, held: 1)]
        return census
    }

    @Test func whatLoopsHaveInHandIsAdded() throws {
        let merged = try #require(
            EngineCensus.merged([
                census([report(0, requests: 1, steps: 5), report(1, requests: 2, steps: 9)], unfinished: 3),
                census([report(1, requests: 4, steps: 8), report(2, requests: 1)], unfinished: 4),
            ]))
        #expect(merged.eventLoops == 2)
        let model = merged.models[0]
        #expect(model.unfinished == 7 && model.held == 2)
        #expect(model.engines.map(\.index) == [0, 1, 2])
        #expect(model.engines.map(\.outstandingRequests) == [1, 6, 1])
        #expect(model.engines.map(\.outstandingTokens) == [10, 60, 10])
        #expect(model.engines.map { $0.statistics?.steps } == [5, 9, nil])
        #expect(model.engines.map(\.isServing) == [true, true, false])
        #expect(EngineCensus.merged([]) == nil)
    }

    @Test func aRestartedEngineIsNewerThoughItCountsFromZero() throws {
        let merged = try #require(
            EngineCensus.merged([
                census([report(0, requests: 0, steps: 500)]), census([report(0, requests: 0, steps: 2, restarts: 1)]),
            ]))
        #expect(merged.models[0].engines[0].statistics?.steps == 2)
        #expect(merged.models[0].engines[0].restarts == 1)
    }
}

@Suite struct GatewayEventsTests {
    private func entry(_ index: UInt32, _ state: RosterEntry.State, pid: Int32 = 1, restarts: UInt32 = 0) -> RosterEntry
    {
        RosterEntry(index: index, address: "a", state: state, pid: pid, restarts: restarts, reason: "r")
    }

    private func kinds(_ old: [RosterEntry], _ new: [RosterEntry]) -> [GatewayEvent.Kind] {
        GatewayEvents.changes(from: Roster(engines: old), to: Roster(engines: new)).map(\.kind)
    }

    @Test func rostersTellWhatChanged() {
        #expect(kinds([], [entry(0, .starting)]) == [])
        #expect(kinds([], [entry(0, .ready)]) == [.ready])
        #expect(kinds([entry(0, .starting)], [entry(0, .ready)]) == [.ready])
        #expect(kinds([entry(0, .ready)], [entry(0, .ready)]) == [])
        #expect(kinds([entry(0, .ready)], [entry(0, .restarting)]) == [.lost])
        #expect(kinds([entry(0, .restarting)], [entry(0, .starting, pid: 2, restarts: 1)]) == [])
        #expect(kinds([entry(0, .ready)], [entry(0, .draining)]) == [.draining])
        #expect(kinds([entry(0, .ready)], [entry(0, .failed)]) == [.failed])
        #expect(kinds([entry(0, .ready)], []) == [.removed])
        // It died and came back between two rosters.
        #expect(kinds([entry(0, .ready)], [entry(0, .ready, pid: 2, restarts: 1)]) == [.lost, .ready])
    }

    @Test func eventsAreNumberedBoundedAndMerged() {
        let events = GatewayEvents(secondsSince1970: { 77 })
        for generation in 1...100 {
            events.update(
                Roster(
                    generation: UInt64(generation), engines: [entry(0, generation % 2 == 0 ? .restarting : .ready)])
            ) { _ in "m" }
        }
        #expect(events.latest.count == GatewayEvents.limit)
        #expect(events.latest.last?.id == 100 && events.latest.last?.time == 77)
        // An older roster says nothing.
        events.update(Roster(generation: 5, engines: [])) { _ in "m" }
        #expect(events.latest.last?.id == 100)
        // Three event loops lose one engine.
        for _ in 0..<3 {
            events.moved(MovedSequences(continued: 2, retried: 1), from: 0, model: "m", reason: "gone")
        }
        events.moved(MovedSequences(), from: 0, model: "m", reason: "gone")
        #expect(events.latest.last?.id == 101)
        #expect(events.latest.last?.moved == MovedSequences(continued: 6, retried: 3))
    }
}

@Suite struct BalanceWindowTests {
    @Test func theBusiestIsSetAgainstTheMean() {
        var window = BalanceWindow()
        #expect(window.add([0: 100, 1: 900], at: 0) == nil)
        #expect(window.add([0: 100, 1: 900], at: 10) == nil)
        #expect(window.add([0: 200, 1: 1200], at: 20) == 1.5)
        #expect(window.add([0: 400, 1: 1200], at: 30) == 1)
    }

    @Test func aRestartCountsFromZeroAgain() {
        var window = BalanceWindow()
        _ = window.add([0: 1000, 1: 1000], at: 0)
        #expect(window.add([0: 30, 1: 1010], at: 10) == 1.5)
    }

    @Test func whatIsOlderThanAMinuteIsForgotten() {
        var window = BalanceWindow()
        _ = window.add([0: 0, 1: 0], at: 0)
        _ = window.add([0: 600, 1: 0], at: 1)
        #expect(window.add([0: 600, 1: 50], at: 61) == 2)
        #expect(window.add([0: 650, 1: 100], at: 90) == 4.0 / 3)
        // Scrapes may be far apart.
        #expect(window.add([0: 750, 1: 200], at: 1000) == 1)
    }
}
