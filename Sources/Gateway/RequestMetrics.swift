// Tandem — Apache-2.0

import Telemetry

/// Why sequences end, as label values: engines have words of their own, and each would be a series.
enum FinishLabel {
    static func label(_ reason: String?) -> String {
        switch reason {
        case "length", "abort", "error": reason ?? "stop"
        default: "stop"
        }
    }
}

/// Metrics of the requests for one model, under vLLM's names.
final class RequestMetrics: Sendable {
    let modelName: String
    private let registry: MetricRegistry
    private let model: MetricLabel
    let promptTokens: MetricCounter
    let generationTokens: MetricCounter
    let timeToFirstToken: MetricHistogram
    let interTokenLatency: MetricHistogram
    let timePerOutputToken: MetricHistogram
    let endToEndLatency: MetricHistogram
    let requestPromptTokens: MetricHistogram
    let requestGenerationTokens: MetricHistogram
    let requestChoices: MetricHistogram
    let requestMaximumTokens: MetricHistogram
    let decodeTime: MetricHistogram
    /// Around the moment when an engine begins with a sequence; `nil` if engines do not say.
    let phases: Phases?
    /// Of the usual reasons.
    private let successes: [String: MetricCounter]

    struct Phases: Sendable {
        let queue: MetricHistogram
        let prefill: MetricHistogram
        let inference: MetricHistogram
    }

    /// The same model gives the same metrics.
    init(modelName: String, registry: MetricRegistry, reportsPhases: Bool) {
        self.modelName = modelName
        self.registry = registry
        let model = MetricLabel("model_name", modelName)
        self.model = model
        func histogram(_ name: String, _ help: String, _ buckets: [Double]) -> MetricHistogram {
            registry.histogram(name, help: help, labels: [model], buckets: buckets)
        }
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
        requestMaximumTokens = histogram(
            "vllm:request_params_max_tokens", "Most tokens a request asked for.", MetricBuckets.requestTokens)
        decodeTime = histogram(
            "vllm:request_decode_time_seconds", "From a choice's first token to its last.",
            MetricBuckets.requestLatency)
        phases =
            reportsPhases
            ? Phases(
                queue: histogram(
                    "vllm:request_queue_time_seconds", "From a request's admission to a choice's first step.",
                    MetricBuckets.requestLatency),
                prefill: histogram(
                    "vllm:request_prefill_time_seconds", "From a choice's first step to its first token.",
                    MetricBuckets.requestLatency),
                inference: histogram(
                    "vllm:request_inference_time_seconds", "From a choice's first step to its last token.",
                    MetricBuckets.requestLatency)) : nil
        successes = Dictionary(
            uniqueKeysWithValues: ["stop", "length", "abort", "error"].map { reason in
                (reason, Self.success(reason, model, in: registry))
            })
        for status in Self.usualErrors { _ = Self.errors(status, [model], in: registry) }
    }

    /// Statuses whose series are there before the first such answer, which a rate would not show otherwise.
    static let usualErrors = [400, 404, 429, 500, 503]

    /// Sequences that ended by themselves.
    var finished: UInt64 { success("stop").value &+ success("length").value }

    /// Finished sequences by reason.
    func success(_ reason: String) -> MetricCounter {
        successes[reason] ?? Self.success(reason, model, in: registry)
    }

    private static func success(_ reason: String, _ model: MetricLabel, in registry: MetricRegistry) -> MetricCounter {
        registry.counter(
            "vllm:request_success_total", help: "Finished sequences by reason.",
            labels: [model, MetricLabel("finished_reason", reason)])
    }

    /// A request was answered with an error.
    func refused(status: Int) {
        Self.refused(status: status, labels: [model], in: registry)
    }

    static func refused(status: Int, labels: [MetricLabel], in registry: MetricRegistry) {
        errors(status, labels, in: registry).add()
    }

    private static func errors(
        _ status: Int, _ labels: [MetricLabel], in registry: MetricRegistry
    ) -> MetricCounter {
        registry.counter(
            "tandem_http_errors_total", help: "Requests answered with an error, by status.",
            labels: labels + [MetricLabel("status", String(status))])
    }
}
