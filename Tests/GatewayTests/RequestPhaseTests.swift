// Tandem — Apache-2.0

import EngineLink
import NIOCore
import Requests
import Synchronization
import Telemetry
import Testing

@testable import Gateway

/// Where a choice's time went, from what engines say and from a clock that the test sets.
@Suite struct RequestPhaseTests {
    private final class Clock: Sendable {
        private let time = Atomic<Int64>(1000)
        var milliseconds: Int64 {
            get { time.load(ordering: .relaxed) }
            set { time.store(newValue, ordering: .relaxed) }
        }
        var now: NIODeadline { .uptimeNanoseconds(UInt64(milliseconds) * 1_000_000) }
    }

    private let clock = Clock()
    private let metrics = GatewayMetrics(modelName: "m")

    private func observer(choices: Int = 1) -> RequestObserver {
        RequestObserver(metrics: metrics, clock: { [clock] in clock.now }, choices: choices)
    }

    private func began(_ observer: RequestObserver, _ milliseconds: UInt32, choice: Int = 0) {
        observer.began(choice: choice, prefillMicroseconds: milliseconds * 1000, at: clock.now)
    }

    /// Count and sum of each, the sum in milliseconds.
    private var phases: [[Int]] {
        let requests = metrics.requests
        guard let phases = requests.phases else { return [] }
        return [phases.queue, phases.prefill, requests.decodeTime, phases.inference].map { histogram in
            let (counts, sum) = histogram.snapshot()
            return [Int(counts.reduce(0, +)), Int((sum * 1000).rounded())]
        }
    }

    @Test func phasesAddUp() {
        let observer = observer()
        clock.milliseconds += 100
        began(observer, 30)
        observer.produced(tokens: 1, choice: 0)
        clock.milliseconds += 50
        observer.produced(tokens: 1, choice: 0)
        observer.finished(choice: 0, reason: "stop", tokens: 2)
        #expect(phases == [[1, 70], [1, 30], [1, 50], [1, 80]])
    }

    /// Before its first token a sequence begins anew elsewhere, after it it goes on.
    @Test func aSequenceThatMovesCountsOnce() {
        let observer = observer()
        clock.milliseconds += 100
        // Log-probabilities of its prompt, then its engine is lost.
        began(observer, 30)
        clock.milliseconds += 100
        began(observer, 20)
        observer.produced(tokens: 1, choice: 0)
        clock.milliseconds += 100
        began(observer, 90)
        observer.produced(tokens: 1, choice: 0)
        observer.finished(choice: 0, reason: "length", tokens: 2)
        #expect(phases == [[1, 180], [1, 20], [1, 100], [1, 120]])
    }

    /// Prompts' log-probabilities may come before the first token.
    @Test func anOutputWithoutTokensBeginsNothingLater() {
        let observer = observer()
        clock.milliseconds += 10
        began(observer, 10)
        clock.milliseconds += 40
        observer.produced(tokens: 1, choice: 0)
        observer.finished(choice: 0, reason: "length", tokens: 1)
        #expect(phases == [[1, 0], [1, 50], [1, 0], [1, 50]])
    }

    @Test func enginesThatSayNothingAreLeftOut() {
        let observer = observer(choices: 2)
        observer.produced(tokens: 1, choice: 0)
        observer.finished(choice: 0, reason: "stop", tokens: 1)
        // An engine cannot have begun before the request came.
        clock.milliseconds += 5
        began(observer, 4_000_000, choice: 1)
        observer.produced(tokens: 1, choice: 1)
        observer.finished(choice: 1, reason: "stop", tokens: 1)
        #expect(phases == [[1, 0], [1, 5], [2, 0], [1, 5]])
    }

    @Test func aStepWithSeveralTokensSaysItOnce() {
        let output = SequenceOutput(id: 1, tokens: [1, 2, 3], cachedPromptTokens: 4, prefillMicroseconds: 5)
        #expect(output.singleTokens.map(\.prefillMicroseconds) == [5, nil, nil])
    }

    @Test func answersAndEnginesFillTheHistograms() async throws {
        let engine = MemoryEngine { request in
            var outputs = MemoryEngine.outputs(request, text: "abc".ids)
            outputs[0].prefillMicroseconds = 0
            return outputs
        }
        try await MemoryBench.run([engine]) { bench in
            _ = try await bench.post("/v1/completions", #"{"prompt":"x","max_tokens":3,"n":2,"stream":true}"#)
            let text = try await bench.get("/metrics").body
            for name in ["queue", "prefill", "decode", "inference"] {
                let line = "vllm:request_\(name)_time_seconds_count{model_name=\"toy\"} 2"
                #expect(text.contains(line), "\(line)")
            }
        }
    }

    @Test func stepsOfEnginesAreShownAsTheyCountThem() {
        let registry = MetricRegistry()
        let metrics = GatewayMetrics(modelName: "m", registry: registry)
        var sizes = StepSizes()
        for size in [1, 1, 5, 20_000] { sizes.add(tokens: size) }
        let engine = EngineReport(
            index: 3, model: "m", address: "", state: .ready, isServing: true, pid: 1, restarts: 0, reason: "",
            hello: nil, statistics: EngineStatistics(stepSizes: sizes), outstandingRequests: 0, outstandingTokens: 0)
        for _ in 0..<2 { metrics.setEngines([engine], unfinished: 0) }
        let text = registry.exposition()
        for line in [
            #"_bucket{engine="3",model_name="m",le="1"} 2"#, #"_bucket{engine="3",model_name="m",le="8"} 3"#,
            #"_bucket{engine="3",model_name="m",le="16384"} 3"#, #"_bucket{engine="3",model_name="m",le="+Inf"} 4"#,
            #"_sum{engine="3",model_name="m"} 20007"#, #"_count{engine="3",model_name="m"} 4"#,
        ] { #expect(text.contains("vllm:iteration_tokens_total" + line), "\(line)") }
    }
}
