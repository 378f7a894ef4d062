// Tandem — Apache-2.0

/// The engine processes of one model among all of a supervisor.
struct EngineGroup: Sendable, Equatable {
    /// The model's name.
    var name: String
    /// Indices of its engine processes; never empty.
    var engines: Range<Int>

    /// Processes count through, one model's after the other's.
    static func groups(_ models: [(name: String, engines: Int)]) -> [EngineGroup] {
        var next = 0
        return models.map { model in
            defer { next += max(1, model.engines) }
            return EngineGroup(name: model.name, engines: next..<next + max(1, model.engines))
        }
    }
}
