// Tandem — Apache-2.0

internal import LanguageModel
public import Study

/// Whether a claim holds.
public enum Outcome: String, Sendable, Equatable, CaseIterable {
    case holds
    case doesNotHold = "does not hold"
    case cannotBeTold = "cannot be told"

    /// All must hold.
    static func all(_ outcomes: [Outcome]) -> Outcome {
        if outcomes.isEmpty || outcomes.contains(.cannotBeTold) && !outcomes.contains(.doesNotHold) {
            return .cannotBeTold
        }
        return outcomes.contains(.doesNotHold) ? .doesNotHold : .holds
    }

    /// One is enough.
    static func any(_ outcomes: [Outcome]) -> Outcome {
        if outcomes.contains(.holds) { return .holds }
        return outcomes.isEmpty || outcomes.contains(.cannotBeTold) ? .cannotBeTold : .doesNotHold
    }

    /// Of settings that all may be the one meant: what all of them say.
    static func agreed(_ outcomes: [Outcome]) -> Outcome {
        guard let first = outcomes.first, outcomes.allSatisfy({ $0 == first }) else { return .cannotBeTold }
        return first
    }

    var tone: Prose.Tone {
        switch self {
        case .holds: .good
        case .doesNotHold: .bad
        case .cannotBeTold: .open
        }
    }
}

extension Estimate {
    /// What rounding may make of equal numbers.
    private static var rounding: Double { 1e-9 }

    /// Whether the value is above a threshold: told only if its interval lies on one side. One repetition has none.
    func isAbove(_ threshold: Double) -> Outcome {
        guard count > 1 else { return .cannotBeTold }
        if low > threshold + Self.rounding { return .holds }
        return high <= threshold + Self.rounding ? .doesNotHold : .cannotBeTold
    }

    func isBelow(_ threshold: Double) -> Outcome {
        guard count > 1 else { return .cannotBeTold }
        if high < threshold - Self.rounding { return .holds }
        return low >= threshold - Self.rounding ? .doesNotHold : .cannotBeTold
    }

    /// The difference to another one, by intervals that lie as badly as they may.
    func minus(_ other: Estimate) -> Estimate {
        Estimate(
            value: value - other.value, low: low - other.high, high: high - other.low, count: min(count, other.count))
    }
}

/// What a rule says of one device in one setting.
public struct Finding: Sendable, Equatable {
    public var outcome: Outcome
    /// The numbers behind it.
    public var evidence: String

    public init(_ outcome: Outcome, _ evidence: String) {
        self.outcome = outcome
        self.evidence = evidence
    }
}

/// What the article leaves open, and a verdict must fix.
public struct ClaimSetting: Sendable, Hashable {
    public var convention: StudyDefinition.Convention?
    public var host: String?

    public init(convention: StudyDefinition.Convention? = nil, host: String? = nil) {
        self.convention = convention
        self.host = host
    }

    var title: String {
        var parts: [String] = []
        if let convention { parts.append(StudyView.title(convention)) }
        if let host { parts.append(host == "none" ? "no host time" : "host \(host)") }
        return parts.isEmpty ? "as defined" : parts.joined(separator: ", ")
    }
}

/// A gain at a point of a grid.
public struct GainPoint: Sendable, Equatable {
    public var model: String
    /// Billions of parameters.
    public var size: Double
    public var context: Int
    public var gain: Estimate

    var place: String { "\(model), \(ReportText.tokens(context))" }
}

/// All results of one device, by figure.
public struct DeviceResults: Sendable {
    /// For headings: `Simulated: NVIDIA H100`.
    public var label: String
    public var provenance: Provenance
    public var views: [String: StudyView]

    public init(label: String, provenance: Provenance, views: [String: StudyView]) {
        self.label = label
        self.provenance = provenance
        self.views = views
    }

    /// The setting of a view that a claim's setting means: weights and contexts bound the cache, and of several
    /// batches it is the largest.
    func setting(_ view: StudyView, _ setting: ClaimSetting) -> StudyView.Setting? {
        let fitting = view.settings.filter {
            (setting.convention == nil || $0.convention == setting.convention)
                && (setting.host == nil || $0.host == setting.host)
        }
        let preferred = fitting.filter { $0.cache == .memory }
        return (preferred.isEmpty ? fitting : preferred).max { ($0.batch ?? 0) < ($1.batch ?? 0) }
    }

    /// Gains of the arm that stands for the article's.
    func gains(_ figure: String, _ setting: ClaimSetting, _ ablation: GainAblation = .own) -> [GainPoint] {
        guard let view = views[figure], let arm = view.headline, let setting = self.setting(view, setting) else {
            return []
        }
        let definition = view.definition
        let own = definition.ablations.contains(.full) ? .full : definition.ablations.first ?? .full
        return definition.models.flatMap { model -> [GainPoint] in
            guard let size = StudyView.size(model) else { return [] }
            return definition.contexts.sorted().compactMap { context in
                let cell = view.cell(model, context, setting, ablation.value ?? own, arm: arm.id)
                guard let gain = view.gain(cell) else { return nil }
                return GainPoint(model: model, size: size, context: context, gain: gain)
            }
        }
    }

    /// Cells of a figure's definition that nobody has measured; one that failed is none of them.
    func unmeasured(
        _ figure: String, _ setting: ClaimSetting, _ ablation: GainAblation = .own
    ) -> [(size: Double, context: Int)] {
        guard let view = views[figure], let arm = view.headline, let setting = self.setting(view, setting) else {
            return []
        }
        let definition = view.definition
        let own = definition.ablations.contains(.full) ? .full : definition.ablations.first ?? .full
        return definition.models.flatMap { model -> [(size: Double, context: Int)] in
            guard let size = StudyView.size(model) else { return [] }
            return definition.contexts.compactMap { context in
                let cell = view.cell(model, context, setting, ablation.value ?? own, arm: arm.id)
                return view.gain(cell) == nil && view.failure(cell).isEmpty ? (size, context) : nil
            }
        }
    }

    /// Expected gains beside actual ones.
    func expected(_ figure: String, _ setting: ClaimSetting) -> [(point: GainPoint, expected: ExpectedGain)] {
        guard let view = views[figure], let arm = view.headline, let fixed = self.setting(view, setting) else {
            return []
        }
        return gains(figure, setting, .full).compactMap { point in
            view.expectedGain(view.cell(point.model, point.context, fixed, arm: arm.id)).map { (point, $0) }
        }
    }
}
