// Tandem — Apache-2.0

internal import LanguageModel
internal import Study

/// What a decode or prefill figure of one result shows.
struct GainSection {
    let view: StudyView
    /// Begins the names of its figures.
    let prefix: String

    private var definition: StudyDefinition { view.definition }
    private var xAxis: Axis {
        Axis(
            label: definition.phase == .prefill ? "tokens of a prompt" : "context, tokens", scale: .binaryLogarithmic,
            format: .tokens)
    }
    private var contexts: [Int] { definition.contexts.sorted() }
    private var ablation: Ablation {
        definition.ablations.contains(.full) ? .full : definition.ablations.first ?? .full
    }
    private var phase: String { definition.phase == .prefill ? "Prefill" : "Decode" }
    private var what: String { ablation == .full ? "" : ", \(StudyView.title(ablation))" }
    private var conditions: String {
        var parts: [String] = []
        if definition.batches.count == 1, let batch = definition.batches.first { parts.append("batch \(batch)") }
        if definition.conventions.count == 1, let only = definition.conventions.first {
            parts.append(StudyView.title(only))
        }
        if definition.caches.count == 1, let only = definition.caches.first, only != .memory {
            parts.append(StudyView.title(only))
        }
        return parts.isEmpty ? "" : "; " + parts.joined(separator: ", ")
    }

    func blocks() -> [Document.Block] {
        let groups = settingsByFigure
        var blocks: [Document.Block] = []
        for (index, settings) in groups.enumerated() {
            let name = groups.count > 1 ? "\(prefix)-\(index + 1)" : prefix
            let (main, more) = figures(settings, name)
            if index == 0 {
                blocks += main.map { .figure($0) }
                if !more.isEmpty { blocks.append(.details("Tokens a second, and all arms", more.map { .figure($0) })) }
            } else if let first = settings.first {
                blocks.append(.details("The same with \(held(first))", (main + more).map { .figure($0) }))
            }
        }
        blocks.append(.details("All cells of \(view.label.lowercasedFirst)", [.table(table)]))
        return blocks
    }

    /// Settings that share a figure: those with the same cache and batch, six panels at most.
    private var settingsByFigure: [[StudyView.Setting]] {
        var groups: [[StudyView.Setting]] = []
        for setting in view.settings {
            if let last = groups.last?.last, last.cache == setting.cache, last.batch == setting.batch,
                groups[groups.count - 1].count < 6
            {
                groups[groups.count - 1].append(setting)
            } else {
                groups.append([setting])
            }
        }
        return groups
    }

    /// Figures to be seen at once, and others.
    private func figures(_ settings: [StudyView.Setting], _ name: String) -> ([Figure], [Figure]) {
        guard let headline = view.headline else { return ([], []) }
        let fixed = settings.first.map(held) ?? ""
        let shared = fixed.isEmpty ? "" : ", \(fixed)"
        if definition.models.count > 1 {
            return (
                [
                    lines(settings, name + "-gain", shared, series: definition.models.map { ($0, headline) }, by: \.0),
                    heatMap(settings, name + "-map", shared, headline),
                ],
                [rates(settings, name + "-rate", shared, headline)] + arms(settings, name + "-arms", shared)
            )
        }
        let series = definition.models.flatMap { model in view.rivals.map { (model, $0) } }
        return (
            [
                lines(settings, name + "-gain", shared, series: series, by: { $0.1.title }),
                rates(settings, name + "-rate", shared, headline),
            ], []
        )
    }

    /// What all panels of a figure have and other figures have not.
    private func held(_ setting: StudyView.Setting) -> String {
        var parts: [String] = []
        if definition.caches.count > 1 { parts.append(StudyView.title(setting.cache)) }
        if definition.batches.count > 1, let batch = setting.batch { parts.append("batch \(batch)") }
        return parts.joined(separator: ", ")
    }

    private var baselineTitle: String { definition.baseline?.title ?? "one engine" }

