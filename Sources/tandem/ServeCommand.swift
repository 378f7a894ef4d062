// Tandem — Apache-2.0

import ArgumentParser
import CPUExecutor
import Configuration
import ModelStore
import Supervision

/// Serves a model: becomes the supervisor of a gateway and its engines.
struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serve a model with N engines behind one OpenAI-compatible endpoint.",
        discussion: """
            Without arguments the default model is fetched and served by two engines on http://127.0.0.1:8000/v1.

            Example:
              tandem serve ./model.gguf --engines 4 --threads 2 --port 8080
              tandem serve ./Qwen2.5-0.5B-Instruct --threads 1
              tandem serve Qwen/Qwen2.5-0.5B-Instruct

            A model of a Hugging Face hub (ORG/NAME, ORG/NAME:Q4_K_M) is fetched once; see tandem pull --help.

            Every flag is also an environment variable (--max-model-len: TANDEM_MAX_MODEL_LEN) and a key of the file \
            named by --config (max-model-len: 4096). Flags win over the environment, which wins over the file.
            """)

    @OptionGroup var flags: ServeFlags

    func run() throws {
        let startedAt = ContinuousClock.now
        let environment = Process.environment()
        let settings = try flags.configuration(environment: environment)
        let model = try ModelFile.resolve(settings.model)
        let choice = ModelChoice(
            path: model.path, loadFormat: settings.loadFormat, ablation: settings.ablation,
            tokenizer: settings.tokenizer)
        let supervisor = try configuration(settings, choice, name: model.name, environment, startedAt)
        throw ExitCode(try Supervisor.run(supervisor))
    }

    private func configuration(
        _ settings: ServeConfiguration,
        _ choice: ModelChoice,
        name: String,
        _ environment: [String: String],
        _ startedAt: ContinuousClock.Instant
    ) throws -> SupervisorConfiguration {
        // Read here only for the memory plan, and closed again: the supervisor holds no weights.
        let file = try ModelFile(choice, maximumContextLength: settings.maximumContextLength)
        try file.checkTokenizer()
        let compute = settings.cpuCompute.compute(for: file)
        let memory = try ServeMemory(settings, file: file, compute: compute)
        let servedName = settings.servedModelName ?? name
        let common =
            choice.arguments + [
                "--served-model-name", servedName, "--max-model-len", "\(file.contextLength)",
                "--log-level", settings.logLevel.rawValue,
            ]
        let scheduling = settings.asynchronousScheduling ? ["--async-scheduling"] : []
        var configuration = SupervisorConfiguration(
            engineArguments: common + [
                "--cpu-compute", compute.rawValue, "--max-num-seqs", "\(settings.maximumSequences)",
                "--max-num-batched-tokens", "\(settings.maximumBatchedTokens)",
                "--kv-cache-memory", "\(memory.plan.keyValueBytes)", "--prompt-lookup", "\(settings.promptLookup)",
            ] + scheduling + Self.stalls(settings.hostStalls),
            gatewayArguments: common + [
                "--shutdown-timeout", "\(Self.milliseconds(settings.shutdownTimeout))",
                "--threads", "\(settings.gatewayThreads)",
            ],
            // The hub's token is for fetching, which is done.
            environment: environment.filter { $0.key != "TANDEM_API_KEY" && $0.key != "HF_TOKEN" },
            engines: settings.engines,
            threads: settings.threads,
            host: settings.host,
            port: settings.port,
            modelName: servedName)
        // By the environment: a command line is open to all users of the machine.
        if let key = settings.apiKey { configuration.gatewayEnvironment["TANDEM_API_KEY"] = key }
        configuration.requiresKey = settings.apiKey != nil
        configuration.shutdownTimeout = settings.shutdownTimeout
        configuration.startedAt = startedAt
        let least: SupervisorOutput.Severity =
            switch settings.logLevel {
            case .debug, .info: .info
            case .warning: .warning
            case .error: .error
            }
        configuration.output = { if $0.isPrinted(from: least) { $0.print() } }
        if least == .info { SupervisorOutput.announcement(memory.table).print() }
        return configuration
    }

    private static func stalls(_ stalls: HostStallSettings) -> [String] {
        [
            ("step", stalls.perStep), ("sequence", stalls.perSequence), ("request", stalls.perRequest),
            ("prompt-token", stalls.perPromptToken),
        ].filter { $0.1 > .zero }.flatMap { ["--host-stall-per-\($0.0)", "\(nanoseconds($0.1))"] }
    }

    private static func nanoseconds(_ duration: Duration) -> Int64 {
        duration.components.seconds * 1_000_000_000 + duration.components.attoseconds / 1_000_000_000
    }

    private static func milliseconds(_ duration: Duration) -> Int64 {
        duration.components.seconds * 1000 + duration.components.attoseconds / 1_000_000_000_000_000
    }
}
