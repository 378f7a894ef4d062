// Tandem — Apache-2.0

import ArgumentParser
import CTandemSystem
import EngineHost

/// The process that holds a GPU's weights for the engines of a server, started by the supervisor.
struct WeightsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "weights",
        abstract: "Hold a model's weights in a GPU's memory for engines. Started by tandem serve --gpu-weights shared.",
        shouldDisplay: false)

    @OptionGroup var model: ModelChoiceFlags
    @Option(help: "An NVIDIA GPU, by index or UUID.") var gpu: String
    @Option(help: "Path of the socket for engines.") var socket: String
    @Option var statusFd: Int32?
    @Option(help: "What the process before this one offered.") var exported: String?
    @Option(help: "The memory that it offered.") var exportedFd: Int32?

    func run() throws {
        _ = tandem_set_process_name("tandem-weights")
        let environment = Process.environment()
        var options = WeightsOwnerOptions(
            modelPath: model.model, gpu: EngineCommand.selector(gpu, environment), environment: environment,
            socketPath: socket)
        options.loadFormat = model.choice.loadFormat
        options.ablation = model.choice.ablation
        options.statusDescriptor = statusFd
        if let exported, let exportedFd { options.exported = (exported, exportedFd) }
        throw ExitCode(WeightsOwner.run(options) { Process.log("weights: \($0)") }.rawValue)
    }
}
