// Tandem — Apache-2.0

public import LanguageModel
public import Study

/// A result with its measurements at hand, and what a report calls things.
public struct StudyView: Sendable {
    /// What a panel of a figure, or a verdict, holds fixed.
    public struct Setting: Sendable, Hashable {
        public var convention: StudyDefinition.Convention
        public var host: String?
        public var cache: StudyDefinition.Cache
        public var batch: Int?
    }

    public let result: StudyResult
    private let byCell: [StudyCell: [StudyMeasurement]]
    /// Intervals take time, and figures, tables and verdicts ask for the same ones.
    private let gains: [StudyCell: Estimate]
    private let throughputs: [StudyCell: Estimate]

    public init(_ result: StudyResult) {
        self.result = result
        let byCell = Dictionary(grouping: result.measurements, by: \.cell)
            .mapValues { $0.sorted { $0.repetition < $1.repetition } }
        self.byCell = byCell
        let baseline = result.header.definition.baseline
        var gains: [StudyCell: Estimate] = [:]
        var throughputs: [StudyCell: Estimate] = [:]
        for (cell, found) in byCell {
            throughputs[cell] = StudyStatistics.mean(found.compactMap(\.throughput))
            if let baseline, let pairs = StudyView.pairs(cell, byCell, baseline) {
                gains[cell] = StudyStatistics.gain(of: pairs.arm, over: pairs.baseline)
            }
        }
        self.gains = gains
        self.throughputs = throughputs
    }

    public var header: StudyHeader { result.header }
    public var definition: StudyDefinition { header.definition }

    public var provenance: Provenance {
        let day = String(header.date.prefix(10))
        if definition.phase == .resources { return Provenance(kind: .derived, device: "", date: day) }
        return Provenance(
            kind: header.kind == .measured ? .measured : .simulated, device: header.deviceTitle, date: day)
    }

    /// How the report calls the result.
    public var label: String {
        definition.phase == .resources
            ? "Counted from the models' descriptions"
            : "\(header.kind == .measured ? "Measured" : "Simulated"): \(header.deviceTitle)"
    }

    /// Combinations of what a figure holds fixed, in the definition's order, as far as there are measurements.
    public var settings: [Setting] {
        let present = Set(
            byCell.keys.map { Setting(convention: $0.convention, host: $0.host, cache: $0.cache, batch: $0.batch) })
        let hosts = definition.hosts.isEmpty ? [nil] : definition.hosts.map { Optional($0.name) }
        let batches = definition.batches.isEmpty ? [nil] : definition.batches.map { Optional($0) }
        var settings: [Setting] = []
        for cache in definition.caches {
            for batch in batches {
                for convention in definition.conventions {
                    for host in hosts {
                        let setting = Setting(convention: convention, host: host, cache: cache, batch: batch)
                        if present.contains(setting) { settings.append(setting) }
                    }
                }
            }
        }
        return settings
    }

    /// What a setting is called where others stand beside it; only what differs is named.
    public func title(_ setting: Setting) -> String {
        var parts: [String] = []
        if definition.conventions.count > 1 { parts.append(Self.title(setting.convention)) }
        if let host = setting.host, definition.hosts.count > 1 {
            parts.append(host == "none" ? "no host time" : "host \(host)")
        }
        if definition.batches.count > 1, let batch = setting.batch { parts.append("batch \(batch)") }
        if definition.caches.count > 1 { parts.append(Self.title(setting.cache)) }
        return parts.joined(separator: ", ")
    }

    static func title(_ convention: StudyDefinition.Convention) -> String {
        switch convention {
        case .total: "equal total"
        case .perEngine: "equal per engine"
        }
    }

    static func title(_ cache: StudyDefinition.Cache) -> String {
        switch cache {
        case .memory: "cache as memory allows"
        case .equal: "equal cache"
        case .unlimited: "unlimited cache"
        }
    }

    static func title(_ ablation: Ablation) -> String {
        switch ablation {
        case .full: "whole model"
        case .attentionOnly: "attention only"
        case .mlpOnly: "MLP only"
        }
    }

    /// The arm that stands for the article's: two engines beside one another, synchronous; null if there is none.
    public var headline: StudyArm? {
        let rivals = definition.arms.filter { $0.engines == 2 && !$0.isAsynchronous }
        return rivals.first { $0.sharing == .mps } ?? rivals.first { $0.sharing == .cores } ?? rivals.first
            ?? definition.arms.dropFirst().first
    }

    /// Arms that are compared with the first.
    public var rivals: [StudyArm] { Array(definition.arms.dropFirst()) }

    public func cell(
        _ model: String, _ context: Int, _ setting: Setting, _ ablation: Ablation = .full, load: Double? = nil,
        arm: String
    ) -> StudyCell {
        StudyCell(
            figure: definition.figure, model: model, phase: definition.phase, context: context, batch: setting.batch,
            load: load, convention: setting.convention, ablation: ablation, cache: setting.cache, host: setting.host,
            arm: arm)
    }

    /// How many measurements cells have that did not fail: the fewest and the most.
    public var repetitionCount: ClosedRange<Int>? {
        let counts = byCell.values.map { $0.count { $0.failure == nil } }.filter { $0 > 0 }
        guard let least = counts.min(), let most = counts.max() else { return nil }
        return least...most
    }

    /// The same in words: `3`, or `2 to 3`.
    var repetitionText: String {
        guard let count = repetitionCount else { return "0" }
        let most = count.lowerBound == count.upperBound ? "" : " to \(count.upperBound)"
        return "\(count.lowerBound)\(most)"
    }

