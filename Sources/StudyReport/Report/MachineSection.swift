// Tandem — Apache-2.0

internal import Study

/// Machines, versions and parameters of all results.
struct MachineSection {
    let views: [StudyView]

    func blocks() -> [Document.Block] {
        var groups: [(header: StudyHeader, figures: [String])] = []
        for view in views {
            var plain = view.header
            plain.definition = groups.first?.header.definition ?? plain.definition
            plain.date = String(plain.date.prefix(10))
            if let index = groups.firstIndex(where: { $0.header == plain }) {
                groups[index].figures.append(view.definition.figure)
            } else {
                groups.append((plain, [view.definition.figure]))
            }
        }
        var blocks: [Document.Block] = [.heading(2, "Machines and versions", anchor: "machines")]
        for group in groups {
            let header = group.header
            blocks.append(.heading(3, "\(ReportText.listing(group.figures)): \(header.deviceTitle)", anchor: ""))
            var rows: [[Prose]] = [
                ["kind", header.kind == .measured ? "measured" : "simulated"],
                ["device", Prose.code(header.device) + Prose(" \(header.deviceTitle)")],
                [header.kind == .measured ? "machine" : "machine that simulated", Prose(header.machine)],
                ["date", Prose(header.date)],
                ["tandem", Prose(header.version + (header.revision.map { ", revision \($0)" } ?? ""))],
            ]
            for (name, value) in header.versions.sorted(by: { $0.key < $1.key }) {
                rows.append([Prose(name), Prose(value)])
            }
            blocks.append(.table(Document.Table(columns: [.init(""), .init("")], rows: rows)))
            if !header.parameters.isEmpty {
                let rows = header.parameters.sorted { $0.key < $1.key }.map { [Prose($0.key), Prose($0.value)] }
                blocks.append(
                    .details(
                        "Parameters",
                        [.table(Document.Table(columns: [.init("parameter"), .init("value and source")], rows: rows))]))
            }
        }
        return blocks
    }
}