    private func lines(
        _ settings: [StudyView.Setting], _ name: String, _ shared: String, series: [(String, StudyArm)],
        by title: ((String, StudyArm)) -> String
    ) -> Figure {
        let panels = settings.map { setting in
            LineChart.Panel(
                title: panelTitle(setting),
                series: series.enumerated().map { slot, entry in
                    Series(
                        name: title(entry), slot: slot, isBroken: entry.1.isAsynchronous,
                        points: contexts.map { context in
                            let cell = view.cell(entry.0, context, setting, ablation, arm: entry.1.id)
                            return ReportText.point(Double(context), view.gain(cell), note: view.failure(cell))
                        })
                })
        }
        let isByModel = definition.models.count > 1
        let subject = isByModel ? view.headline?.title ?? "" : "all arms, \(definition.models.first ?? "")"
        return Figure(
            identifier: name, title: "\(phase)\(what): gain of \(subject)\(shared)",
            caption: "Gain in \(unit) over \(baselineTitle)\(conditions); bars are 95 % bootstrap intervals of "
                + "\(definition.repetitions) repetitions, a cross is a cell without a result.",
            provenances: [view.provenance],
            content: .lines(
                LineChart(
                    x: xAxis, y: Axis(label: "gain", format: .signedPercent), panels: panels,
                    references: isByModel && definition.phase == .decode
                        ? [.init(.horizontal(0.1), label: "10 %")] : [])))
    }

    private var unit: String {
        definition.phase == .prefill ? "prompt tokens a second" : "generated tokens a second"
    }

    private func panelTitle(_ setting: StudyView.Setting) -> String {
        var parts: [String] = []
        if definition.conventions.count > 1 { parts.append(StudyView.title(setting.convention)) }
        if let host = setting.host { parts.append(host == "none" ? "no host time" : "host \(host)") }
        return parts.joined(separator: ", ")
    }

    private func heatMap(
        _ settings: [StudyView.Setting], _ name: String, _ shared: String, _ headline: StudyArm
    ) -> Figure {
        let panels = settings.map { setting in
            HeatMap.Panel(
                title: panelTitle(setting),
                cells: definition.models.map { model in
                    contexts.map { context in
                        heatCell(view.cell(model, context, setting, ablation, arm: headline.id))
                    }
                })
        }
        return Figure(
            identifier: name, title: "\(phase)\(what): gain of \(headline.title) by size and context\(shared)",
            caption: "Gain over \(baselineTitle)\(conditions).", provenances: [view.provenance],
            content: .heatMap(
                HeatMap(
                    columnLabel: xAxis.label, columns: contexts.map(ReportText.tokens), rows: definition.models,
                    valueLabel: "gain", format: .signedPercent, panels: panels,
                    thresholds: [
                        .init(0, label: "where the gain crosses 0"), .init(0.1, label: "where it crosses 10 %"),
                    ],
                    fullScale: 0.2)))
    }

    private func heatCell(_ cell: StudyCell) -> HeatMap.Cell {
        let gain = view.gain(cell)
        var note = view.failure(cell)
        if let gain, gain.count > 1 {
            note =
                "95 % interval \(ValueFormat.signedPercent.text(gain.low)) to "
                + ValueFormat.signedPercent.text(gain.high)
        }
        return HeatMap.Cell(value: gain?.value, note: note)
    }

