// Tandem — Apache-2.0

internal import Study

extension Claim {
    private static let text = ValueFormat.signedPercent

    /// The least and the greatest gain with their places.
    private static func range(_ points: [GainPoint]) -> String {
        let sorted = points.sorted { $0.gain.value < $1.gain.value }
        guard let least = sorted.first, let greatest = sorted.last else { return "no cell" }
        if points.count == 1 { return "\(ReportText.gain(least.gain)) (\(least.place))" }
        return
            "\(ReportText.gain(least.gain)) at \(least.place); \(ReportText.gain(greatest.gain)) at \(greatest.place)"
    }

    /// What a rule says of all cells that it is about; one that nobody has measured may be as it will.
    ///
    /// - Parameters:
    ///   - isMeant: whether it is about cells of such a size and context.
    ///   - kinds: of what it is about, each of which must be there.
    ///   - combine: ``Outcome/all(_:)`` or ``Outcome/any(_:)``.
    private static func judge(
        _ results: DeviceResults, _ figure: String, _ setting: ClaimSetting,
        _ isMeant: (_ size: Double, _ context: Int) -> Bool,
        kinds: [(name: String, isMeant: (_ size: Double, _ context: Int) -> Bool)] = [],
        _ combine: ([Outcome]) -> Outcome, _ rule: (GainPoint) -> Outcome
    ) -> Finding? {
        let points = results.gains(figure, setting).filter { isMeant($0.size, $0.context) }
        guard !points.isEmpty else { return nil }
        let unmeasured = results.unmeasured(figure, setting).filter { isMeant($0.size, $0.context) }.count
        let absent = kinds.filter { kind in !points.contains { kind.isMeant($0.size, $0.context) } }.map(\.name)
        let open = [Outcome](repeating: .cannotBeTold, count: unmeasured + absent.count)
        var notes: [String] = []
        if unmeasured > 0 { notes.append("not measured: \(unmeasured) of \(unmeasured + points.count) cells") }
        if !absent.isEmpty { notes.append("no cell of \(absent.joined(separator: ", nor of "))") }
        return Finding(combine(points.map(rule) + open), ([range(points)] + notes).joined(separator: "; "))
    }

    /// By model, smallest first.
    private static func byModel(_ points: [GainPoint]) -> [[GainPoint]] {
        Dictionary(grouping: points, by: \.model).values.sorted {
            ($0[0].size, $0[0].model) < ($1[0].size, $1[0].model)
        }
        .map { $0.sorted { $0.context < $1.context } }
    }

    /// Whether gains fall from each size to the next at the shortest context of the study.
    private static func fallsWithSize(
        _ results: DeviceResults, _ figure: String, _ setting: ClaimSetting
    ) -> Finding? {
        guard let context = results.views[figure]?.definition.contexts.min() else { return nil }
        let gains = byModel(results.gains(figure, setting).filter { $0.context == context }).compactMap(\.first)
        guard !gains.isEmpty else { return nil }
        let steps = zip(gains, gains.dropFirst()).map { $0.gain.minus($1.gain).isAbove(0) }
        return Finding(
            Outcome.all(steps + open(results, figure, setting) { $0 == context }),
            gains.map { "\($0.model) \(text.text($0.gain.value))" }.joined(separator: ", ")
                + " at \(ReportText.tokens(context))")
    }

