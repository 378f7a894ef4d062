// Tandem — Apache-2.0

import NIOCore
import Telemetry

/// All metrics of a gateway: those of each model, and those of what belongs to none.
struct GatewayInstruments: Sendable {
    let models: [GatewayMetrics]
    /// Work that is done for requests without regard to their model. Of one model it is that model's.
    let hostTimes: HostTimes
    /// Lines of the access log that nobody read in time.
    let droppedAccessLines: MetricCounter
    private let registry: MetricRegistry

    init(models names: [String], clock: @escaping @Sendable () -> NIODeadline = { .now() }) {
        let registry = MetricRegistry()
        self.registry = registry
        droppedAccessLines = registry.counter(
            "tandem_access_log_dropped_total", help: "Lines of the access log that were dropped.", labels: [])
        models = names.map { GatewayMetrics(modelName: $0, registry: registry, clock: clock) }
        if models.count == 1 {
            hostTimes = models[0].hostTimes
        } else {
            hostTimes = HostTimes(clock: clock)
            hostTimes.register(in: registry, labels: [])
        }
    }

    /// A request was answered with an error before a model got it.
    func refused(status: Int) {
        if models.count == 1 {
            models[0].refused(status: status)
        } else {
            GatewayMetrics.refused(status: status, labels: [], in: registry)
        }
    }

    func exposition() -> [UInt8] { Array(registry.exposition().utf8) }
}
