// Tandem — Apache-2.0

import EngineLink
import NIOCore
import Telemetry
import Testing

@testable import Gateway

/// What requests for external engines, and those engines, are counted under.
@Suite struct ModelNameTests {
    private let registry = MetricRegistry()
    private let metrics: GatewayMetrics

    init() {
        metrics = GatewayMetrics(modelName: "external", registry: registry, reportsPhases: false)
    }

    private func serve(_ model: String?, tokens: Int = 1) {
        let observer = RequestObserver(
            metrics: metrics, model: model, clock: { .uptimeNanoseconds(1) }, choices: 1)
        observer.admitted()
        observer.produced(tokens: tokens, choice: 0)
        observer.finished(choice: 0, reason: "stop", tokens: tokens)
        observer.completed()
    }

    private func report(_ index: Int, _ model: String) -> EngineReport {
        EngineReport(
            index: index, model: model, address: "http://h:1", state: .ready, isServing: true, pid: 0, restarts: 0,
            reason: "", hello: nil, statistics: nil, outstandingRequests: index, outstandingTokens: 0)
    }

    @Test func requestsAreCountedUnderTheirModels() {
        for model in ["a", "b", "a", nil] { serve(model, tokens: 2) }
        let text = registry.exposition()
        for (model, tokens) in [("a", 4), ("b", 2), ("external", 2)] {
            #expect(text.contains("vllm:generation_tokens_total{model_name=\"\(model)\"} \(tokens)\n"))
            #expect(text.contains("vllm:e2e_request_latency_seconds_count{model_name=\"\(model)\"} \(tokens / 2)\n"))
        }
        #expect(metrics.allRequests.reduce(0) { $0 + $1.finished } == 4)
        // Nobody says when those engines begin.
        #expect(!text.contains("request_queue_time") && !text.contains("request_prefill_time"))
    }

    @Test func namesAreBounded() {
        for index in 0..<1000 { serve("m\(index)") }
        serve("m0")
        let lines = registry.exposition().split(separator: "\n")
        let counters = lines.filter { $0.hasPrefix("vllm:generation_tokens_total{") }
        #expect(counters.count == GatewayMetrics.mostNames + 1)
        #expect(counters.contains("vllm:generation_tokens_total{model_name=\"m0\"} 2"))
        let rest = 1000 - GatewayMetrics.mostNames
        #expect(counters.contains("vllm:generation_tokens_total{model_name=\"external\"} \(rest)"))
    }

    @Test func enginesAreShownUnderTheirFirstModel() {
        func running() -> [String] {
            registry.exposition().split(separator: "\n").map(String.init)
                .filter { $0.hasPrefix("vllm:num_requests_running{") }.sorted()
        }
        metrics.setEngines([report(1, "a"), report(2, "")], unfinished: 0)
        #expect(
            running() == [
                #"vllm:num_requests_running{engine="1",model_name="a"} 1"#,
                #"vllm:num_requests_running{engine="2",model_name="external"} 2"#,
            ])
        // Another model at the same place: nothing is left of the one before.
        metrics.setEngines([report(1, "b")], unfinished: 0)
        #expect(running() == [#"vllm:num_requests_running{engine="1",model_name="b"} 1"#])
        #expect(!registry.exposition().contains(#"engine="1",model_name="a""#))
        metrics.setEngines([], unfinished: 0)
        #expect(running().isEmpty)
    }
}