    static let decodeClaims: [Claim] = [
        Claim(
            "4a", "Decode: more than 50 % for a small model at a short context.",
            rule: "Some model below 3B gains more than 50 % at its shortest context, by the whole interval.",
            figures: ["F1"]
        ) { results, setting in
            let shortest = results.views["F1"]?.definition.contexts.min()
            return judge(results, "F1", setting, { $0 < 2.9 && $1 == shortest }, Outcome.any) { $0.gain.isAbove(0.5) }
        },
        Claim(
            "4b", "The decode gain falls as a straight line over the logarithm of the context.",
            rule: "For every model that gains more than 2 % at its shortest context, the line through its gains over "
                + "log context falls and explains at least 90 % of their variance.",
            figures: ["F1"]
        ) { results, setting in
            let models = byModel(results.gains("F1", setting))
            guard !models.isEmpty else { return nil }
            let gaining = models.filter { ($0.first?.gain.value ?? 0) > 0.02 }
            let fits = gaining.compactMap { points -> (String, LogLinearFit)? in
                StudyStatistics.logLinearFit(points.map { (Double($0.context), $0.gain.value) })
                    .map { (points[0].model, $0) }
            }
            guard !fits.isEmpty else {
                let why = gaining.isEmpty ? "no model gains more than 2 %" : "too few contexts for a line"
                return Finding(.cannotBeTold, "\(why): \(range(models.flatMap { $0 }))")
            }
            let outcomes = fits.map { fit -> Outcome in
                fit.1.slopePerDoubling < 0 && fit.1.determination >= 0.9 ? .holds : .doesNotHold
            }
            return Finding(
                Outcome.all(outcomes + open(results, "F1", setting)),
                fits.map {
                    "\($0.0): \(DecimalText.signed($0.1.slopePerDoubling * 100, 1)) points a doubling, R²\u{A0}"
                        + DecimalText.fixed($0.1.determination, 2)
                }.joined(separator: "; "))
        },
        Claim(
            "4c", "The decode gain falls fast with the model's size.",
            rule: "At the shortest context each larger model gains less than the one before it, intervals apart.",
            figures: ["F1"]
        ) { results, setting in fallsWithSize(results, "F1", setting) },
        Claim(
            "4d", "Less than 10 % at 7B, and for any size at a context of 2k and more.",
            rule: "Every cell of 7B or of 2k tokens and more gains less than 10 %, by the whole interval.",
            figures: ["F1"]
        ) { results, setting in
            judge(
                results, "F1", setting, { $0 >= 6.5 || $1 >= 2048 },
                kinds: [("7B", { size, _ in size >= 6.5 }), ("2k", { _, context in context >= 2048 })], Outcome.all
            ) { $0.gain.isBelow(0.1) }
        },
        Claim(
            "4e", "In the end two engines are slower than one.",
            rule: "Some cell of 7B, or of the longest context, has a loss, by the whole interval.", figures: ["F1"]
        ) { results, setting in
            let longest = results.views["F1"]?.definition.contexts.max()
            return judge(results, "F1", setting, { $0 >= 6.5 || $1 == longest }, Outcome.any) { $0.gain.isBelow(0) }
        },
    ]

    static let prefillClaims: [Claim] = [
        Claim(
            "5a", "Prefill: more than 100 % below 3B, whatever the length.",
            rule: "Every cell of a model below 3B gains more than 100 %, by the whole interval.", figures: ["F2"]
        ) { results, setting in
            judge(results, "F2", setting, { size, _ in size < 2.9 }, Outcome.all) { $0.gain.isAbove(1) }
        },
        Claim(
            "5b", "Prefill at about 3B: a gain that shrinks with the length and ends as a loss.",
            rule: "The model nearest to 3B (2.5 to 4.5B) gains at the shortest length, less at the longest, and loses "
                + "there, intervals apart.",
            figures: ["F2"]
        ) { results, setting in
            let models = byModel(results.gains("F2", setting).filter { (2.5...4.5).contains($0.size) })
            guard let points = models.min(by: { abs($0[0].size - 3) < abs($1[0].size - 3) }),
                let first = points.first, let last = points.last, points.count > 1
            else { return nil }
            let unmeasured = results.unmeasured("F2", setting).filter { (2.5...4.5).contains($0.size) }
            return Finding(
                Outcome.all(
                    [first.gain.isAbove(0), first.gain.minus(last.gain).isAbove(0), last.gain.isBelow(0)]
                        + unmeasured.map { _ in .cannotBeTold }),
                "\(ReportText.gain(first.gain)) at \(first.place); \(ReportText.gain(last.gain)) at \(last.place)")
        },
        Claim(
            "5c", "Prefill above 3B: no gain.",
            rule: "No cell of a model above 4.5B gains more than 5 %, by the whole interval.", figures: ["F2"]
        ) { results, setting in
            judge(results, "F2", setting, { size, _ in size > 4.5 }, Outcome.all) { $0.gain.isBelow(0.05) }
        },
    ]

