// Tandem — Apache-2.0

import EngineLink
import NIOCore
import Requests
import Telemetry

/// The gateway's metrics, under vLLM's names so that existing dashboards and load generators read them, and its own
/// under `tandem:`.
final class GatewayMetrics: Sendable {
    let registry = MetricsRegistry()
    let retries: Counter
    private let promptTokens: Counter
    private let generationTokens: Counter
    private let cachedTokens: Counter
    private let timeToFirstToken: Histogram
    private let interTokenLatency: Histogram
    private let endToEndLatency: Histogram
    private let requestPromptTokens: Histogram
    private let requestGenerationTokens: Histogram
    private let requestChoices: Histogram
    private let finished: [String: Counter]
    private let model: String
    private let unfinished: Gauge
}
