// Tandem — Apache-2.0

internal import LanguageModel
internal import Study

/// All cells of a decode or prefill figure in numbers, a table for each setting.
struct GainTable {
    let view: StudyView
    let ablation: Ablation

    func blocks() -> [Document.Block] {
        view.settings.flatMap { setting -> [Document.Block] in
            let title = view.title(setting)
            return (title.isEmpty ? [] : [.heading(4, title.uppercasedFirst, anchor: "")]) + [.table(table(setting))]
        }
    }

    private func table(_ setting: StudyView.Setting) -> Document.Table {
        let definition = view.definition
        var rows: [[Prose]] = []
        for model in definition.models {
            for arm in definition.arms {
                for context in definition.contexts.sorted() {
                    let cell = view.cell(model, context, setting, ablation, arm: arm.id)
                    let found = view.repetitions(cell)
                    guard !found.isEmpty || !view.failure(cell).isEmpty else { continue }
                    let busy = mean(found.compactMap(\.deviceBusyShare)).map { ValueFormat.percent.text($0) }
                    let sequences = mean(found.compactMap(\.sequencesPerEngine)).map {
                        DecimalText.short($0, step: nil)
                    }
                    let cache = found.first?.cacheTokensPerEngine.map { DecimalText.short(Double($0), step: nil) }
                    rows.append([
                        Prose(model), Prose(arm.title), Prose(ReportText.tokens(context)),
                        Prose(found.isEmpty ? "failed" : ReportText.rate(view.throughput(cell))),
                        Prose(arm == definition.baseline ? "" : ReportText.gain(view.gain(cell))), Prose(busy ?? "–"),
                        Prose(sequences ?? "–"), Prose(cache ?? "–"),
                    ])
                }
            }
        }
        return Document.Table(
            columns: [
                .init("model", isName: true), .init("arm", isName: true),
                .init(definition.phase == .prefill ? "prompt" : "context", isNumeric: true),
                .init("tokens/s", isNumeric: true), .init("gain (95 %)", isNumeric: true),
                .init("device busy", isNumeric: true), .init("sequences an engine", isNumeric: true),
                .init("cache, tokens", isNumeric: true),
            ], rows: rows)
    }

    private func mean(_ values: [Double]) -> Double? {
        values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
    }
}
