// Tandem — Apache-2.0

public import ArgumentParser

/// The command line of `tandem serve`. Flags stay texts here: what was not given may come from the environment or a
/// file, and all three are checked in the same way.
public struct ServeFlags: ParsableArguments {
    @Argument(
        help:
            "A model's name, or the path of a .gguf file or of a directory with config.json and safetensors files. (default: smollm2-135m-instruct)"
    )
    var model: String?

    @OptionGroup(title: "Model") var variant: VariantFlags
    @OptionGroup(title: "Server") var server: ServerFlags
    @OptionGroup(title: "Engines") var engines: EngineFlags
    @OptionGroup(title: "Engines of others") var external: ExternalFlags
    @OptionGroup(title: "Limits of an engine") var limits: LimitFlags
    @OptionGroup(title: "What counts as hanging") var health: HealthFlags
    @OptionGroup(title: "Studies of host overhead") var studies: StudyFlags
    @OptionGroup(title: "Other") var other: OtherFlags

    public init() {}

    /// The settings that result from these flags, the environment and the file that is named by `--config`.
    public func configuration(environment: [String: String]) throws(ConfigurationError) -> ServeConfiguration {
        try ServeConfiguration(flags: given, environment: environment)
    }

    /// Texts of the flags that were given, by key.
    private var given: [String: String] {
        let texts: [String: String?] = [
            "model": model, "tokenizer": variant.tokenizer, "load-format": variant.loadFormat,
            "ablation": variant.ablation,
            "host": server.host, "port": server.port, "engine-ports": server.enginePorts,
            "served-model-name": server.servedModelName,
            "tls-certificate": server.tlsCertificate, "tls-key": server.tlsKey,
            "api-key": server.apiKey, "allowed-origins": server.allowedOrigins,
            "shutdown-timeout": server.shutdownTimeout, "engines": engines.engines,
            "engines-per-process": engines.enginesPerProcess, "threads": engines.threads, "device": engines.device,
            "simulated-model": engines.simulatedModel, "cpu-compute": engines.cpuCompute,
            "gpu-memory-fraction": engines.gpuMemoryFraction,
            "gpu-engine-priority": engines.gpuEnginePriority, "gpu-partition": engines.gpuPartition,
            "gpu-weights": engines.gpuWeights,
            "deterministic": engines.deterministic ? "true" : nil,
            "mps": engines.mps, "mps-directory": engines.mpsDirectory,
            "mps-thread-percentage": engines.mpsThreadPercentage, "mps-client-priority": engines.mpsClientPriority,
            "fault-port": engines.faultPort ? "true" : nil, "mps-time-scale": engines.mpsTimeScale,
            "async-scheduling": engines.asyncScheduling.map { "\($0)" },
            "prompt-lookup": engines.promptLookup,
            "max-model-len": limits.maxModelLen, "max-num-seqs": limits.maxNumSeqs,
            "max-num-batched-tokens": limits.maxNumBatchedTokens, "kv-cache-memory": limits.kvCacheMemory,
            "gateway-threads": server.gatewayThreads, "host-stall-per-step": studies.hostStallPerStep,
            "host-stall-per-sequence": studies.hostStallPerSequence,
            "host-stall-per-request": studies.hostStallPerRequest,
            "host-stall-per-prompt-token": studies.hostStallPerPromptToken, "log-level": other.logLevel,
            "access-log": other.accessLog, "engine-silence-timeout": health.engineSilenceTimeout,
            "heartbeat-timeout": health.heartbeatTimeout, "step-timeout": health.stepTimeout,
            "slow-client-timeout": health.slowClientTimeout,
            "engine": external.engine, "engine-command": external.engineCommand,
            "engine-arguments": external.engineArguments, "engine-memory-fraction": external.engineMemoryFraction,
            "engine-port-base": external.enginePortBase, "engine-start-timeout": external.engineStartTimeout,
            "config": other.config,
        ]
        return texts.compactMapValues { $0 }
    }
}

/// What is made of the model.
struct VariantFlags: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A .gguf file, or a directory with a tokenizer.json, for models without a tokenizer. (default: the model's)",
            valueName: "path"))
    var tokenizer: String?

    @Option(
        help: ArgumentHelp(
            "auto, or dummy: random weights, of which a directory's config.json is enough. (default: auto)",
            valueName: "format"))
    var loadFormat: String?

    @Option(
        help: ArgumentHelp(
            "For measurements: full, or attentionOnly or mlpOnly, whose output is noise. (default: full)",
            valueName: "variant"))
    var ablation: String?
}

