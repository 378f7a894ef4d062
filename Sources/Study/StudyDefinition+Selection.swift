// Tandem — Apache-2.0

extension StudyDefinition {
    /// The figure with parts of its grid in their place.
    ///
    /// - Throws: ``StudyError`` naming the flag of `tandem study` at fault.
    public func selecting(
        models: [String]? = nil, contexts: [Int]? = nil, repetitions: Int? = nil, device: String? = nil
    ) throws(StudyError) -> StudyDefinition {
        var copy = self
        if let models { copy.models = models }
        if let contexts { copy.contexts = contexts }
        if let repetitions { copy.repetitions = repetitions }
        if let device {
            copy.device = device
            // What is measured has a host of its own.
            if !device.hasPrefix("simulated:") { (copy.hosts, copy.caches) = ([], [.measured(on: device)]) }
        }
        if copy.models.isEmpty { throw StudyError(subject: "--models", reason: "names no model") }
        if copy.contexts.isEmpty { throw StudyError(subject: "--contexts", reason: "names no context") }
        guard copy.contexts.allSatisfy({ (1...(1 << 20)).contains($0) }) else {
            throw StudyError(subject: "--contexts", reason: "must be numbers of tokens from 1 to \(1 << 20)")
        }
        guard (1...1000).contains(copy.repetitions) else {
            throw StudyError(subject: "--repetitions", reason: "must be from 1 to 1000; 3 or more give intervals")
        }
        try copy.validate(figure)
        return copy
    }

    /// A smaller grid between the same ends, for a look.
    public func quick() -> StudyDefinition {
        var copy = self
        copy.models = Self.thinned(models, 2)
        copy.contexts = Self.thinned(contexts, 3)
        copy.batches = Self.thinned(batches, 2)
        copy.loads = Self.thinned(loads, 4)
        return copy
    }

    private static func thinned<Value>(_ values: [Value], _ count: Int) -> [Value] {
        guard values.count > count, count > 1 else { return values }
        return (0..<count).map { values[$0 * (values.count - 1) / (count - 1)] }
    }
}

extension StudyDefinition.Cache {
    /// What arms have that are measured on a device: a GPU's memory is theirs, on a CPU all get what the largest cell
    /// needs.
    static func measured(on device: String) -> Self { device.hasPrefix("cuda:") ? .memory : .equal }
}
