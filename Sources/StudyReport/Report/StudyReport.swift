// Tandem — Apache-2.0

public import Study

/// The report of a study's results: several devices, simulated and measured, side by side.
public struct StudyReport: Sendable {
    private let views: [StudyView]
    private let devices: [DeviceResults]

    /// - Parameter results: those of a figure and device that come later take the place of earlier ones.
    /// - Throws: ``StudyError`` if there is nothing to report.
    public init(_ results: [StudyResult]) throws(StudyError) {
        guard !results.isEmpty else {
            throw StudyError(subject: "report", reason: "there are no results; run `tandem study` first")
        }
        var latest: [StudyView] = []
        for result in results {
            let view = StudyView(result)
            let key = StudyReport.key(view)
            if let index = latest.firstIndex(where: { StudyReport.key($0) == key }) {
                if latest[index].header.date <= view.header.date { latest[index] = view }
            } else {
                latest.append(view)
            }
        }
        views = latest
        devices = StudyReport.devices(latest)
    }

    private static func key(_ view: StudyView) -> [String] { [view.definition.figure] + device(view) }

    /// What makes a device another one: measured, the GPU and its machine; simulated, the parameters too.
    private static func device(_ view: StudyView) -> [String] {
        let header = view.header
        let own = [header.kind.rawValue, header.device, header.deviceTitle]
        // Processor and cores: a kernel may be another from one figure to the next.
        guard header.kind == .simulated else {
            return own + header.machine.split(separator: ",").prefix(2).map(String.init)
        }
        let parameters = header.parameters.filter { name, _ in
            Self.deviceParameters.contains(name) || name.hasPrefix("source")
        }
        return own + parameters.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
    }

    /// Those of a simulation's parameters that describe the GPU.
    private static let deviceParameters: Set<String> = [
        "gpu", "products", "decode attention", "prefill attention", "element-wise kernels", "sharing",
    ]

    /// Results that claims are judged by: those of GPUs, each with the counts, which belong to none.
    private static func devices(_ views: [StudyView]) -> [DeviceResults] {
        var devices: [(key: [String], results: DeviceResults)] = []
        for view in views where view.definition.phase != .resources && view.header.device != "cpu" {
            let key = device(view)
            let index =
                devices.firstIndex { $0.key == key }
                ?? {
                    devices.append(
                        (key, DeviceResults(label: view.label, provenance: view.provenance, views: [:])))
                    return devices.count - 1
                }()
            devices[index].results.views[view.definition.figure] = view
        }
        return devices.map(\.results)
    }

    /// Figures in order: the article's, then others.
    private var figures: [String] {
        var seen: Set<String> = []
        let found = views.map(\.definition.figure).filter { seen.insert($0).inserted }
        let known = ["F1", "F2", "F3", "F3-prefill", "F4", "F5", "F6", "T1"]
        return known.filter(found.contains) + found.filter { !known.contains($0) }
    }

    public func document() -> Document {
        var blocks = opening()
        var names: Set<String> = []
        for figure in figures { blocks += section(figure, &names) }
        blocks += ProbeSection(views: views).blocks()
        blocks += MachineSection(views: views).blocks()
        return Document(
            title: "Does sharing one GPU pay?",
            lead: Prose(
                """
                A study of small language models on engines that share a device, figure by figure after "Scaling Small LLMs \
                with NVIDIA MPS" (Databricks Mosaic Research, 2026-01-26): its questions, our arms, and what its claims \
                are worth by our numbers.
                """), blocks: blocks)
    }

    // MARK: - Opening

    private func opening() -> [Document.Block] {
        var blocks: [Document.Block] = [
            .heading(2, "What was run", anchor: "results"), .table(resultTable),
            .paragraph(
                """
                Every figure says where its numbers come from. Simulated ones are predictions of a model of the GPU, with the \
                errors that the model's own page states; they are no measurements. A gain compares arms of the same \
                repetition; intervals are 95 % percentile bootstrap over repetitions, and those of a simulation show its \
                seeds' spread, not its error. Arms were interleaved; what failed is listed with its figure.
                """),
        ]
        if views.contains(where: { $0.header.device == "cpu" }) {
            blocks.append(
                .paragraph(
                    """
                    Engines on a CPU show that the study measures, and what sharing does there. They do not decide claims \
                    about a GPU, and have no part in the verdicts.
                    """))
        }
        blocks += verdictTable
        return blocks
    }

