// Tandem — Apache-2.0

internal import LanguageModel
internal import Study

/// Attention alone, MLP alone, the whole model, and what the parts let one expect: F4 and F5 of one result.
struct ExpectedSection {
    let view: StudyView
    let prefix: String

    private var definition: StudyDefinition { view.definition }
    private var contexts: [Int] { definition.contexts.sorted() }
    private var phase: String { definition.phase == .prefill ? "Prefill" : "Decode" }
    private var contextLabel: String { definition.phase == .prefill ? "tokens of a prompt" : "context, tokens" }

    func blocks() -> [Document.Block] {
        guard let headline = view.headline, !contexts.isEmpty else { return [] }
        var blocks: [Document.Block] = []
        for model in definition.models {
            let name = definition.models.count > 1 ? "\(prefix)-\(ReportText.slug(model))" : prefix
            blocks.append(
                .figure(
                    contexts.count > 1
                        ? parts(model, headline, name + "-parts") : bars(model, headline, name + "-parts")))
        }
        if contexts.count > 2 { blocks.append(.figure(expected(headline, prefix + "-expected"))) }
        blocks.append(
            .paragraph(
                """
                Expected gains come from one engine's wall time in attention (share f) and MLP, and the gains a and m of \
                the model with only one of them: the article's weighted mean, f·a + (1 − f)·m, and the one that follows \
                from times that add up, 1 / (f/(1+a) + (1−f)/(1+m)) − 1. The first is never below the second.
                """))
        blocks.append(.details("All cells of \(view.label.lowercasedFirst)", tables(headline)))
        return blocks
    }

    private func panelTitle(_ setting: StudyView.Setting) -> String {
        let title = view.title(setting)
        if !title.isEmpty { return title }
        return StudyView.title(setting.convention)
    }

    private func parts(_ model: String, _ headline: StudyArm, _ name: String) -> Figure {
        let ablations = Ablation.allCases.filter(definition.ablations.contains)
        let panels = view.settings.map { setting in
            var series = ablations.map { ablation in
                Series(
                    name: StudyView.title(ablation), slot: slot(ablation),
                    points: contexts.map { context in
                        let cell = view.cell(model, context, setting, ablation, arm: headline.id)
                        return ReportText.point(Double(context), view.gain(cell), note: view.failure(cell))
                    })
            }
            let expected = contexts.map {
                (Double($0), view.expectedGain(view.cell(model, $0, setting, arm: headline.id)))
            }
            series.append(
                Series(
                    name: "expected, weighted mean", slot: 3, isBroken: true,
                    points: expected.map { ReportText.point($0, $1?.weightedMean) }))
            series.append(
                Series(
                    name: "expected, times added", slot: 4, isBroken: true,
                    points: expected.map { ReportText.point($0, $1?.timesAdded) }))
            return LineChart.Panel(title: panelTitle(setting), series: series)
        }
        return Figure(
            identifier: name, title: "\(phase), \(model): gain of the parts, of the whole, and as expected",
            caption: "Gain of \(headline.title) over \(definition.baseline?.title ?? "one engine")\(batches); bars are "
                + "95 % bootstrap intervals.",
            provenances: [view.provenance],
            content: .lines(
                LineChart(
                    x: Axis(label: contextLabel, scale: .binaryLogarithmic, format: .tokens),
                    y: Axis(label: "gain", format: .signedPercent), panels: panels)))
    }

