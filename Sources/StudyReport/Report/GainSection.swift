// Tandem — Apache-2.0

internal import LanguageModel
internal import Study

/// What a decode or prefill figure of one result shows.
struct GainSection {
    let view: StudyView
    /// Begins the names of its figures.
    let prefix: String

    private var definition: StudyDefinition { view.definition }
    /// Whether figures go by batch, because the context is always the same.
    private var isByBatch: Bool { definition.contexts.count == 1 && definition.batches.count > 1 }
    private var xAxis: Axis {
        Axis(
            label: isByBatch
                ? "sequences at once" : definition.phase == .prefill ? "tokens of a prompt" : "context, tokens",
            scale: .binaryLogarithmic, format: isByBatch ? .number : .tokens)
    }
    /// What stands along a figure: contexts, or batches.
    private var steps: [Int] { (isByBatch ? definition.batches : definition.contexts).sorted() }
    private var stepTitles: [String] { steps.map { xAxis.format.text(Double($0)) } }
    private var ablation: Ablation {
        definition.ablations.contains(.full) ? .full : definition.ablations.first ?? .full
    }
    private var phase: String { definition.phase == .prefill ? "Prefill" : "Decode" }
    private var what: String { ablation == .full ? "" : ", \(StudyView.title(ablation))" }
    private var conditions: String {
        var parts: [String] = []
        if definition.batches.count == 1, let batch = definition.batches.first { parts.append("batch \(batch)") }
        if isByBatch, let context = definition.contexts.first {
            parts.append("\(definition.phase == .prefill ? "prompts of" : "context") \(ReportText.tokens(context))")
        }
        if definition.conventions.count == 1, let only = definition.conventions.first {
            parts.append(StudyView.title(only))
        }
        if definition.caches.count == 1, let only = definition.caches.first, only != .memory {
            parts.append(StudyView.title(only))
        }
        return parts.isEmpty ? "" : "; " + parts.joined(separator: ", ")
    }

    /// The cell at a place along a figure.
    private func cell(_ model: String, _ step: Int, _ setting: StudyView.Setting, arm: StudyArm) -> StudyCell {
        var setting = setting
        if isByBatch { setting.batch = step }
        return view.cell(
            model, isByBatch ? definition.contexts[0] : step, setting, ablation, arm: arm.id)
    }

    /// The same without batches, if figures go by them.
    private var settings: [StudyView.Setting] {
        var seen: Set<StudyView.Setting> = []
        return view.settings.compactMap { setting in
            var setting = setting
            if isByBatch { setting.batch = nil }
            return seen.insert(setting).inserted ? setting : nil
        }
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
        blocks.append(
            .details(
                "All cells of \(view.label.lowercasedFirst)", GainTable(view: view, ablation: ablation).blocks()))
        return blocks
    }

    /// Settings that share a figure: those with the same cache and batch, six panels at most.
    private var settingsByFigure: [[StudyView.Setting]] {
        var groups: [[StudyView.Setting]] = []
        for setting in settings {
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
        let isByModel = definition.models.count > 1
        let panels = settings.map { setting in
            LineChart.Panel(
                title: panelTitle(setting),
                series: series.enumerated().map { slot, entry in
                    Series(
                        name: title(entry), slot: isByModel ? slot : slot + 1, isBroken: entry.1.isAsynchronous,
                        points: steps.map { step in
                            let cell = cell(entry.0, step, setting, arm: entry.1)
                            return ReportText.point(Double(step), view.gain(cell), note: view.failure(cell))
                        })
                })
        }
        let subject = isByModel ? view.headline?.title ?? "" : "all arms, \(definition.models.first ?? "")"
        return Figure(
            identifier: name, title: "\(phase)\(what): gain of \(subject)",
            caption: "Gain in \(unit) over \(baselineTitle)\(conditions)\(shared); bars are 95 % bootstrap intervals "
                + "of \(view.repetitionText) repetitions, a cross is a cell without a result.",
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
                    steps.map { heatCell(cell(model, $0, setting, arm: headline)) }
                })
        }
        return Figure(
            identifier: name,
            title: "\(phase)\(what): gain of \(headline.title) by size and \(isByBatch ? "batch" : "context")",
            caption: "Gain over \(baselineTitle)\(conditions)\(shared).", provenances: [view.provenance],
            content: .heatMap(
                HeatMap(
                    columnLabel: xAxis.label, columns: stepTitles, rows: definition.models,
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
                            points: steps.map { step in
                                let cell = cell(model, step, setting, arm: arm)
                                return ReportText.point(
                                    Double(step), view.throughput(cell), note: view.failure(cell))
                            })
                    }
                })
        }
        let subject =
            definition.models.count > 1
            ? "one engine and \(headline.title)" : "all arms, \(definition.models.first ?? "")"
        return Figure(
            identifier: name, title: "\(phase)\(what): tokens a second, \(subject)",
            caption: "\(unit.prefix(1).uppercased())\(unit.dropFirst()) of all engines together\(conditions)\(shared).",
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
                        steps.map { heatCell(cell(model, $0, setting, arm: arm)) }
                    })
            }
            let place = panelTitle(setting)
            return Figure(
                identifier: settings.count > 1 ? "\(name)-\(index + 1)" : name,
                title: "\(phase)\(what): all arms\(place.isEmpty ? "" : ", \(place)")",
                caption: "Gain over \(baselineTitle)\(conditions)\(shared).", provenances: [view.provenance],
                content: .heatMap(
                    HeatMap(
                        columnLabel: xAxis.label, columns: stepTitles,
                        rows: view.rivals.map(\.title), valueLabel: "gain", format: .signedPercent, panels: panels,
                        fullScale: 0.2)))
        }
    }
}

extension String {
    var lowercasedFirst: String { prefix(1).lowercased() + dropFirst() }
    var uppercasedFirst: String { prefix(1).uppercased() + dropFirst() }
}
