// Tandem — Apache-2.0

internal import LanguageModel

extension StudyResult {
    /// A sweep that keeps a latency.
    public struct WithinLatency: Sendable, Equatable {
        /// Generated tokens a second.
        public var throughput: Estimate
        /// Relative to the baseline, which meets the same latency; null if it never does.
        public var gain: Estimate?
        /// Whether the loads of the sweep were too low for the latency to be missed: then both are lower bounds.
        public var isLowerBound = false
        /// The same of the baseline: then nothing can be said of the gain.
        public var isBaselineUnbounded = false
    }

    /// Measurements of a cell that did not fail, by repetition.
    public func repetitions(of cell: StudyCell) -> [StudyMeasurement] {
        measurements.filter { $0.cell == cell && $0.failure == nil }.sorted { $0.repetition < $1.repetition }
    }

    /// All that failed.
    public var failures: [StudyMeasurement] { measurements.filter { $0.failure != nil } }

    /// Throughput of a cell, see ``StudyMeasurement/throughput``.
    public func throughput(of cell: StudyCell) -> Estimate? {
        StudyStatistics.mean(repetitions(of: cell).compactMap(\.throughput))
    }

    /// Gain of a cell's arm over the baseline at the same point. Only repetitions that both have count.
    public func gain(of cell: StudyCell) -> Estimate? {
        guard let pairs = pairs(of: cell) else { return nil }
        return StudyStatistics.gain(of: pairs.arm, over: pairs.baseline)
    }

    /// What a cell's arm should gain, from the ablations at the same point; the cell is that of the full model.
    public func expectedGain(of cell: StudyCell) -> ExpectedGain? {
        guard let baseline = header.definition.baseline,
            let attention = pairs(of: cell.with(ablation: .attentionOnly)),
            let feedForward = pairs(of: cell.with(ablation: .mlpOnly))
        else { return nil }
        let times = repetitions(of: cell.with(arm: baseline.id).with(ablation: .full)).compactMap(\.stepTime)
        return StudyStatistics.expectedGain(
            attention: attention, feedForward: feedForward, attentionSeconds: times.map(\.attention),
            feedForwardSeconds: times.map(\.feedForward))
    }

    /// Throughput at a latency along the loads of a sweep, and its gain.
    ///
    /// - Parameters:
    ///   - cell: any cell of the sweep; its load does not matter.
    ///   - latency: seconds.
    ///   - measure: which latency of a measurement; by default the mean from request to last token.
    public func within(
        latency: Double, _ cell: StudyCell, measure: (StudyMeasurement) -> Double? = { $0.endToEnd?.mean }
    ) -> WithinLatency? {
        let arm = sweep(cell, measure)
        guard
            let throughput = Bootstrap().estimate(
                count: arm.count, { Self.mean($0) { StudyStatistics.throughput(within: latency, arm[$0]) } })
        else { return nil }
        let baseline = header.definition.baseline.map { sweep(cell.with(arm: $0.id), measure) } ?? []
        let gain = Bootstrap().estimate(count: min(arm.count, baseline.count)) { repetitions in
            let best = Self.mean(repetitions) { StudyStatistics.throughput(within: latency, arm[$0]) }
            let base = Self.mean(repetitions) { StudyStatistics.throughput(within: latency, baseline[$0]) }
            return best / base - 1
        }
        func isUnbounded(_ sweeps: [[(throughput: Double, latency: Double)]]) -> Bool {
            sweeps.contains { !StudyStatistics.reaches(latency, $0) }
        }
        return WithinLatency(
            throughput: throughput, gain: gain, isLowerBound: isUnbounded(arm),
            isBaselineUnbounded: !baseline.isEmpty && isUnbounded(baseline))
    }

    private static func mean(_ repetitions: [Int], _ value: (Int) -> Double) -> Double {
        repetitions.reduce(0) { $0 + value($1) } / Double(repetitions.count)
    }

    /// One sweep a repetition, lowest load first.
    private func sweep(
        _ cell: StudyCell, _ measure: (StudyMeasurement) -> Double?
    ) -> [[(throughput: Double, latency: Double)]] {
        let found = measurements.filter { measurement in
            var other = measurement.cell
            other.load = cell.load
            return other == cell && measurement.failure == nil
        }
        return Set(found.map(\.repetition)).sorted().map { repetition in
            found.filter { $0.repetition == repetition }.sorted { ($0.cell.load ?? 0) < ($1.cell.load ?? 0) }
                .compactMap { measurement in
                    guard let throughput = measurement.throughput, let latency = measure(measurement) else {
                        return nil
                    }
                    return (throughput, latency)
                }
        }
    }

    private func pairs(of cell: StudyCell) -> (arm: [Double], baseline: [Double])? {
        guard let baseline = header.definition.baseline else { return nil }
        var pairs: (arm: [Double], baseline: [Double]) = ([], [])
        let others = repetitions(of: cell.with(arm: baseline.id))
        for measurement in repetitions(of: cell) {
            guard let other = others.first(where: { $0.repetition == measurement.repetition }),
                let first = measurement.throughput, let second = other.throughput
            else { continue }
            pairs.arm.append(first)
            pairs.baseline.append(second)
        }
        return pairs.arm.isEmpty ? nil : pairs
    }
}
