// Tandem — Apache-2.0

import Glibc

/// How many tokens a prompt or an answer has.
public enum LengthDistribution: Sendable, Equatable, CustomStringConvertible {
    case fixed(Int)
    case uniform(ClosedRange<Int>)
    /// Mean and standard deviation are those of the lengths, not of their logarithms.
    case logNormal(mean: Double, deviation: Double)

    /// Longest that can be asked for.
    public static let maximum = 10_000_000

    /// Reads `128`, `64-256` or `lognormal:MEAN:DEVIATION`; nil for anything else.
    public init?(_ text: String) {
        let range = 1...Self.maximum
        if let length = Int(text) {
            guard range.contains(length) else { return nil }
            self = .fixed(length)
            return
        }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        if parts.count == 3, parts[0] == "lognormal", let mean = Double(parts[1]), let deviation = Double(parts[2]) {
            guard mean >= 1, mean <= Double(Self.maximum), deviation >= 0, deviation <= 100 * mean else { return nil }
            self = .logNormal(mean: mean, deviation: deviation)
            return
        }
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
        guard ends.count == 2, let first = ends[0], let last = ends[1], first <= last, range.contains(first),
            range.contains(last)
        else { return nil }
        self = .uniform(first...last)
    }

    public var description: String {
        switch self {
        case .fixed(let length): "\(length)"
        case .uniform(let range): "\(range.lowerBound)-\(range.upperBound)"
        case .logNormal(let mean, let deviation): "lognormal:\(mean):\(deviation)"
        }
    }

    /// At least 1.
    func length(_ random: inout RandomSource) -> Int {
        switch self {
        case .fixed(let length): return length
        case .uniform(let range): return Int.random(in: range, using: &random)
        case .logNormal(let mean, let deviation):
            let variance = log(1 + deviation * deviation / (mean * mean))
            let length = exp(log(mean) - variance / 2 + variance.squareRoot() * random.normal())
            return Int(min(max(length.rounded(), 1), Double(Self.maximum)))
        }
    }
}
