// Tandem — Apache-2.0

import HTTPCore
import Telemetry

/// What is counted of TLS with clients.
struct TLSMetrics: Sendable {
    /// When the certificate expires, in seconds since 1970.
    let expiry: MetricGauge
    private let handshakes: [TLSHandshakeOutcome: MetricCounter]

    init(_ registry: MetricRegistry) {
        expiry = registry.gauge(
            "tandem_tls_certificate_expiry_seconds", help: "When the certificate expires, in seconds since 1970.")
        handshakes = Dictionary(
            uniqueKeysWithValues: TLSHandshakeOutcome.allCases.map { outcome in
                (
                    outcome,
                    registry.counter(
                        "tandem_tls_handshakes_total", help: "Connections of clients by how agreeing on TLS ended.",
                        labels: [MetricLabel("outcome", outcome.rawValue)])
                )
            })
    }

    func count(_ outcome: TLSHandshakeOutcome) { handshakes[outcome]?.add(1) }
}