    static let useClaims: [Claim] = [
        Claim(
            "6a", "It pays for decode up to 3B below 2k tokens.",
            rule: "Every such cell gains more than 5 %, by the whole interval.", figures: ["F1"]
        ) { results, setting in
            judge(results, "F1", setting, { $0 < 3.6 && $1 < 2048 }, Outcome.all) { $0.gain.isAbove(0.05) }
        },
        Claim(
            "6b", "It pays for prefill alone below 3B.",
            rule: "Every such cell gains more than 5 %, by the whole interval.", figures: ["F2"]
        ) { results, setting in
            judge(results, "F2", setting, { size, _ in size < 2.9 }, Outcome.all) { $0.gain.isAbove(0.05) }
        },
        Claim(
            "6c", "It pays where an engine costs much CPU time.",
            rule: "At the shortest context every model gains at least 5 points more with the heaviest host than with "
                + "the lightest, intervals apart.",
            figures: ["F1"], scope: .convention
        ) { results, setting in
            guard let view = results.views["F1"], view.definition.hosts.count > 1 else { return nil }
            let hosts = view.definition.hosts.sorted { cost($0) < cost($1) }
            guard let light = hosts.first, let heavy = hosts.last else { return nil }
            func first(_ host: String) -> [String: GainPoint] {
                let setting = ClaimSetting(convention: setting.convention, host: host)
                return Dictionary(
                    byModel(results.gains("F1", setting)).compactMap(\.first).map { ($0.model, $0) },
                    uniquingKeysWith: { first, _ in first })
            }
            let (least, most) = (first(light.name), first(heavy.name))
            let pairs = view.definition.models.compactMap { model -> (String, Estimate, Estimate)? in
                guard let low = least[model], let high = most[model], low.context == high.context else { return nil }
                return (model, low.gain, high.gain)
            }
            guard !pairs.isEmpty else { return nil }
            let shortest = view.definition.contexts.min()
            let unmeasured = [light.name, heavy.name].flatMap { host in
                open(results, "F1", ClaimSetting(convention: setting.convention, host: host)) { $0 == shortest }
            }
            return Finding(
                Outcome.all(pairs.map { $0.2.minus($0.1).isAbove(0.05) } + unmeasured),
                pairs.map {
                    "\($0.0): \(text.text($0.1.value)) with \(light.name), \(text.text($0.2.value)) with \(heavy.name)"
                }
                .joined(separator: "; "))
        },
        Claim(
            "6d", "It does not pay at 7B and more, and beyond 8k tokens.",
            rule: "No cell of 7B or of 8k tokens and more gains more than 5 %, by the whole interval.", figures: ["F1"]
        ) { results, setting in
            judge(
                results, "F1", setting, { $0 >= 6.5 || $1 >= 8192 },
                kinds: [("7B", { size, _ in size >= 6.5 }), ("8k", { _, context in context >= 8192 })], Outcome.all
            ) { $0.gain.isBelow(0.05) }
        },
    ]

    /// Seconds of a step of 256 sequences, to order hosts.
    private static func cost(_ host: StudyDefinition.Host) -> Double {
        host.secondsPerStep + 256 * host.secondsPerSequence
    }

    static let partClaims: [Claim] = [
        Claim(
            "7a", "Decode without attention: only a marginal gain.",
            rule: "No cell of 3B and more gains more than 10 %, and none at all more than 20 %, by the whole interval.",
            figures: ["F3"]
        ) { results, setting in
            judge(results, "F3", setting, { _, _ in true }, Outcome.all) {
                $0.gain.isBelow($0.size >= 2.9 ? 0.1 : 0.2)
            }
        },
        Claim(
            "7b", "Decode: the gain without attention is gone quickly with size.",
            rule: "At the shortest context each larger model gains less than the one before it, intervals apart.",
            figures: ["F3"]
        ) { results, setting in fallsWithSize(results, "F3", setting) },
        Claim(
            "7c", "Prefill without attention: only a marginal gain.",
            rule: "As for decode: at most 10 % from 3B on, and nowhere more than 20 %, by the whole interval.",
            figures: ["F3-prefill"]
        ) { results, setting in
            judge(results, "F3-prefill", setting, { _, _ in true }, Outcome.all) {
                $0.gain.isBelow($0.size >= 2.9 ? 0.1 : 0.2)
            }
        },
        Claim(
            "8a", "Decode: attention alone gains far more than the whole model.",
            rule: "At every context up to 2k the model without MLP gains at least 10 points more, intervals apart.",
            figures: ["F4"]
        ) { results, setting in exceeds(results, "F4", setting) },
        Claim(
            "8b", "Prefill: attention alone gains far more than the whole model.",
            rule: "The same of prefill.", figures: ["F5"]
        ) { results, setting in exceeds(results, "F5", setting) },
        Claim(
            "8c", "Decode: the gain of attention alone falls with the context.",
            rule: "It is less at the longest context than at the shortest, intervals apart.", figures: ["F4"]
        ) { results, setting in
            let points = byModel(results.gains("F4", setting, .attentionOnly)).first ?? []
            guard let first = points.first, let last = points.last, points.count > 1 else { return nil }
            let contexts = results.views["F4"]?.definition.contexts ?? []
            return Finding(
                Outcome.all(
                    [first.gain.minus(last.gain).isAbove(0)]
                        + open(results, "F4", setting, .attentionOnly) {
                            $0 == contexts.min() || $0 == contexts.max()
                        }),
                "\(ReportText.gain(first.gain)) at \(first.place); \(ReportText.gain(last.gain)) at \(last.place)")
        },
        Claim(
            "8d", "Prefill: the gain of attention alone falls faster than in decode.",
            rule: "Over log context the fitted line falls more steeply in prefill than in decode.",
            figures: ["F5", "F4"]
        ) { results, setting in
            func slope(_ figure: String) -> Double? {
                let points = byModel(results.gains(figure, setting, .attentionOnly)).first ?? []
                return StudyStatistics.logLinearFit(points.map { (Double($0.context), $0.gain.value) })?
                    .slopePerDoubling
            }
            guard let decode = slope("F4"), let prefill = slope("F5") else { return nil }
            return Finding(
                Outcome.all(
                    [prefill < decode && prefill < 0 ? .holds : .doesNotHold]
                        + open(results, "F4", setting, .attentionOnly) + open(results, "F5", setting, .attentionOnly)),
                "points a doubling: prefill \(DecimalText.signed(prefill * 100, 1)), decode "
                    + DecimalText.signed(decode * 100, 1))
        },
        Claim(
            "9a", "Decode: what the parts let one expect lies slightly above what the whole model gains.",
            rule: "At every context the weighted mean is above the actual gain, by 10 points at most.", figures: ["F4"]
        ) { results, setting in
            let differences = differences(results, "F4", setting, from: 0)
            guard !differences.isEmpty else { return nil }
            return Finding(
                Outcome.all(
                    differences.flatMap { [$0.1.isAbove(0), $0.1.isBelow(0.1)] } + open(results, "F4", setting)),
                evidence(differences))
        },
        Claim(
            "9b", "Prefill: the whole model gains far less than expected from 128 tokens on.",
            rule: "From 128 tokens on the weighted mean is at least 10 points above the actual gain, intervals apart.",
            figures: ["F5"]
        ) { results, setting in
            let differences = differences(results, "F5", setting, from: 128)
            guard !differences.isEmpty else { return nil }
            let open = open(results, "F5", setting) { $0 >= 128 }
            return Finding(Outcome.all(differences.map { $0.1.isAbove(0.1) } + open), evidence(differences))
        },
    ]

