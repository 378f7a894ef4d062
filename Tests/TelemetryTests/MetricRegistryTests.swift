// Tandem — Apache-2.0

import Telemetry
import Testing

@Suite struct MetricRegistryTests {
    @Test func expositionIsOrderedAndComplete() {
        let registry = MetricRegistry()
        let labels = [MetricLabel("model_name", "toy"), MetricLabel("engine", "1")]
        registry.gauge("vllm:num_requests_running", help: "Running.", labels: labels).set(3)
        registry.gauge("vllm:num_requests_running", help: "Running.", labels: [MetricLabel("engine", "0")]).set(0.5)
        registry.counter("a_total", help: "First.").add(7)
        let histogram = registry.histogram("b_seconds", help: "Times.", labels: labels, buckets: [0.1, 1, 2.5])
        for value in [0.05, 0.1, 0.3, 2, 99] { histogram.observe(value) }
        #expect(
            registry.exposition() == """
                # HELP a_total First.
                # TYPE a_total counter
                a_total 7
                # HELP b_seconds Times.
                # TYPE b_seconds histogram
                b_seconds_bucket{engine="1",model_name="toy",le="0.1"} 2
                b_seconds_bucket{engine="1",model_name="toy",le="1"} 3
                b_seconds_bucket{engine="1",model_name="toy",le="2.5"} 4
                b_seconds_bucket{engine="1",model_name="toy",le="+Inf"} 5
                b_seconds_sum{engine="1",model_name="toy"} 101.45
                b_seconds_count{engine="1",model_name="toy"} 5
                # HELP vllm:num_requests_running Running.
                # TYPE vllm:num_requests_running gauge
                vllm:num_requests_running{engine="0"} 0.5
                vllm:num_requests_running{engine="1",model_name="toy"} 3

                """
        )
    }

    @Test func textIsEscaped() {
        let registry = MetricRegistry()
        let labels = [MetricLabel("path", "C:\\x \"y\"\nz")]
        registry.gauge("g", help: "a\\b\n\"c\"", labels: labels).set(-1)
        #expect(
            registry.exposition() == #"""
                # HELP g a\\b\n"c"
                # TYPE g gauge
                g{path="C:\\x \"y\"\nz"} -1

                """#
        )
    }

    @Test func namesAreMadeValid() {
        let registry = MetricRegistry()
        registry.counter("9 lives-left.ß", help: "", labels: [MetricLabel("a:b", "c"), MetricLabel("1", "d")]).add()
        #expect(registry.exposition().contains("_9_lives_left__{_1=\"d\",a_b=\"c\"} 1\n"))
        registry.counter("", help: "").add()
        #expect(registry.exposition().contains("\n_ 1\n"))
    }

    @Test func notFiniteNumbersHaveNames() {
        let registry = MetricRegistry()
        registry.gauge("a", help: "").set(.infinity)
        registry.gauge("b", help: "").set(-.infinity)
        registry.gauge("c", help: "").set(.nan)
        let text = registry.exposition()
        for line in ["a +Inf", "b -Inf", "c NaN"] { #expect(text.contains("\n\(line)\n")) }
    }

    @Test func sameNameAndLabelsAreTheSameHandle() {
        let registry = MetricRegistry()
        let one = registry.counter("c_total", help: "", labels: [MetricLabel("a", "1"), MetricLabel("b", "2")])
        let two = registry.counter("c_total", help: "", labels: [MetricLabel("b", "2"), MetricLabel("a", "1")])
        #expect(one === two)
        #expect(registry.conflicts.isEmpty)
        let stranger = registry.gauge("c_total", help: "")
        stranger.set(1)
        #expect(registry.conflicts == ["c_total"])
        #expect(!registry.exposition().contains("gauge"))
    }

    @Test func readMetricsAreReadEachTime() {
        let registry = MetricRegistry()
        let source = registry.counter("source_total", help: "")
        registry.read("seen", help: "", kind: .gauge) { source.value == 0 ? nil : Double(source.value) }
        #expect(!registry.exposition().contains("\nseen "))
        source.add(4)
        #expect(registry.exposition().contains("\nseen 4\n"))
    }

    @Test func removedSeriesAreGone() {
        let registry = MetricRegistry()
        _ = registry.gauge("g", help: "", labels: [MetricLabel("engine", "0")])
        registry.remove("g", labels: [MetricLabel("engine", "0")])
        #expect(registry.exposition().isEmpty)
    }

    @Test func seriesAreFoundByTheirLabels() {
        let registry = MetricRegistry()
        let one = MetricLabel("engine", "1")
        registry.gauge("a", help: "", labels: [one, MetricLabel("model", "m")]).set(1)
        registry.gauge("a", help: "", labels: [MetricLabel("engine", "11")]).set(2)
        registry.gauge("b", help: "", labels: [MetricLabel("model", "x\",engine=\"1")]).set(3)
        registry.gauge("c", help: "", labels: [one]).set(4)
        #expect(
            registry.exposition(having: [one])
                == "# HELP a \n# TYPE a gauge\na{engine=\"1\",model=\"m\"} 1\n# HELP c \n# TYPE c gauge\n"
                + "c{engine=\"1\"} 4\n")
        #expect(registry.exposition(having: [one, MetricLabel("model", "n")]) == "")
        registry.removeAll(having: [one])
        #expect(registry.exposition(having: [one]) == "")
        #expect(registry.exposition().contains("a{engine=\"11\"} 2") && registry.exposition().contains("} 3"))
        #expect(!registry.exposition().contains("# TYPE c"))
    }

    @Test func manyThreadsLoseNothing() async {
        let registry = MetricRegistry()
        let counter = registry.counter("c_total", help: "")
        let sum = registry.sum("s_total", help: "")
        let histogram = registry.histogram("h", help: "", buckets: [1])
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    for _ in 0..<5000 {
                        counter.add()
                        sum.add(0.5)
                        histogram.observe(2)
                    }
                }
            }
        }
        #expect(counter.value == 20000)
        #expect(sum.value == 10000)
        #expect(histogram.snapshot().counts == [0, 20000])
        #expect(histogram.snapshot().sum == 40000)
    }

    @Test func bucketsAscend() {
        let all = [
            MetricBuckets.timeToFirstToken, MetricBuckets.interTokenLatency, MetricBuckets.requestLatency,
            MetricBuckets.requestTokens, MetricBuckets.choices, MetricBuckets.step,
        ]
        for buckets in all { #expect(zip(buckets, buckets.dropFirst()).allSatisfy { $0 < $1 }) }
        let registry = MetricRegistry()
        #expect(registry.histogram("h", help: "", buckets: [2, .nan, 1, 2, .infinity]).bounds == [1, 2])
    }

    @Test func processSpeaksOfItself() throws {
        let registry = MetricRegistry()
        ProcessMetrics.register(in: registry)
        let text = registry.exposition()
        let value = { (name: String) in
            text.split(separator: "\n").first { $0.hasPrefix(name + " ") }
                .flatMap { Double($0.dropFirst(name.count + 1)) }
        }
        #expect(try #require(value("process_resident_memory_bytes")) > 1_048_576)
        #expect(try #require(value("process_cpu_seconds_total")) > 0)
        #expect(try #require(value("process_open_fds")) >= 3)
        // After 2020 and so not a time since boot.
        #expect(try #require(value("process_start_time_seconds")) > 1_577_836_800)
    }
}
