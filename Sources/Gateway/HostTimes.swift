// Tandem — Apache-2.0

import NIOCore
import Synchronization
import Telemetry

/// Where a gateway's threads spend their time on requests, in nanoseconds since its start.
final class HostTimes: Sendable {
    /// Prompts to token ids.
    let tokenize = Atomic<UInt64>(0)
    /// Conversations to prompts.
    let template = Atomic<UInt64>(0)
    /// Token ids to text, with the search for stop strings.
    let detokenize = Atomic<UInt64>(0)
    /// Text to chunks of a response, and chunks to the socket.
    let write = Atomic<UInt64>(0)

    private let clock: @Sendable () -> NIODeadline

    init(clock: @escaping @Sendable () -> NIODeadline) {
        self.clock = clock
    }

    /// Adds the time of `body` to one of the sums.
    func measure<Value, Failure>(
        _ sum: borrowing Atomic<UInt64>, _ body: () throws(Failure) -> Value
    ) throws(Failure) -> Value {
        let began = clock()
        defer { Self.add(clock() - began, to: sum) }
        return try body()
    }

    /// Adds a time that was measured elsewhere.
    static func add(_ time: TimeAmount, to sum: borrowing Atomic<UInt64>) {
        sum.wrappingAdd(UInt64(clamping: time.nanoseconds), ordering: .relaxed)
    }

    /// Shows the sums as `tandem_gateway_host_seconds_total` by phase.
    func register(in registry: MetricRegistry, labels: [MetricLabel]) {
        func show(_ phase: String, _ value: @escaping @Sendable (HostTimes) -> UInt64) {
            registry.read(
                "tandem_gateway_host_seconds_total", help: "Time of the gateway's threads by what they did.",
                kind: .counter, labels: labels + [MetricLabel("phase", phase)]
            ) { [self] in Double(value(self)) / 1e9 }
        }
        show("tokenize") { $0.tokenize.load(ordering: .relaxed) }
        show("template") { $0.template.load(ordering: .relaxed) }
        show("detokenize") { $0.detokenize.load(ordering: .relaxed) }
        show("write") { $0.write.load(ordering: .relaxed) }
    }
}
