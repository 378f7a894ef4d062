// Tandem — Apache-2.0

internal import MPS

/// Processes of children that outlived them: an engine's workers, or all of an engine whose supervisor was killed.
enum Leftovers {
    /// How long the end of what was killed is waited for, in milliseconds: while a server starts or ends, and while
    /// it serves.
    private static let patience: Int32 = 5000
    private static let patienceWhileServing: Int32 = 1000

    /// Ends what belongs to a run directory, or to one engine of it.
    ///
    /// - Parameter group: a process group that was killed already: of it nothing is said.
    /// - Returns: a line for people if there was something.
    static func end(of directory: String, engine: Int? = nil, group: Int32? = nil, title: String) -> String? {
        var marks = [ProcessMark.runDirectory: directory]
        if let engine { marks[ProcessMark.engineIndex] = "\(engine)" }
        let patience = engine == nil ? patience : patienceWhileServing
        let killed = ProcessTable().kill(marked: marks, patience: patience).filter { $0.group != group }
        guard !killed.isEmpty else { return nil }
        let pids = killed.map { "\($0.identity.pid)" }.joined(separator: ", ")
        let count = killed.count == 1 ? "a process" : "\(killed.count) processes"
        return "\(title) left \(count) behind, killed now: \(pids)"
    }
}
