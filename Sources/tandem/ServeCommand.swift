// Tandem — Apache-2.0

import ArgumentParser
import Configuration
import GPUModel
import HTTPCore
import Supervision

/// Serves one or more models: becomes the supervisor of a gateway and its engines.
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
              tandem serve Qwen/Qwen2.5-0.5B-Instruct --device cuda:0 --engines 2
              tandem serve Qwen/Qwen2.5-0.5B-Instruct --engine vllm --device cuda:0

            A model of a Hugging Face hub (ORG/NAME, ORG/NAME:Q4_K_M) is fetched once; see tandem pull --help.

            Every flag is also an environment variable (--max-model-len: TANDEM_MAX_MODEL_LEN) and a key of the file \
            named by --config (max-model-len: 4096). Flags win over the environment, which wins over the file. The file \
            may list several `models:`, each with settings of its own; see docs/configuration.md.
            """)

    @OptionGroup var flags: ServeFlags

    func run() throws {
        let startedAt = ContinuousClock.now
        let environment = Process.environment()
        var settings = try flags.configuration(environment: environment)
        settings.device = ServeDevice.chosen(settings, environment: environment)
        throw ExitCode(try Supervisor.run(try configuration(settings, environment, startedAt)))
    }

    private func configuration(
        _ settings: ServeConfiguration,
        _ environment: [String: String],
        _ startedAt: ContinuousClock.Instant
    ) throws -> SupervisorConfiguration {
        // Checked here, too: the gateway's word of it would come late, and again and again.
        let tls = try ServerTLS.configured(certificate: settings.tlsCertificate, key: settings.tlsKey)
        // Opened here only for the memory plan, and closed again: the supervisor holds no weights.
        var models: [ServeModel] = []
        var external: [ServeExternal] = []
        var firstEngine = 0
        for model in settings.models {
            if let engine = model.external {
                external.append(try ServeExternal(model, engine, environment: environment))
            } else {
                models.append(try ServeModel(model))
                models[models.count - 1].firstEngine = firstEngine
            }
            firstEngine += model.engines
        }
        try ModelSettings.checkNames(
            models.map { ($0.settings, $0.names) } + external.map { ($0.settings, [$0.name]) })
        // The memory of the simulated GPU is divided, and that of this machine only looked at.
        let simulated = try settings.simulatedGPU.map { try ServeSimulatedMemory(models, gpu: $0, settings) }
        var usesGPU = false
        if case .cuda = settings.device { usesGPU = true }
        // Engines on a GPU divide its memory among themselves: the supervisor does not open it.
        let memory = models.isEmpty || simulated != nil || usesGPU ? nil : try ServeMemory(models)
        let common = ["--log-level", settings.logLevel.rawValue]
        let step = ["--step-timeout", "\(Self.milliseconds(settings.stepTimeout))"]
        let caches =
            simulated?.keyValueBytes ?? memory?.plan.models.map(\.keyValueBytes)
            ?? models.map { $0.settings.keyValueBytes ?? 0 }
        var own = zip(models, caches).enumerated().map { index, pair in
            var supervised = SupervisedModel(
                name: pair.0.names[0],
                engineArguments: pair.0.engineArguments(
                    keyValueBytes: pair.1, simulatedModel: settings.simulatedModel) + common + step
                    + settings.gpuArguments
                    + Self.stalls(settings.hostStalls),
                engines: pair.0.settings.engines, threads: pair.0.settings.threads,
                plannedBytes: memory?.plan.models[index].ownBytes,
                enginesPerProcess: pair.0.settings.enginesPerProcess)
            supervised.computesOnGPU = !settings.gpuArguments.isEmpty
            supervised.weightsArguments = settings.weightsArguments(of: pair.0.choice)
            supervised.weightsAreClientOfMPS = settings.gpuWeights == .sharedByMPS
            return supervised
        }[...]
        var others = external.map { model in
            var supervised = SupervisedModel(
                name: model.name, engineArguments: [], engines: model.settings.engines, threads: model.settings.threads)
            supervised.external = model.engine
            return supervised
        }[...]
        var configuration = SupervisorConfiguration(
            models: settings.models.compactMap { $0.external == nil ? own.popFirst() : others.popFirst() },
            gatewayArguments: models.flatMap { ["--served-model", $0.gatewayModel.text] }
                + (external.isEmpty ? [] : ["--external-engines"]) + settings.monitorArguments + common + [
                    "--shutdown-timeout", "\(Self.milliseconds(settings.shutdownTimeout))ms",
                    "--threads", "\(settings.gatewayThreads)", "--access-log", settings.accessLog.rawValue,
                    "--engine-silence-timeout", "\(Self.milliseconds(settings.engineSilenceTimeout))ms",
                    "--slow-client-timeout", "\(Self.milliseconds(settings.slowClientTimeout))ms",
                ],
            // The hub's token is for fetching, which is done.
            environment: environment.filter { $0.key != "TANDEM_API_KEY" && $0.key != "HF_TOKEN" },
            host: settings.host,
            port: settings.port)
        // By the environment: a command line is open to all users of the machine.
        if let key = settings.apiKey { configuration.gatewayEnvironment["TANDEM_API_KEY"] = key }
        if !settings.allowedOrigins.isEmpty {
            configuration.gatewayArguments += ["--allowed-origins", settings.allowedOrigins.joined(separator: ",")]
        }
        configuration.enginePorts = settings.enginePorts
        configuration.externalPortBase = settings.enginePortBase
        configuration.externalStartTimeout = settings.engineStartTimeout
        configuration.adoptsOrphans = true
        configuration.requiresKey = settings.apiKey != nil
        configuration.keyIsInEnvironment = environment["TANDEM_API_KEY"] == settings.apiKey
        if let tls {
            configuration.certificate = tls.files.certificate
            configuration.gatewayArguments += ["--tls-certificate", tls.files.certificate, "--tls-key", tls.files.key]
        }
        configuration.shutdownTimeout = settings.shutdownTimeout
        configuration.startedAt = startedAt
        configuration.version = Tandem.version
        configuration.hangLimits = HangLimits(
            silence: settings.heartbeatTimeout, step: settings.stepTimeout, start: settings.engineStartTimeout)
        let least: SupervisorOutput.Severity =
            switch settings.logLevel {
            case .debug, .info: .info
            case .warning: .warning
            case .error: .error
            }
        configuration.output = { if $0.isPrinted(from: least) { $0.print() } }
        configuration.sharing = try ServeSharing.configuration(
            settings, environment: environment, output: configuration.output)
        configuration.simulatedDevice = simulated.map { memory in
            // One engine alone is slower under MPS and shares with nobody.
            let shares = settings.models.reduce(0) { $0 + $1.engines } > 1
            return SimulatedDeviceConfiguration(
                name: memory.device.name, usesMPS: settings.mps == .on || (settings.mps == .auto && shares))
        }
        if configuration.sharing != nil || configuration.simulatedDevice != nil {
            // A fault of the GPU takes all engines along, and the way back may have many steps.
            configuration.gatewayArguments += ["--hold-timeout", "\(Self.milliseconds(Self.holdWhileSharing))ms"]
        }
        if settings.faultPort {
            for index in configuration.models.indices {
                configuration.models[index].engineArguments.append("--fault-port")
            }
        }
        if least == .info, let table = simulated?.table ?? memory?.table {
            SupervisorOutput.announcement(table).print()
        }
        return configuration
    }

    private static let holdWhileSharing = Duration.seconds(120)

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
