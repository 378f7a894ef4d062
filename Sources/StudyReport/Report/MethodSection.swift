// Tandem — Apache-2.0

internal import Study

/// How a figure's numbers were made, and what failed.
struct MethodSection {
    let view: StudyView

    private var definition: StudyDefinition { view.definition }

    func blocks() -> [Document.Block] {
        var blocks: [Document.Block] = []
        if definition.phase != .resources {
            blocks.append(.details("Method: grid, arms and host times", method))
        }
        return blocks + failures + notes
    }

    private var method: [Document.Block] {
        var items: [Prose] = [
            Prose("Models: \(ReportText.listing(definition.models))."),
            Prose(
                "\(definition.phase == .decode ? "Contexts" : "Prompts"): "
                    + "\(ReportText.listing(definition.contexts.map(ReportText.tokens))) tokens."),
        ]
        if !definition.batches.isEmpty {
            items.append(Prose("Sequences at once: \(ReportText.listing(definition.batches.map(String.init)))."))
        }
        if !definition.loads.isEmpty {
            let loads = definition.loads.map { DecimalText.short($0, step: nil) }
            items.append(
                Prose(
                    "Offered loads: \(ReportText.listing(loads)) requests a second, \(definition.outputTokens) tokens out "
                        + "each."))
        }
        items.append(
            Prose(
                "Load: \(ReportText.listing(definition.conventions.map { StudyView.title($0) })) (all engines "
                    + "together have the batch or load, or each has it)."))
        items.append(Prose("Keys and values: \(ReportText.listing(definition.caches.map { StudyView.title($0) }))."))
        let isOne = view.repetitionCount == 1...1
        items.append(
            Prose("\(view.repetitionText) repetition\(isOne ? "" : "s") of a cell, arms interleaved in each."))
        var blocks: [Document.Block] = [.list(items)]
        blocks.append(
            .table(
                Document.Table(
                    columns: [
                        .init("arm", isName: true), .init("engines", isNumeric: true), .init("share the device"),
                        .init("plan ahead"),
                        .init("command"),
                    ],
                    rows: definition.arms.map { arm in
                        [
                            Prose(arm.title), Prose("\(arm.engines)"), Prose(arm.sharing.rawValue),
                            Prose(arm.isAsynchronous ? "yes" : "no"),
                            arm.command.map { Prose.code($0) } ?? "Tandem's engine",
                        ]
                    })))
        if !definition.hosts.isEmpty {
            blocks.append(
                .table(
                    Document.Table(
                        columns: [
                            .init("host", isName: true), .init("a step", isNumeric: true),
                            .init("a sequence", isNumeric: true),
                            .init("a request", isNumeric: true), .init("a prompt token", isNumeric: true),
                            .init("source"),
                        ],
                        rows: definition.hosts.map { host in
                            [
                                Prose(host.name), time(host.secondsPerStep), time(host.secondsPerSequence),
                                time(host.frontEndPerRequest), time(host.frontEndPerPromptToken), Prose(host.source),
                            ]
                        })))
        }
        return blocks
    }

    private func time(_ seconds: Double) -> Prose { Prose(seconds > 0 ? ReportText.seconds(seconds) : "0") }

    /// Failures by reason, with how many cells each has and one of them.
    private var failures: [Document.Block] {
        let failed = view.result.failures
        guard !failed.isEmpty else { return [] }
        var reasons: [String] = []
        var byReason: [String: [StudyMeasurement]] = [:]
        for measurement in failed {
            let reason = measurement.failure ?? ""
            if byReason[reason] == nil { reasons.append(reason) }
            byReason[reason, default: []].append(measurement)
        }
        let shown = reasons.prefix(20).map { reason -> Prose in
            let found = byReason[reason] ?? []
            let places = Array(Set(found.map { "\($0.cell.model) at \(ReportText.tokens($0.cell.context))" })).sorted()
            let listed =
                places.prefix(4).joined(separator: ", ") + (places.count > 4 ? " and \(places.count - 4) more" : "")
            return Prose("\(reason): \(found.count) \(found.count == 1 ? "measurement" : "measurements") (\(listed))")
        }
        var blocks: [Document.Block] = [
            .paragraph(
                Prose.strong("Failed: ")
                    + Prose("\(failed.count) of \(view.result.measurements.count) measurements have no numbers.")),
            .list(Array(shown)),
        ]
        if reasons.count > shown.count {
            blocks.append(.paragraph("There are \(reasons.count - shown.count) reasons more."))
        }
        return blocks
    }

    private var notes: [Document.Block] {
        var order: [String] = []
        var counts: [String: Int] = [:]
        for note in view.result.measurements.flatMap(\.notes) {
            if counts[note] == nil { order.append(note) }
            counts[note, default: 0] += 1
        }
        guard !order.isEmpty else { return [] }
        return [
            .details(
                "Notes of measurements",
                [.list(order.prefix(40).map { Prose("\($0) (\(counts[$0] ?? 0) times)") })])
        ]
    }
}
