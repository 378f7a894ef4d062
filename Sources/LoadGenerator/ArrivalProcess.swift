// Tandem — Apache-2.0

import Glibc

/// When requests are sent, if not as answers come.
///
/// A schedule does not wait for the server: what is late by the server's fault counts as its latency.
public enum ArrivalProcess: Sendable, Equatable {
    /// Evenly spaced; `rate` in requests per second, as everywhere here.
    case constant(rate: Double)
    /// Independent of each other, as of many users.
    case poisson(rate: Double)
    /// Gaps from a gamma distribution with this shape; below 1 in bursts, 1 is Poisson, above it more even.
    case bursty(rate: Double, burstiness: Double)
    /// Poisson, with a rate that rises or falls evenly for so many seconds; no request comes after them.
    case ramp(from: Double, to: Double, seconds: Double)
    /// Moments, in seconds from the beginning, in any order.
    case trace([Double])

    /// Nanoseconds from the beginning at which requests are due, in order.
    ///
    /// - Parameters:
    ///   - requests: the most that are wanted; nil for no limit.
    ///   - seconds: requests from then on are left out; nil for no limit. One of the two, the ramp's end or the trace
    ///     must bound the schedule.
    ///   - random: where chance comes from.
    public func schedule(requests: Int?, seconds: Double?, random: inout RandomSource) -> [UInt64] {
        let limit = requests ?? .max
        let end = seconds ?? .infinity
        var moments: [Double] = []
        switch self {
        case .constant(let rate):
            fill(&moments, limit, end) { index in Double(index) / rate }
        case .poisson(let rate):
            var moment = 0.0
            fill(&moments, limit, end) { _ in
                moment += random.exponential() / rate
                return moment
            }
        case .bursty(let rate, let burstiness):
            var moment = 0.0
            fill(&moments, limit, end) { _ in
                moment += random.gamma(shape: burstiness) / rate
                return moment
            }
        case .ramp(let first, let last, let length):
            var expected = 0.0
            let slope = (last - first) / length
            fill(&moments, limit, min(end, length)) { _ in
                expected += random.exponential()
                return Self.moment(ofExpected: expected, first: first, slope: slope)
            }
        case .trace(let times):
            moments = Array(times.sorted().prefix { $0 < end }.prefix(limit))
        }
        return moments.map { UInt64(max(0, $0) * 1e9) }
    }

    private func fill(_ moments: inout [Double], _ limit: Int, _ end: Double, _ next: (Int) -> Double) {
        guard limit < .max || end < .infinity else { return }
        while moments.count < limit {
            let moment = next(moments.count)
            guard moment < end else { return }
            moments.append(moment)
        }
    }

    /// When a rate that changes evenly will have brought so many requests on average; infinite if never.
    static func moment(ofExpected expected: Double, first: Double, slope: Double) -> Double {
        // first t + slope t² / 2 = expected, in the form that holds for a slope of 0, too.
        let root = first * first + 2 * slope * expected
        guard root >= 0, first + sqrt(root) > 0 else { return .infinity }
        return 2 * expected / (first + sqrt(root))
    }
}
