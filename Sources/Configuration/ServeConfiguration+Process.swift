// Tandem — Apache-2.0

/// How soon a GPU takes up an engine's work beside that of others of its process.
public enum GPUEnginePriority: String, Sendable, CaseIterable {
    case normal
    /// When none of `normal` waits.
    case low
}

/// How engines of a process divide a GPU's multiprocessors.
public enum GPUPartitionSetting: String, Sendable, CaseIterable {
    /// Not at all.
    case none
    /// Each has an equal part to itself.
    case green
}

/// What only has a meaning where a process hosts several engines on a GPU.
extension ServeConfiguration {
    mutating func takeProcessSettings(_ layers: SettingLayers) throws(ConfigurationError) {
        if let given = layers.given("gpu-engine-priority") {
            gpuEnginePriorities = []
            for word in given.text.split(separator: ",", omittingEmptySubsequences: false) {
                let name = word.trimmingSpaces
                guard let priority = GPUEnginePriority(rawValue: name) else {
                    throw given.error("\"\(name)\" is neither normal nor low; give one for each engine of a process")
                }
                gpuEnginePriorities.append(priority)
            }
            try checkProcess(given)
            let counts = Set(models.map(\.enginesPerProcess))
            guard counts == [gpuEnginePriorities.count] else {
                let wanted = counts.sorted().map { "\($0)" }.joined(separator: " and ")
                throw given.error(
                    "it has \(gpuEnginePriorities.count) of them, and a process hosts \(wanted) engines "
                        + "(--engines-per-process)")
            }
        }
        if let given = layers.given("gpu-partition") {
            gpuPartition = try layers.choice("gpu-partition", of: GPUPartitionSetting.self) ?? gpuPartition
            if gpuPartition != .none { try checkProcess(given) }
        }
    }

    private func checkProcess(_ given: GivenSetting) throws(ConfigurationError) {
        guard models.contains(where: { $0.enginesPerProcess > 1 }) else {
            throw given.error("it is for several engines of one process: give --engines-per-process, too")
        }
        guard simulatedGPU == nil, device != .cpu else {
            throw given.error("it is for engines on an NVIDIA GPU: --device cuda:0")
        }
    }
}

extension Substring {
    fileprivate var trimmingSpaces: String {
        var text = drop { $0 == " " }
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}
