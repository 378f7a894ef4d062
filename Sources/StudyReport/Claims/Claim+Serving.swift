// Tandem — Apache-2.0

internal import Study

extension Claim {
    private struct Gains {
        var asynchronous: Estimate
        var shared: Estimate
        /// Whether the loads did not go far enough to tell.
        var asynchronousIsOpen: Bool
        var sharedIsOpen: Bool
    }

    /// Gains within the latency of the definition: of one engine that plans ahead, and of two that do not.
    private static func gains(
        _ results: DeviceResults, _ setting: ClaimSetting
    ) -> Gains? {
        guard let view = results.views["F6"], let target = view.definition.latencyTarget,
            let fixed = results.setting(view, setting), let model = view.definition.models.first,
            let context = view.definition.contexts.first, let shared = view.headline,
            let ahead = view.rivals.first(where: { $0.engines == 1 && $0.isAsynchronous && $0.command == nil })
        else { return nil }
        func within(_ arm: StudyArm) -> StudyResult.WithinLatency? {
            let cell = view.cell(model, context, fixed, load: view.definition.loads.first, arm: arm.id)
            return view.result.within(latency: target, cell)
        }
        guard let first = within(ahead), let second = within(shared), let asynchronous = first.gain,
            let together = second.gain
        else { return nil }
        return Gains(
            asynchronous: asynchronous, shared: together,
            asynchronousIsOpen: first.isLowerBound || first.isBaselineUnbounded,
            sharedIsOpen: second.isLowerBound || second.isBaselineUnbounded)
    }

    /// What a rule says, unless the loads did not go far enough to tell.
    private static func finding(_ gains: Gains, isOpen: Bool, _ outcome: Outcome) -> Finding {
        Finding(
            isOpen ? .cannotBeTold : outcome,
            written(gains) + (isOpen ? "; the highest load still keeps the latency" : ""))
    }

    private static func written(_ gains: Gains) -> String {
        "asynchronous \(ReportText.gain(gains.asynchronous)), two engines \(ReportText.gain(gains.shared))"
    }

    private static func isNear(_ estimate: Estimate, _ value: Double) -> Outcome {
        Outcome.all([estimate.isAbove(value - 0.1), estimate.isBelow(value + 0.1)])
    }

    static let servingClaims: [Claim] = [
        Claim(
            "10a", "Gemma of 4B at 8 s: asynchronous scheduling recovers 33 %.",
            rule: "Its gain is between 23 and 43 %, by the whole interval.", figures: ["F6"]
        ) { results, setting in
            gains(results, setting).map { finding($0, isOpen: $0.asynchronousIsOpen, isNear($0.asynchronous, 0.33)) }
        },
        Claim(
            "10b", "Two engines under MPS without it recover 35 %.",
            rule: "Their gain is between 25 and 45 %, by the whole interval.", figures: ["F6"]
        ) { results, setting in
            gains(results, setting).map { finding($0, isOpen: $0.sharedIsOpen, isNear($0.shared, 0.35)) }
        },
        Claim(
            "10c", "Splitting hides the host's stalls about as well as planning ahead does.",
            rule: "Both gains differ by 5 points at most, and each is more than 5 %, by the whole intervals.",
            figures: ["F6"]
        ) { results, setting in
            gains(results, setting).map { gains in
                let difference = gains.shared.minus(gains.asynchronous)
                return finding(
                    gains, isOpen: gains.asynchronousIsOpen || gains.sharedIsOpen,
                    Outcome.all([
                        difference.isAbove(-0.05), difference.isBelow(0.05), gains.asynchronous.isAbove(0.05),
                        gains.shared.isAbove(0.05),
                    ]))
            }
        },
    ]

    static let countClaims: [Claim] = [
        Claim(
            "11",
            "MLP: prefill's operations grow with the context, decode's operations and bytes do not. Attention: "
                + "prefill's operations grow with its square, decode's operations and bytes with it.",
            rule:
                "Counted exponents of operations and bytes at the longest context are within 0.15 of 1, 0, 0, 2, 1, 1 for "
                + "every model without windows.",
            figures: ["T1"], scope: .nothing
        ) { results, _ in
            guard let view = results.views["T1"] else { return nil }
            let expected:
                [(part: String, phase: String, value: any KeyPath<StudyCount, Double> & Sendable, exponent: Double)] = [
                    ("MLP", "prefill", \.operationsGrowth, 1), ("MLP", "decode", \.operationsGrowth, 0),
                    ("MLP", "decode", \.bytesGrowth, 0), ("attention", "prefill", \.operationsGrowth, 2),
                    ("attention", "decode", \.operationsGrowth, 1), ("attention", "decode", \.bytesGrowth, 1),
                ]
            let counts = view.result.counts.filter { !$0.model.hasPrefix("gemma") }
            guard let context = counts.map(\.context).max() else { return nil }
            var worst: (off: Double, text: String) = (0, "")
            var outcomes: [Outcome] = []
            for count in counts where count.context == context {
                for rule in expected where rule.part == count.part && rule.phase == count.phase {
                    let off = abs(count[keyPath: rule.value] - rule.exponent)
                    outcomes.append(off <= 0.15 ? .holds : .doesNotHold)
                    if off >= worst.off {
                        worst = (
                            off,
                            "farthest: \(count.model), \(rule.part), \(rule.phase): "
                                + "\(DecimalText.fixed(count[keyPath: rule.value], 2)) for "
                                + DecimalText.fixed(rule.exponent, 0)
                        )
                    }
                }
            }
            return outcomes.isEmpty
                ? nil
                : Finding(
                    Outcome.all(outcomes), "\(outcomes.count) exponents at \(ReportText.tokens(context)); \(worst.text)"
                )
        }
    ]
}
