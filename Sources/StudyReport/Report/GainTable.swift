// Tandem — Apache-2.0

internal import LanguageModel
internal import Study

/// All cells of a decode or prefill figure in numbers.
struct GainTable {
    let view: StudyView
    let ablation: Ablation

    var table: Document.Table {
        let hasSettings = view.settings.count > 1
        var columns: [Document.Table.Column] = [.init("model", isName: true)]
        if hasSettings { columns.append(.init("setting", isName: true)) }
        columns += [
            .init("arm", isName: true),
            .init(view.definition.phase == .prefill ? "prompt" : "context", isNumeric: true),
            .init("tokens/s", isNumeric: true), .init("gain (95 %)", isNumeric: true),
            .init("device busy", isNumeric: true), .init("sequences", isNumeric: true),
            .init("cache, tokens", isNumeric: true),
        ]
        var rows: [[Prose]] = []
        for model in view.definition.models {
            for setting in view.settings {
                for arm in view.definition.arms {
                    for context in view.definition.contexts.sorted() {
                        let cell = view.cell(model, context, setting, ablation, arm: arm.id)
                        let found = view.repetitions(cell)
                        let failure = view.failure(cell)
                        guard !found.isEmpty || !failure.isEmpty else { continue }
                        var row = [Prose(model)]
                        if hasSettings { row.append(Prose(view.title(setting))) }
                        row += [
                            Prose(arm.title), Prose(ReportText.tokens(context)),
                            Prose(found.isEmpty ? "failed" : ReportText.rate(view.throughput(cell))),
                            Prose(arm == view.definition.baseline ? "" : ReportText.gain(view.gain(cell))),
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
