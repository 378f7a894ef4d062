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
        let isTold = settings.logLevel == .debug || settings.logLevel == .info
        let line = run.output.first ?? "the search for a GPU found nothing"
        let parts = line.split(separator: " ", maxSplits: 1)
        guard run.result == .ended(ProcessExit(code: 0, signal: 0)), let first = parts.first, first.hasPrefix("cuda:")
        else {
            if isTold { Process.log("computing on the CPU: \(line)") }
            return .cpu
        }
        if isTold { Process.log("computing on \(line)") }
        return .cuda(String(first.dropFirst("cuda:".count)))
    }
}

extension ServeConfiguration {
    /// What the process is told that holds a model's weights for its engines; null if each engine has its own.
    func weightsArguments(of model: ModelChoice) -> [String]? {
        guard case .cuda(let gpu) = device, simulatedGPU == nil, sharesGPUWeights else { return nil }
        return model.arguments + ["--gpu", gpu]
    }

    /// What the gateway is told of GPUs to watch; nothing where engines are on CPUs.
    var monitorArguments: [String] {
        if simulatedGPU != nil { return ["--monitor-simulated"] }
        var gpus: [String] = []
        if case .cuda(let gpu) = device { gpus.append(gpu) }
        for gpu in models.compactMap({ $0.external?.gpu }) where !gpus.contains(gpu) { gpus.append(gpu) }
        return gpus.flatMap { ["--monitor-gpu", $0] }
    }

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
