// Tandem — Apache-2.0

internal import Study

/// Operations and bytes counted from models' descriptions: T1 of one result.
struct ResourceSection {
    let view: StudyView
    let prefix: String

    private var counts: [StudyCount] { view.result.counts }
    private var models: [String] { unique(counts.map(\.model)) }
    private var contexts: [Int] { Array(Set(counts.map(\.context))).sorted() }
    private var parts: [String] { unique(counts.map(\.part)) }
    private var phases: [String] { unique(counts.map(\.phase)) }

    func blocks() -> [Document.Block] {
        guard let model = models.first, let context = contexts.last else {
            return [.note("There are no counts in this result.")]
        }
        var blocks: [Document.Block] = [
            .paragraph(
                """
                Exponents: 0 does not grow with the context, 1 grows as fast, 2 as its square; from \
                \(ReportText.tokens(context)) tokens to twice that, of \(model).
                """),
            .table(growth(model, context)),
        ]
        if contexts.count > 1 {
            blocks.append(.figure(figure(model, \.bytes, "bytes", "read", prefix + "-bytes")))
            blocks.append(.figure(figure(model, \.operations, "operations", "done", prefix + "-operations")))
        }
        blocks.append(.details("All counts", [.table(all)]))
        return blocks
    }

    private func growth(_ model: String, _ context: Int) -> Document.Table {
        var rows: [[Prose]] = []
        for part in parts {
            for phase in phases {
                guard let count = find(model, context, part, phase) else { continue }
                rows.append([
                    Prose(part), Prose(phase), Prose(DecimalText.fixed(count.operationsGrowth, 2)),
                    Prose(DecimalText.fixed(count.bytesGrowth, 2)),
                    Prose(DecimalText.short(count.operations, step: nil)),
                    Prose(DecimalText.short(count.bytes, step: nil)),
                    Prose(count.bytes > 0 ? DecimalText.short(count.operations / count.bytes, step: nil) : "–"),
                ])
            }
        }
        return Document.Table(
            columns: [
                .init("part", isName: true), .init("phase", isName: true),
                .init("exponent, operations", isNumeric: true),
                .init("exponent, bytes", isNumeric: true), .init("operations", isNumeric: true),
                .init("bytes", isNumeric: true), .init("operations a byte", isNumeric: true),
            ], rows: rows)
    }

    private func figure(
        _ model: String, _ value: KeyPath<StudyCount, Double>, _ name: String, _ verb: String, _ identifier: String
    ) -> Figure {
        let panels = phases.map { phase in
            LineChart.Panel(
                title: phase == "decode" ? "decode, one token of one sequence" : "\(phase), one prompt",
                series: parts.enumerated().map { slot, part in
                    Series(
                        name: part, slot: slot,
                        points: contexts.map { context in
                            Point(x: Double(context), y: find(model, context, part, phase)?[keyPath: value])
                        })
                })
        }
        return Figure(
            identifier: identifier, title: "\(model): \(name) \(verb) by each part",
            caption: "All layers, 16 bits; weights, keys and values are read once.", provenances: [view.provenance],
            content: .lines(
                LineChart(
                    x: Axis(label: "context, tokens", scale: .binaryLogarithmic, format: .tokens),
                    y: Axis(label: name, scale: .logarithmic, includesZero: false), panels: panels)))
    }

    private var all: Document.Table {
        Document.Table(
            columns: [
                .init("model", isName: true), .init("context", isNumeric: true), .init("part", isName: true),
                .init("phase", isName: true),
                .init("operations", isNumeric: true), .init("bytes", isNumeric: true),
            ],
            rows: counts.map { count in
                [
                    Prose(count.model), Prose(ReportText.tokens(count.context)), Prose(count.part), Prose(count.phase),
                    Prose(DecimalText.short(count.operations, step: nil)),
                    Prose(DecimalText.short(count.bytes, step: nil)),
                ]
            })
    }

    private func find(_ model: String, _ context: Int, _ part: String, _ phase: String) -> StudyCount? {
        counts.first { $0.model == model && $0.context == context && $0.part == part && $0.phase == phase }
    }

    private func unique(_ values: [String]) -> [String] {
        var seen: Set<String> = []
        return values.filter { seen.insert($0).inserted }
    }
}
