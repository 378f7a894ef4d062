// Tandem — Apache-2.0

public import LanguageModel

/// What one measurement was of: a point of a figure's grid, and an arm.
public struct StudyCell: Sendable, Hashable {
    public var figure: String
    public var model: String
    public var phase: StudyDefinition.Phase
    /// Tokens before the one that is computed, or of a prompt.
    public var context: Int
    /// Sequences at once, as the convention means it; null when serving.
    public var batch: Int?
    /// Requests a second, as the convention means it; null unless serving.
    public var load: Double?
    public var convention: StudyDefinition.Convention
    public var ablation: Ablation
    public var cache: StudyDefinition.Cache
    /// Name of the host times that were assumed; null if measured.
    public var host: String?
    /// The arm's id.
    public var arm: String

    public init(
        figure: String, model: String, phase: StudyDefinition.Phase, context: Int, batch: Int? = nil,
        load: Double? = nil, convention: StudyDefinition.Convention, ablation: Ablation = .full,
        cache: StudyDefinition.Cache = .memory, host: String? = nil, arm: String
    ) {
        self.figure = figure
        self.model = model
        self.phase = phase
        self.context = context
        self.batch = batch
        self.load = load
        self.convention = convention
        self.ablation = ablation
        self.cache = cache
        self.host = host
        self.arm = arm
    }

    /// The same point for another arm.
    public func with(arm: String) -> StudyCell {
        var cell = self
        cell.arm = arm
        return cell
    }

    /// The same point of an ablation.
    public func with(ablation: Ablation) -> StudyCell {
        var cell = self
        cell.ablation = ablation
        return cell
    }
}