    private var resultTable: Document.Table {
        Document.Table(
            columns: [
                .init("figure", isName: true), .init("kind"), .init("device"), .init("date", isNumeric: true),
                .init("cells", isNumeric: true),
                .init("repetitions", isNumeric: true), .init("failed", isNumeric: true),
            ],
            rows: figures.flatMap { figure in
                views.filter { $0.definition.figure == figure }.map { view in
                    let cells = Set(view.result.measurements.map(\.cell)).count
                    let isCounted = view.definition.phase == .resources
                    return [
                        Prose.link("\(figure) \(view.definition.title)", to: "#\(ReportText.slug(figure))"),
                        Prose.mark(view.provenance.kind), Prose(isCounted ? "none" : view.header.deviceTitle),
                        Prose(String(view.header.date.prefix(10))),
                        Prose("\(isCounted ? view.result.counts.count : cells)"),
                        Prose(isCounted ? "–" : view.repetitionText),
                        Prose("\(view.result.failures.count)"),
                    ]
                }
            })
    }

    private var verdictTable: [Document.Block] {
        let judged = Claim.all.filter { claim in findings(claim).contains { !$0.findings.isEmpty } }
        guard !judged.isEmpty else { return [] }
        let hasDevices = devices.count > 1
        var columns: [Document.Table.Column] = [.init("claim"), .init("the article says")]
        if hasDevices { columns += devices.map { .init($0.label) } } else { columns.append(.init("verdict")) }
        let rows = judged.map { claim -> [Prose] in
            let number = Prose.link(claim.number, to: "#claim-\(claim.number)")
            let all = findings(claim)
            if claim.scope == .nothing {
                let outcome = Outcome.agreed(all.flatMap { $0.findings.map(\.finding.outcome) })
                return [number, Prose(claim.text)]
                    + Array(repeating: verdict(outcome), count: hasDevices ? devices.count : 1)
            }
            return [number, Prose(claim.text)]
                + all.map { $0.findings.isEmpty ? "–" : summary($0.findings) }
        }
        var lead: Prose = """
            The article does not say whether its batch was split over the engines or given to each, nor how much time its \
            host took. A claim holds or does not hold here if it does so in every setting that may have been meant; else it \
            cannot be told, and the settings in which it holds are named. Rules and numbers stand with each figure. Rules look at \
            intervals, and those of a simulation leave out its own error, which is 5 points on average for measured pairs \
            of loops under MPS that it was not fitted to: a verdict that hangs on less than that is no safer than the model.
            """
        if !hasDevices, let device = devices.first {
            lead = .mark(device.provenance.kind) + Prose(" \(device.provenance.place). ") + lead
        }
        return [
            .heading(2, "Verdicts on the article's claims", anchor: "verdicts"), .paragraph(lead),
            .table(Document.Table(columns: columns, rows: rows)),
        ]
    }

    private func verdict(_ outcome: Outcome) -> Prose { .verdict(outcome.rawValue, outcome.tone) }

    private func summary(_ found: [(setting: ClaimSetting, finding: Finding)]) -> Prose {
        let outcome = Outcome.agreed(found.map(\.finding.outcome))
        func titles(_ outcome: Outcome) -> [String] {
            found.filter { $0.finding.outcome == outcome }.map(\.setting.title)
        }
        let (holding, failing) = (titles(.holds), titles(.doesNotHold))
        guard outcome == .cannotBeTold, found.count > 1, !holding.isEmpty || !failing.isEmpty else {
            return verdict(outcome)
        }
        // The shorter list of settings is named.
        let count = "in \(holding.count) of \(found.count) settings"
        let text =
            if holding.isEmpty {
                "does not hold in \(failing.count) of \(found.count) settings, and is open in the others"
            } else if holding.count <= failing.count {
                "holds \(count): \(holding.joined(separator: "; "))"
            } else if failing.isEmpty {
                "holds \(count), and is open in the others"
            } else {
                "holds \(count), not with \(failing.joined(separator: "; "))"
            }
        return verdict(outcome) + Prose(": \(text)")
    }

