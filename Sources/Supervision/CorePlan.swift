// Tandem — Apache-2.0

internal import CTandemSystem

/// Which cores each engine gets.
public struct CorePlan: Sendable, Equatable {
    /// CPU numbers of each engine: disjoint while there are enough cores, else one each in turn.
    public var cores: [[Int32]]
    /// Compute threads of each engine.
    public var threads: [Int]

    /// - Parameters:
    ///   - usable: CPU numbers that may be used.
    ///   - threads: compute threads an engine; null for as many as it has cores.
    public init(usable: [Int32], engines: Int, threads: Int?) {
        let count = max(1, engines)
        guard usable.count >= count else {
            cores = (0..<count).map { usable.isEmpty ? [] : [usable[$0 % usable.count]] }
            self.threads = cores.map { _ in threads ?? 1 }
            return
        }
        // The first engines get the cores that are left over.
        let share = usable.count / count
        let rest = usable.count % count
        cores = (0..<count).map { index in
            let start = index * share + min(index, rest)
            return Array(usable[start..<start + share + (index < rest ? 1 : 0)])
        }
        // The same number everywhere: engines are meant to be equal.
        self.threads = cores.map { _ in threads ?? share }
    }

    /// CPU numbers on which this process may run.
    public static func usableCores() -> [Int32] {
        var cpus = [Int32](repeating: 0, count: 8192)
        let count = tandem_affinity_get(0, &cpus, Int32(cpus.count))
        return count > 0 ? Array(cpus.prefix(Int(count))) : []
    }
}