    /// An open outcome for each cell of a context that nobody has measured.
    private static func open(
        _ results: DeviceResults, _ figure: String, _ setting: ClaimSetting, _ ablation: GainAblation = .own,
        _ isMeant: (Int) -> Bool = { _ in true }
    ) -> [Outcome] {
        results.unmeasured(figure, setting, ablation).filter { isMeant($0.context) }.map { _ in .cannotBeTold }
    }

    /// Expected less actual gain.
    private static func differences(
        _ results: DeviceResults, _ figure: String, _ setting: ClaimSetting, from context: Int
    ) -> [(GainPoint, Estimate)] {
        results.expected(figure, setting).filter { $0.point.context >= context }
            .map { ($0.point, $0.expected.weightedMean.minus($0.point.gain)) }
    }

    private static func evidence(_ differences: [(GainPoint, Estimate)]) -> String {
        let sorted = differences.sorted { $0.1.value < $1.1.value }
        guard let least = sorted.first, let greatest = sorted.last else { return "no cell" }
        func written(_ difference: (GainPoint, Estimate)) -> String {
            "\(DecimalText.signed(difference.1.value * 100, 1)) points at \(difference.0.place)"
        }
        return "expected less actual: \(written(least)) to \(written(greatest))"
    }

    private static func exceeds(_ results: DeviceResults, _ figure: String, _ setting: ClaimSetting) -> Finding? {
        let whole = results.gains(figure, setting, .full)
        let pairs = results.gains(figure, setting, .attentionOnly).filter { $0.context <= 2048 }
            .compactMap { point -> (GainPoint, Estimate, Estimate)? in
                guard let full = whole.first(where: { $0.model == point.model && $0.context == point.context })
                else { return nil }
                return (point, full.gain, point.gain.minus(full.gain))
            }
        guard let least = pairs.min(by: { $0.2.value < $1.2.value }),
            let greatest = pairs.max(by: { $0.2.value < $1.2.value })
        else { return nil }
        func written(_ pair: (GainPoint, Estimate, Estimate)) -> String {
            "\(text.text(pair.0.gain.value)) against \(text.text(pair.1.value)) at \(pair.0.place)"
        }
        return Finding(
            Outcome.all(
                pairs.map { $0.2.isAbove(0.1) } + open(results, figure, setting, .full) { $0 <= 2048 }
                    + open(results, figure, setting, .attentionOnly) { $0 <= 2048 }),
            "\(written(least)) to \(written(greatest))")
    }
}
