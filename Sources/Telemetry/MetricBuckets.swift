// Tandem — Apache-2.0

/// Upper bounds of the histograms' buckets, ascending; seconds where it is a time. They contain the ones of vLLM, so
/// that dashboards made for it work, and finer ones below them for small models.
public enum MetricBuckets {
    /// `time_to_first_token_seconds`.
    public static let timeToFirstToken: [Double] = [
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
        2560,
    ]
    /// `inter_token_latency_seconds` and `request_time_per_output_token_seconds`.
    public static let interTokenLatency: [Double] = [
        0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5,
        7.5, 10, 20, 40, 80,
    ]
    /// `e2e_request_latency_seconds` and the times of a request's phases.
    public static let requestLatency: [Double] = [
        0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
    ]
    /// Tokens of a request: 1, 2, 5 and their tens.
    public static let requestTokens: [Double] = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100_000,
    ]
    /// `request_params_n`.
    public static let choices: [Double] = [1, 2, 5, 10, 20]
    /// Time of one engine step by phase.
    public static let step: [Double] = [
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
    ]
}
