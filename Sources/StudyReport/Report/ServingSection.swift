// Tandem — Apache-2.0

internal import Study

/// Throughput and latency over offered load: F6 of one result.
struct ServingSection {
    let view: StudyView
    let prefix: String

    private var definition: StudyDefinition { view.definition }

    func blocks() -> [Document.Block] {
        var blocks: [Document.Block] = []
        for model in definition.models {
            for context in definition.contexts {
                var name = prefix
                if definition.models.count > 1 { name += "-\(ReportText.slug(model))" }
                if definition.contexts.count > 1 { name += "-\(context)" }
                blocks.append(.figure(curves(model, context, name + "-curves")))
                if let target = definition.latencyTarget {
                    blocks.append(.figure(gains(model, context, target, name + "-target")))
                }
            }
        }
        if let target = definition.latencyTarget { blocks.append(.table(targets(target))) }
        blocks.append(.details("All loads of \(view.label.lowercasedFirst)", [.table(loads)]))
        return blocks
    }

    private func conditions(_ context: Int) -> String {
        "\(ReportText.tokens(context)) tokens in, \(ReportText.tokens(definition.outputTokens)) out"
    }

    private func panelTitle(_ setting: StudyView.Setting) -> String { view.title(setting) }

    private func curves(_ model: String, _ context: Int, _ name: String) -> Figure {
        let panels = view.settings.map { setting in
            LineChart.Panel(
                title: panelTitle(setting),
                series: definition.arms.enumerated().map { slot, arm in
                    let points = definition.loads.sorted().compactMap { load -> Point? in
                        let found = view.repetitions(
                            view.cell(model, context, setting, load: load, arm: arm.id))
                        let latencies = found.compactMap { $0.endToEnd?.mean }
                        guard !latencies.isEmpty else { return nil }
                        let latency = latencies.reduce(0, +) / Double(latencies.count)
                        return ReportText.point(
                            latency, StudyStatistics.mean(found.compactMap(\.throughput)),
                            note: "offered \(DecimalText.short(load, step: nil)) requests/s")
                    }
                    return Series(name: arm.title, slot: slot, isBroken: arm.isAsynchronous, points: points)
                })
        }
        return Figure(
            identifier: name, title: "\(model): throughput and latency",
            caption: "Each point is an offered load, \(conditions(context)); latency is the mean from request to last "
                + "token, bands are 95 % bootstrap intervals.",
            provenances: [view.provenance],
            content: .lines(
                LineChart(
                    x: Axis(label: "latency, s", scale: .logarithmic, includesZero: false),
                    y: Axis(label: "generated tokens/s"), panels: panels,
                    references: definition.latencyTarget.map { target in
                        [
                            .init(
                                .vertical(target),
                                label: "\(DecimalText.short(target, step: DecimalText.lastDigit(of: target))) s")
                        ]
                    } ?? [], spread: .band)))
    }

    /// Any cell of an arm's sweep.
    private func cell(_ model: String, _ context: Int, _ setting: StudyView.Setting, _ arm: StudyArm) -> StudyCell {
        view.cell(model, context, setting, load: definition.loads.first, arm: arm.id)
    }

    private func gains(_ model: String, _ context: Int, _ target: Double, _ name: String) -> Figure {
        let groups = view.settings.map { setting in
            BarChart.Group(
                name: view.settings.count > 1 ? view.title(setting) : StudyView.title(setting.convention),
                bars: view.rivals.map { arm in
                    let within = view.result.within(latency: target, cell(model, context, setting, arm))
                    let gain = within?.isBaselineUnbounded == true ? nil : within?.gain
                    return BarChart.Bar(value: gain?.value, interval: ReportText.interval(gain))
                })
        }
        return Figure(
            identifier: name,
            title: "\(model): gain within \(DecimalText.short(target, step: DecimalText.lastDigit(of: target))) s",
            caption: "Most tokens a second within the latency, over those of "
                + "\(definition.baseline?.title ?? "the first arm"); \(conditions(context)); whiskers are 95 % bootstrap "
                + "intervals.",
            provenances: [view.provenance],
            content: .bars(
                BarChart(
                    value: Axis(label: "gain", format: .signedPercent),
                    series: view.rivals.enumerated().map { .init(name: $1.title, slot: $0 + 1) },
                    panels: [.init(groups: groups)])))
    }

    private func targets(_ target: Double) -> Document.Table {
        let hasSettings = view.settings.count > 1
        var rows: [[Prose]] = []
        for model in definition.models {
            for context in definition.contexts {
                for setting in view.settings {
                    for arm in definition.arms {
                        let within = view.result.within(latency: target, cell(model, context, setting, arm))
                        var row = [Prose(model)]
                        if hasSettings { row.append(Prose(view.title(setting))) }
                        row += [
                            Prose(arm.title),
                            Prose(throughputText(within)),
                            Prose(arm == definition.baseline ? "" : gainText(within)),
                        ]
                        rows.append(row)
                    }
                }
            }
        }
        var columns: [Document.Table.Column] = [.init("model", isName: true)]
        if hasSettings { columns.append(.init("setting", isName: true)) }
        columns += [
            .init("arm", isName: true), .init("tokens/s within \(ReportText.seconds(target))", isNumeric: true),
            .init("gain (95 %)", isNumeric: true),
        ]
        return Document.Table(columns: columns, rows: rows)
    }

    private func throughputText(_ within: StudyResult.WithinLatency?) -> String {
        guard let within else { return "never within" }
        return (within.isLowerBound ? "≥ " : "") + ReportText.interval(within.throughput, .number)
    }

    private func gainText(_ within: StudyResult.WithinLatency?) -> String {
        guard let within else { return ReportText.gain(nil) }
        if within.isBaselineUnbounded { return "cannot be told" }
        return (within.isLowerBound ? "≥ " : "") + ReportText.gain(within.gain)
    }

    private var loads: Document.Table {
        let hasSettings = view.settings.count > 1
        var rows: [[Prose]] = []
        for model in definition.models {
            for context in definition.contexts {
                for setting in view.settings {
                    for arm in definition.arms {
                        for load in definition.loads.sorted() {
                            let cell = view.cell(model, context, setting, load: load, arm: arm.id)
                            let found = view.repetitions(cell)
                            let failure = view.failure(cell)
                            guard !found.isEmpty || !failure.isEmpty else { continue }
                            func mean(_ value: (StudyMeasurement) -> Double?) -> String {
                                let values = found.compactMap(value)
                                guard !values.isEmpty else { return "–" }
                                return ReportText.seconds(values.reduce(0, +) / Double(values.count))
                            }
                            var row = [Prose(model)]
                            if hasSettings { row.append(Prose(view.title(setting))) }
                            row += [
                                Prose(arm.title), Prose(DecimalText.short(load, step: nil)),
                                Prose(found.isEmpty ? "failed" : ReportText.rate(view.throughput(cell))),
                                Prose(mean { $0.endToEnd?.mean }), Prose(mean { $0.endToEnd?.p99 }),
                                Prose(mean { $0.timeToFirstToken?.p50 }), Prose(mean { $0.interTokenLatency?.p50 }),
                            ]
                            rows.append(row)
                        }
                    }
                }
            }
        }
        var columns: [Document.Table.Column] = [.init("model", isName: true)]
        if hasSettings { columns.append(.init("setting", isName: true)) }
        columns.append(.init("arm", isName: true))
        for title in ["requests/s", "tokens/s", "latency, mean", "p99", "first token, p50", "between tokens, p50"] {
            columns.append(.init(title, isNumeric: true))
        }
        return Document.Table(columns: columns, rows: rows)
    }
}
