// Tandem — Apache-2.0

import LanguageModel
import Study
import Testing

@testable import StudyReport

@Suite struct ClaimTests {
    private static func device(_ results: [StudyResult]) -> DeviceResults {
        let views = results.map { StudyView($0) }
        return DeviceResults(
            label: "Simulated", provenance: views[0].provenance,
            views: Dictionary(views.map { ($0.definition.figure, $0) }, uniquingKeysWith: { first, _ in first }))
    }

    private static func outcome(_ number: String, _ results: [StudyResult]) throws -> Outcome {
        try #require(Claim.all.first { $0.number == number }).outcome(device(results))
    }

    private static func size(_ cell: StudyCell) -> Double { StudyView.size(cell.model) ?? 0 }

    /// What the article's curves would look like: from 60 % down, straight over log context, less for larger models.
    private static func article(_ cell: StudyCell) -> Double {
        var doublings = 0.0
        var context = cell.context
        while context > 128 {
            context /= 2
            doublings += 1
        }
        return 0.62 - 0.085 * size(cell) - (0.14 - 0.008 * size(cell)) * doublings
    }

    @Test func decodeAsTheArticleHasIt() throws {
        let result = SyntheticStudy.batches(SyntheticStudy.definition(), gain: Self.article)
        for number in ["4a", "4b", "4c", "4d", "4e", "6d"] {
            #expect(try Self.outcome(number, [result]) == .holds, "\(number)")
        }
        // At 1k and 512 tokens 3B gains too little to call it worth while.
        #expect(try Self.outcome("6a", [result]) != .cannotBeTold)
    }

