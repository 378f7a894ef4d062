// Tandem — Apache-2.0

internal import LanguageModel
internal import Study

/// Which gains of a figure a rule looks at.
enum GainAblation: Sendable {
    /// The whole model's, or in a figure without it those of the figure's only ablation.
    case own
    case full
    case attentionOnly
    case mlpOnly

    var value: Ablation? {
        switch self {
        case .own: nil
        case .full: .full
        case .attentionOnly: .attentionOnly
        case .mlpOnly: .mlpOnly
        }
    }
}

/// Something that the article says of its figures, and the rule by which a study's numbers decide it.
public struct Claim: Sendable {
    /// What settings it is judged in.
    enum Scope: Sendable {
        case conventionAndHost
        case convention
        /// It is about models, not devices.
        case nothing
    }

    /// `4a`: of the fourth claim the first part.
    public var number: String
    /// In our words.
    public var text: String
    /// What decides, stated before any number is seen.
    public var rule: String
    /// Figures it needs; it stands with the first.
    public var figures: [String]
    var scope: Scope
    let judge: @Sendable (DeviceResults, ClaimSetting) -> Finding?

    init(
        _ number: String, _ text: String, rule: String, figures: [String], scope: Scope = .conventionAndHost,
        judge: @escaping @Sendable (DeviceResults, ClaimSetting) -> Finding?
    ) {
        self.number = number
        self.text = text
        self.rule = rule
        self.figures = figures
        self.scope = scope
        self.judge = judge
    }

    /// Settings that the definitions of a device's results have.
    func settings(_ results: DeviceResults) -> [ClaimSetting] {
        guard scope != .nothing else { return [ClaimSetting()] }
        var settings: [ClaimSetting] = []
        for definition in figures.compactMap({ results.views[$0]?.definition }) {
            let hosts = scope == .conventionAndHost ? definition.hosts.map { Optional($0.name) } : []
            for convention in definition.conventions {
                for host in hosts.isEmpty ? [nil] : hosts {
                    let setting = ClaimSetting(convention: convention, host: host)
                    if !settings.contains(setting) { settings.append(setting) }
                }
            }
        }
        return settings
    }

    /// What the rule says in each setting; nothing if none has the numbers for it.
    public func findings(_ results: DeviceResults) -> [(setting: ClaimSetting, finding: Finding)] {
        let findings = settings(results).map { setting in (setting, judge(results, setting)) }
        guard findings.contains(where: { $0.1 != nil }) else { return [] }
        return findings.map { ($0, $1 ?? Finding(.cannotBeTold, "not measured")) }
    }

    /// The verdict over all settings, since the article does not say which it used.
    public func outcome(_ results: DeviceResults) -> Outcome {
        Outcome.agreed(findings(results).map(\.finding.outcome))
    }

    /// All claims, in the article's order.
    public static let all: [Claim] = decodeClaims + prefillClaims + useClaims + partClaims + servingClaims + countClaims
}
