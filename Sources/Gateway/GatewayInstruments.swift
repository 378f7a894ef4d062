// Tandem — Apache-2.0

import NIOCore
import Telemetry

/// All metrics of a gateway: those of each model, and those of what belongs to none.
struct GatewayInstruments: Sendable {
    let models: [GatewayMetrics]
    /// Work that is done for requests without regard to their model. Of one model it is that model's.
    let hostTimes: HostTimes
    let events: GatewayEvents
    /// Lines of the access log that nobody read in time.
    let droppedAccessLines: MetricCounter
    private let registry: MetricRegistry

    /// - Parameter hasExternal: whether there are external engines; their metrics are the last ones.
    init(
        models names: [String], hasExternal: Bool = false,
        clock: @escaping @Sendable () -> NIODeadline = { .now() },
        secondsSince1970: @escaping @Sendable () -> Int = { 0 }
    ) {
        let registry = MetricRegistry()
        let events = GatewayEvents(clock: clock, secondsSince1970: secondsSince1970)
        self.events = events
        self.registry = registry
        droppedAccessLines = registry.counter(
            "tandem_access_log_dropped_total", help: "Lines of the access log that were dropped.", labels: [])
        let trialTurn = TrialTurn()
        models = (names + (hasExternal ? [Self.external] : [])).enumerated().map { index, name in
            GatewayMetrics(
                modelName: name, registry: registry, events: events, trialTurn: trialTurn,
                reportsPhases: index < names.count, clock: clock)
        }
        if models.count == 1 {
            hostTimes = models[0].hostTimes
        } else {
            hostTimes = HostTimes(clock: clock)
            hostTimes.register(in: registry, labels: [])
        }
    }

    /// What is counted under no name of a model that external engines have.
    static let external = "external"

    /// A request was answered with an error before a model got it.
    func refused(status: Int) {
        if models.count == 1 {
            models[0].refused(status: status)
        } else {
            RequestMetrics.refused(status: status, labels: [], in: registry)
        }
    }

    /// What is counted of TLS, if it is spoken.
    func tls() -> TLSMetrics { TLSMetrics(registry) }

    /// Takes what engines last said of themselves.
    func take(_ census: EngineCensus) {
        for (metrics, model) in zip(models, census.models) {
            metrics.setEngines(model.engines, unfinished: model.unfinished, held: model.held)
        }
    }

    /// Takes what is known of GPUs.
    func take(_ devices: DeviceBoard?) { devices?.expose(in: registry) }

    /// What concerns one engine.
    func exposition(engine: Int) -> [UInt8] {
        Array(registry.exposition(having: [MetricLabel("engine", String(engine))]).utf8)
    }

    func exposition() -> [UInt8] { Array(registry.exposition().utf8) }
}