    /// Measurements of a cell that did not fail, by repetition.
    public func repetitions(_ cell: StudyCell) -> [StudyMeasurement] {
        (byCell[cell] ?? []).filter { $0.failure == nil }
    }

    public func throughput(_ cell: StudyCell) -> Estimate? { throughputs[cell] }

    /// Throughput of an arm and of the baseline in the repetitions that both have.
    private static func pairs(
        _ cell: StudyCell, _ byCell: [StudyCell: [StudyMeasurement]], _ baseline: StudyArm
    ) -> (arm: [Double], baseline: [Double])? {
        let others = Dictionary(
            (byCell[cell.with(arm: baseline.id)] ?? []).map { ($0.repetition, $0) },
            uniquingKeysWith: { first, _ in first })
        var pairs: (arm: [Double], baseline: [Double]) = ([], [])
        for measurement in byCell[cell] ?? [] {
            guard let first = measurement.throughput, let second = others[measurement.repetition]?.throughput
            else { continue }
            pairs.arm.append(first)
            pairs.baseline.append(second)
        }
        return pairs.arm.isEmpty ? nil : pairs
    }

    /// Gain of a cell's arm over the baseline.
    public func gain(_ cell: StudyCell) -> Estimate? { gains[cell] }

    /// What a cell's arm should gain, from the ablations at the same point.
    public func expectedGain(_ cell: StudyCell) -> ExpectedGain? {
        guard let baseline = definition.baseline,
            let attention = Self.pairs(cell.with(ablation: .attentionOnly), byCell, baseline),
            let feedForward = Self.pairs(cell.with(ablation: .mlpOnly), byCell, baseline)
        else { return nil }
        let times = repetitions(cell.with(arm: baseline.id).with(ablation: .full)).compactMap(\.stepTime)
        return StudyStatistics.expectedGain(
            attention: attention, feedForward: feedForward, attentionSeconds: times.map(\.attention),
            feedForwardSeconds: times.map(\.feedForward))
    }

    /// Why a cell, or the baseline beside it, has no numbers; empty if nothing is known.
    public func failure(_ cell: StudyCell) -> String {
        for (cell, prefix) in [(cell, ""), (definition.baseline.map { cell.with(arm: $0.id) } ?? cell, "baseline: ")] {
            if repetitions(cell).isEmpty, let reason = byCell[cell]?.first?.failure { return prefix + reason }
        }
        return ""
    }

    /// Billions of parameters by a model's name, `qwen2.5-0.5b`, `smollm2-135m`; null if it has no size.
    public static func size(_ model: String) -> Double? {
        for part in model.split(whereSeparator: { "-_/: ".contains($0) }) {
            guard let unit = part.last, let number = Double(part.dropLast()), number > 0 else { continue }
            if unit == "b" || unit == "B" { return number }
            if unit == "m" || unit == "M" { return number / 1000 }
        }
        return nil
    }
}

/// Numbers in sentences and tables.
enum ReportText {
    static func gain(_ estimate: Estimate?) -> String {
        guard let estimate else { return "–" }
        return interval(estimate, .signedPercent)
    }

    /// `+12 % (+10 to +14)`; without an interval if it rounds to nothing.
    static func interval(_ estimate: Estimate, _ format: ValueFormat) -> String {
        let value = format.text(estimate.value)
        let ends = [format.text(estimate.low), format.text(estimate.high)]
        guard estimate.count > 1, ends.contains(where: { $0 != value }) else { return value }
        let plain = ends.map { $0.hasSuffix("\u{A0}%") ? String($0.dropLast(2)) : $0 }
        return "\(value) (\(plain[0]) to \(plain[1]))"
    }

    static func rate(_ estimate: Estimate?) -> String {
        estimate.map { ValueFormat.number.text($0.value) } ?? "–"
    }

    static func point(_ x: Double, _ estimate: Estimate?, note: String = "") -> Point {
        Point(x: x, y: estimate?.value, interval: interval(estimate), note: note)
    }

    /// Null for a single repetition, which has none.
    static func interval(_ estimate: Estimate?) -> ClosedRange<Double>? {
        guard let estimate, estimate.count > 1, estimate.low <= estimate.high else { return nil }
        return estimate.low...estimate.high
    }

    static func seconds(_ seconds: Double) -> String {
        seconds < 1e-3
            ? "\(DecimalText.short(seconds * 1e6, step: nil))\u{A0}µs"
            : seconds < 1
                ? "\(DecimalText.short(seconds * 1e3, step: nil))\u{A0}ms"
                : "\(DecimalText.short(seconds, step: nil))\u{A0}s"
    }

    static func tokens(_ count: Int) -> String { ValueFormat.tokens.text(Double(count)) }

    /// `a, b and c`.
    static func listing(_ words: [String]) -> String {
        guard let last = words.last, words.count > 1 else { return words.first ?? "" }
        return words.dropLast().joined(separator: ", ") + " and " + last
    }

    /// A name of letters, digits and hyphens.
    static func slug(_ text: String) -> String {
        var slug = ""
        for scalar in text.unicodeScalars {
            let isPlain = scalar.isASCII && scalar.properties.isAlphabetic || ("0"..."9").contains(scalar)
            if isPlain {
                slug.unicodeScalars.append(scalar)
            } else if !slug.hasSuffix("-"), !slug.isEmpty {
                slug += "-"
            }
        }
        while slug.hasSuffix("-") { slug.removeLast() }
        return slug.isEmpty ? "result" : String(slug.prefix(60))
    }
}
