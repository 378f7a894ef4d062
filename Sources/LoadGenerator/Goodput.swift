// Tandem — Apache-2.0

/// What latency a request may have to count as good, in milliseconds; nil for any.
public struct Goodput: Sendable, Equatable {
    public var timeToFirstToken: Double?
    public var timePerOutputToken: Double?
    /// No gap between two pieces of text may be longer.
    public var interTokenLatency: Double?
    public var endToEnd: Double?

    /// Reads `ttft:500,itl:50`, with any of `ttft`, `tpot`, `itl` and `e2el`.
    ///
    /// - Throws: ``LoadGeneratorError`` naming the part at fault.
    public init(_ text: String) throws(LoadGeneratorError) {
        for part in text.split(whereSeparator: { ", ".contains($0) }) {
            let pair = part.split(separator: ":", omittingEmptySubsequences: false)
            guard pair.count == 2, let limit = Double(pair[1]), limit > 0, limit.isFinite else {
                throw LoadGeneratorError("\"\(part)\" is no limit in milliseconds, such as ttft:500")
            }
            switch pair[0] {
            case "ttft": timeToFirstToken = limit
            case "tpot": timePerOutputToken = limit
            case "itl": interTokenLatency = limit
            case "e2el", "e2e": endToEnd = limit
            default: throw LoadGeneratorError("\"\(pair[0])\" is none of ttft, tpot, itl and e2el")
            }
        }
        guard self != Goodput() else { throw LoadGeneratorError("there is no limit in it; ttft:500 is one") }
    }

    private init() {}

    /// Whether a request that was answered was answered well. What it has not, such as a second token, is no fault.
    func isMet(by latencies: RequestRecord.Latencies) -> Bool {
        let pairs = [
            (timeToFirstToken, latencies.timeToFirstToken), (timePerOutputToken, latencies.timePerOutputToken),
            (interTokenLatency, latencies.longestGap), (endToEnd, latencies.endToEnd),
        ]
        return pairs.allSatisfy { limit, value in
            guard let limit, let value else { return true }
            return value <= limit
        }
    }

    public var description: String {
        [("ttft", timeToFirstToken), ("tpot", timePerOutputToken), ("itl", interTokenLatency), ("e2el", endToEnd)]
            .compactMap { name, limit in limit.map { "\(name):\(Decimal.text($0, digits: 3, trims: true))" } }
            .joined(separator: ",")
    }
}

/// Why a load cannot be made; says what is at fault and what would be right.
public struct LoadGeneratorError: Error, Sendable, Equatable, CustomStringConvertible {
    public let description: String

    public init(_ description: String) {
        self.description = description
    }
}

/// Numbers for people.
enum Decimal {
    /// With so many digits behind the point.
    static func text(_ value: Double, digits: Int, trims: Bool = false) -> String {
        guard value.isFinite, abs(value) < 1e15 else { return "-" }
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        let scaled = Int64((abs(value) * scale).rounded())
        let sign = value < 0 && scaled != 0 ? "-" : ""
        var fraction = String(scaled % Int64(scale))
        fraction = String(repeating: "0", count: max(0, digits - fraction.count)) + fraction
        if trims { while fraction.hasSuffix("0") { fraction.removeLast() } }
        let whole = "\(sign)\(scaled / Int64(scale))"
        return digits == 0 || fraction.isEmpty ? whole : "\(whole).\(fraction)"
    }
}
