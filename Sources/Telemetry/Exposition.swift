// Tandem — Apache-2.0

import Synchronization

extension MetricRegistry {
    /// `Content-Type` of ``exposition()``.
    public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    /// All metrics in Prometheus' text format 0.0.4
    /// (https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format): families in order of their
    /// names, series in order of their labels.
    ///
    /// - Parameter labels: series that lack one of them are left out.
    public func exposition(having labels: [MetricLabel] = []) -> String {
        // Handles are copied out, so that nothing is read or written to while the lock is held.
        let families = state.withLock { state in
            state.families.map { (name: $0.key, family: $0.value) }.sorted { $0.name < $1.name }
        }
        var text = ""
        text.reserveCapacity(families.count * 256)
        for (name, family) in families {
            let shown = family.series.filter { MetricNames.exposed($0.key, has: labels) }
            if shown.isEmpty, !labels.isEmpty { continue }
            text += "# HELP \(name) \(Self.escapedHelp(family.help))\n# TYPE \(name) \(family.kind.rawValue)\n"
            for (labels, series) in shown.sorted(by: { $0.key < $1.key }) {
                Self.append(series, name: name, labels: labels, to: &text)
            }
        }
        return text
    }

    private static func append(_ series: Series, name: String, labels: String, to text: inout String) {
        switch series {
        case .counter(let counter): appendLine(name, labels, "\(counter.value)", to: &text)
        case .sum(let sum): appendLine(name, labels, number(sum.value), to: &text)
        case .gauge(let gauge): appendLine(name, labels, number(gauge.value), to: &text)
        case .read(_, let value):
            if let value = value() { appendLine(name, labels, number(value), to: &text) }
        case .histogram(let histogram):
            let (counts, sum) = histogram.snapshot()
            let separator = labels.isEmpty ? "" : ","
            var cumulated: UInt64 = 0
            for (index, count) in counts.enumerated() {
                cumulated &+= count
                let bound = index < histogram.bounds.count ? number(histogram.bounds[index]) : "+Inf"
                appendLine("\(name)_bucket", "\(labels)\(separator)le=\"\(bound)\"", "\(cumulated)", to: &text)
            }
            appendLine("\(name)_sum", labels, number(sum), to: &text)
            // The last bucket and not a counter of its own: the two must agree.
            appendLine("\(name)_count", labels, "\(cumulated)", to: &text)
        }
    }

    private static func appendLine(_ name: String, _ labels: String, _ value: String, to text: inout String) {
        text += name
        if !labels.isEmpty { text += "{\(labels)}" }
        text += " \(value)\n"
    }

    /// The shortest text that reads back as the same number.
    private static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if let whole = Int64(exactly: value), abs(value) < 0x1p53 { return "\(whole)" }
        return "\(value)"
    }

    private static func escapedHelp(_ help: String) -> String {
        var text = ""
        for scalar in help.unicodeScalars {
            switch scalar {
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }
}