    /// Tokens a second of one engine and of the headline arm.
    private func rates(
        _ settings: [StudyView.Setting], _ name: String, _ shared: String, _ headline: StudyArm
    ) -> Figure {
        let arms = definition.models.count > 1 ? [definition.baseline, headline].compactMap { $0 } : definition.arms
        let panels = settings.map { setting in
            LineChart.Panel(
                title: panelTitle(setting),
                series: definition.models.enumerated().flatMap { slot, model in
                    arms.enumerated().map { index, arm in
                        let isByModel = definition.models.count > 1
                        return Series(
                            name: isByModel ? "\(model), \(arm.engines == 1 ? "one" : "\(arm.engines)")" : arm.title,
                            slot: isByModel ? slot : index, isBroken: isByModel ? index > 0 : arm.isAsynchronous,
                            points: contexts.map { context in
                                let cell = view.cell(model, context, setting, ablation, arm: arm.id)
                                return ReportText.point(
                                    Double(context), view.throughput(cell), note: view.failure(cell))
                            })
                    }
                })
        }
        let subject =
            definition.models.count > 1
            ? "one engine and \(headline.title)" : "all arms, \(definition.models.first ?? "")"
        return Figure(
            identifier: name, title: "\(phase)\(what): tokens a second, \(subject)\(shared)",
            caption: "\(unit.prefix(1).uppercased())\(unit.dropFirst()) of all engines together\(conditions).",
            provenances: [view.provenance],
            content: .lines(
                LineChart(
                    x: xAxis, y: Axis(label: "tokens/s", scale: .logarithmic, includesZero: false), panels: panels)))
    }

    /// All arms for each model, one figure a setting.
    private func arms(_ settings: [StudyView.Setting], _ name: String, _ shared: String) -> [Figure] {
        guard view.rivals.count > 1 else { return [] }
        return settings.enumerated().map { index, setting in
            let panels = definition.models.map { model in
                HeatMap.Panel(
                    title: model,
                    cells: view.rivals.map { arm in
                        contexts.map { heatCell(view.cell(model, $0, setting, ablation, arm: arm.id)) }
                    })
            }
            let place = panelTitle(setting)
            return Figure(
                identifier: settings.count > 1 ? "\(name)-\(index + 1)" : name,
                title: "\(phase)\(what): all arms\(place.isEmpty ? "" : ", \(place)")\(shared)",
                caption: "Gain over \(baselineTitle)\(conditions).", provenances: [view.provenance],
                content: .heatMap(
                    HeatMap(
                        columnLabel: xAxis.label, columns: contexts.map(ReportText.tokens),
                        rows: view.rivals.map(\.title), valueLabel: "gain", format: .signedPercent, panels: panels,
                        fullScale: 0.2)))
        }
    }

    private var table: Document.Table {
        let hasSettings = view.settings.count > 1
        var columns: [Document.Table.Column] = [.init("model")]
        if hasSettings { columns.append(.init("setting")) }
        columns += [
            .init("arm"), .init(definition.phase == .prefill ? "prompt" : "context", isNumeric: true),
            .init("tokens/s", isNumeric: true), .init("gain (95 %)", isNumeric: true),
            .init("device busy", isNumeric: true), .init("sequences", isNumeric: true),
            .init("cache, tokens", isNumeric: true),
        ]
        var rows: [[Prose]] = []
        for model in definition.models {
            for setting in view.settings {
                for arm in definition.arms {
                    for context in contexts {
                        let cell = view.cell(model, context, setting, ablation, arm: arm.id)
                        let found = view.repetitions(cell)
                        let failure = view.failure(cell)
                        guard !found.isEmpty || !failure.isEmpty else { continue }
                        var row = [Prose(model)]
                        if hasSettings { row.append(Prose(view.title(setting))) }
                        row += [
                            Prose(arm.title), Prose(ReportText.tokens(context)),
                            Prose(found.isEmpty ? "failed" : ReportText.rate(view.throughput(cell))),
                            Prose(arm == definition.baseline ? "" : ReportText.gain(view.gain(cell))),
                            Prose(
                                mean(found.compactMap(\.deviceBusyShare)).map { ValueFormat.percent.text($0) } ?? "–"),
                            Prose(
                                mean(found.compactMap(\.sequencesPerEngine)).map { DecimalText.short($0, step: nil) }
                                    ?? "–"),
                            Prose(
                                found.first?.cacheTokensPerEngine.map { DecimalText.short(Double($0), step: nil) }
                                    ?? "–"),
                        ]
                        rows.append(row)
                    }
                }
            }
        }
        return Document.Table(columns: columns, rows: rows)
    }

    private func mean(_ values: [Double]) -> Double? {
        values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
    }
}

extension String {
    var lowercasedFirst: String { prefix(1).lowercased() + dropFirst() }
}
