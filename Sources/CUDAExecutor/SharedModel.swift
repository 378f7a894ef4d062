// Tandem — Apache-2.0

import CUDADriver
import InferenceEngine

/// How soon the GPU takes up an engine's work beside that of others of its process.
public enum EnginePriority: String, Sendable, CaseIterable {
    case normal
    /// Its kernels begin when none of `normal` wait.
    case low

    /// A stream's priority: lower numbers go first, and 0 is what streams have that are given none.
    var streamPriority: Int { self == .low ? 0 : -1 }
}

/// How the engines of a process divide the GPU's multiprocessors.
public enum GPUPartition: String, Sendable, CaseIterable {
    /// Not at all: whatever is free computes what comes next.
    case none
    /// Each has an equal part to itself, a green context.
    case green
}

/// The engines of one process, seen by one of them.
public struct ProcessShare: Sendable, Equatable {
    /// How many there are.
    public var engines: Int
    /// How many were made, with all their memory, before this one.
    public var place: Int
    /// Of each engine; those without one have the driver's usual priority.
    public var priorities: [EnginePriority]
    public var partition: GPUPartition

    public init(
        engines: Int = 1, place: Int = 0, priorities: [EnginePriority] = [], partition: GPUPartition = .none
    ) {
        self.engines = engines
        self.place = place
        self.priorities = priorities
        self.partition = partition
    }

    var streamPriority: Int { priorities.indices.contains(place) ? priorities[place].streamPriority : 0 }
}

/// What the executors of a process have in common: the context, the kernels, the weights, and the parts into which the
/// multiprocessors are divided.
public final class SharedModel: Sendable {
    let context: CUDAContext
    let functions: [CUDAFunction?]
    let overlapsKernels: Bool
    let kernelOrigin: KernelCache.Origin
    let weights: DeviceModel
    /// A part for each engine; empty if nothing is divided.
    let parts: [GreenContext]

    init(_ session: GPUSession, _ weights: DeviceModel, parts: [GreenContext]) {
        context = session.context
        functions = session.functions
        overlapsKernels = session.overlapsKernels
        kernelOrigin = session.kernelOrigin
        self.weights = weights
        self.parts = parts
    }
}

extension DeviceMemoryPlan {
    /// What graphs and libraries of each engine but the first of a process take beside its plan: an assumption.
    static let furtherEngineBytes = 64 << 20

    /// Bytes for keys and values of one of the engines of a process, which share one copy of the weights.
    ///
    /// - Parameters:
    ///   - own: ``fixedBytes`` of an engine without the weights.
    ///   - weights: bytes of the copy, which is on the GPU already.
    ///   - totalBytes: the GPU's memory.
    ///   - freeBytes: what is free now.
    ///   - engines: that share the GPU, in all processes.
    ///   - process: the engines of this one, of which earlier ones have taken their memory.
    ///   - fraction: of the GPU's memory that all of them may take together.
    static func keyValueBytes(
        own: Int, weights: Int, totalBytes: Int, freeBytes: Int, engines: Int, process: ProcessShare, fraction: Double
    ) -> Int {
        let hosted = max(1, process.engines)
        let processes = max(1, (engines + hosted - 1) / hosted)
        let whole = Int(Double(totalBytes) * min(max(fraction, 0), 1)) / processes
        let share = (whole - contextBytes - weights - (hosted - 1) * furtherEngineBytes) / hosted
        let left = max(1, hosted - process.place)
        let room = (freeBytes - (64 << 20) - (left - 1) * furtherEngineBytes) / left
        return max(0, min(share, room) - own)
    }
}