/// Who is served, and where.
struct ServerFlags: ParsableArguments {
    @Option(help: ArgumentHelp("Address to listen on; 0.0.0.0 for all. (default: 127.0.0.1)", valueName: "address"))
    var host: String?

    @Option(help: ArgumentHelp("Port to listen on; 0 takes any free one. (default: 8000)", valueName: "number"))
    var port: String?

    @Option(
        help: ArgumentHelp("First of the ports that reach one engine each. (default: none)", valueName: "number"))
    var enginePorts: String?

    @Option(help: ArgumentHelp("Name of the model in requests. (default: its own name)", valueName: "name"))
    var servedModelName: String?

    @Option(
        help: ArgumentHelp(
            "PEM file with the certificate to show to clients, who then speak TLS. (default: none)", valueName: "path"))
    var tlsCertificate: String?

    @Option(help: ArgumentHelp("PEM file with its private key.", valueName: "path"))
    var tlsKey: String?

    @Option(help: ArgumentHelp("Key that clients must send; better given as TANDEM_API_KEY.", valueName: "key"))
    var apiKey: String?

    @Option(
        help: ArgumentHelp(
            "Web pages that may call the server from a browser: origins such as https://chat.example.org, with commas, "
                + "or *. (default: none)",
            valueName: "origins"))
    var allowedOrigins: String?

    @Option(help: ArgumentHelp("Threads that serve connections. (default: 1)", valueName: "number"))
    var gatewayThreads: String?

    @Option(
        help: ArgumentHelp("How long open requests may take to finish at the end. (default: 30s)", valueName: "time"))
    var shutdownTimeout: String?
}

/// What computes.
struct EngineFlags: ParsableArguments {
    @Option(help: ArgumentHelp("Engines behind the endpoint. (default: 2)", valueName: "number"))
    var engines: String?

    @Option(
        help: ArgumentHelp(
            "Engines that one process hosts, which fail together; has to divide --engines. (default: 1)",
            valueName: "number"))
    var enginesPerProcess: String?

    @Option(help: ArgumentHelp("Compute threads an engine. (default: its share of the cores)", valueName: "number"))
    var threads: String?

    @Option(
        help: ArgumentHelp(
            "auto, cpu, cuda:INDEX, cuda:UUID, or simulated:NAME, a GPU that is simulated (h100, h200, a100, b200, l40s, l4) and whose tokens mean nothing. (default: auto)",
            valueName: "device"))
    var device: String?

    @Option(
        help: ArgumentHelp(
            "Model whose times and memory are simulated, by a name that tandem advise knows. (default: the one that is served)",
            valueName: "name"))
    var simulatedModel: String?

    @Option(
        help: ArgumentHelp("Number format on a CPU: auto, f32, bf16 or int8. (default: auto)", valueName: "format"))
    var cpuCompute: String?

    @Option(
        help: ArgumentHelp(
            "Part of a GPU's memory that the engines take together. (default: 0.9)", valueName: "share"))
    var gpuMemoryFraction: String?

    @Option(
        help: ArgumentHelp(
            "How soon a GPU takes up the work of each engine of a process: normal or low for each, as normal,low. (default: no difference)",
            valueName: "list"))
    var gpuEnginePriority: String?

    @Option(
        help: ArgumentHelp(
            "How engines of a process divide a GPU's multiprocessors: none, or green, an equal part each. (default: none)",
            valueName: "kind"))
    var gpuPartition: String?

    @Option(
        help: ArgumentHelp(
            "Weights of engines on a GPU: shared, shared-by-mps, private, or auto, which is private. (default: auto)",
            valueName: "way"))
    var gpuWeights: String?

    @Flag(help: "On a GPU: the same bits for a request in any company; slower.") var deterministic = false

    @Option(
        help: ArgumentHelp("Sharing of an NVIDIA GPU: auto, on, off or external. (default: auto)", valueName: "mode"))
    var mps: String?

    @Option(
        help: ArgumentHelp(
            "Pipe directory of an external MPS daemon. (default: CUDA_MPS_PIPE_DIRECTORY)", valueName: "path"))
    var mpsDirectory: String?

    @Option(
        help: ArgumentHelp(
            "Percent of the GPU's multiprocessors that each engine may use under MPS: 50, or one an engine, 60,40. (default: no limit)",
            valueName: "percent"))
    var mpsThreadPercentage: String?

    @Option(
        help: ArgumentHelp(
            "Priority of each engine under MPS: normal or low, or one an engine, normal,low. (default: normal)",
            valueName: "priority"))
    var mpsClientPriority: String?

