// Tandem — Apache-2.0

internal import GPUModel
public import LanguageModel

extension StudyDefinition {
    /// The table of a figure whose phase is ``Phase/resources``: counted from the models' descriptions.
    ///
    /// - Throws: ``StudyError`` if a model is unknown.
    public func counts(models: [String: DecoderDescription]) throws(StudyError) -> [StudyCount] {
        var counts: [StudyCount] = []
        for name in self.models {
            guard let model = models[name] else {
                throw StudyError(subject: figure, reason: "model \"\(name.prefix(64))\" is unknown")
            }
            for context in contexts {
                for count in model.resourceCounts(context: context) {
                    counts.append(
                        StudyCount(
                            model: name, context: context, part: count.part.name, phase: count.phase.rawValue,
                            operations: count.operations, bytes: count.bytes,
                            operationsGrowth: model.growth(
                                of: \.operations, count.part, count.phase, at: context),
                            bytesGrowth: model.growth(of: \.bytes, count.part, count.phase, at: context)))
                }
            }
        }
        return counts
    }
}

extension ResourceCount.Part {
    /// As tables name it.
    fileprivate var name: String {
        switch self {
        case .feedForward: "MLP"
        case .attention: "attention"
        case .projections: "projections"
        }
    }
}
