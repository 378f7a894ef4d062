// Tandem — Apache-2.0

import Configuration
import MPS

extension ServeDevice {
    /// What engines compute on: as asked for, or the first GPU that can be used.
    ///
    /// A process of its own looks for it: the supervisor must not open a driver, which takes a client's place at an MPS
    /// server and may fail in ways that end a process.
    static func chosen(_ settings: ServeConfiguration, environment: [String: String]) -> ServeDevice {
        guard settings.device == .automatic else { return settings.device }
        guard settings.simulatedGPU == nil, settings.models.allSatisfy({ $0.external == nil }) else { return .cpu }
        let run = ToolRun(
            program: "/proc/self/exe", arguments: ["gpu", "probe"], environment: environment, input: [],
            limit: .seconds(30))
        let line = run.output.first ?? "the search for a GPU found nothing"
        let parts = line.split(separator: " ", maxSplits: 1)
        guard run.result == .ended(ProcessExit(code: 0, signal: 0)), let first = parts.first, first.hasPrefix("cuda:")
        else {
            Process.log("computing on the CPU: \(line)")
            return .cpu
        }
        Process.log("computing on \(line)")
        return .cuda(String(first.dropFirst("cuda:".count)))
    }
}

extension ServeConfiguration {
    /// What an engine is told of its GPU; nothing on a CPU.
    var gpuArguments: [String] {
        guard case .cuda(let gpu) = device, simulatedGPU == nil else { return [] }
        let engines = models.reduce(0) { $0 + $1.engines }
        return [
            "--gpu", gpu, "--gpu-engines", "\(engines)", "--gpu-memory-fraction", "\(gpuMemoryFraction)",
        ] + (isDeterministic ? ["--deterministic"] : [])
            + (gpuEnginePriorities.isEmpty
                ? [] : ["--gpu-engine-priority", gpuEnginePriorities.map(\.rawValue).joined(separator: ",")])
            + (gpuPartition == .none ? [] : ["--gpu-partition", gpuPartition.rawValue])
    }
}