    @Test func decodeWithoutGain() throws {
        let result = SyntheticStudy.batches(SyntheticStudy.definition()) { _ in -0.02 }
        for number in ["4a", "6a"] { #expect(try Self.outcome(number, [result]) == .doesNotHold, "\(number)") }
        #expect(try Self.outcome("4b", [result]) == .cannotBeTold)
        #expect(try Self.outcome("4c", [result]) == .doesNotHold)
        #expect(try Self.outcome("4d", [result]) == .holds)
    }

    /// The article does not say which setting it used: a claim that holds in some only cannot be told.
    @Test func settingsThatDisagree() throws {
        let result = SyntheticStudy.batches(SyntheticStudy.definition()) { cell in
            cell.host == "assumed" && cell.convention == .perEngine ? 0.6 : 0
        }
        #expect(try Self.outcome("4a", [result]) == .cannotBeTold)
        let claim = try #require(Claim.all.first { $0.number == "4a" })
        let findings = claim.findings(Self.device([result]))
        #expect(findings.count == 4)
        #expect(
            findings.filter { $0.finding.outcome == .holds }.map(\.setting.title) == ["equal per engine, host assumed"])
        #expect(
            findings.allSatisfy { $0.finding.evidence.contains("qwen2.5-0.5b") || $0.finding.evidence.contains("1.5b") }
        )
        #expect(try Self.outcome("6c", [result]) == .cannotBeTold)
    }

    /// What was not measured may be as it will; a cell that denies a claim denies it all the same.
    @Test func partsOfAGridAreNoGrid() throws {
        var whole = SyntheticStudy.batches(SyntheticStudy.definition(), gain: Self.article)
        whole.measurements.removeAll { $0.cell.host == "assumed" && $0.cell.context > 128 }
        let result = whole
        for number in ["4d", "4e", "6d"] {
            #expect(try Self.outcome(number, [result]) == .cannotBeTold, "\(number)")
            let claim = try #require(Claim.all.first { $0.number == number })
            let findings = claim.findings(Self.device([result]))
            #expect(findings.count == 4)
            #expect(findings.contains { $0.finding.evidence.contains("not measured: ") }, "\(number)")
        }
        let line = try #require(Claim.all.first { $0.number == "4b" })
        #expect(
            line.findings(Self.device([result])).contains {
                $0.finding.evidence.hasPrefix("too few contexts for a line")
            })

        whole.measurements.removeAll { $0.cell.host == "assumed" }
        #expect(try Self.outcome("4a", [whole]) == .cannotBeTold)
        let claim = try #require(Claim.all.first { $0.number == "4a" })
        #expect(claim.findings(Self.device([whole])).map(\.finding.evidence).contains("not measured"))

        let denied = SyntheticStudy.batches(SyntheticStudy.definition()) { _ in 0.4 }
        var part = denied
        part.measurements.removeAll { $0.cell.context > 2048 }
        #expect(try Self.outcome("4d", [part]) == .doesNotHold)
    }

    /// A model that nobody has measured may break every order.
    @Test func modelsThatAreMissingLeaveOrdersOpen() throws {
        var part = SyntheticStudy.batches(SyntheticStudy.definition()) { cell in
            Self.article(cell) + (cell.host == "assumed" ? 0.2 : 0)
        }
        for number in ["4b", "4c", "6c"] { #expect(try Self.outcome(number, [part]) == .holds, "\(number)") }
        part.measurements.removeAll { $0.cell.model == "qwen2.5-1.5b" && $0.cell.host == "assumed" }
        for number in ["4b", "4c", "6c"] { #expect(try Self.outcome(number, [part]) == .cannotBeTold, "\(number)") }
    }

    /// One repetition has an interval of no width, which says nothing.
    @Test func oneRepetitionDecidesNothing() throws {
        var result = SyntheticStudy.batches(SyntheticStudy.definition(), gain: Self.article)
        result.measurements.removeAll { $0.repetition > 0 }
        for number in ["4a", "4c", "4d", "6a"] {
            #expect(try Self.outcome(number, [result]) == .cannotBeTold, "\(number)")
        }
    }

    /// A threshold within the interval decides nothing.
    @Test func intervals() {
        #expect(Estimate(value: 0.5, low: 0.4, high: 0.6, count: 3).isAbove(0.5) == .cannotBeTold)
        #expect(Estimate(value: 0.5, low: 0.4, high: 0.6, count: 3).isAbove(0.39) == .holds)
        #expect(Estimate(value: 0.5, low: 0.4, high: 0.6, count: 3).isAbove(0.6) == .doesNotHold)
        #expect(Estimate(value: 0.5, low: 0.4, high: 0.6, count: 3).isBelow(0.61) == .holds)
        let difference = Estimate(value: 0.5, low: 0.4, high: 0.6, count: 3)
            .minus(Estimate(value: 0.1, low: 0, high: 0.3, count: 2))
        #expect(abs(difference.low - 0.1) < 1e-12 && abs(difference.high - 0.6) < 1e-12 && difference.count == 2)
        #expect(Outcome.all([]) == .cannotBeTold && Outcome.any([]) == .cannotBeTold)
        #expect(Outcome.all([.holds, .cannotBeTold]) == .cannotBeTold)
        #expect(Outcome.all([.doesNotHold, .cannotBeTold]) == .doesNotHold)
        #expect(Outcome.any([.doesNotHold, .holds]) == .holds)
    }

    @Test(arguments: [(1.2, Outcome.holds), (0.99, .doesNotHold), (0.1, .doesNotHold)])
    func prefill(gain: Double, expected: Outcome) throws {
        let result = SyntheticStudy.batches(SyntheticStudy.definition("F2", phase: .prefill)) { cell in
            Self.size(cell) < 2.9 ? gain : Self.size(cell) < 5 ? 0.2 - Double(cell.context) / 20_000 : -0.01
        }
        #expect(try Self.outcome("5a", [result]) == expected)
        #expect(try Self.outcome("5b", [result]) == .holds)
        #expect(try Self.outcome("5c", [result]) == .holds)
    }

    /// Parts that gain 40 and 0 %, each half of the time: 20 % are expected.
    @Test(arguments: [(0.15, Outcome.holds), (0.22, .doesNotHold), (0.05, .doesNotHold)])
    func expected(whole: Double, decode: Outcome) throws {
        func result(_ figure: String, _ phase: StudyDefinition.Phase) -> StudyResult {
            SyntheticStudy.batches(
                SyntheticStudy.definition(
                    figure, phase: phase, models: ["qwen2.5-3b"], ablations: [.full, .attentionOnly, .mlpOnly])
            ) { cell in
                switch cell.ablation {
                case .full: whole
                case .attentionOnly: 0.4
                case .mlpOnly: 0
                }
            }
        }
        let results = [result("F4", .decode), result("F5", .prefill)]
        #expect(try Self.outcome("9a", results) == decode)
        #expect(try Self.outcome("9b", results) == (whole < 0.1 ? .holds : .doesNotHold))
        #expect(try Self.outcome("8a", results) == .holds)
        #expect(try Self.outcome("8c", results) == .doesNotHold)
        #expect(try Self.outcome("8d", results) == .doesNotHold)
        let pair = try #require(
            Self.device(results).expected("F4", ClaimSetting(convention: .total, host: "none")).first)
        #expect(abs(pair.expected.weightedMean.value - 0.2) < 1e-9)
    }

    @Test(arguments: [(0.33, 0.35, Outcome.holds), (0.33, 0.6, .doesNotHold), (0.01, 0.02, .doesNotHold)])
    func serving(ahead: Double, shared: Double, equal: Outcome) throws {
        let result = SyntheticStudy.serving(["ahead": ahead, "mps": shared])
        #expect(try Self.outcome("10a", [result]) == (ahead > 0.2 ? .holds : .doesNotHold))
        #expect(try Self.outcome("10c", [result]) == equal)
    }

    /// Loads that all keep the latency say only what it is at least.
    @Test func loadsThatDoNotReachTheLatencyDecideNothing() throws {
        let result = SyntheticStudy.serving(["ahead": 0.01, "mps": 0.02], latencies: [1, 2, 4])
        for number in ["10a", "10b", "10c"] { #expect(try Self.outcome(number, [result]) == .cannotBeTold) }
        let report = try StudyReport([result]).document().markdown()
        #expect(report.contains("≥ ") && report.contains("the highest load still keeps the latency"))
    }

    @Test func counts() throws {
        #expect(try Self.outcome("11", [SyntheticStudy.counts]) == .holds)
        var wrong = SyntheticStudy.counts
        for index in wrong.counts.indices where wrong.counts[index].part == "attention" {
            wrong.counts[index].operationsGrowth = 1
        }
        #expect(try Self.outcome("11", [wrong]) == .doesNotHold)
    }

    /// Without the cells that it needs a claim has no finding, and nothing breaks.
    @Test func nothingToJudge() {
        let empty = StudyResult(header: SyntheticStudy.header(SyntheticStudy.definition()))
        let failed = SyntheticStudy.batches(SyntheticStudy.definition()) { _ in nil }
        let nameless = SyntheticStudy.batches(SyntheticStudy.definition(models: ["mine"], contexts: [100])) { _ in 0.1 }
        for result in [empty, failed, nameless] {
            for claim in Claim.all {
                #expect(claim.findings(Self.device([result])).isEmpty)
                #expect(claim.outcome(Self.device([result])) == .cannotBeTold)
            }
        }
    }

    @Test(
        arguments: [
            ("qwen2.5-0.5b", 0.5), ("smollm2-135m", 0.135), ("Qwen/Qwen2.5-3B-Instruct", 3), ("gemma-3-4b", 4),
            ("mine", nil),
            ("b", nil), ("-5b", 5), ("model-0b", nil),
        ] as [(String, Double?)])
    func sizes(model: String, size: Double?) { #expect(StudyView.size(model) == size) }
}
