// Tandem — Apache-2.0

import JSON

/// Observations in buckets.
public struct HistogramCounts: Sendable, Equatable {
    /// Upper bounds, ascending.
    public var bounds: [Double]
    /// One a bound, and one for what lies above all.
    public var counts: [Int]

    public init(bounds: [Double] = [], counts: [Int] = []) {
        self.bounds = bounds
        self.counts = counts
    }

    /// Empty if the object is no histogram.
    init(_ object: JSONObject?) {
        let bounds = object?["bounds"]?.array?.compactMap(\.number) ?? []
        let counts = object?["counts"]?.array?.compactMap(\.integer).map { Int(min(max($0, 0), 1 << 53)) } ?? []
        let isHistogram = counts.count == bounds.count + 1 && zip(bounds, bounds.dropFirst()).allSatisfy(<)
        self.init(bounds: isHistogram ? bounds : [], counts: isHistogram ? counts : [])
    }

    public var total: Int { counts.reduce(0, +) }

    /// What came since an earlier reading; all of it if the counters began anew meanwhile.
    public func since(_ earlier: HistogramCounts) -> HistogramCounts {
        guard earlier.bounds == bounds, zip(earlier.counts, counts).allSatisfy(<=) else { return self }
        return HistogramCounts(bounds: bounds, counts: zip(counts, earlier.counts).map(-))
    }

    /// As Prometheus' `histogram_quantile`: even within a bucket, and the last bound for what lies above it.
    ///
    /// - Parameter share: 0 to 1.
    /// - Returns: `nil` if nothing was observed.
    public func quantile(_ share: Double) -> Double? {
        guard let last = bounds.last, total > 0 else { return nil }
        let rank = share * Double(total)
        var below = 0.0
        for (index, bound) in bounds.enumerated() {
            let count = Double(counts[index])
            if below + count >= rank, count > 0 {
                let lower = index == 0 ? 0 : bounds[index - 1]
                return lower + (bound - lower) * (rank - below) / count
            }
            below += count
        }
        return last
    }
}
