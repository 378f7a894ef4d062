// Tandem — Apache-2.0

import ArgumentParser
import CPUExecutor
import CTandemSystem
import Configuration
import EngineHost
import EngineLink
import Grammar
import InferenceEngine
import Requests
import Tokenization

/// One process of one or several engines, started by the supervisor.
struct EngineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "engine",
        abstract: "Run engines: tokens in, tokens out. Started by tandem serve.",
        shouldDisplay: false)

    /// Added to the nice value of compute threads, so that the gateway and the engine's own link go first.
    private static let computeNice: Int32 = 5

    @Option(help: "Of the first engine.") var index: UInt32 = 0
    @OptionGroup var model: ModelChoiceFlags
    @Option var servedModelName: String
    @Option(parsing: .singleValue, help: "Where an engine listens; one for each engine of the process.")
    var link: [String]
    @Option(help: "Of each engine.") var threads: Int = 1
    @Option(parsing: .singleValue, help: "CPU numbers of an engine, one list for each. (default: the process's)")
    var cores: [String] = []
    @Option(transform: Self.compute) var cpuCompute: CPUCompute = .int8
    @Option var maxModelLen: Int?
    @Option var maxNumSeqs: Int = 128
    @Option var maxNumBatchedTokens: Int = 512
    @Option(help: "Bytes.") var kvCacheMemory: Int
    @Flag var asyncScheduling = false
    @Option var promptLookup: Int = 0
    @Option(help: "Milliseconds that the first step may take; 0 for ever.") var stepTimeout: Int64 = 0
    @Option var statusFd: Int32?
    @Option var weightsFd: Int32?
    @Option(help: "Socket of the virtual device that simulates a GPU.") var simulatedDevice: String?
    @Option(help: "Built-in model whose times are simulated.") var simulatedModel: String?
    @Option(help: "An NVIDIA GPU, by index or UUID.") var gpu: String?
    @Flag(help: "The same bits for a row in any batch, on a GPU.") var deterministic = false
    @Option(help: "Engines on the GPU.") var gpuEngines = 1
    @Option(help: "Part of the GPU's memory for all of them.") var gpuMemoryFraction = 0.9
    @OptionGroup var division: GPUDivisionFlags
    @Option(help: "Socket of the process that holds the weights.") var gpuWeightsSocket: String?
    @Option var logLevel: LogLevel = .info
    @Flag(help: "For tests: fail as a client of MPS does.") var faultPort = false
    @Option(help: "Nanoseconds.") var hostStallPerStep: UInt64 = 0
    @Option(help: "Nanoseconds.") var hostStallPerSequence: UInt64 = 0
    @Option(help: "Nanoseconds.") var hostStallPerRequest: UInt64 = 0
    @Option(help: "Nanoseconds.") var hostStallPerPromptToken: UInt64 = 0

    func run() throws {
        _ = tandem_set_process_name("tandem-engine")
        let addresses: [LinkAddress]
        do {
            addresses = try link.map { try LinkAddress($0) }
        } catch {
            Process.log("engine \(index): \(error)")
            throw ExitCode(EngineExit.misconfigured.rawValue)
        }
        var options = EngineHostOptions(modelPath: model.model, addresses: addresses, keyValueBytes: kvCacheMemory)
        options.loadFormat = model.choice.loadFormat
        options.ablation = model.choice.ablation
        options.tokenizerPath = model.tokenizer
        options.index = index
        options.modelName = servedModelName
        options.compute = cpuCompute
        options.threads = threads
        // The supervisor has placed the process; each thread gets one of its cores.
        options.cpus = Process.usableCores()
        options.cpusOfEngines = try cores.map(Self.numbers)
        options.niceIncrement = Self.computeNice
        options.weightsDescriptor = weightsFd
        options.statusDescriptor = statusFd
        if let simulatedDevice {
            options.device = .simulated(
                socket: simulatedDevice, timedModel: try simulatedModel.map { try SimulatedGPU.model(named: $0) })
        }
        if let gpu {
            let environment = Process.environment()
            var device = EngineGPU(selector: Self.selector(gpu, environment), environment: environment)
            device.isDeterministic = deterministic
            device.engines = gpuEngines
            device.memoryFraction = gpuMemoryFraction
            device.priorities = division.gpuEnginePriority
            device.partition = division.gpuPartition
            device.weightsSocket = gpuWeightsSocket
            options.device = .cuda(device)
        }
        options.maximumSequences = maxNumSeqs
        options.maximumTokensPerStep = maxNumBatchedTokens
        options.contextLength = maxModelLen
        options.asynchronous = asyncScheduling
        options.draftTokens = promptLookup
        options.probeTimeout = stepTimeout > 0 ? .milliseconds(stepTimeout) : nil
        options.stalls = HostStalls(
            perStep: hostStallPerStep, perSequence: hostStallPerSequence, perRequest: hostStallPerRequest,
            perPromptToken: hostStallPerPromptToken)
        if faultPort {
            options.faultPortDirectory = Process.environment()["CUDA_MPS_PIPE_DIRECTORY"] ?? "/tmp/nvidia-mps"
        }
        options.vocabulary = { [choice = model.choice, maxModelLen] count in
            let tokenizer = try ModelFile(choice, maximumContextLength: maxModelLen).tokenizer()
            return TokenVocabulary(count: count) { tokenizer.isSpecial($0) ? nil : tokenizer.bytes(of: $0) }
        }
        throw ExitCode(EngineHost.run(options).rawValue)
    }

    private static func numbers(_ text: String) throws -> [Int] {
        try text.split(separator: ",", omittingEmptySubsequences: false).map { part in
            guard let number = Int(part), number >= 0 else {
                throw ValidationError("\(text) is no list of CPU numbers")
            }
            return number
        }
    }

    /// How a process calls a GPU.
    static func selector(_ gpu: String, _ environment: [String: String]) -> String {
        // As a client of our MPS daemon it sees that one GPU, whatever its index is elsewhere.
        let sees = environment["CUDA_VISIBLE_DEVICES"] ?? ""
        let isAlone =
            environment["CUDA_MPS_PIPE_DIRECTORY"] != nil && !sees.contains(",")
            && (sees.hasPrefix("GPU-") || sees.hasPrefix("MIG-"))
        return isAlone ? "0" : gpu
    }

    private static func compute(_ text: String) throws -> CPUCompute {
        guard let compute = CPUCompute(rawValue: text) else { throw ValidationError("\(text) is no number format") }
        return compute
    }
}
