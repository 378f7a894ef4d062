// Tandem — Apache-2.0

public import Metrics

/// Lets libraries that report through swift-metrics appear in a ``MetricRegistry``.
///
/// Counters get the suffix `_total` and timers become histograms of seconds with the suffix `_seconds`, as Prometheus
/// names things; recorders are histograms if they aggregate and gauges if not.
public struct RegistryMetricsFactory: MetricsFactory {
    public let registry: MetricRegistry

    public init(registry: MetricRegistry) {
        self.registry = registry
    }

    public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        let name = Self.name(label, suffix: "_total")
        let labels = Self.labels(dimensions)
        return WholeCounter(name: name, labels: labels, counter: registry.counter(name, help: label, labels: labels))
    }

    public func makeFloatingPointCounter(
        label: String,
        dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        let name = Self.name(label, suffix: "_total")
        let labels = Self.labels(dimensions)
        return AmountCounter(name: name, labels: labels, sum: registry.sum(name, help: label, labels: labels))
    }

    public func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        let labels = Self.labels(dimensions)
        guard aggregate else {
            let gauge = registry.gauge(label, help: label, labels: labels)
            return GaugeRecorder(name: label, labels: labels, gauge: gauge)
        }
        let histogram = registry.histogram(label, help: label, labels: labels, buckets: MetricBuckets.requestTokens)
        return HistogramRecorder(name: label, labels: labels, histogram: histogram)
    }

    public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        let labels = Self.labels(dimensions)
        return GaugeMeter(name: label, labels: labels, gauge: registry.gauge(label, help: label, labels: labels))
    }

    public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        let name = Self.name(label, suffix: "_seconds")
        let labels = Self.labels(dimensions)
        let histogram = registry.histogram(
            name,
            help: label,
            labels: labels,
            buckets: MetricBuckets.timeToFirstToken
        )
        return SecondsTimer(name: name, labels: labels, histogram: histogram)
    }

    public func destroyCounter(_ handler: any CounterHandler) { destroy(handler) }
    public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) { destroy(handler) }
    public func destroyRecorder(_ handler: any RecorderHandler) { destroy(handler) }
    public func destroyMeter(_ handler: any MeterHandler) { destroy(handler) }
    public func destroyTimer(_ handler: any TimerHandler) { destroy(handler) }

    private func destroy(_ handler: Any) {
        guard let series = handler as? any NamedSeries else { return }
        registry.remove(series.name, labels: series.labels)
    }

    private static func name(_ label: String, suffix: String) -> String {
        label.hasSuffix(suffix) ? label : label + suffix
    }

    private static func labels(_ dimensions: [(String, String)]) -> [MetricLabel] {
        dimensions.map { MetricLabel($0.0, $0.1) }
    }
}

/// Where a handler's values are in the registry.
private protocol NamedSeries {
    var name: String { get }
    var labels: [MetricLabel] { get }
}

private final class WholeCounter: CounterHandler, NamedSeries {
    let name: String
    let labels: [MetricLabel]
    private let counter: MetricCounter

    init(name: String, labels: [MetricLabel], counter: MetricCounter) {
        self.name = name
        self.labels = labels
        self.counter = counter
    }

    /// A counter never goes down, so a negative amount is not counted.
    func increment(by amount: Int64) {
        if let amount = UInt64(exactly: amount) { counter.add(amount) }
    }

    func reset() {
        counter.set(0)
    }
}

private final class AmountCounter: FloatingPointCounterHandler, NamedSeries {
    let name: String
    let labels: [MetricLabel]
    private let sum: MetricSum

    init(name: String, labels: [MetricLabel], sum: MetricSum) {
        self.name = name
        self.labels = labels
        self.sum = sum
    }

    func increment(by amount: Double) {
        if amount >= 0 { sum.add(amount) }
    }

    func reset() {
        sum.set(0)
    }
}

private final class GaugeRecorder: RecorderHandler, NamedSeries {
    let name: String
    let labels: [MetricLabel]
    private let gauge: MetricGauge

    init(name: String, labels: [MetricLabel], gauge: MetricGauge) {
        self.name = name
        self.labels = labels
        self.gauge = gauge
    }

    func record(_ value: Int64) { gauge.set(Double(value)) }
    func record(_ value: Double) { gauge.set(value) }
}

private final class HistogramRecorder: RecorderHandler, NamedSeries {
    let name: String
    let labels: [MetricLabel]
    private let histogram: MetricHistogram

    init(name: String, labels: [MetricLabel], histogram: MetricHistogram) {
        self.name = name
        self.labels = labels
        self.histogram = histogram
    }

    func record(_ value: Int64) { histogram.observe(Double(value)) }
    func record(_ value: Double) { histogram.observe(value) }
}

private final class GaugeMeter: MeterHandler, NamedSeries {
    let name: String
    let labels: [MetricLabel]
    private let gauge: MetricGauge

    init(name: String, labels: [MetricLabel], gauge: MetricGauge) {
        self.name = name
        self.labels = labels
        self.gauge = gauge
    }

    func set(_ value: Int64) { gauge.set(Double(value)) }
    func set(_ value: Double) { gauge.set(value) }
    func increment(by amount: Double) { gauge.add(amount) }
    func decrement(by amount: Double) { gauge.add(-amount) }
}

private final class SecondsTimer: TimerHandler, NamedSeries {
    let name: String
    let labels: [MetricLabel]
    private let histogram: MetricHistogram

    init(name: String, labels: [MetricLabel], histogram: MetricHistogram) {
        self.name = name
        self.labels = labels
        self.histogram = histogram
    }

    func recordNanoseconds(_ duration: Int64) { histogram.observe(Double(duration) / 1e9) }
}