    /// What each device says; counts of models are asked once.
    private func findings(
        _ claim: Claim
    ) -> [(results: DeviceResults, findings: [(setting: ClaimSetting, finding: Finding)])] {
        if claim.scope == .nothing {
            let counted = views.filter { $0.definition.phase == .resources }
            return counted.map { view in
                let results = DeviceResults(
                    label: view.label, provenance: view.provenance, views: [view.definition.figure: view])
                return (results, claim.findings(results))
            }
        }
        return devices.map { ($0, claim.findings($0)) }
    }

    // MARK: - Figures

    private func section(_ figure: String, _ names: inout Set<String>) -> [Document.Block] {
        let shown = views.filter { $0.definition.figure == figure }
        guard let first = shown.first else { return [] }
        var blocks: [Document.Block] = [
            .heading(2, "\(figure): \(first.definition.title)", anchor: ReportText.slug(figure)),
            .paragraph(Prose(first.definition.question)),
        ]
        for view in shown {
            var name = "\(ReportText.slug(figure))-\(ReportText.slug(view.header.device))"
            while !names.insert(name).inserted { name += "-again" }
            blocks.append(.heading(3, view.label, anchor: name + "-section"))
            blocks += content(view, name)
            blocks += MethodSection(view: view).blocks()
        }
        let claims = Claim.all.filter { $0.figures.first == figure }
        return blocks + verdicts(claims)
    }

    private func content(_ view: StudyView, _ name: String) -> [Document.Block] {
        if view.definition.phase != .resources, view.result.measurements.isEmpty {
            return [.note("This result has no measurements yet.")]
        }
        switch view.definition.phase {
        case .resources: return ResourceSection(view: view, prefix: name).blocks()
        case .serving: return ServingSection(view: view, prefix: name).blocks()
        case .decode, .prefill:
            return view.definition.ablations.count > 1
                ? ExpectedSection(view: view, prefix: name).blocks() : GainSection(view: view, prefix: name).blocks()
        }
    }

    /// Each claim with its rule and what it says in each setting, and what is known apart from the numbers.
    private func verdicts(_ claims: [Claim]) -> [Document.Block] {
        var blocks: [Document.Block] = []
        var groups: [String] = []
        for claim in claims {
            let all = findings(claim)
            let found = all.flatMap { device in
                device.findings.map { (device.results, $0.setting, $0.finding) }
            }
            guard !found.isEmpty else { continue }
            if blocks.isEmpty { blocks.append(.heading(3, "Claims", anchor: "")) }
            let outcomes = all.filter { !$0.findings.isEmpty }.map { device -> Prose in
                let outcome = Outcome.agreed(device.findings.map(\.finding.outcome))
                return verdict(outcome) + Prose(all.count > 1 ? " (\(device.results.label.lowercasedFirst))" : "")
            }
            blocks.append(.heading(4, "\(claim.number). \(claim.text)", anchor: "claim-\(claim.number)"))
            blocks.append(
                .paragraph(
                    outcomes.dropFirst().reduce(outcomes[0]) { $0 + ", " + $1 } + Prose(". Rule: \(claim.rule)")))
            var columns: [Document.Table.Column] = []
            if all.count > 1 { columns.append(.init("result", isName: true)) }
            if claim.scope != .nothing { columns.append(.init("setting", isName: true)) }
            columns += [.init("verdict"), .init("numbers")]
            blocks.append(
                .table(
                    Document.Table(
                        columns: columns,
                        rows: found.map { results, setting, finding in
                            var row: [Prose] = []
                            if all.count > 1 { row.append(Prose(results.label)) }
                            if claim.scope != .nothing { row.append(Prose(setting.title)) }
                            return row + [verdict(finding.outcome), Prose(finding.evidence)]
                        })))
            let group = claim.number.filter { $0.isNumber }
            if !groups.contains(group) { groups.append(group) }
        }
        for group in groups {
            guard let remark = ClaimPhysics.remark(group) else { continue }
            blocks.append(.note(.strong("Does claim \(group) follow? ") + Prose(remark)))
        }
        return blocks
    }
}
