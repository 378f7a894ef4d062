// Tandem — Apache-2.0

/// Which process each engine is in.
///
/// Engines count through, one model's after the other's, and so do their processes. A process hosts neighbours, all of
/// one model; it is what is started, watched and ended, and what fails.
struct EnginePlacement: Sendable, Equatable {
    /// Engines of each process; never empty.
    let engines: [Range<Int>]
    /// Model of each process, by its place in the configuration.
    let models: [Int]
    /// Process of each engine.
    private let processes: [Int]

    /// - Parameter models: how many engines each has, and how many of them a process hosts; its last process hosts fewer
    ///   if that does not work out.
    init(_ models: [(engines: Int, perProcess: Int)]) {
        var engines: [Range<Int>] = []
        var owners: [Int] = []
        var first = 0
        for (index, model) in models.enumerated() {
            let end = first + max(1, model.engines)
            while first < end {
                let next = min(end, first + max(1, model.perProcess))
                engines.append(first..<next)
                owners.append(index)
                first = next
            }
        }
        self.engines = engines
        self.models = owners
        processes = engines.enumerated().flatMap { process, engines in engines.map { _ in process } }
    }

    /// A process for each of so many engines.
    init(engines: Int) { self.init((0..<engines).map { _ in (1, 1) }) }

    var engineCount: Int { processes.count }

    /// Whether any process hosts several engines.
    var isShared: Bool { engines.contains { $0.count > 1 } }

    /// Null for an engine that there is none of.
    func process(of engine: Int) -> Int? { processes.indices.contains(engine) ? processes[engine] : nil }

    /// The models as groups of processes.
    func groups(names: [String]) -> [EngineGroup] {
        EngineGroup.groups(
            names.enumerated().map { model, name in (name, models.count { $0 == model }) })
    }

    /// A process as people are told of it: `engine 0`, or `the process of engines 0 and 1`.
    func title(_ process: Int) -> String {
        guard engines.indices.contains(process) else { return "process \(process)" }
        let hosted = engines[process]
        switch hosted.count {
        case 1: return "engine \(hosted.lowerBound)"
        case 2: return "the process of engines \(hosted.lowerBound) and \(hosted.upperBound - 1)"
        default: return "the process of engines \(hosted.lowerBound) to \(hosted.upperBound - 1)"
        }
    }
}

extension CorePlan {
    /// What a process is told of the cores of its engines; nothing of one that may use all.
    func arguments(of engines: Range<Int>) -> [String] {
        cores[engines].flatMap { cores in
            cores.isEmpty ? [] : ["--cores", cores.map(String.init).joined(separator: ",")]
        }
    }

    /// Cores of a process: those of its engines, each once.
    func cores(of engines: Range<Int>) -> [Int32] {
        var seen: Set<Int32> = []
        return cores[engines].joined().filter { seen.insert($0).inserted }
    }
}
