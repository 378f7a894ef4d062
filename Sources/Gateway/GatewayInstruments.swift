// Tandem — Apache-2.0

import NIOCore
import Telemetry

/// All metrics of a gateway: those of each model, and those of what belongs to none.
struct GatewayInstruments: Sendable {
    /// Of the model that requests get which name none.
    let first: GatewayMetrics
    let others: [GatewayMetrics]
    /// Work that is done for requests without regard to their model. Of one model it is that model's.
    let hostTimes: HostTimes
    private let registry: MetricRegistry

    init(model: String, others: [String] = [], clock: @escaping @Sendable () -> NIODeadline = { .now() }) {
        let registry = MetricRegistry()
        self.registry = registry
        first = GatewayMetrics(modelName: model, registry: registry, clock: clock)
        self.others = others.map { GatewayMetrics(modelName: $0, registry: registry, clock: clock) }
        if others.isEmpty {
            hostTimes = first.hostTimes
        } else {
            hostTimes = HostTimes(clock: clock)
            hostTimes.register(in: registry, labels: [])
        }
    }

    var models: [GatewayMetrics] { [first] + others }

    /// A request was answered with an error before a model got it.
    func refused(status: Int) {
        if others.isEmpty {
            first.refused(status: status)
        } else {
            GatewayMetrics.refused(status: status, labels: [], in: registry)
        }
    }

    func exposition() -> [UInt8] { Array(registry.exposition().utf8) }
}
