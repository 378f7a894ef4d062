// Tandem — Apache-2.0

import EngineLink
import Requests
import Telemetry

/// The gateway's metrics, under vLLM's names, so that existing dashboards and load generators read them, and its own
/// under `tandem:`.
final class GatewayMetrics: Sendable {
    private let registry = MetricRegistry()
    private let model: MetricLabel
    /// Submissions of a sequence beyond its first.
    let retries: MetricCounter
    let promptTokens: MetricCounter
    let generationTokens: MetricCounter
    let timeToFirstToken: MetricHistogram
    let interTokenLatency: MetricHistogram
    let timePerOutputToken: MetricHistogram
    let endToEndLatency: MetricHistogram
    let requestPromptTokens: MetricHistogram
    let requestGenerationTokens: MetricHistogram
    let requestChoices: MetricHistogram
    private let unfinished: MetricGauge

    init(modelName: String) {
        let model = MetricLabel("model_name", modelName)
        self.model = model
        let registry = registry
        func histogram(_ name: String, _ help: String, _ buckets: [Double]) -> MetricHistogram {
            registry.histogram(name, help: help, labels: [model], buckets: buckets)
        }
        retries = registry.counter(
            "tandem:router_retries_total", help: "Submissions of a sequence beyond its first.", labels: [model])
        promptTokens = registry.counter(
            "vllm:prompt_tokens_total", help: "Prompt tokens of admitted requests.", labels: [model])
        generationTokens = registry.counter(
            "vllm:generation_tokens_total", help: "Tokens generated for clients.", labels: [model])
        timeToFirstToken = histogram(
            "vllm:time_to_first_token_seconds", "From admission to a choice's first token.",
            MetricBuckets.timeToFirstToken)
        interTokenLatency = histogram(
            "vllm:inter_token_latency_seconds", "Between two tokens of a choice.", MetricBuckets.interTokenLatency)
        timePerOutputToken = histogram(
            "vllm:request_time_per_output_token_seconds", "Mean time between tokens, a finished choice.",
            MetricBuckets.interTokenLatency)
        endToEndLatency = histogram(
            "vllm:e2e_request_latency_seconds", "From admission to the end of a request.",
            MetricBuckets.requestLatency)
        requestPromptTokens = histogram(
            "vllm:request_prompt_tokens", "Prompt tokens of a request.", MetricBuckets.requestTokens)
        requestGenerationTokens = histogram(
            "vllm:request_generation_tokens", "Generated tokens of a choice.", MetricBuckets.requestTokens)
        requestChoices = histogram("vllm:request_params_n", "Choices of a request.", MetricBuckets.choices)
        unfinished = registry.gauge(
            "tandem:gateway_unfinished_sequences", help: "Sequences admitted and not ended.", labels: [model])
        for reason in ["stop", "length", "abort", "error"] { _ = success(reason) }
        ProcessMetrics.register(in: registry)
    }

    /// Finished sequences by reason.
    func success(_ reason: String) -> MetricCounter {
        registry.counter(
            "vllm:request_success_total", help: "Finished sequences by reason.",
            labels: [model, MetricLabel("finished_reason", reason)])
    }

    /// A request was answered with an error before it was admitted, or failed after.
    func refused(status: Int) {
        registry.counter(
            "tandem:http_errors_total", help: "Requests answered with an error, by status.",
            labels: [model, MetricLabel("status", String(status))]
        ).add()
    }

    /// Takes what the engines last said of themselves.
    func setEngines(_ engines: [EnginePool.EngineState], unfinished count: Int) {
        unfinished.set(Double(count))
        for engine in engines {
            let labels = [model, MetricLabel("engine", String(engine.entry.index))]
            func gauge(_ name: String, _ help: String, _ value: Double) {
                registry.gauge(name, help: help, labels: labels).set(value)
            }
            func counter(_ name: String, _ help: String, _ value: UInt64) {
                registry.counter(name, help: help, labels: labels).set(value)
            }
            gauge("tandem:engine_serving", "1 if the engine serves.", engine.isServing ? 1 : 0)
            counter(
                "tandem:engine_restarts_total", "How often the engine was started again.",
                UInt64(engine.entry.restarts))
            let statistics = engine.statistics ?? EngineStatistics()
            gauge(
                "vllm:num_requests_running", "Sequences the engine computes.", Double(statistics.runningSequences))
            gauge(
                "vllm:num_requests_waiting", "Sequences that wait in the engine.",
                Double(statistics.waitingSequences))
            gauge(
                "vllm:kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1.",
                statistics.totalBlocks == 0 ? 0 : Double(statistics.usedBlocks) / Double(statistics.totalBlocks))
            guard engine.statistics != nil else { continue }
            counter("vllm:num_preemptions_total", "Sequences that gave their KV blocks up.", statistics.preemptions)
            counter("tandem:engine_steps_total", "Steps since the engine started.", statistics.steps)
            counter(
                "tandem:engine_prompt_tokens_total", "Prompt tokens the engine was given.", statistics.promptTokens)
            counter(
                "tandem:engine_generated_tokens_total", "Tokens the engine generated.", statistics.generatedTokens)
            counter(
                "vllm:prompt_tokens_cached_total", "Prompt tokens found in the prefix cache.",
                statistics.cachedPromptTokens)
            for (phase, nanoseconds) in [
                ("device", statistics.deviceNanoseconds), ("host", statistics.hostNanoseconds),
            ] {
                registry.sum(
                    "tandem:engine_step_seconds_total", help: "Time in steps, on the device and on the host beside it.",
                    labels: labels + [MetricLabel("phase", phase)]
                ).set(Double(nanoseconds) / 1e9)
            }
            guard let hello = engine.hello else { continue }
            registry.gauge(
                "vllm:cache_config_info", help: "KV cache layout as labels.",
                labels: labels + [
                    MetricLabel("block_size", String(hello.blockSize)),
                    MetricLabel("num_gpu_blocks", String(hello.keyValueBlocks)),
                ]
            ).set(1)
        }
    }

    func exposition() -> [UInt8] { Array(registry.exposition().utf8) }

    static var contentType: String { MetricRegistry.contentType }
}
