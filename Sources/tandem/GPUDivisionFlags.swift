// Tandem — Apache-2.0

import ArgumentParser
import CUDAExecutor

/// How the engines of one process divide a GPU.
struct GPUDivisionFlags: ParsableArguments {
    @Option(
        help: ArgumentHelp("Of each engine of the process: normal or low, as normal,low.", valueName: "list"),
        transform: Self.priorities)
    var gpuEnginePriority: [EnginePriority] = []

    @Option(
        help: ArgumentHelp("none, or green: an equal part of the multiprocessors each.", valueName: "kind"),
        transform: Self.partition)
    var gpuPartition: GPUPartition = .none

    private static func priorities(_ text: String) throws -> [EnginePriority] {
        try text.split(separator: ",", omittingEmptySubsequences: false).map { word in
            guard let priority = EnginePriority(rawValue: String(word)) else {
                throw ValidationError("\(word) is neither normal nor low")
            }
            return priority
        }
    }

    private static func partition(_ text: String) throws -> GPUPartition {
        guard let partition = GPUPartition(rawValue: text) else {
            throw ValidationError("\(text) is neither none nor green")
        }
        return partition
    }

    /// One engine's view of a process of so many.
    func share(engines: Int, place: Int) -> ProcessShare {
        ProcessShare(engines: engines, place: place, priorities: gpuEnginePriority, partition: gpuPartition)
    }
}
