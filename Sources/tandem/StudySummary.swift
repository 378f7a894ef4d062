// Tandem — Apache-2.0

import Study

/// What a study found, in a few lines: how many measurements each figure has, and why some failed.
struct StudySummary {
    private let results: [StudyResult]
    private let out: String

    /// Most reasons that are shown of a figure.
    private static let mostReasons = 5

    init(_ results: [StudyResult], out: String) {
        self.results = results
        self.out = out
    }

    var text: String {
        var text = ""
        for result in results {
            let header = result.header
            let failures = result.failures
            let count = result.measurements.count + result.counts.count
            text += "\(header.definition.figure): \(header.kind.rawValue), \(header.deviceTitle), \(count) "
            text += result.counts.isEmpty ? "measurements" : "counts"
            text += failures.isEmpty ? "\n" : ", \(failures.count) failed\n"
            let disturbed = result.measurements.count { $0.notes.contains { $0.hasPrefix("other work took") } }
            if disturbed > 0 {
                text += "  warning: the machine had other work during \(disturbed) measurements, which spoils them\n"
            }
            var reasons: [(reason: String, count: Int)] = []
            for failure in failures {
                let cell = failure.cell
                let reason = "\(cell.model), arm \(cell.arm), context \(cell.context): \(failure.failure ?? "")"
                if let known = reasons.firstIndex(where: { $0.reason == reason }) {
                    reasons[known].count += 1
                } else {
                    reasons.append((reason, 1))
                }
            }
            for (reason, count) in reasons.prefix(Self.mostReasons) { text += "  \(count) x \(reason)\n" }
            if reasons.count > Self.mostReasons { text += "  and \(reasons.count - Self.mostReasons) other reasons\n" }
        }
        return text + "results are in \(out)\n"
    }
}
