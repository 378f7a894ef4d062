// Tandem — Apache-2.0

/// A measurement that is to be made.
public struct StudyTask: Sendable, Hashable {
    public var cell: StudyCell
    public var repetition: Int
    /// The same for all arms of a point in a repetition, so that they meet the same arrivals.
    public var seed: UInt64

    public init(cell: StudyCell, repetition: Int, seed: UInt64) {
        self.cell = cell
        self.repetition = repetition
        self.seed = seed
    }
}

extension StudyDefinition {
    /// All measurements, in the order in which they are to be made: the arms of a point one after the other, each
    /// repetition starting with another one, so that what changes with time changes all arms alike.
    public func tasks() -> [StudyTask] {
        var tasks: [StudyTask] = []
        let points = points()
        for repetition in 0..<repetitions {
            for (number, point) in points.enumerated() {
                let seed = SplitMix.mixed(UInt64(repetition) << 32 | UInt64(number))
                for index in arms.indices {
                    let arm = arms[(index + repetition) % arms.count]
                    tasks.append(StudyTask(cell: point.with(arm: arm.id), repetition: repetition, seed: seed))
                }
            }
        }
        return tasks
    }

    /// The grid without arms.
    private func points() -> [StudyCell] {
        guard phase != .resources, let first = arms.first else { return [] }
        let loads: [(batch: Int?, load: Double?)] =
            phase == .serving ? loads.map { (nil, $0) } : batches.map { ($0, nil) }
        let hosts: [String?] = hosts.isEmpty ? [nil] : hosts.map(\.name)
        var points: [StudyCell] = []
        for model in models {
            for host in hosts {
                for cache in caches {
                    for convention in conventions {
                        for ablation in ablations {
                            for context in contexts {
                                for (batch, load) in loads {
                                    points.append(
                                        StudyCell(
                                            figure: figure, model: model, phase: phase, context: context, batch: batch,
                                            load: load, convention: convention, ablation: ablation, cache: cache,
                                            host: host, arm: first.id))
                                }
                            }
                        }
                    }
                }
            }
        }
        return points
    }

    /// The arm of an id.
    public func arm(_ id: String) -> StudyArm? { arms.first { $0.id == id } }
}