    @Flag(help: .hidden) var faultPort = false
    @Option(help: .hidden) var mpsTimeScale: String?

    @Flag(inversion: .prefixedNo, help: "Prepare a step while the one before computes. (default: no)")
    var asyncScheduling: Bool?

    @Option(
        help: ArgumentHelp(
            "Guess up to so many tokens ahead where an answer repeats what was said; 0 guesses none. (default: 16)",
            valueName: "tokens"))
    var promptLookup: String?
}

/// Servers of the OpenAI API in the place of Tandem's own engines; see docs/external-engines.md.
struct ExternalFlags: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "What computes: tandem, vllm, sglang or llama-server. (default: tandem)", valueName: "program"))
    var engine: String?

    @Option(
        help: ArgumentHelp(
            "Command that starts an engine, such as 'server --port {port}'; also {host}, {model}, {name}, {gpu}, {memory-fraction}, {free-memory-fraction}, {threads}, {index}, {engines}.",
            valueName: "template"))
    var engineCommand: String?

    // They may begin with a dash.
    @Option(parsing: .unconditional, help: ArgumentHelp("Words to append to the command.", valueName: "words"))
    var engineArguments: String?

    @Option(
        help: ArgumentHelp(
            "Share of the GPU's memory for all engines together; each gets an equal part as {memory-fraction}. (default: 0.9)",
            valueName: "share"))
    var engineMemoryFraction: String?

    @Option(
        help: ArgumentHelp("Engine i listens at this port + i. (default: any free ports)", valueName: "number"))
    var enginePortBase: String?

    @Option(
        help: ArgumentHelp(
            "Time until an engine has to serve, one of another kind to answer a request; then it is killed and started again. (default: 10m)",
            valueName: "time"))
    var engineStartTimeout: String?
}

/// What an engine takes at once.
struct LimitFlags: ParsableArguments {
    @Option(
        help: ArgumentHelp("Longest sequence, answer included. (default: the model's own limit)", valueName: "tokens"))
    var maxModelLen: String?

    @Option(help: ArgumentHelp("Sequences that run at once. (default: 128)", valueName: "number"))
    var maxNumSeqs: String?

    @Option(help: ArgumentHelp("Tokens that a step computes. (default: 512)", valueName: "tokens"))
    var maxNumBatchedTokens: String?

    @Option(
        help: ArgumentHelp(
            "Memory for keys and values, such as 512MiB. (default: a fifth of the free memory for all engines)",
            valueName: "size"))
    var kvCacheMemory: String?
}

/// How long processes and clients may keep silent.
struct HealthFlags: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Silence after which an engine's requests go on elsewhere; 0 for never. (default: 2s)", valueName: "time"))
    var engineSilenceTimeout: String?

    @Option(
        help: ArgumentHelp(
            "Silence after which an engine or the gateway is killed and started again; 0 for never. (default: 10s)",
            valueName: "time"))
    var heartbeatTimeout: String?

    @Option(
        help: ArgumentHelp(
            "Time without any progress after which an engine with work is killed and started again; 0 for never. (default: 120s)",
            valueName: "time"))
    var stepTimeout: String?

    @Option(
        help: ArgumentHelp(
            "How long a client may leave unread what waits for it before its request is cancelled. (default: 60s)",
            valueName: "time"))
    var slowClientTimeout: String?
}

/// Host work that engines do in vain, so that its cost can be studied; it shows as the phase `stall` of
/// `tandem_engine_host_seconds_total`.
struct StudyFlags: ParsableArguments {
    @Option(help: ArgumentHelp("Host work added before each engine step, such as 500us.", valueName: "time"))
    var hostStallPerStep: String?

    @Option(help: ArgumentHelp("The same, for each sequence of the step.", valueName: "time"))
    var hostStallPerSequence: String?

    @Option(help: ArgumentHelp("Host work added when an engine admits a request.", valueName: "time"))
    var hostStallPerRequest: String?

    @Option(help: ArgumentHelp("The same, for each token of its prompt.", valueName: "time"))
    var hostStallPerPromptToken: String?
}

/// The rest.
struct OtherFlags: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "debug (with every request), info, warning (only trouble) or error (only what stays broken). (default: info)",
            valueName: "level"))
    var logLevel: String?

    @Option(help: ArgumentHelp("A line for each request: off, text or json. (default: off)", valueName: "format"))
    var accessLog: String?

    @Option(
        help: ArgumentHelp("YAML file with the names of these flags as keys, and a list of models.", valueName: "file"))
    var config: String?
}
