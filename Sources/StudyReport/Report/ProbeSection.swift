// Tandem — Apache-2.0

internal import LanguageModel
internal import Study

/// What a real GPU did in cells like the study's.
struct ProbeSection {
    let views: [StudyView]

    func blocks() -> [Document.Block] {
        let shown = views.contains { $0.header.device != "cpu" && $0.definition.phase != .resources }
        guard shown else { return [] }
        var blocks: [Document.Block] = [
            .heading(2, "Beside it: one H100, measured", anchor: "probe"),
            .paragraph(
                .mark(.measured)
                    + Prose(
                        """
                         \(ReferenceProbe.provenance.place). Two equal loops of decoder steps beside one: PyTorch's kernels in \
                        CUDA graphs, true shapes, random weights, the whole batch for each loop, one window of 0.9 s a \
                        figure; repeats in another process differed by up to 9 %. What loops gain is the time in which the \
                        host of one lets the GPU wait, and little else.
                        """)), .figure(pauses),
        ]
        let matches = self.matches
        if !matches.isEmpty {
            blocks.append(
                .paragraph("Cells that were simulated as well: same model, phase, context and batch, no host time."))
            blocks.append(.table(Document.Table(columns: Self.matchColumns, rows: matches)))
        }
        blocks.append(.details("All measured cells", [.table(table)]))
        return blocks
    }

    private var pauses: Figure {
        func series(_ name: String, _ slot: Int, _ steps: (ReferenceProbe.Cell) -> Double?) -> Series {
            Series(
                name: name, slot: slot,
                points: ReferenceProbe.cells.filter { $0.ablation == .full }.compactMap { cell in
                    steps(cell).map {
                        Point(
                            x: cell.pauseShare, y: $0 / cell.one - 1,
                            note: "\(cell.model), \(cell.phase.rawValue), \(cell.batch) of "
                                + "\(ReportText.tokens(cell.context)), pause \(cell.pause) µs")
                    }
                })
        }
        return Figure(
            identifier: "probe-pauses", title: "What a second loop gains on one H100, by how long the host pauses",
            caption:
                "Each point is a model, phase, batch and context; gain in steps a second over one loop without MPS.",
            provenances: [ReferenceProbe.provenance],
            content: .lines(
                LineChart(
                    x: Axis(label: "share of one loop's time in which its host pauses", format: .percent),
                    y: Axis(label: "gain", format: .signedPercent),
                    panels: [
                        .init(series: [
                            series("two processes under MPS", 0) { $0.mps },
                            series("two processes, time-sliced", 5) { $0.timeSliced },
                            series("two streams of one process", 1) { $0.streams },
                        ])
                    ], isJoined: false)))
    }

    private static let matchColumns: [Document.Table.Column] = [
        .init("figure", isName: true), .init("cell", isName: true), .init("measured, MPS", isNumeric: true),
        .init("simulated, MPS", isNumeric: true), .init("measured, time-sliced", isNumeric: true),
        .init("simulated, time-sliced", isNumeric: true),
    ]

    private var matches: [[Prose]] {
        var rows: [[Prose]] = []
        for view in views where view.header.device.hasSuffix("h100") && view.header.kind == .simulated {
            for setting in view.settings where setting.convention == .perEngine && isIdle(setting.host, view) {
                for cell in ReferenceProbe.cells
                where cell.pause == 0 && cell.phase == view.definition.phase && cell.batch == setting.batch
                    && (view.definition.caches.first == setting.cache)
                {
                    func gain(_ sharing: StudyArm.Sharing) -> String {
                        let arm = view.rivals.first { $0.engines == 2 && $0.sharing == sharing && !$0.isAsynchronous }
                        guard let arm else { return "–" }
                        return ReportText.gain(
                            view.gain(view.cell(cell.model, cell.context, setting, cell.ablation, arm: arm.id)))
                    }
                    let (mps, sliced) = (gain(.mps), gain(.timeSliced))
                    guard mps != "–" || sliced != "–" else { continue }
                    let what = cell.ablation == .full ? "" : ", \(StudyView.title(cell.ablation))"
                    rows.append([
                        Prose(view.definition.figure),
                        Prose("\(cell.model), \(cell.batch) of \(ReportText.tokens(cell.context))\(what)"),
                        Prose(ValueFormat.signedPercent.text(cell.gain)), Prose(mps),
                        Prose(ValueFormat.signedPercent.text(cell.timeSliced / cell.one - 1)), Prose(sliced),
                    ])
                }
            }
        }
        return rows
    }

    private func isIdle(_ host: String?, _ view: StudyView) -> Bool {
        guard let host = view.definition.hosts.first(where: { $0.name == host }) else { return true }
        return host.secondsPerStep == 0 && host.secondsPerSequence == 0
    }

    private var table: Document.Table {
        func gain(_ steps: Double?, _ cell: ReferenceProbe.Cell) -> Prose {
            Prose(steps.map { ValueFormat.signedPercent.text($0 / cell.one - 1) } ?? "–")
        }
        return Document.Table(
            columns: [
                .init("model", isName: true), .init("phase", isName: true), .init("part", isName: true),
                .init("batch", isNumeric: true),
                .init("context", isNumeric: true), .init("pause", isNumeric: true),
                .init("one, steps/s", isNumeric: true),
                .init("time-sliced", isNumeric: true), .init("MPS", isNumeric: true),
                .init("two streams", isNumeric: true),
            ],
            rows: ReferenceProbe.cells.map { cell in
                [
                    Prose(cell.model), Prose(cell.phase.rawValue), Prose(StudyView.title(cell.ablation)),
                    Prose("\(cell.batch)"), Prose(ReportText.tokens(cell.context)),
                    Prose(cell.pause == 0 ? "0" : ReportText.seconds(Double(cell.pause) * 1e-6)),
                    Prose(DecimalText.short(cell.one, step: nil)), gain(cell.timeSliced, cell), gain(cell.mps, cell),
                    gain(cell.streams, cell),
                ]
            })
    }
}
