// Tandem — Apache-2.0

internal import CTandemSystem

/// Which cores each engine gets.
public struct CorePlan: Sendable, Equatable {
    /// The engines of one model.
    public struct Share: Sendable, Equatable {
        public var engines: Int
        /// Compute threads an engine; null for as many as it gets cores.
        public var threads: Int?

        public init(engines: Int, threads: Int?) {
            self.engines = engines
            self.threads = threads
        }
    }

    /// CPU numbers of each engine, one model's engines after the other's: disjoint while there are enough cores, else
    /// one each in turn.
    public var cores: [[Int32]]
    /// Compute threads of each engine.
    public var threads: [Int]

    /// Engines of several models. Those whose threads are given get a core for each of them, the others divide what is
    /// left evenly; where that does not work out, all cores are divided evenly.
    ///
    /// - Parameter usable: CPU numbers that may be used.
    public init(usable: [Int32], shares: [Share]) {
        // A value for each engine: what it wants.
        let wanted = shares.flatMap { Array(repeating: $0.threads, count: max(1, $0.engines)) }
        let count = wanted.count
        guard usable.count >= count else {
            cores = (0..<count).map { usable.isEmpty ? [] : [usable[$0 % usable.count]] }
            threads = wanted.map { $0 ?? 1 }
            return
        }
        let open = wanted.count { $0 == nil }
        let fixed = wanted.reduce(0) { $0 + ($1 ?? 0) }
        let takesWhatItWants = open > 0 && open < count && fixed + open <= usable.count
        // Engines that get equal parts, and what is there for them; the first get the cores that are left over.
        let sharing = takesWhatItWants ? open : count
        let shared = takesWhatItWants ? usable.count - fixed : usable.count
        let share = shared / sharing
        var rest = shared % sharing
        var start = 0
        cores = wanted.map { threads in
            var size = share
            if takesWhatItWants, let threads {
                size = threads
            } else if rest > 0 {
                size += 1
                rest -= 1
            }
            defer { start += size }
            return Array(usable[start..<start + size])
        }
        // The same number for all that share: engines of a model are meant to be equal.
        threads = wanted.map { $0 ?? share }
    }

    /// Engines of one model.
    ///
    /// - Parameters:
    ///   - usable: CPU numbers that may be used.
    ///   - threads: compute threads an engine; null for as many as it has cores.
    public init(usable: [Int32], engines: Int, threads: Int?) {
        self.init(usable: usable, shares: [Share(engines: engines, threads: threads)])
    }

    /// CPU numbers on which this process may run.
    public static func usableCores() -> [Int32] {
        var cpus = [Int32](repeating: 0, count: 8192)
        let count = tandem_affinity_get(0, &cpus, Int32(cpus.count))
        return count > 0 ? Array(cpus.prefix(Int(count))) : []
    }
}