    /// At a single context there is no line to draw.
    private func bars(_ model: String, _ headline: StudyArm, _ name: String) -> Figure {
        let ablations = Ablation.allCases.filter(definition.ablations.contains)
        let groups = view.settings.map { setting in
            let cell = view.cell(model, contexts[0], setting, arm: headline.id)
            func bar(_ estimate: Estimate?, _ note: String = "") -> BarChart.Bar {
                BarChart.Bar(value: estimate?.value, interval: ReportText.interval(estimate), note: note)
            }
            let parts = ablations.map { ablation in
                let part = cell.with(ablation: ablation)
                return bar(view.gain(part), view.failure(part))
            }
            let expected = view.expectedGain(cell)
            return BarChart.Group(
                name: panelTitle(setting), bars: parts + [bar(expected?.weightedMean), bar(expected?.timesAdded)])
        }
        return Figure(
            identifier: name, title: "\(phase), \(model): gain of the parts, of the whole, and as expected",
            caption: "Gain of \(headline.title) over \(definition.baseline?.title ?? "one engine")\(batches), "
                + "\(contextLabel) \(ReportText.tokens(contexts[0])); whiskers are 95 % bootstrap intervals.",
            provenances: [view.provenance],
            content: .bars(
                BarChart(
                    value: Axis(label: "gain", format: .signedPercent),
                    series: ablations.map { .init(name: StudyView.title($0), slot: slot($0)) } + [
                        .init(name: "expected, weighted mean", slot: 3), .init(name: "expected, times added", slot: 4),
                    ], panels: [.init(groups: groups)])))
    }

    private var batches: String {
        definition.batches.count == 1 ? ", batch \(definition.batches[0])" : ""
    }

    private func slot(_ ablation: Ablation) -> Int {
        switch ablation {
        case .full: 0
        case .attentionOnly: 1
        case .mlpOnly: 2
        }
    }

    /// Expected beside actual gains, a point a cell.
    private func expected(_ headline: StudyArm, _ name: String) -> Figure {
        var series: [Series] = []
        for (slot, setting) in view.settings.enumerated() {
            let points = definition.models.flatMap { model in
                contexts.compactMap { context -> Point? in
                    let cell = view.cell(model, context, setting, arm: headline.id)
                    guard let actual = view.gain(cell), let expected = view.expectedGain(cell) else { return nil }
                    return Point(
                        x: actual.value, y: expected.weightedMean.value,
                        interval: ReportText.interval(expected.weightedMean),
                        note: "\(model), \(contextLabel) \(ReportText.tokens(context))")
                }
            }
            series.append(Series(name: panelTitle(setting), slot: slot, points: points))
        }
        return Figure(
            identifier: name, title: "\(phase): expected beside actual gain",
            caption:
                "Each point is a model and context; above the line, the weighted mean promises more than there is.",
            provenances: [view.provenance],
            content: .lines(
                LineChart(
                    x: Axis(label: "actual gain of the whole model", format: .signedPercent),
                    y: Axis(label: "expected gain, weighted mean", format: .signedPercent),
                    panels: [.init(series: series)], references: [.init(.diagonal, label: "expected = actual")],
                    isJoined: false)))
    }

    /// A table for each setting.
    private func tables(_ headline: StudyArm) -> [Document.Block] {
        view.settings.flatMap { setting -> [Document.Block] in
            [.heading(4, panelTitle(setting).uppercasedFirst, anchor: ""), .table(table(headline, setting))]
        }
    }

    private func table(_ headline: StudyArm, _ setting: StudyView.Setting) -> Document.Table {
        var rows: [[Prose]] = []
        for model in definition.models {
            for context in contexts {
                let cell = view.cell(model, context, setting, arm: headline.id)
                let expected = view.expectedGain(cell)
                var row = [Prose(model), Prose(ReportText.tokens(context))]
                row.append(Prose(expected.map { ReportText.interval($0.attentionShare, .percent) } ?? "–"))
                for ablation in [Ablation.attentionOnly, .mlpOnly, .full] {
                    row.append(Prose(ReportText.gain(view.gain(cell.with(ablation: ablation)))))
                }
                row.append(Prose(ReportText.gain(expected?.weightedMean)))
                row.append(Prose(ReportText.gain(expected?.timesAdded)))
                rows.append(row)
            }
        }
        var columns: [Document.Table.Column] = [
            .init("model", isName: true), .init(definition.phase == .prefill ? "prompt" : "context", isNumeric: true),
        ]
        for title in [
            "attention's share", "attention only", "MLP only", "whole", "expected, weighted", "expected, times added",
        ] {
            columns.append(.init(title, isNumeric: true))
        }
        return Document.Table(columns: columns, rows: rows)
    }
}
