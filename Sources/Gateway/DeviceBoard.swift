// Tandem — Apache-2.0

import Synchronization
import Telemetry

/// The latest view of each GPU of a server. Whoever watches a GPU puts views in; `/engines`, the dashboard and
/// `/metrics` take them out, by value.
public final class DeviceBoard: Sendable {
    private struct Series: Hashable {
        var name: String
        var labels: [MetricLabel]
    }

    private struct State {
        var views: [Int: DeviceView] = [:]
        /// Series that `/metrics` has.
        var shown: Set<Series> = []
    }

    private let state = Mutex(State())

    public init() {}

    /// - Parameter place: of the GPU among those of the server.
    public func show(_ view: DeviceView, at place: Int) {
        state.withLock { $0.views[place] = view }
    }

    /// In the order of the places.
    public var views: [DeviceView] {
        state.withLock { state in state.views.sorted { $0.key < $1.key }.map(\.value) }
    }

    /// Brings series of the registry up to date; those of which nothing is known any more are taken away.
    func expose(in registry: MetricRegistry) {
        state.withLock { state in
            var shown: Set<Series> = []
            for view in state.views.values {
                let labels = Self.labels(view)
                for metric in view.metrics {
                    if metric.isCounter {
                        registry.sum(metric.name, help: metric.help, labels: labels).set(max(0, metric.value))
                    } else {
                        registry.gauge(metric.name, help: metric.help, labels: labels).set(metric.value)
                    }
                    shown.insert(Series(name: metric.name, labels: labels))
                }
            }
            for series in state.shown.subtracting(shown) { registry.remove(series.name, labels: series.labels) }
            state.shown = shown
        }
    }

    /// As NVIDIA's exporter has them.
    private static func labels(_ view: DeviceView) -> [MetricLabel] {
        guard !view.isSimulated else { return [MetricLabel("device", view.gpu)] }
        return [
            MetricLabel("gpu", view.gpu), MetricLabel("UUID", view.uuid), MetricLabel("device", view.device),
            MetricLabel("modelName", view.name),
        ]
    }
}
